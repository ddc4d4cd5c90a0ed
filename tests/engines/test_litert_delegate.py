"""External delegates: by path, with the proof that they took what they were asked to; and the compiled accelerators."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sdk.engines import LoadOptions, Runner
from edge_sdk.engines.litert import LiteRtEngine
from edge_sdk.errors import AcceleratorError
from edge_sdk.formats import open_model
from tests import models

pytest.importorskip("ai_edge_litert")
from tests.engines import litert_models

SOURCE = Path(__file__).with_name("native") / "proof_delegate.c"
F32 = np.float32


@pytest.fixture(scope="module")
def delegate(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Builds the delegate that takes additions of float32, in one of its modes."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or not SOURCE.exists():
        pytest.skip("no C compiler to build a delegate with")
    folder = tmp_path_factory.mktemp("delegates")

    def built(mode: str) -> str:
        library = folder / f"{mode}.so"
        if not library.exists():
            subprocess.run([compiler, "-shared", "-fPIC", f"-DMODE={mode}", "-o", library, SOURCE], check=True)
        return str(library)

    return built


def load(content: bytes | Path, accelerator: str, **options: Any) -> Runner:
    return LiteRtEngine().load(open_model(content), LoadOptions(accelerator=accelerator, **options))


class TestDelegate:
    def test_a_delegate_takes_what_it_can_and_the_rest_stays_on_the_cpu(self, delegate: Any) -> None:
        library = delegate("RIGHT")
        runner = load(models.tflite_two_io(), library)
        feeds = {"a": np.array([1, 2, 3], F32), "b": np.array([4, 5, 6], F32)}
        assert {name: y.tolist() for name, y in runner.run(feeds).items()} == {"sum": [5, 7, 9], "product": [4, 10, 18]}
        report = runner.placement()
        places = {place.where: place.nodes for place in report.nodes}
        assert (places[library], report.verified) == (("ADD -> sum",), True)
        assert sum(place.count for place in report.nodes) == 2
        runner.close()

    def test_it_really_ran_there(self, delegate: Any) -> None:
        y = load(models.tflite_add(), delegate("WRONG")).run({"x": np.full((2, 3), 5, F32)})["y"]
        assert y.tolist() == [[6] * 3] * 2, "x + 1 happens to be right"
        y = load(models.tflite_dynamic(), delegate("WRONG")).run({"x": np.full((1, 3), 5, F32)})["y"]
        assert y.tolist() == [[6] * 3], "this delegate's own wrong answer for x + x"

    def test_strict_refuses_a_part_and_names_the_nodes_that_would_stay(self, delegate: Any) -> None:
        with pytest.raises(AcceleratorError, match=r"1 node would stay on the CPU .*: MUL -> product;"):
            load(models.tflite_two_io(), delegate("RIGHT"), strict=True)
        assert load(models.tflite_add(), delegate("RIGHT"), strict=True).placement().verified

    @pytest.mark.parametrize(
        ("mode", "words"),
        [
            ("REFUSES", "refuses to start.*wants option speed=fast"),
            ("PREPARE_FAILS", "refuses the model: .*fails in Prepare"),
            ("IDLE", "took none of the nodes"),
        ],
    )
    def test_what_goes_wrong_in_a_delegate_is_told_in_one_line(self, delegate: Any, mode: str, words: str) -> None:
        with pytest.raises(AcceleratorError, match=words) as failed:
            load(models.tflite_add(), delegate(mode), accelerator_options={"speed": "slow"})
        assert "\n" not in str(failed.value)

    def test_what_is_missing_or_no_delegate_is_told(self, tmp_path: Path) -> None:
        text = tmp_path / "text.so"
        text.write_text("no library")
        for accelerator, words in {
            "edgetpu": "libedgetpu|took none",
            "warp": "'warp' is not known to engine litert; expected cpu, gpu, npu, edgetpu or the path",
            str(tmp_path / "absent.so"): "does not load: .*cannot open shared object file",
            str(text): "does not load",
            "libc.so.6": "is no TFLite delegate",
        }.items():
            with pytest.raises(AcceleratorError, match=words):
                load(models.tflite_add(), accelerator)


class TestCompiled:
    def test_where_there_is_no_npu_nothing_runs_on_the_cpu_in_its_name(self) -> None:
        with pytest.raises(AcceleratorError, match="accelerator 'npu': ") as failed:
            load(models.tflite_add(), "npu")
        assert "\n" not in str(failed.value)

    def test_where_there_is_no_gpu_the_cause_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("VK_ICD_FILENAMES", "/nonexistent.json")
        code = (
            "import sys; from edge_sdk.engines import LoadOptions; from edge_sdk.engines.litert import LiteRtEngine\n"
            "from edge_sdk.errors import AcceleratorError; from edge_sdk.formats import open_model\n"
            "from tests.models import tflite_add\n"
            "try: LiteRtEngine().load(open_model(tflite_add()), LoadOptions(accelerator='gpu'))\n"
            "except AcceleratorError as error: print(error)"
        )
        told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=_ROOT)
        assert told.stdout.startswith("model in memory: accelerator 'gpu': ")
        assert "dapter" in told.stdout or "GPU" in told.stdout
        assert told.stdout.count("\n") == 1

    def test_tensors_that_compiled_models_do_not_carry_are_named(self) -> None:
        with pytest.raises(AcceleratorError, match=r"'long' is int64\[2\]"):
            load(litert_models.halves(), "gpu")

    def test_an_option_that_is_not_known_is_named(self) -> None:
        with pytest.raises(AcceleratorError, match="option speed='fast' is not known"):
            load(models.tflite_add(), "gpu", accelerator_options={"speed": "fast"})

    @pytest.mark.slow
    @pytest.mark.skipif(not Path("/usr/lib/chromium/vk_swiftshader_icd.json").exists(), reason="no software GPU here")
    def test_a_model_runs_on_a_gpu(self, tmp_path: Path) -> None:
        """In a process of its own, since the graphics layers read the environment once."""
        code = """
import numpy as np
from edge_sdk.engines import LoadOptions
from edge_sdk.engines.litert import LiteRtEngine
from edge_sdk.errors import AcceleratorError
from edge_sdk.formats import open_model
from tests.models import tflite_float_conv
model = open_model(tflite_float_conv())
image = np.random.default_rng(0).random((1, 8, 8, 3)).astype(np.float32)
cpu = LiteRtEngine().load(model, LoadOptions()).run({"image": image})["scores"]
runner = LiteRtEngine().load(model, LoadOptions(accelerator="gpu", strict=True))
for _ in range(3):
    np.testing.assert_allclose(runner.run({"image": image})["scores"], cpu, atol=1e-3)
report = runner.placement()
assert report.verified and [(p.where, p.count) for p in report.nodes] == [("gpu", 3)], report
try:
    runner.run({"image": np.zeros((2, 8, 8, 3), np.float32)})
except AcceleratorError as error:
    print(error)
runner.close()
"""
        gpu = {"VK_ICD_FILENAMES": "/usr/lib/chromium/vk_swiftshader_icd.json", "XDG_RUNTIME_DIR": str(tmp_path)}
        told = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=_ROOT, env=os.environ | gpu, check=False
        )
        assert told.returncode == 0, told.stderr
        assert "compiled the model for [1, 8, 8, 3]" in told.stdout
        assert told.stdout.count("\n") == 1, "the engine writes nothing on stdout"


_ROOT = Path(__file__).parents[2]

"""Proof: a small model runs on the accelerator in a child process, whatever its driver does to that process."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_sdk.device.facts import Accelerator
from edge_sdk.engines import proof
from edge_sdk.engines.proof import prove, recall
from edge_sdk.engines.proof_models import ProofModel, onnx_models, tflite_models
from edge_sdk.engines.proof_verdicts import Verdict

SOURCE = Path(__file__).parent / "native" / "proof_delegate.c"
LONG_S = 60.0
SWIFTSHADER = Path("/usr/lib/chromium/vk_swiftshader_icd.json")

needs_litert = pytest.mark.skipif(not importlib.util.find_spec("ai_edge_litert"), reason="no LiteRT")


@pytest.fixture(scope="module")
def delegate(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Accelerator]:
    """Compiles the delegate in one of its modes."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler here")
    folder = tmp_path_factory.mktemp("delegates")

    def build(mode: str) -> Accelerator:
        library = folder / f"lib{mode.lower()}.so"
        if not library.exists():
            command = [compiler, "-shared", "-fPIC", "-O1", f"-DMODE={mode}", "-o", str(library), str(SOURCE)]
            subprocess.run(command, check=True)
        return Accelerator(kind="npu", name=str(library), engine="litert", present=True, why="external delegate")

    return build


def proven(accelerator: Accelerator, timeout_s: float = LONG_S) -> Accelerator:
    """The accelerator after one fresh proof."""
    (result,) = prove([accelerator], timeout_s=timeout_s, cache=False)
    assert "\n" not in result.why
    return result


class TestModels:
    """The models are made byte by byte, so the engines must take them."""

    @pytest.mark.parametrize("model", onnx_models(), ids=lambda model: model.precision)
    def test_onnx(self, model: ProofModel) -> None:
        onnxruntime = pytest.importorskip("onnxruntime")
        session = onnxruntime.InferenceSession(model.content, providers=["CPUExecutionProvider"])
        (output,) = session.run(None, {"x": model.sample})
        assert (output.shape, output.dtype) == (model.sample.shape, model.sample.dtype)
        assert output.std() > 0.1

    @needs_litert
    @pytest.mark.parametrize("model", tflite_models(), ids=lambda model: model.precision)
    def test_tflite(self, model: ProofModel) -> None:
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(model_content=model.content)
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], model.sample)
        interpreter.invoke()
        output = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        assert (output.shape, output.dtype) == (model.sample.shape, model.sample.dtype)
        assert output.std() > 0.1

    def test_onnx_is_well_formed(self) -> None:
        onnx = pytest.importorskip("onnx")
        for model in onnx_models():
            onnx.checker.check_model(onnx.load_from_string(model.content), full_check=True)

    def test_both_precisions_compute_the_same(self) -> None:
        onnxruntime = pytest.importorskip("onnxruntime")
        results = []
        for model in onnx_models():
            session = onnxruntime.InferenceSession(model.content, providers=["CPUExecutionProvider"])
            results.append(session.run(None, {"x": model.sample})[0])
        np.testing.assert_allclose(results[1] / 32, results[0], atol=1 / 32)

    def test_agreement_is_close_but_not_blind(self) -> None:
        model = onnx_models()[0]
        expected = np.linspace(0, 1, 10, dtype=np.float32)
        assert model.agrees(expected + np.float32(0.01), expected)
        assert not model.agrees(expected + np.float32(0.1), expected)
        assert not model.agrees(np.zeros_like(expected), expected)
        assert not model.agrees(expected * np.float32("nan"), expected)
        assert not model.agrees(expected[:5], expected)


@needs_litert
class TestDelegates:
    """A real external delegate, compiled here, in all its moods."""

    def test_one_that_computes(self, delegate: Callable[[str], Accelerator]) -> None:
        result = proven(delegate("RIGHT"))
        assert (result.usable, result.present) == (True, True)
        assert result.why == "float32 model ran with the delegate, which took nodes, with the CPU's result"

    @pytest.mark.parametrize(
        ("mode", "why"),
        [
            ("WRONG", "the result differs from the CPU's"),
            ("IDLE", "took none of the nodes; all ran on the CPU"),
            ("REFUSES", "the proof delegate wants option speed=fast"),
            ("PREPARE_FAILS", "the proof delegate fails in Prepare"),
            ("ABORTS", ".so: driver error: firmware is missing"),
            ("SEGFAULTS", "crashed (SIGSEGV) while loading"),
        ],
    )
    def test_one_that_fails(self, delegate: Callable[[str], Accelerator], mode: str, why: str) -> None:
        result = proven(delegate(mode))
        assert result.usable is False
        assert why in result.why

    @pytest.mark.parametrize("mode", ["HANGS", "CHATTERS"])
    def test_one_that_never_ends(self, delegate: Callable[[str], Accelerator], mode: str) -> None:
        result = proven(delegate(mode), timeout_s=1.5)
        assert result.usable is False
        assert result.why.startswith("did not end within 1.5 s while ")

    def test_one_that_is_no_library(self, tmp_path: Path) -> None:
        (tmp_path / "x.so").write_text("hello")
        result = proven(Accelerator(kind="npu", name=str(tmp_path / "x.so"), engine="litert", present=True))
        assert result.usable is False
        assert "does not load" in result.why


@needs_litert
class TestCompiled:
    def test_an_npu_that_would_silently_fall_back(self) -> None:
        result = proven(Accelerator(kind="npu", name="npu", engine="litert", present=True))
        assert result.usable is False
        assert "not accelerated" in result.why

    @pytest.mark.slow
    def test_the_gpu_accelerator_on_a_software_driver(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        if not SWIFTSHADER.is_file():
            pytest.skip("SwiftShader is not here")
        monkeypatch.setenv("VK_ICD_FILENAMES", str(SWIFTSHADER))
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
        result = proven(Accelerator(kind="gpu", name="gpu", engine="litert", present=True))
        assert result.usable is True
        assert "ran on LiteRT's GPU accelerator alone" in result.why
        assert "SwiftShader" in result.why
        assert "software" in result.why


class TestOnnxRuntime:
    def test_a_provider_that_this_build_lacks(self) -> None:
        pytest.importorskip("onnxruntime")
        result = proven(Accelerator(kind="gpu", name="cuda", engine="onnxruntime", present=True))
        assert result.usable is False
        assert result.why.startswith("this build of onnxruntime has no CUDAExecutionProvider; it has")

    def test_a_plugin_that_is_none(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("onnxruntime")
        library = tmp_path / "libmine.so"
        library.write_bytes(b"\x7fELF")
        monkeypatch.setenv("EDGE_SDK_ORT_PLUGINS", f"mine={library}")
        result = proven(Accelerator(kind="npu", name="mine", engine="onnxruntime", present=True))
        assert result.usable is False
        assert "libmine.so" in result.why


class TestKeeping:
    """Verdicts are kept by device, engine, driver and accelerator."""

    @pytest.fixture
    def runs(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """Replaces the child process by a verdict: False for names that begin with "bad"."""
        names: list[str] = []

        def run(accelerator: Accelerator, timeout_s: float) -> Verdict:
            names.append(accelerator.name)
            return Verdict(not accelerator.name.startswith("bad"), "seen", at_s=time.time())

        monkeypatch.setattr(proof, "_run_child", run)
        return names

    GOOD = Accelerator(kind="gpu", name="good", engine="litert", present=True, why="found")
    BAD = Accelerator(kind="gpu", name="bad", engine="litert", present=True, why="found")

    def test_a_proof_is_not_repeated(self, runs: list[str]) -> None:
        first = prove([self.GOOD, self.BAD], fingerprint="f")
        assert prove([self.GOOD, self.BAD], fingerprint="f") == first
        assert [(a.usable, a.why) for a in first] == [(True, "seen"), (False, "seen")]
        assert runs == ["good", "bad"]

    def test_retry_believes_only_success(self, runs: list[str]) -> None:
        for _ in range(2):
            prove([self.GOOD, self.BAD], fingerprint="f", retry=True)
        assert runs == ["good", "bad", "bad"]

    def test_another_device_is_another_proof(self, runs: list[str]) -> None:
        prove([self.GOOD], fingerprint="f")
        prove([self.GOOD], fingerprint="g")
        assert runs == ["good", "good"]

    def test_another_driver_is_another_proof(self, runs: list[str], tmp_path: Path) -> None:
        library = tmp_path / "libdriver.so"
        library.write_bytes(b"1")
        delegate = Accelerator(kind="npu", name=str(library), engine="litert", present=True)
        prove([delegate], fingerprint="f")
        library.write_bytes(b"22")
        prove([delegate], fingerprint="f")
        assert len(runs) == 2

    def test_a_failure_is_believed_for_a_day(self, runs: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        now = time.time()
        prove([self.GOOD, self.BAD], fingerprint="f")
        monkeypatch.setattr(time, "time", lambda: now + 25 * 3600)
        prove([self.GOOD, self.BAD], fingerprint="f")
        assert runs == ["good", "bad", "bad"]

    def test_recall_starts_nothing(self, runs: list[str]) -> None:
        assert recall([self.GOOD], "f") == (self.GOOD,)
        proven_ones = prove([self.GOOD], fingerprint="f")
        assert recall([self.GOOD], "f") == proven_ones
        assert runs == ["good"]

    def test_what_is_not_present_is_not_tried(self, runs: list[str]) -> None:
        absent = Accelerator(kind="gpu", name="cuda", engine="onnxruntime", present=False, why="no driver")
        assert prove([absent]) == (absent,)
        assert runs == []

    def test_without_cache(self, runs: list[str], own_cache: Path) -> None:
        prove([self.GOOD], cache=False)
        prove([self.GOOD], cache=False)
        assert runs == ["good", "good"]
        assert not (own_cache / "proofs").exists()

    def test_a_damaged_verdict_is_made_again(self, runs: list[str], own_cache: Path) -> None:
        prove([self.GOOD], fingerprint="f")
        (kept,) = (own_cache / "proofs").iterdir()
        kept.write_bytes(b'{"usable": 1')
        prove([self.GOOD], fingerprint="f")
        assert runs == ["good", "good"]
        assert json.loads(kept.read_bytes())["usable"] is True

    def test_a_cache_that_cannot_be_written(
        self, runs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("EDGE_SDK_CACHE", str(tmp_path / "file"))
        assert [a.usable for a in prove([self.GOOD], fingerprint="f")] == [True]


class TestChild:
    """What the parent makes of a child's last words."""

    def verdict(self, out: bytes = b"", err: bytes = b"", code: int | None = 0) -> Verdict:
        return proof._judge(proof._Said(out, err, ended=True), code, 30.0, "gpu")

    def test_garbage_on_its_pipes(self) -> None:
        verdict = self.verdict(out=os.urandom(200) + b"\n[1]\n", err=b"\xff\xfe", code=3)
        assert verdict.usable is False
        assert verdict.why.startswith("ended (exit code 3) while starting")

    def test_the_stage_it_died_in(self) -> None:
        verdict = self.verdict(out=b'{"stage": "loading"}\n{"stage": "running"}\n', code=-11)
        assert verdict.why == "crashed (SIGSEGV) while running"

    def test_the_adapter_a_gpu_ran_on(self) -> None:
        err = b"I0000 x.cc:5] Selected adapter: Mali-G610, arch=valhall, backend=Vulkan, adapterType=Integrated GPU"
        verdict = self.verdict(out=b'{"usable": true, "why": "ran"}\n', err=err)
        assert (verdict.usable, verdict.why) == (True, "ran; adapter Mali-G610")

    def test_no_interpreter_to_start_a_child_with(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "executable", "")
        result = proven(Accelerator(kind="gpu", name="gpu", engine="litert", present=True))
        assert result.usable is None
        assert "no Python interpreter" in result.why

"""The package on emulated ARM: the suite's core on aarch64 and armv7l, and each core recognised and used as what it is.

The machines are made by `packaging/emulated_arm.py`; `docs/arm.md` says what is real there and what is not.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import models
from tests.slow import prebuilt_models

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

CHECKOUT = Path(__file__).parents[2]
TOOL = CHECKOUT / "packaging" / "emulated_arm.py"
FOLDER = Path(os.environ.get("EDGE_SDK_EMULATED_ARM", CHECKOUT / ".cache" / "emulated-arm"))
CORES = ("cortex-a53", "cortex-a72", "cortex-a76")

SUITE = (
    *("tests/device", "tests/engines", "tests/formats", "tests/session", "tests/planner", "tests/cli"),
    *("tests/test_tensors.py", "tests/test_storage.py", "tests/test_metrics.py", "tests/test_public_names.py"),
)
# Tests that say nothing there, by the reason. All else of the suite must pass.
NOT_EMULATED = {
    "qemu keeps a megabyte of every thread that ended": (
        "tests/engines/test_litert.py::TestFiles::test_loading_and_closing_keeps_no_memory_and_no_descriptor",
    ),
    "its seconds are less than loading takes there": (
        "tests/session/test_session.py::test_from_a_file_to_an_answer_and_a_reason",
        "tests/planner/test_calibration.py::test_rates_of_this_machine_know_that_more_work_takes_longer",
        "tests/cli/test_bench.py::test_a_picture_is_fed_as_each_of_two_models_takes_it",
    ),
    "minutes, on paths that shorter tests take too": (
        "tests/cli/test_run.py::test_the_digits_network_reads_the_ten_thousand_images",
        "tests/cli/test_run.py::test_the_voice_detector_hears_the_speech",
        "tests/cli/test_run.py::test_faces_are_found_without_any_flag",
    ),
}
_LITERT = "tests/engines/test_litert.py::"
NOT_TFLITE_RUNTIME = {
    "its armv7l build has no XNNPACK, which rounds and refuses sizes otherwise": (
        f"{_LITERT}TestNamesAndValues::test_quantised_numbers_pass_as_they_are_stored",
        f"{_LITERT}TestSizes::test_a_size_that_only_the_graph_can_judge",
        f"{_LITERT}TestSizes::test_sizes_fit_or_are_refused_in_any_order",
        f"{_LITERT}TestPlacement::test_nodes_are_told_by_place_and_name",
        f"{_LITERT}TestPlacement::test_a_graph_in_parts_is_counted_whole",
    ),
    "without XNNPACK it keeps one worker more": (
        f"{_LITERT}TestThreads::test_the_workers_are_found_and_end_with_the_runner",
        f"{_LITERT}TestThreads::test_one_runner_does_not_claim_the_workers_of_another",
        f"{_LITERT}TestThreads::test_workers_and_callers_stay_on_the_cpus_asked_for",
    ),
    "only ai-edge-litert has it": (
        f"{_LITERT}TestRealModels::test_a_float_and_an_int8_model_agree_with_the_bare_interpreter",
        "tests/engines/test_proof.py::TestModels::test_tflite",
        "tests/engines/test_proof.py::TestCompiled::test_an_npu_that_would_silently_fall_back",
        "tests/engines/test_litert_delegate.py::TestCompiled::test_where_there_is_no_gpu_the_cause_is_named",
        "tests/engines/test_litert_delegate.py::TestCompiled::test_an_option_that_is_not_known_is_named",
    ),
}


@dataclass(frozen=True)
class Machine:
    """An emulated machine with this checkout's wheel and tests installed."""

    arch: str
    root: Path

    def run(
        self, *command: str, cpu: str | None = None, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command there to its end, whatever its exit code."""
        core = ["--cpu", cpu] if cpu else []
        variables = [part for item in (env or {}).items() for part in ("--env", "=".join(item))]
        tool = [sys.executable, str(TOOL), "--root", str(FOLDER), "run", "--arch", self.arch, *core, *variables, "--"]
        return subprocess.run([*tool, *command], capture_output=True, text=True, check=False)

    def check(self, *command: str, cpu: str | None = None, env: Mapping[str, str] | None = None) -> str:
        """Its standard output; the test fails unless it succeeds."""
        done = self.run(*command, cpu=cpu, env=env)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-8000:]}\n{done.stderr[-2000:]}"
        return done.stdout

    def place(self, name: str, content: bytes) -> str:
        """Puts a file there; gives its path as the machine names it."""
        path = self.root / "tmp" / name
        path.write_bytes(content)
        return f"/tmp/{name}"


def make(arch: str) -> Machine:
    for verb in ("build", "install"):
        command = [sys.executable, TOOL, "--root", FOLDER, verb, "--arch", arch]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            assert "tools are missing" in done.stderr, done.stderr
            pytest.skip(done.stderr.strip())
    if os.geteuid() != 0:
        pytest.skip("emulation needs root")
    return Machine(arch, FOLDER / arch)


@pytest.fixture(scope="module")
def arm64() -> Machine:
    return make("arm64")


@pytest.fixture(scope="module")
def armhf() -> Machine:
    return make("armhf")


def run_suite(machine: Machine, left_out: Mapping[str, Sequence[str]], *options: str, **env: str) -> str:
    """Runs the core of the suite there; gives pytest's last line."""
    project = machine.root / "srv/edge-sdk"
    modules = [
        path for name in SUITE for path in (project / name, *(project / name).rglob("test_*.py")) if path.is_file()
    ]
    if machine.arch == "armhf":  # there is no onnx for it to import
        modules = [path for path in modules if not re.search(r"^import onnx$", path.read_text(), re.MULTILINE)]
    suite = [str(path.relative_to(project)) for path in modules]
    deselected = [f"--deselect={test}" for tests in left_out.values() for test in tests]
    command = ["python3", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow", "-o", "timeout=1800"]
    command += ["-n", "2", "--dist", "loadfile", "--max-worker-restart=0"]
    # Not an ARMv8.0 core: the tests that look for an accelerator expect LiteRT's library to load.
    core = "cortex-a76" if machine.arch == "arm64" else None
    told = machine.check(*command, *options, *deselected, *suite, cpu=core, env=env)
    return told.strip().splitlines()[-1]


def passed(line: str) -> int:
    found = re.search(r"(\d+) passed", line)
    return int(found[1]) if found else 0


def test_the_suite_passes_on_aarch64(arm64: Machine) -> None:
    assert passed(run_suite(arm64, NOT_EMULATED)) > 500


def test_the_suite_passes_on_armv7l_with_tflite_runtime_alone(armhf: Machine) -> None:
    prebuilt = "/srv/edge-sdk/prebuilt"
    prebuilt_models.write(armhf.root / prebuilt.lstrip("/"))
    options = ("-p", "tests.slow.prebuilt_models", "tests/slow/tflite_alone.py")
    variables = {prebuilt_models.FOLDER_VARIABLE: prebuilt}
    assert passed(run_suite(armhf, NOT_EMULATED | NOT_TFLITE_RUNTIME, *options, **variables)) > 400


def test_only_tflite_runtime_is_on_armv7l(armhf: Machine) -> None:
    device = json.loads(armhf.check("edge-sdk", "device", "--json"))
    assert (device["arch"], device["bits"]) == ("armv7l", 32)
    assert device["engines"] == {"litert": "2.14.0"}
    refused = armhf.run("edge-sdk", "run", armhf.place("add.onnx", models.onnx_add()), "--input", "x.npy")
    assert refused.returncode == 1
    assert "onnxruntime" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_cores_are_told_apart(arm64: Machine) -> None:
    told = {core: json.loads(arm64.check("edge-sdk", "device", "--json", cpu=core)) for core in CORES}
    for core, device in told.items():
        assert [cluster["core"] for cluster in device["clusters"]] == [core]
        assert device["arch"] == "aarch64"
        assert ({"dotprod", "fp16"} <= set(device["isa"])) == (core == "cortex-a76")
    assert len({device["fingerprint"] for device in told.values()}) == len(CORES)


INFER = """
import json, sys
import numpy as np
import edge_sdk
for path in sys.argv[1:]:
    with edge_sdk.load(path, plan_budget_s=0, trusted=True) as session:
        (spec,) = session.inputs
        values = np.arange(np.prod(spec.shape)).reshape(spec.shape) % 100 - 50
        outputs = session.run(values.astype(spec.dtype))
        print(json.dumps({name: np.asarray(output).astype(float).tolist() for name, output in outputs.items()}))
"""


def count_dot_products(log: Path) -> int:
    """SDOT and UDOT (vector, and by element) among the instructions that qemu translated just before running them."""
    words = (int(word, 16) for word in re.findall(r"^0x[0-9a-f]+:  ([0-9a-f]{8}) ", log.read_text(), re.MULTILINE))
    return sum(word & 0x9FE0FC00 == 0x0E809400 or word & 0x9FC0F400 == 0x0F80E000 for word in words)


def test_engines_choose_code_by_core_and_are_right_on_each(arm64: Machine, tmp_path: Path) -> None:
    files = {"int8.tflite": models.tflite_int8(), "int8.onnx": models.onnx_int8_dynamic()}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    host = subprocess.run(
        [sys.executable, "-c", INFER, *(tmp_path / name for name in files)], capture_output=True, text=True, check=True
    )
    expected = [json.loads(line) for line in host.stdout.splitlines()]
    for number, (name, content) in enumerate(files.items()):
        path = arm64.place(name, content)
        for core in CORES:
            for stale in (arm64.root / "tmp").glob("translated-*"):
                stale.unlink()
            variables = {"QEMU_LOG": "in_asm", "QEMU_LOG_FILENAME": "/tmp/translated-%d"}
            outputs = json.loads(arm64.check("python3", "-c", INFER, path, cpu=core, env=variables))
            for output, values in expected[number].items():
                # One step of an int8 output may be rounded either way.
                np.testing.assert_allclose(outputs[output], values, rtol=1e-5, atol=1.0 if name == "int8.tflite" else 0)
            counted = sum(count_dot_products(log) for log in (arm64.root / "tmp").glob("translated-*"))
            assert (counted > 0) == (core == "cortex-a76"), (name, core, counted)


FALL_BACK = """
import sys, warnings
import numpy as np
import edge_sdk
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    with edge_sdk.load(sys.argv[1], accelerator="gpu", plan_budget_s=0, trusted=True) as session:
        outputs = session.run(np.zeros((2, 3), np.float32))
print(outputs["y"][0, 0], *(warning.category.__name__ for warning in told))
"""


@pytest.mark.parametrize("core", CORES)
def test_a_gpu_that_is_not_there_does_not_end_the_process(arm64: Machine, core: str) -> None:
    """LiteRT's WebGPU library is built for ARMv8.1 and ends the process on a core without its atomic instructions."""
    told = arm64.check("python3", "-c", FALL_BACK, arm64.place("add.tflite", models.tflite_add()), cpu=core)
    assert told.split() == ["1.0", "AcceleratorFallback"]


def top(machine: Machine, assets: Path, given: str, *options: str) -> dict[str, Any]:
    """The first answer of `edge-sdk run` on a real classifier."""
    model = "/srv/shared/assets/models/mobilenet_v2_224_int8.tflite"
    labels = "/srv/shared/assets/models/imagenet_labels.txt"
    told = machine.check("edge-sdk", "run", model, "--input", given, "--labels", labels, "--json", *options)
    best: dict[str, Any] = json.loads(told.splitlines()[0])["top"][0]
    return best


def test_a_photograph_is_named_on_aarch64(arm64: Machine, assets: Path) -> None:
    assert top(arm64, assets, "/srv/shared/assets/photos/cat.bmp")["label"] == "Egyptian cat"


def test_a_photograph_is_named_on_armv7l(armhf: Machine, assets: Path, tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")  # which armv7l has no wheel of: the picture arrives there as an array
    picture = cv2.cvtColor(cv2.imread(str(assets / "photos" / "cat.bmp")), cv2.COLOR_BGR2RGB)
    np.save(tmp_path / "cat.npy", cv2.resize(picture, (224, 224))[None])
    given = armhf.place("cat.npy", (tmp_path / "cat.npy").read_bytes())
    assert top(armhf, assets, given)["label"] == "Egyptian cat"

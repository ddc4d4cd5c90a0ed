"""Real models on four accelerators that execute without hardware, each made to fail while a thousand requests run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edge_sdk
from edge_sdk.engines import registry
from edge_sdk.engines.agreement import disagreement
from edge_sdk.engines.guard import AcceleratorState, Guard
from tests import models
from tests.engines.failing import Told, accelerator_processes, failing_delegate

pytestmark = pytest.mark.slow

QNN = "onnxruntime-qnn==2.7.0"
OPENVINO = "openvino==2026.3.1"
SWIFTSHADER = Path("/usr/lib/chromium/vk_swiftshader_icd.json")
REQUESTS = 1000
TOLERANCE = 0.05


@dataclass(frozen=True)
class Way:
    """A model on an accelerator.

    Attributes:
        file: without it the accelerator does not start.
        wrong: options that it refuses.
        mood: of the delegate made for this: the file that says how it behaves.
    """

    accelerator: str
    model: Path
    file: Path
    options: Mapping[str, str] = field(default_factory=dict)
    wrong: Mapping[str, str] = field(default_factory=dict)
    mood: Path | None = None

    def hide(self) -> None:
        """Its file is missing."""
        self.file.rename(self.file.with_suffix(".hidden"))

    def show(self) -> None:
        """Its file is back."""
        self.file.with_suffix(".hidden").rename(self.file)


def installed(requirement: str, folder: Path) -> Path:
    """A package in a folder of its own, apart from this environment."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--target", str(folder)]
    if subprocess.run([*command, requirement], check=False).returncode:
        pytest.skip(f"{requirement} has no build for this machine")
    return folder


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    known: dict[str, Path] = {}

    def package(requirement: str) -> Path:
        if requirement not in known:
            known[requirement] = installed(requirement, tmp_path_factory.mktemp(requirement.partition("=")[0]))
        return known[requirement]

    return package


@pytest.fixture(params=["qnn simulator", "gpu on swiftshader", "npu by openvino", "delegate"])
def way(
    request: pytest.FixtureRequest,
    packages: Callable[[str], Path],
    assets: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Way]:
    pytest.importorskip("ai_edge_litert")
    resnet = assets / "models" / "resnet8_cifar10_fp32.tflite"
    if request.param == "qnn simulator":
        folder = packages(QNN)
        monkeypatch.syspath_prepend(str(folder))
        (library,) = folder.glob("onnxruntime_qnn/**/libonnxruntime_providers_qnn.so")
        wrong = {"backend_type": "htp", "backend_path": "/nonexistent/libQnnNone.so"}
        made = Way("qnn", assets / "models" / "mnist_cnn.onnx", library, wrong=wrong)
    elif request.param == "gpu on swiftshader":
        if not SWIFTSHADER.is_file():
            pytest.skip("SwiftShader is not installed: it comes with Debian's chromium")
        driver = json.loads(SWIFTSHADER.read_text())
        driver["ICD"]["library_path"] = str(SWIFTSHADER.with_name(Path(driver["ICD"]["library_path"]).name))
        icd = tmp_path / "icd.json"
        icd.write_text(json.dumps(driver))
        monkeypatch.setenv("VK_ICD_FILENAMES", str(icd))
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
        made = Way("gpu", resnet, icd, wrong={"enable_everything": "true"})
    elif request.param == "npu by openvino":
        folder = packages(OPENVINO)
        monkeypatch.syspath_prepend(str(folder))
        (library,) = folder.glob("openvino/libs/libopenvino_tensorflow_lite_frontend.so.*")
        on_cpu = {"intel_openvino.graph_backend": "cpu"}
        made = Way("npu", resnet, library, on_cpu, wrong={"intel_openvino.graph_backend": "tpu"})
    else:
        delegate = failing_delegate(tmp_path)
        model = tmp_path / "add.tflite"
        model.write_bytes(models.tflite_add())
        wrong = {"mood": str(tmp_path / "refuses")}
        (tmp_path / "refuses").write_text("options")
        made = Way(str(delegate.library), model, delegate.library, delegate.options, wrong, delegate.mood)
    registry.clear_cache()
    yield made
    with suppress(OSError):
        made.show()


class Stream:
    """Requests with known answers."""

    def __init__(self, way: Way, told: Told, options: Mapping[str, str], check_every: int) -> None:
        # In the open part of its process the GPU takes its time: what hangs here hangs for ever.
        guard = Guard(rest_s=0.2, longest_rest_s=1.0, timeout_s=20.0, check_every=check_every, tell=told)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", edge_sdk.AcceleratorFallback)
            self.session = edge_sdk.load(
                way.model,
                accelerator=way.accelerator,
                accelerator_options=options,
                plan_budget_s=0,
                guard=guard,
            )
        self.feeds = [self._made_up(seed) for seed in range(8)]
        with edge_sdk.load(way.model, plan_budget_s=0) as on_cpu:
            self.answers = [on_cpu.run(feeds) for feeds in self.feeds]
        self.asked = 0

    def _made_up(self, seed: int) -> dict[str, Any]:
        generator = np.random.default_rng(seed)
        sizes = {s.name: [n if isinstance(n, int) else 1 for n in s.shape or ()] for s in self.session.inputs}
        return {name: generator.random(shape, dtype=np.float32) for name, shape in sizes.items()}

    def ask(self, requests: int) -> None:
        """Asks, and checks each answer."""
        for _ in range(requests):
            number = self.asked % len(self.feeds)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", edge_sdk.AcceleratorFallback)
                given = self.session.run(self.feeds[number])
            assert not disagreement(given, self.answers[number], TOLERANCE), f"request {self.asked}"
            self.asked += 1

    @property
    def state(self) -> AcceleratorState:
        """Of the accelerator."""
        (state,) = self.session.report().accelerators
        return state

    def process_id(self) -> int:
        """Of the accelerator's process."""
        (process_id,) = accelerator_processes()
        return process_id


def test_a_thousand_requests_are_answered_while_it_crashes_hangs_and_is_missing(way: Way) -> None:
    told = Told()
    stream = Stream(way, told, way.options, check_every=100)
    with stream.session as session:
        assert session.plan.accelerator == way.accelerator, told.events
        report = session.report()
        assert report.verified and {place.where for place in report.nodes} == {way.accelerator}
        stream.ask(200)
        assert (stream.state.answered, stream.state.by_cpu) == (200, 0)

        os.kill(stream.process_id(), signal.SIGSEGV)
        stream.ask(100)
        told.wait_for("is back after", 1)
        stream.ask(150)

        os.kill(stream.process_id(), signal.SIGSTOP)
        stream.ask(100)
        told.wait_for("is back after", 2)
        stream.ask(150)

        way.hide()
        os.kill(stream.process_id(), signal.SIGSEGV)
        stream.ask(150)
        assert session.plan.accelerator == "cpu"
        way.show()
        told.wait_for("is back after", 3)
        stream.ask(150)

        state = stream.state
        assert stream.asked == REQUESTS == state.answered + state.by_cpu
        assert (state.state, state.restores) == ("working", 3)
        assert state.failures["crash"] >= 2 and state.failures["hang"] == 1
        events = session.report().events
        assert sum("takes over from the accelerator" in event for event in events) == 3
        print(f"\n{way.accelerator}: {state.answered} answers there, {state.by_cpu} by the CPU, {state.failures}")


def test_a_thousand_requests_are_answered_where_its_options_are_refused(way: Way) -> None:
    told = Told()
    stream = Stream(way, told, way.wrong, check_every=100)
    with stream.session as session:
        assert session.plan.accelerator == "cpu"
        stream.ask(REQUESTS)
        state = stream.state
        assert (state.answered, state.by_cpu, state.restores) == (0, REQUESTS, 0)
        assert state.failures["start"] >= 1 and state.state in ("quarantined", "probing")
        assert "takes over from the accelerator" in session.report().events[0]


@pytest.mark.parametrize("way", ["delegate"], indirect=True)
def test_a_thousand_requests_are_answered_while_a_delegate_errs_and_computes_wrongly(way: Way) -> None:
    told = Told()
    assert way.mood is not None
    # Each answer is checked before it is handed on: only so is none of the wrong ones.
    stream = Stream(way, told, way.options, check_every=1)
    with stream.session:
        for number, mood in enumerate(("error", "wrong", "not a number", "prepare", "options"), 1):
            stream.ask(100)
            if mood in ("prepare", "options"):
                os.kill(stream.process_id(), signal.SIGSEGV)
            way.mood.write_text(mood)
            stream.ask(100)
            way.mood.write_text("right")
            told.wait_for("is back after", number)
        state = stream.state
        assert stream.asked == REQUESTS == state.answered + state.by_cpu
        assert (state.state, state.restores) == ("working", 5)
        assert (state.failures["error"], state.failures["wrong"], state.failures["crash"]) == (3, 2, 2)

"""How a session runs beside others: the cores that keep its promise with least energy, and a lighter variant where a
stream may degrade."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

import edge_sdk
from edge_sdk.device.affinity import usable_cpus
from edge_sdk.device.facts import Device
from edge_sdk.engines import Engine, LoadOptions, PlacementReport, Runner
from edge_sdk.errors import AdmissionRefused, InputError, RequestDropped
from edge_sdk.formats import ModelFile
from edge_sdk.metrics import Histogram
from edge_sdk.scheduled import Scheduled
from tests.machines import cluster, device
from tests.two_variants import X, two_variants

models = pytest.importorskip("tests.models")

WAIT_S = 30


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A bundle of a small and a large variant of one network."""
    return two_variants(tmp_path)


class Sleeping(Engine):
    """A request takes as long as `takes_ms` says of its variant and options, and waits for the gate. Answers with the
    length of the variant's name."""

    name, formats, native = "sleeping", frozenset({"onnx"}), False

    def __init__(self, takes_ms: Callable[[str, LoadOptions], float]) -> None:
        self.takes_ms = takes_ms
        self.gate, self.entered = threading.Event(), threading.Semaphore(0)
        self.gate.set()
        self.loaded: list[str] = []

    def version(self) -> str | None:
        return "1"

    def load(self, model: ModelFile, options: LoadOptions) -> Runner:
        return SleepingRunner(self, model, options)


class SleepingRunner(Runner):
    def __init__(self, engine: Sleeping, model: ModelFile, options: LoadOptions) -> None:
        info = model.describe()
        self._by, self.engine, self.model, self.options = engine, engine.name, model.name, options
        self.queue, self.inputs, self.outputs = Histogram(), info.inputs, info.outputs
        self._variant = model.name.rpartition("/")[2]
        engine.loaded.append(self._variant)

    def run(self, feeds: Mapping[str, Any], out: Mapping[str, Any] | None = None) -> dict[str, Any]:
        self._by.entered.release()
        assert self._by.gate.wait(WAIT_S)
        time.sleep(self._by.takes_ms(self._variant, self.options) / 1e3)
        return {"y": np.full((1, 4), len(self._variant), np.float32)}

    def placement(self) -> PlacementReport:
        return PlacementReport((), (), False)

    def close(self) -> None:
        if self._variant in self._by.loaded:
            self._by.loaded.remove(self._variant)


class Clock:
    """Stands still unless told."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def by_variant(**ms: float) -> Sleeping:
    return Sleeping(lambda variant, options: ms[variant])


def load(scheduler: edge_sdk.Scheduler, name: str, model: Any, engine: Engine, **arguments: Any) -> Scheduled:
    given = {"when_full": "degrade", "rate_hz": 10, "deadline_ms": 1000, **arguments}
    return scheduler.load(name, model, engine=engine, plan_budget_s=0, **given)


def calm(session: Scheduled, clock: Clock, seconds: float) -> None:
    """Requests at 10 a second, all in time."""
    for _ in range(int(seconds * 10)):
        session.run({"x": X})
        clock.now_s += 0.1


def overload(session: Scheduled, engine: Sleeping) -> None:
    """More requests than may wait, while one computes."""
    while engine.entered.acquire(blocking=False):
        pass
    engine.gate.clear()
    first = session.submit({"x": X})
    assert engine.entered.acquire(timeout=WAIT_S)
    asked = [session.submit({"x": X}) for _ in range(4)]
    engine.gate.set()
    first.result(WAIT_S)
    for given_up in asked[:-1]:
        with pytest.raises(RequestDropped):
            given_up.result(WAIT_S)
    asked[-1].result(WAIT_S)


def test_a_lighter_variant_answers_while_frames_come_too_fast_and_the_better_one_later(made: Path) -> None:
    engine, clock = by_variant(large=10.0, small=1.0), Clock()
    with edge_sdk.Scheduler(cores=1, clock=clock) as scheduler:
        camera = load(scheduler, "camera", made, engine)
        assert camera.figures().variant == "large", "the better one, though it is slower"
        assert set(engine.loaded) == {"large", "small"}, "no request waits for loading"
        overload(camera, engine)
        figures = camera.figures()
        assert figures.variant == "small"
        assert figures.variants == {"large": 1, "small": 1}
        assert "small instead of large: 3 of 4 requests were late or given up" in figures.steps[0]
        calm(camera, clock, 8)
        figures = camera.figures()
        assert figures.variant == "large"
        assert figures.steps[-1].startswith("large instead of small:")
        assert sum(figures.variants.values()) == figures.answered == 82
        assert figures.dropped == 3


def test_what_does_not_fit_beside_the_others_begins_lighter_and_rises_when_they_have_gone(made: Path) -> None:
    engine, clock = by_variant(large=75.0, small=2.0), Clock()
    with edge_sdk.Scheduler(cores=1, clock=clock) as scheduler:
        other = load(scheduler, "other", models.onnx_add(), Sleeping(lambda *_: 40.0), when_full="block")
        camera = load(scheduler, "camera", made, engine)
        figures = camera.figures()
        assert figures.variant == "small"
        assert "with large: camera needs 0." in figures.reason, "the figures of what was refused"
        calm(camera, clock, 4)
        assert camera.figures().variant == "small", "the other still has its promise"
        other.close()
        engine.takes_ms = lambda variant, options: 0.0
        calm(camera, clock, 8)
        assert camera.figures().variant == "large"


def test_where_not_even_the_lightest_keeps_the_promise_all_are_refused(made: Path) -> None:
    engine = by_variant(large=60.0, small=40.0)
    with edge_sdk.Scheduler(cores=1) as scheduler:
        with pytest.raises(AdmissionRefused, match=r"with large: .*; with small: camera: a request takes"):
            load(scheduler, "camera", made, engine, deadline_ms=20)
        assert engine.loaded == []
        assert scheduler.resident_mb() == {}


def test_a_variant_that_is_no_faster_is_left_out(made: Path) -> None:
    engine = by_variant(large=10.0, small=30.0)
    with edge_sdk.Scheduler(cores=1) as scheduler:
        assert load(scheduler, "camera", made, engine).figures().variants == {"large": 0}
        assert engine.loaded == ["large"]


def test_a_variant_for_which_there_is_no_memory_is_left_out(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = by_variant(large=10.0, small=1.0)
    takes_mb = {"large": 80.0, "small": 10.0}

    def memory() -> Any:
        return SimpleNamespace(private_mb=100.0 + sum(takes_mb[name] for name in engine.loaded), resident_mb=100.0)

    monkeypatch.setattr("edge_sdk.residence.memory_of", memory)
    with edge_sdk.Scheduler(cores=1, max_memory_mb=50) as scheduler:
        camera = load(scheduler, "camera", made, engine)
        assert camera.figures().variants == {"small": 0}
        assert "max_memory_mb is 50" in camera.figures().reason
        assert scheduler.resident_mb() == {"camera/small": 10.0}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"min_accuracy": 0.95}, "lighter variant at or above min_accuracy 0.95; there are large, small"),
        ({"variant": "small"}, "takes a bundle with a lighter variant"),
        ({"rate_hz": None, "deadline_ms": None}, "for what has a rate_hz or a deadline_ms"),
    ],
)
def test_there_must_be_something_to_degrade_to(made: Path, given: dict[str, Any], told: str) -> None:
    engine = by_variant(large=1.0, small=1.0)
    with edge_sdk.Scheduler(cores=1) as scheduler:
        with pytest.raises(InputError, match=told):
            load(scheduler, "camera", made, engine, **given)
        assert engine.loaded == []


def big_little() -> Device:
    """As if the second of two cores were a little one."""
    big, little = usable_cpus()[:2]
    return device(
        msgspec.structs.replace(cluster("0", "big", big), core_watts=1.5),
        msgspec.structs.replace(cluster("1", "little", little), core_watts=0.1),
        fingerprint="two",
    )


@pytest.mark.skipif(len(usable_cpus()) < 2, reason="needs two CPUs")
def test_the_core_that_keeps_the_promise_with_least_energy_is_taken() -> None:
    little = usable_cpus()[1]
    engine = Sleeping(lambda _, options: 180.0 if options.cpus == (little,) else 20.0)
    asked: dict[str, Any] = {"when_full": "block", "device": big_little()}
    with edge_sdk.Scheduler(cores=2) as scheduler:
        add = models.onnx_add()
        seldom = load(scheduler, "seldom", add, engine, rate_hz=2.5, **asked)
        assert seldom.cpus == {little}, "180 ms at 0.1 W are less than 20 ms at 1.5 W"
        assert "on little CPUs" in seldom.figures().reason
        urgent = load(scheduler, "urgent", add, engine, rate_hz=2.5, **{**asked, "deadline_ms": 150})
        assert little not in urgent.cpus, "the little core takes 180 ms"
        beside = load(scheduler, "beside", add, engine, rate_hz=2.5, **{**asked, "deadline_ms": 400})
        assert little not in beside.cpus, "half of the little core is promised already"
        with seldom.using() as session:
            assert session.plan.placement.cpus == (little,)

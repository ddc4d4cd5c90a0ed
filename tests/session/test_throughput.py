"""A session loaded for throughput: requests go to several runners at once, and come back as they were asked."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

import edge_sdk
from edge_sdk.device.facts import Cluster, Device
from edge_sdk.engines import LoadOptions, PlacementReport, Runner
from edge_sdk.engines.base import Engine
from edge_sdk.errors import InputError
from edge_sdk.formats import ModelFile
from edge_sdk.metrics import Histogram
from edge_sdk.tensors import TensorSpec

models = pytest.importorskip("tests.models")

GROUP = Cluster(id="0", role="big", core=None, cpus=(0, 1), online=(0, 1), siblings=((0,), (1,)))
MACHINE = Device(name="t", arch="aarch64", bits=64, clusters=(GROUP,), usable_cpus=(0, 1), fingerprint="lanes")


class Asleep(Engine):
    """Adds 1 as `onnx_add` does, and takes as long on any CPUs without using them."""

    name, formats, native = "asleep", frozenset({"onnx"}), False

    def __init__(self) -> None:
        self.inside = self.most = self.open = 0
        self.lock = threading.Lock()

    def version(self) -> str | None:
        return "1"

    def load(self, model: ModelFile, options: LoadOptions) -> Runner:
        self.open += 1
        return AsleepRunner(self, options)


class AsleepRunner(Runner):
    def __init__(self, engine: Asleep, options: LoadOptions) -> None:
        self._engine, self.options = engine, options
        self.engine, self.model, self.queue = engine.name, "m.onnx", Histogram()
        self.inputs = (TensorSpec("x", "float32", (1,)),)
        self.outputs = (TensorSpec("y", "float32", (1,)),)

    def run(self, feeds: Mapping[str, Any], out: Mapping[str, Any] | None = None) -> dict[str, Any]:
        engine = self._engine
        with engine.lock:
            engine.inside += 1
            engine.most = max(engine.most, engine.inside)
        # The lane of the second CPU is the slower one, so that answers come out of order.
        time.sleep(0.008 if self.options.cpus != (1,) else 0.012)
        with engine.lock:
            engine.inside -= 1
        return {"y": feeds["x"] + 1}

    def placement(self) -> PlacementReport:
        return PlacementReport((), (), False)

    def close(self) -> None:
        self._engine.open -= 1


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Asleep:
    monkeypatch.setattr("edge_sdk.planner.choosing.usable_cpus", lambda: (0, 1))
    monkeypatch.setattr("edge_sdk.planner.choosing.core_groups", lambda cpus: (tuple(cpus),))
    return Asleep()


def load(engine: Engine, **arguments: Any) -> edge_sdk.Session:
    return edge_sdk.load(
        models.onnx_add(), engine=engine, device=MACHINE, objective="throughput", plan_budget_s=3, **arguments
    )


def test_a_stream_keeps_every_lane_busy_and_its_order(engine: Asleep) -> None:
    frames = [np.full(1, number, np.float32) for number in range(60)]
    with load(engine) as session:
        assert session.plan.placement.lanes == ((0,), (1,))
        engine.most = 0
        found = [float(answer["y"][0]) for answer in session.stream(frames)]
        lanes = session.report().lanes
    assert found == [number + 1 for number in range(60)]
    assert engine.most == 2
    assert [lane.cpus for lane in lanes] == [(0,), (1,)]
    assert all(lane.requests for lane in lanes)
    assert engine.open == 0


def test_the_plan_that_was_kept_opens_the_same_lanes(engine: Asleep) -> None:
    load(engine).close()
    with load(engine) as session:
        assert session.plan.cached
        assert session.plan.placement.lanes == ((0,), (1,))
        assert engine.open == 2
        assert session.run(np.ones(1, np.float32))["y"] == 2
        assert sum(lane.requests for lane in session.report().lanes) == 1


def test_requests_that_need_each_other_or_go_elsewhere_are_refused(engine: Asleep) -> None:
    with pytest.raises(InputError, match="leave out endpoints and state"):
        load(engine, state={"x": "y"})
    with pytest.raises(InputError, match="leave out endpoints and state"):
        load(engine, endpoints=["http://127.0.0.1:9"])
    with pytest.raises(InputError, match="rate_hz"):
        load(engine, rate_hz=30)
    assert engine.open == 0

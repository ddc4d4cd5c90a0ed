"""A session loaded for throughput: requests go to several runners at once, and come back as they were asked."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest

import edge_sdk
from edge_sdk.engines import LoadOptions, Runner
from edge_sdk.engines.base import Engine
from edge_sdk.errors import EngineError, InputError, InputShapeError
from edge_sdk.formats import ModelFile
from tests.awaiting import until
from tests.machines import cluster, device
from tests.runners import AddsOne

models = pytest.importorskip("tests.models")

MACHINE = device(cluster("0", "big", 0, 1), fingerprint="lanes")


class Asleep(Engine):
    """Adds 1 as `onnx_add` does, and takes as long on any CPUs without using them."""

    name, formats, native = "asleep", frozenset({"onnx"}), False

    def __init__(self) -> None:
        self.inside = self.most = self.open = self.requests = 0
        self.lock = threading.Lock()

    def version(self) -> str | None:
        return "1"

    def load(self, model: ModelFile, options: LoadOptions) -> Runner:
        self.open += 1
        return AsleepRunner(self, options)


class AsleepRunner(AddsOne):
    def __init__(self, engine: Asleep, options: LoadOptions) -> None:
        super().__init__(engine.name, options)
        self._engine = engine

    def run(self, feeds: Mapping[str, Any], out: Mapping[str, Any] | None = None) -> dict[str, Any]:
        engine = self._engine
        with engine.lock:
            engine.inside += 1
            engine.requests += 1
            engine.most = max(engine.most, engine.inside)
        # The lane of the second CPU is the slower one, so that answers come out of order.
        time.sleep(0.008 if self.options.cpus != (1,) else 0.012)
        with engine.lock:
            engine.inside -= 1
        if feeds["x"][0] < 0:
            raise EngineError("a negative number")
        return super().run(feeds, out)

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


def numbers(*each: float) -> list[np.ndarray]:
    return [np.full(1, number, np.float32) for number in each]


def test_an_answer_does_not_wait_for_as_many_frames_as_may_be_under_way(engine: Asleep) -> None:
    """Frames of a camera come one at a time, long after the one before was answered."""
    taken: list[int] = []
    with load(engine) as session:

        def camera() -> Iterator[np.ndarray]:
            for number in range(8):
                until(lambda: session.in_progress == 0)
                taken.append(number)
                yield numbers(number)[0]

        for count, answer in enumerate(session.stream(camera(), ahead=30)):
            assert answer["y"] == count + 1
            assert len(taken) <= min(count + 2, 8), "the next frame at most has come meanwhile"


def test_a_frame_that_does_not_fit_is_refused_at_its_turn(engine: Asleep) -> None:
    frames = [*numbers(1, 2), np.zeros(3, np.float32), *numbers(4)]
    with load(engine) as session:
        answers = session.stream(frames)
        assert [float(next(answers)["y"][0]) for _ in range(2)] == [2, 3]
        with pytest.raises(InputShapeError):
            next(answers)
        assert session.run(frames[0])["y"] == 2


def test_a_frame_that_fails_is_told_at_its_turn_and_those_behind_it_are_dropped(engine: Asleep) -> None:
    with load(engine) as session:
        answers = session.stream(numbers(1, -1, 3, 4, 5, 6, 7, 8, 9, 10))
        assert next(answers)["y"] == 2
        with pytest.raises(EngineError, match="a negative number"):
            next(answers)
        assert list(answers) == []
        assert session.run(numbers(1)[0])["y"] == 2


def test_who_takes_no_more_answers_has_the_rest_not_computed(engine: Asleep) -> None:
    with load(engine) as session:
        before = engine.requests
        answers = session.stream(itertools.repeat(numbers(1)[0]), ahead=30)
        next(answers)
        answers.close()  # type: ignore[attr-defined]
        assert engine.inside == 0, "what was computed has ended"
        asked = engine.requests - before
    assert asked < 30
    assert engine.requests - before == asked


def test_a_model_may_be_swapped_between_two_answers(engine: Asleep) -> None:
    """The frames that are under way end on the old one; who swaps does not wait for answers that nobody takes."""
    with load(engine) as session:
        found = []
        for number, answer in enumerate(session.stream(numbers(*range(40)))):
            found.append(float(answer["y"][0]))
            if number in (5, 20):
                session.swap(models.onnx_add())
                assert engine.open == 2, "the old lanes are closed"
        assert found == [number + 1 for number in range(40)]
        assert session.report().stages["run"].count == 40


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

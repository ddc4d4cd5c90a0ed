"""One model in several lanes: loaded for each, answered by whichever ends first, chosen where it is measured to pay."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from edge_sdk.engines import Engine, LoadOptions, NodePlacement, PlacementReport, Runner
from edge_sdk.engines.base import ThreadPlacement
from edge_sdk.errors import EngineError, SessionClosed
from edge_sdk.formats import ModelFile, open_model
from edge_sdk.metrics import Histogram
from edge_sdk.planner import Choice, Placement, Wish, choose, variant_of_file
from edge_sdk.planner.lanes import LanesRunner
from edge_sdk.planner.placed import placed
from edge_sdk.tensors import TensorSpec
from tests.awaiting import until
from tests.machines import TWO_CORES

models = pytest.importorskip("tests.models")

MODEL = open_model(models.onnx_add())
TWO = Placement(label="cores", lanes=((0,), (1,)))


class Pinned(Runner):
    """Answers with the number that it was asked, and tells which CPUs it was loaded on."""

    def __init__(self, options: LoadOptions, wait_s: float = 0.0) -> None:
        self.options, self.wait_s = options, wait_s
        self.engine, self.model, self.queue, self.notes = "pinned", "m", Histogram(), ("noted",)
        self.inputs = self.outputs = (TensorSpec("x", "float32", (1,)),)
        self.asked = 0
        self.closed = False

    def run(self, feeds: Mapping[str, Any], out: Mapping[str, Any] | None = None) -> dict[str, Any]:
        self.asked += 1
        if self.wait_s:
            time.sleep(self.wait_s)
        return {"x": feeds["x"]}

    def placement(self) -> PlacementReport:
        cpus = self.options.cpus or ()
        return PlacementReport((ThreadPlacement(7, cpus),), (NodePlacement("cpu", 3),), True)

    def close(self) -> None:
        self.closed = True


def two() -> tuple[LanesRunner, list[Pinned]]:
    loaded: list[Pinned] = []

    def load(file: ModelFile, options: LoadOptions) -> Runner:
        loaded.append(Pinned(options))
        return loaded[-1]

    runner = placed(MODEL, load, LoadOptions(), TWO)
    assert isinstance(runner, LanesRunner)
    return runner, loaded


def test_each_lane_has_a_runner_on_its_own_cpus() -> None:
    runner, loaded = two()
    assert [(one.options.cpus, one.options.threads) for one in loaded] == [((0,), 1), ((1,), 1)]
    assert runner.cpus == ((0,), (1,))
    report = runner.placement()
    assert [thread.cpus for thread in report.threads] == [(0,), (0,), (1,), (1,)], "its own thread, and the engine's"
    assert report.nodes == (NodePlacement("cpu", 3),)
    assert runner.notes == ("noted", "2 lanes")


def test_a_placement_without_lanes_is_one_runner() -> None:
    runner = placed(MODEL, lambda file, options: Pinned(options), LoadOptions(), Placement(cpus=(1,), threads=1))
    assert isinstance(runner, Pinned)
    assert (runner.options.cpus, runner.options.threads) == ((1,), 1)


def test_where_a_lane_does_not_load_none_stays_open() -> None:
    loaded: list[Pinned] = []

    def load(file: ModelFile, options: LoadOptions) -> Runner:
        if loaded:
            raise EngineError("no more memory")
        loaded.append(Pinned(options))
        return loaded[-1]

    with pytest.raises(EngineError, match="no more memory"):
        placed(MODEL, load, LoadOptions(), TWO)
    assert loaded[0].closed


def test_requests_of_many_threads_are_all_answered_each_with_its_own() -> None:
    runner, loaded = two()
    feeds = [{"x": np.full(1, number, np.float32)} for number in range(200)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(runner.run, feeds))
    assert [float(answer["x"][0]) for answer in answers] == list(range(200))
    assert sum(one.asked for one in loaded) == 200
    assert [lane.requests for lane in runner.lanes()] == [one.asked for one in loaded]
    assert runner.queue.summary().count == 200


def test_a_lane_that_fails_says_so_and_goes_on() -> None:
    runner, loaded = two()

    def fail(feeds: Mapping[str, Any], out: Mapping[str, Any] | None = None) -> dict[str, Any]:
        raise EngineError("broken")

    loaded[0].run = loaded[1].run = fail  # type: ignore[method-assign]
    for _ in range(4):
        with pytest.raises(EngineError, match="broken"):
            runner.run({"x": np.zeros(1)})


def test_closing_closes_every_lane_and_refuses_what_comes_later() -> None:
    runner, loaded = two()
    runner.close()
    runner.close()
    assert all(one.closed for one in loaded)
    with pytest.raises(SessionClosed):
        runner.run({"x": np.zeros(1)})


def test_it_takes_more_callers_the_more_the_lanes_differ() -> None:
    def callers(*service_ms: float | None) -> int:
        return LanesRunner([Pinned(LoadOptions()) for _ in service_ms], service_ms).at_once

    assert callers(1.0, 1.0) == 4
    assert callers(1.0, 2.2) == 6
    assert callers(1.0, 100.0) == 7
    assert callers(None, None) == 4


class Asleep(Engine):
    """Requests take as long on any CPUs, without using them: two lanes answer twice as often as one runner."""

    name, formats, native = "asleep", frozenset({"onnx"}), False

    def __init__(self) -> None:
        self.open: list[Pinned] = []

    def version(self) -> str | None:
        return "1"

    def load(self, model: ModelFile, options: LoadOptions) -> Runner:
        self.open.append(Pinned(options, 0.003))
        return self.open[-1]


def chosen(engine: Engine, objective: str) -> Choice:
    variant = variant_of_file(open_model(models.onnx_add()))
    wish = Wish(objective=objective, budget_s=3.0)
    return choose([variant], TWO_CORES, {"onnx": [engine]}, wish, LoadOptions(), use_cache=False)


@pytest.fixture
def two_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_sdk.planner.choosing.usable_cpus", lambda: (0, 1))
    monkeypatch.setattr("edge_sdk.planner.choosing.core_groups", lambda cpus: (tuple(cpus),))


@pytest.mark.usefixtures("two_cpus")
def test_lanes_are_chosen_for_throughput_where_they_answer_more_often() -> None:
    engine = Asleep()
    choice = chosen(engine, "throughput")
    assert choice.plan.placement.lanes == ((0,), (1,))
    assert "time from answer to answer" in choice.plan.reason
    figures = choice.plan.measured
    assert figures is not None and figures.interval_ms is not None
    assert figures.interval_ms < figures.latency_ms, "two answers at once"
    assert choice.runner is not None
    choice.runner.close()
    assert all(one.closed for one in engine.open)


@pytest.mark.usefixtures("two_cpus")
def test_for_latency_there_are_no_lanes() -> None:
    choice = chosen(Asleep(), "latency")
    assert not any(candidate.placement.lanes for candidate in choice.plan.candidates)
    assert choice.runner is not None
    choice.runner.close()


def test_callers_beyond_the_lanes_wait_for_their_turn() -> None:
    runner, loaded = two()
    inside, most, lock, over = 0, 0, threading.Lock(), threading.Event()

    def held(feeds: Mapping[str, Any], out: Mapping[str, Any] | None = None) -> dict[str, Any]:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
            if inside == 2:
                over.set()
        assert over.wait(30)
        with lock:
            inside -= 1
        return {}

    loaded[0].run = loaded[1].run = held  # type: ignore[method-assign]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(runner.run, [{}] * 6))
    assert most == 2


def two_busy() -> tuple[LanesRunner, list[Future[dict[str, Any]]], threading.Event]:
    """Both lanes compute until the event is set; their requests."""
    runner, loaded = two()
    held, begun = threading.Event(), threading.Semaphore(0)

    def hold(feeds: Mapping[str, Any], out: Mapping[str, Any] | None = None) -> dict[str, Any]:
        begun.release()
        assert held.wait(30)
        return {}

    loaded[0].run = loaded[1].run = hold  # type: ignore[method-assign]
    running = [runner.begin({}) for _ in range(2)]
    for _ in running:
        assert begun.acquire(timeout=30)
    return runner, running, held


def test_a_request_that_is_cancelled_before_its_turn_is_not_computed() -> None:
    runner, running, held = two_busy()
    waiting = [runner.begin({}) for _ in range(3)]
    assert [answer.cancel() for answer in (*running, *waiting)] == [False, False, True, True, True]
    held.set()
    assert [answer.result(30) for answer in running] == [{}, {}]
    runner.close()
    assert sum(lane.requests for lane in runner.lanes()) == 2


def test_what_waits_when_it_is_closed_is_refused_and_what_runs_is_answered() -> None:
    runner, running, held = two_busy()
    waiting = runner.begin({})
    closing = threading.Thread(target=runner.close)
    closing.start()
    with pytest.raises(SessionClosed, match="before the call had its turn"):
        waiting.result(30)
    assert closing.is_alive()
    held.set()
    closing.join(30)
    assert [answer.result(30) for answer in running] == [{}, {}]


def test_threads_of_a_runner_that_nobody_closes_end_with_it() -> None:
    runner, _ = two()
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("lane-")]
    assert len(threads) == 2
    del runner
    gc.collect()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def test_a_request_that_failed_leaves_nothing_in_memory() -> None:
    runner, loaded = two()

    class Fed(np.ndarray):
        """An array that can be watched."""

    def fail(feeds: Mapping[str, Any], out: Mapping[str, Any] | None = None) -> dict[str, Any]:
        raise EngineError("broken")

    loaded[0].run = loaded[1].run = fail  # type: ignore[method-assign]
    fed = np.zeros(1).view(Fed)
    watched = weakref.ref(fed)
    gc.disable()
    try:
        with pytest.raises(EngineError, match="broken"):
            runner.run({"x": fed})
        del fed
        until(lambda: watched() is None)
    finally:
        gc.enable()

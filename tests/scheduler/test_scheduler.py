"""Several models on one device: promises kept or refused, order, back-pressure, and what a failure costs the others."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest

import edge_sdk
from edge_sdk.engines import LoadOptions, Runner
from edge_sdk.engines.base import Engine
from edge_sdk.errors import AdmissionRefused, EngineError, InputError, RequestDropped, SessionClosed
from edge_sdk.formats import ModelFile
from edge_sdk.scheduled import Scheduled
from tests.runners import AddsOne

models = pytest.importorskip("tests.models")

WAIT_S = 30


class Gated(Engine):
    """Adds 1; each request takes `takes_s`, and waits for the gate. Tells how its threads give way."""

    name, formats, native = "gated", frozenset({"onnx"}), False

    def __init__(self, takes_s: float = 0.0) -> None:
        self.takes_s = takes_s
        self.gate, self.entered = threading.Event(), threading.Semaphore(0)
        self.gate.set()
        self.nice: list[int] = []
        self.loaded_nice: list[int] = []
        self.order: list[float] = []
        self.open = 0

    def version(self) -> str | None:
        return "1"

    def load(self, model: ModelFile, options: LoadOptions) -> Runner:
        self.open += 1
        self.loaded_nice.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        return GatedRunner(self, options)


class GatedRunner(AddsOne):
    def __init__(self, engine: Gated, options: LoadOptions) -> None:
        super().__init__(engine.name, options)
        self._engine = engine

    def run(self, feeds: Mapping[str, Any], out: Mapping[str, Any] | None = None) -> dict[str, Any]:
        engine = self._engine
        engine.nice.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        engine.order.append(float(feeds["x"][0]))
        engine.entered.release()
        assert engine.gate.wait(WAIT_S)
        if engine.takes_s:
            time.sleep(engine.takes_s)
        if feeds["x"][0] < 0:
            raise EngineError("a negative number")
        return super().run(feeds, out)

    def close(self) -> None:
        self._engine.open -= 1


@pytest.fixture
def scheduler() -> Iterator[edge_sdk.Scheduler]:
    with edge_sdk.Scheduler(cores=2) as made:
        yield made


def load(scheduler: edge_sdk.Scheduler, name: str, engine: Engine, **arguments: Any) -> Scheduled:
    return scheduler.load(name, models.onnx_add(), engine=engine, plan_budget_s=0, **arguments)


def number(value: float) -> dict[str, Any]:
    return {"x": np.full(1, value, np.float32)}


def held(engine: Gated, session: Scheduled) -> None:
    """Has the session compute a request that waits at the closed gate."""
    while engine.entered.acquire(blocking=False):
        pass
    engine.gate.clear()
    session.submit(number(0))
    assert engine.entered.acquire(timeout=WAIT_S)


def test_each_model_answers_its_own_requests_and_tells_how_it_went(scheduler: edge_sdk.Scheduler) -> None:
    camera = load(scheduler, "camera", Gated(), priority=1, rate_hz=30)
    batch = load(scheduler, "batch", Gated())
    assert float(camera.run(number(1))["y"][0]) == 2
    assert [float(batch.run(number(n))["y"][0]) for n in range(5)] == [1, 2, 3, 4, 5]
    figures = {one.name: one for one in scheduler.figures()}
    assert (figures["camera"].answered, figures["batch"].answered) == (1, 5)
    assert figures["batch"].service.count == figures["batch"].queue.count == 5
    assert figures["batch"].missed == 0
    assert figures["batch"].within == 1.0


HALF_A_CORE: dict[str, Any] = {"rate_hz": 10, "deadline_ms": 1000}
"""For what takes 50 ms."""


def test_a_promise_that_cannot_be_kept_is_refused_in_advance_and_nothing_stays_loaded() -> None:
    engine = Gated(0.05)
    with edge_sdk.Scheduler(cores=1) as scheduler:
        load(scheduler, "first", engine, **HALF_A_CORE)
        with pytest.raises(AdmissionRefused, match=r"second needs 0\.\d+ of a core"):
            load(scheduler, "second", engine, **HALF_A_CORE)
        with pytest.raises(AdmissionRefused, match="more than its deadline of 5 ms"):
            load(scheduler, "third", engine, deadline_ms=5)
        assert engine.open == 1
        assert [one.name for one in scheduler.figures()] == ["first"]
        load(scheduler, "second", engine)  # without a promise


def test_what_was_promised_to_a_closed_session_can_be_promised_again() -> None:
    engine = Gated(0.05)
    with edge_sdk.Scheduler(cores=1) as scheduler:
        load(scheduler, "first", engine, **HALF_A_CORE).close()
        load(scheduler, "first", engine, **HALF_A_CORE)
        assert engine.open == 1


@pytest.mark.skipif(not hasattr(os, "setpriority"), reason="no priorities here")
def test_what_has_no_promise_gives_way_in_the_kernel_and_nobody_else_does(scheduler: edge_sdk.Scheduler) -> None:
    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    promised, rest = Gated(), Gated()
    load(scheduler, "promised", promised, rate_hz=30).run(number(1))
    load(scheduler, "rest", rest).run(number(1))
    assert set(promised.nice) == set(promised.loaded_nice) == {own}
    assert set(rest.loaded_nice) == {19}, "workers that the engine starts give way too"
    assert rest.nice[-1] == 19
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == own


def test_a_long_request_without_a_promise_holds_up_nobody_who_has_one(scheduler: edge_sdk.Scheduler) -> None:
    slow = Gated()
    batches = [load(scheduler, f"batch {n}", slow) for n in range(2)]
    camera = load(scheduler, "camera", Gated(), rate_hz=30)
    for batch in batches:
        held(slow, batch)
    assert float(camera.run(number(1))["y"][0]) == 2
    slow.gate.set()


def test_higher_priority_goes_first_and_the_earlier_deadline_within_one() -> None:
    engine = Gated()
    with edge_sdk.Scheduler(cores=1) as scheduler:
        rates = {"soon": 30.0, "late": 2.0}
        sessions = {name: load(scheduler, name, engine, rate_hz=rate) for name, rate in rates.items()}
        sessions["high"] = load(scheduler, "high", engine, rate_hz=1.0, priority=1)
        first = load(scheduler, "first", engine, rate_hz=1.0)
        held(engine, first)
        engine.order.clear()
        numbers = {"late": 1.0, "soon": 2.0, "high": 3.0}
        answers = [sessions[name].submit(number(value)) for name, value in numbers.items()]
        engine.gate.set()
        for answer in answers:
            answer.result(WAIT_S)
    assert engine.order == [3.0, 2.0, 1.0]


def test_a_camera_has_its_oldest_frame_dropped(scheduler: edge_sdk.Scheduler) -> None:
    engine = Gated()
    camera = load(scheduler, "camera", engine, rate_hz=30, when_full="drop_oldest", ahead=1)
    held(engine, camera)
    old, new = camera.submit(number(1)), camera.submit(number(2))
    with pytest.raises(RequestDropped, match="no room to wait"):
        old.result(WAIT_S)
    engine.gate.set()
    assert float(new.result(WAIT_S)["y"][0]) == 3
    figures = camera.figures()
    assert (figures.dropped, figures.answered) == (1, 2)
    assert figures.within is not None and figures.within <= 2 / 3


def test_the_newest_request_may_be_refused_instead(scheduler: edge_sdk.Scheduler) -> None:
    engine = Gated()
    session = load(scheduler, "words", engine, rate_hz=10, when_full="drop_newest", ahead=1)
    held(engine, session)
    kept, refused = session.submit(number(1)), session.submit(number(2))
    with pytest.raises(RequestDropped):
        refused.result(WAIT_S)
    engine.gate.set()
    assert float(kept.result(WAIT_S)["y"][0]) == 2


def test_a_request_is_taken_back_while_it_waits(scheduler: edge_sdk.Scheduler) -> None:
    engine = Gated()
    session = load(scheduler, "words", engine, rate_hz=10, ahead=2)
    held(engine, session)
    waiting = session.submit(number(5))
    assert waiting.cancel()
    engine.gate.set()
    session.run(number(6))
    assert 5.0 not in engine.order


def test_what_is_taken_back_leaves_its_room_to_the_next(scheduler: edge_sdk.Scheduler) -> None:
    engine = Gated()
    session = load(scheduler, "words", engine, rate_hz=10, when_full="drop_newest", ahead=1)
    held(engine, session)
    assert session.submit(number(5)).cancel()
    next_one = session.submit(number(6))
    engine.gate.set()
    assert float(next_one.result(WAIT_S)["y"][0]) == 7
    assert session.figures().dropped == 0


def test_who_waits_for_room_has_that_of_a_request_taken_back(scheduler: edge_sdk.Scheduler) -> None:
    engine = Gated()
    session = load(scheduler, "words", engine, rate_hz=10, ahead=1)
    held(engine, session)
    waiting = session.submit(number(5))
    asked = threading.Thread(target=session.submit, args=(number(6),))
    asked.start()
    assert waiting.cancel()
    asked.join(WAIT_S)
    assert not asked.is_alive()
    engine.gate.set()


def test_an_error_is_that_of_who_asked_and_the_next_request_is_answered(scheduler: edge_sdk.Scheduler) -> None:
    session = load(scheduler, "words", Gated(), rate_hz=10)
    with pytest.raises(EngineError, match="negative"):
        session.run(number(-1))
    with pytest.raises(InputError):
        session.run({"z": np.zeros(1, np.float32)})
    assert float(session.run(number(1))["y"][0]) == 2
    assert session.figures().failed == 2


def test_a_stream_answers_in_order_without_what_was_dropped(scheduler: edge_sdk.Scheduler) -> None:
    engine = Gated()
    session = load(scheduler, "batch", engine, ahead=3)
    found = [float(out["y"][0]) for out in session.stream(number(n) for n in range(50))]
    assert found == [n + 1.0 for n in range(50)]

    camera = load(scheduler, "camera", engine, rate_hz=30, when_full="drop_oldest")
    came = threading.Event()

    def frames() -> Iterator[dict[str, Any]]:
        engine.gate.clear()
        yield number(1)
        assert engine.entered.acquire(timeout=WAIT_S)
        yield number(2)
        yield number(3)
        came.set()

    while engine.entered.acquire(blocking=False):
        pass
    answers = camera.stream(frames())
    opened = threading.Thread(target=lambda: (came.wait(WAIT_S), engine.gate.set()))
    opened.start()
    assert [float(out["y"][0]) for out in answers] == [2.0, 4.0]
    opened.join()


def test_what_the_source_of_frames_raises_comes_through(scheduler: edge_sdk.Scheduler) -> None:
    session = load(scheduler, "batch", Gated())

    def frames() -> Iterator[dict[str, Any]]:
        yield number(1)
        raise OSError("the camera is gone")

    answers = session.stream(frames())
    assert float(next(answers)["y"][0]) == 2
    with pytest.raises(OSError, match="camera is gone"):
        next(answers)


def test_closing_gives_up_what_waits_and_frees_the_models() -> None:
    engine = Gated()
    scheduler = edge_sdk.Scheduler(cores=1)
    session = load(scheduler, "words", engine, rate_hz=10)
    held(engine, session)
    waiting = session.submit(number(1))
    closing = threading.Thread(target=scheduler.close)
    closing.start()
    with pytest.raises(RequestDropped, match="closed"):
        waiting.result(WAIT_S)
    engine.gate.set()
    closing.join(WAIT_S)
    assert engine.open == 0
    with pytest.raises(SessionClosed):
        session.submit(number(1))
    with pytest.raises(SessionClosed):
        load(scheduler, "late", engine)
    scheduler.close()


def test_who_waits_for_room_when_the_session_closes_is_told(scheduler: edge_sdk.Scheduler) -> None:
    engine = Gated()
    session = load(scheduler, "words", engine, rate_hz=10, ahead=1)
    held(engine, session)
    session.submit(number(1))
    failures: list[BaseException] = []

    def ask() -> None:
        try:
            session.run(number(2))
        except RequestDropped as error:
            failures.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    closing = threading.Thread(target=session.close)
    closing.start()
    engine.gate.set()
    asking.join(WAIT_S)
    closing.join(WAIT_S)
    assert not asking.is_alive()
    assert len(failures) <= 1, "it was answered before, or told"


@pytest.mark.parametrize(
    "wrong", [{"rate_hz": 0}, {"deadline_ms": -1.0}, {"when_full": "drop"}, {"ahead": 0}, {"rate_hz": float("nan")}]
)
def test_what_makes_no_sense_is_refused_and_frees_the_model(
    scheduler: edge_sdk.Scheduler, wrong: dict[str, Any]
) -> None:
    engine = Gated()
    with pytest.raises(InputError, match="expected"):
        load(scheduler, "wrong", engine, **wrong)
    assert engine.open == 0


def test_a_request_waits_for_others_no_longer_than_its_deadline_allows(scheduler: edge_sdk.Scheduler) -> None:
    """It may wait 15 minutes for a batch to fill, others came a moment ago, and it is due in half a second."""
    pytest.importorskip("onnxruntime")
    arguments: dict[str, Any] = {"plan_budget_s": 0, "trusted": True, "max_batch": 4, "max_delay_ms": 900_000}
    words = scheduler.load("words", models.onnx_mlp(), deadline_ms=500, **arguments)
    with words.using() as session:
        batches = session._active.runner.batches  # type: ignore[union-attr]
        batches._expected = 4
    assert len(words.submit({"x": np.zeros((1, 8), np.float32)}).result(WAIT_S)) == 1
    assert batches.batches > 0


def test_a_name_is_taken_once(scheduler: edge_sdk.Scheduler) -> None:
    engine = Gated()
    load(scheduler, "words", engine)
    with pytest.raises(InputError, match="another name"):
        load(scheduler, "words", engine)
    assert engine.open == 1

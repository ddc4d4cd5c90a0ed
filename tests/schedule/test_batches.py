"""Requests of many threads are computed together, and each gets its own answer."""

from __future__ import annotations

import signal
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.errors import EngineError
from edge_sdk.schedule.batches import Batches
from tests.awaiting import until

WAIT_S = 30


class Model:
    """Doubles; remembers how many rows it was given at once, and waits at its gate."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.gate, self.entered = threading.Event(), threading.Semaphore(0)
        self.gate.set()

    def __call__(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        self.rows.append(len(feeds["x"]))
        self.entered.release()
        assert self.gate.wait(WAIT_S)
        if np.any(feeds["x"] < 0):
            raise EngineError("a negative number")
        return {"y": feeds["x"] * 2}


def rows(*values: float) -> dict[str, Any]:
    return {"x": np.array([[value] for value in values], np.float32)}


def test_a_request_alone_is_computed_at_once() -> None:
    model = Model()
    assert Batches(model, 8).run(rows(3))["y"].tolist() == [[6]]
    assert model.rows == [1]


def together(model: Model, batches: Batches, requests: list[dict[str, Any]]) -> list[Any]:
    """What each gives, or its error, asked while the model is busy with another one."""
    model.gate.clear()
    with ThreadPoolExecutor(len(requests) + 1) as pool:
        first = pool.submit(batches.run, rows(0))
        assert model.entered.acquire(timeout=WAIT_S)
        asked = [pool.submit(batches.run, feeds) for feeds in requests]
        until(lambda: batches.waiting == len(requests))
        model.gate.set()
        first.result(WAIT_S)
        return [one.exception(WAIT_S) or one.result() for one in asked]


def test_those_that_wait_are_computed_together() -> None:
    model = Model()
    batches = Batches(model, 8)
    answers = together(model, batches, [rows(1), rows(2, 3), rows(4)])
    assert [answer["y"].ravel().tolist() for answer in answers] == [[2], [4, 6], [8]]
    assert model.rows == [1, 4]
    assert (batches.batches, batches.requests) == (2, 4)


def test_no_more_rows_than_allowed_are_joined() -> None:
    model = Model()
    answers = together(model, Batches(model, 3), [rows(number) for number in range(7)])
    assert [float(answer["y"][0, 0]) for answer in answers] == [2.0 * number for number in range(7)]
    assert max(model.rows) <= 3
    assert sum(model.rows) == 8


def test_what_has_another_form_is_computed_apart() -> None:
    model = Model()
    wide = {"x": np.ones((1, 2), np.float32)}
    answers = together(model, Batches(model, 8), [rows(1), wide, rows(2)])
    assert [answer["y"].shape for answer in answers] == [(1, 1), (1, 2), (1, 1)]


def test_one_that_cannot_be_answered_costs_the_others_nothing() -> None:
    model = Model()
    good, bad, other = together(model, Batches(model, 8), [rows(1), rows(-1), rows(2)])
    assert isinstance(bad, EngineError)
    assert (good["y"].tolist(), other["y"].tolist()) == ([[2]], [[4]])


def test_an_answer_is_the_callers_own() -> None:
    model = Model()
    one, other = together(model, Batches(model, 8), [rows(1), rows(2)])
    one["y"][:] = 99
    assert other["y"].tolist() == [[4]]
    assert one["y"].base is None


def test_more_rows_than_a_batch_holds_are_computed_as_they_are() -> None:
    model = Model()
    assert len(Batches(model, 2).run(rows(1, 2, 3))["y"]) == 3


@given(st.integers(1, 9), st.integers(1, 12), st.sampled_from([0.0, 1.0]))
@settings(max_examples=25, deadline=None)
def test_every_thread_gets_its_own_answers(max_batch: int, callers: int, max_delay_ms: float) -> None:
    batches = Batches(Model(), max_batch, max_delay_ms)

    def ask(caller: int) -> bool:
        return all(
            batches.run(rows(caller * 100 + turn))["y"].tolist() == [[2.0 * (caller * 100 + turn)]]
            for turn in range(20)
        )

    with ThreadPoolExecutor(callers) as pool:
        assert all(pool.map(ask, range(callers)))
    assert batches.requests == callers * 20


def test_nobody_waits_for_others_longer_than_its_deadline_allows() -> None:
    """With a delay of an hour, and others a moment ago, a request that is due soon is computed in time all the same."""
    batches = Batches(Model(), 8, max_delay_ms=3_600_000, due_ms=50)
    batches._expected = 8  # as after a batch of eight
    assert batches.run(rows(1))["y"].tolist() == [[2]]


def test_whoever_leads_computes_as_soon_as_those_are_there_that_were_in_flight() -> None:
    """Three callers ask again and again: with a delay of an hour they are answered at once, since nobody else comes."""
    batches = Batches(Model(), 8, max_delay_ms=3_600_000)
    batches._expected = batches._in_flight = 3

    def ask(caller: int) -> list[float]:
        return batches.run(rows(caller))["y"].ravel().tolist()

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(ask, range(3), timeout=WAIT_S)) == [[0], [2], [4]]
    assert (batches.batches, batches.requests) == (1, 3)


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no signals to threads here")
@pytest.mark.skipif(threading.current_thread() is not threading.main_thread(), reason="only the main thread has Ctrl-C")
def test_ctrl_c_of_one_caller_leaves_no_other_waiting(request: pytest.FixtureRequest) -> None:
    """The main thread is next to lead when it is interrupted; who waits behind it is answered all the same."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    model = Model()
    batches = Batches(model, 1)
    model.gate.clear()
    main = threading.get_ident()
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(batches.run, rows(1))
        assert model.entered.acquire(timeout=WAIT_S)

        def behind() -> Any:
            until(lambda: batches.waiting == 1)
            asked = pool.submit(batches.run, rows(3))
            until(lambda: batches.waiting == 2)
            signal.pthread_kill(main, signal.SIGINT)
            return asked

        waiting = pool.submit(behind)
        with pytest.raises(KeyboardInterrupt):
            batches.run(rows(2))
        model.gate.set()
        assert first.result(WAIT_S)["y"].tolist() == [[2]]
        assert waiting.result(WAIT_S).result(WAIT_S)["y"].tolist() == [[6]]
    until(lambda: batches.waiting == 0)

"""The pool of interpreters: made when callers come, up to a bound; whoever comes later waits in line."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from edge_sdk.engines.litert_pool import Pool
from edge_sdk.errors import SessionClosed
from edge_sdk.metrics import Histogram


class Made:
    """Makes numbers, and fails when told to."""

    def __init__(self) -> None:
        self.count = 0
        self.failing = False

    def __call__(self) -> int:
        if self.failing:
            raise MemoryError("no more")
        self.count += 1
        return self.count


def pool_of(bound: int) -> tuple[Pool[int], Made, Histogram]:
    make, waited = Made(), Histogram()
    return Pool(make, bound, waited, "model.tflite"), make, waited


def in_line(pool: Pool[int], count: int) -> None:
    """Returns once so many callers wait."""
    seen = threading.Event()
    for _ in range(10_000):
        with pool._lock:
            if len(pool._line) == count:
                return
        seen.wait(0.001)
    raise AssertionError(f"{count} callers never stood in line")


def test_items_are_made_when_callers_come_and_used_again() -> None:
    pool, make, waited = pool_of(3)
    first = pool.take()
    pool.give(first)
    assert (pool.take(), make.count) == (first, 1)
    assert (pool.take(), make.count) == (2, 2)
    assert waited.count == 0


def test_callers_beyond_the_bound_are_served_in_the_order_they_came() -> None:
    pool, make, waited = pool_of(1)
    item = pool.take()
    served: list[int] = []

    def call(number: int) -> None:
        mine = pool.take()
        served.append(number)
        pool.give(mine)

    with ThreadPoolExecutor(4) as threads:
        for number in range(4):
            threads.submit(call, number)
            in_line(pool, number + 1)
        pool.give(item)
    assert (served, make.count, waited.count) == ([0, 1, 2, 3], 1, 4)


def test_never_more_callers_than_items_and_nobody_is_forgotten() -> None:
    pool, make, _ = pool_of(2)
    lock, inside, most, done = threading.Lock(), [0], [0], [0]

    def call(_: int) -> None:
        item = pool.take()
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        with lock:
            inside[0] -= 1
            done[0] += 1
        pool.give(item)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(call, range(2000)))
    assert (done[0], make.count <= 2, most[0] <= 2) == (2000, True, True)


def test_a_failure_to_make_one_leaves_room_for_the_next_caller() -> None:
    pool, make, _ = pool_of(1)
    make.failing = True
    with pytest.raises(MemoryError):
        pool.take()
    make.failing = False
    assert pool.take() == 1


def test_whoever_waits_tries_itself_when_an_item_is_dropped() -> None:
    pool, _, _ = pool_of(1)
    pool.take()
    with ThreadPoolExecutor(1) as threads:
        waiting: Future[int] = threads.submit(pool.take)
        in_line(pool, 1)
        pool.drop()
        assert waiting.result(30) == 2


def test_closing_sends_away_who_waits_and_who_comes() -> None:
    pool, _, _ = pool_of(1)
    item = pool.take()
    with ThreadPoolExecutor(1) as threads:
        waiting: Future[int] = threads.submit(pool.take)
        in_line(pool, 1)
        pool.close()
        with pytest.raises(SessionClosed, match=r"model\.tflite: the runner was closed"):
            waiting.result(30)
    pool.give(item)
    with pytest.raises(SessionClosed):
        pool.take()


def test_a_caller_interrupted_in_line_loses_no_item(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, _, _ = pool_of(1)
    item = pool.take()

    class Interrupted:
        """A gate at which Ctrl-C arrives, after the item was handed over."""

        def __init__(self, hand_over: bool) -> None:
            self.hand_over = hand_over
            self.entered = False

        def acquire(self) -> None:
            if not self.entered:
                self.entered = True
                return
            if self.hand_over:
                pool.give(item)
            raise KeyboardInterrupt

        def release(self) -> None:
            pass

    for hand_over in (False, True):
        monkeypatch.setattr(
            "edge_sdk.engines.litert_pool.threading.Lock", lambda hand_over=hand_over: Interrupted(hand_over)
        )
        with pytest.raises(KeyboardInterrupt):
            pool.take()
        monkeypatch.undo()
    assert pool.take() == item

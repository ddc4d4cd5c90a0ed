"""Cores that contenders share: as many compute as there are cores, in the right order, and each once at a time."""

from __future__ import annotations

import math
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from edge_sdk.errors import InputValueError, SessionClosed
from edge_sdk.schedule.ready import Waiting
from edge_sdk.schedule.sharing import SharedCores


class One:
    """A contender with as many requests as it is told, all due at one time."""

    def __init__(self, name: str, *, cores: int = 1, promised: bool = True, priority: int = 0, due_s: float = math.inf):
        self.name, self.cores, self.promised, self.closed = name, cores, promised, False
        self.cpus: frozenset[int] = frozenset()
        self.priority, self.due_s, self.waits = priority, due_s, 1

    def first_waiting(self) -> Waiting[str] | None:
        return Waiting(self.name, self.priority, self.due_s, 0.0) if self.waits else None

    def begin(self) -> None:
        self.waits -= 1


@pytest.fixture
def pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(8)


def shared(cores: int, *contenders: One) -> SharedCores[One]:
    made: SharedCores[One] = SharedCores(cores, lambda: 0.0)
    for one in contenders:
        made.join(one)
    return made


def waits(taking: Future[bool]) -> bool:
    """Whether it still does after everybody had time to go on."""
    with pytest.raises(TimeoutError):
        taking.result(0.05)
    return True


def test_as_many_compute_as_there_are_cores(pool: ThreadPoolExecutor) -> None:
    a, b, c = One("a"), One("b"), One("c")
    cores = shared(2, a, b, c)
    assert cores.take(a) and cores.take(b)
    third = pool.submit(cores.take, c)
    assert waits(third)
    cores.give_back(a)
    assert third.result(30)


def test_the_order_is_by_priority_and_deadline(pool: ThreadPoolExecutor) -> None:
    busy, late, soon, high = One("busy"), One("late", due_s=9), One("soon", due_s=1), One("high", priority=1)
    cores = shared(1, busy, late, soon, high)
    cores.take(high)
    order: list[str] = []

    def compute(one: One) -> None:
        cores.take(one)
        order.append(one.name)
        cores.give_back(one)

    futures = [pool.submit(compute, one) for one in (busy, late, soon)]
    cores.give_back(high)
    for future in futures:
        future.result(30)
    assert order == ["soon", "late", "busy"]


def test_a_request_on_all_cores_waits_for_all_of_them(pool: ThreadPoolExecutor) -> None:
    narrow, wide = One("narrow"), One("wide", cores=2)
    cores = shared(2, narrow, wide)
    assert cores.take(narrow)
    taking = pool.submit(cores.take, wide)
    assert waits(taking)
    cores.give_back(narrow)
    assert taking.result(30)


def test_one_core_computes_for_one_and_who_has_another_does_not_wait_behind(pool: ThreadPoolExecutor) -> None:
    first, second, other = One("first", priority=1), One("second", priority=1), One("other")
    first.cpus = second.cpus = frozenset({0})
    other.cpus = frozenset({1})
    cores = shared(2, first, second, other)
    assert cores.take(first)
    taking = pool.submit(cores.take, second)
    assert waits(taking)
    assert pool.submit(cores.take, other).result(30), "of lower priority, on a core that is free"
    cores.give_back(first)
    assert taking.result(30)


def test_what_has_no_promise_has_cores_of_its_own() -> None:
    promised, rest = One("promised"), One("rest", promised=False)
    cores = shared(1, promised, rest)
    assert cores.take(promised)
    assert cores.take(rest)


def test_who_closes_waits_no_longer(pool: ThreadPoolExecutor) -> None:
    first, second = One("first"), One("second")
    cores = shared(1, first, second)
    cores.take(first)
    taking = pool.submit(cores.take, second)
    with cores.changed:
        second.closed = True
        cores.changed.notify_all()
    assert taking.result(30) is False


def test_each_name_is_taken_once_and_none_after_the_end() -> None:
    cores = shared(1, One("a"))
    with pytest.raises(InputValueError, match="another name"):
        cores.join(One("a"))
    cores.leave(cores.contenders()[0])
    cores.join(One("a"))
    cores.close()
    with pytest.raises(SessionClosed):
        cores.join(One("b"))


def test_many_contenders_never_compute_on_more_cores_than_there_are(pool: ThreadPoolExecutor) -> None:
    every = [One(str(number), cores=1 + number % 2) for number in range(6)]
    cores = shared(3, *every)
    lock, busy, most = threading.Lock(), 0, 0

    def compute(one: One) -> None:
        nonlocal busy, most
        for _ in range(20):
            with cores.changed:
                one.waits = 1
                cores.changed.notify_all()
            cores.take(one)
            with lock:
                busy += one.cores
                most = max(most, busy)
            time.sleep(0)
            with lock:
                busy -= one.cores
            cores.give_back(one)

    for future in [pool.submit(compute, one) for one in every]:
        future.result(60)
    assert 2 <= most <= 3

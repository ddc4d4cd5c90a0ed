"""Lanes of unequal speed: whose turn it is, and where."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.errors import InputValueError, SessionClosed
from edge_sdk.schedule import Turns, assigned

TIMES_MS = st.lists(st.floats(0.1, 100.0), min_size=1, max_size=5)


@given(TIMES_MS, st.integers(0, 60))
def test_lanes_that_are_free_get_requests_in_proportion_to_their_speed(service_ms: list[float], waiting: int) -> None:
    lanes = assigned(waiting, [0.0] * len(service_ms), service_ms)
    ends_ms = [lanes.count(lane) * each_ms for lane, each_ms in enumerate(service_ms)]
    one_more_ms = [end_ms + each_ms for end_ms, each_ms in zip(ends_ms, service_ms, strict=True)]
    assert len(lanes) == waiting
    assert max(ends_ms, default=0.0) <= min(one_more_ms) * (1 + 1e-9), "no request would end earlier in another lane"


@given(TIMES_MS, st.data())
def test_a_request_goes_where_it_ends_first(service_ms: list[float], data: st.DataObject) -> None:
    free_ms = data.draw(st.lists(st.floats(0, 100), min_size=len(service_ms), max_size=len(service_ms)))
    ends_ms = [free + service for free, service in zip(free_ms, service_ms, strict=True)]
    assert ends_ms[assigned(1, free_ms, service_ms)[0]] == min(ends_ms)


def test_a_slow_lane_leaves_alone_what_a_fast_one_ends_earlier() -> None:
    assert assigned(3, [0.0, 0.0], [1.0, 2.2]) == [0, 0, 1]
    assert assigned(2, [0.0, 0.0], [1.0, 5.0]) == [0, 0]
    assert assigned(2, [9.0, 0.0], [1.0, 5.0]) == [1, 0]


class Callers:
    """Threads that take turns, and hold them until the test lets go."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.pool = ThreadPoolExecutor(16)

    def __call__(self) -> tuple[Future[int], Callable[[], None], threading.Event]:
        """One more caller: its lane once it is over, what ends it, and whether it has begun."""
        begun, over = threading.Event(), threading.Event()

        def call() -> int:
            with self.turns.turn() as number:
                begun.set()
                assert over.wait(30)
                return number

        return self.pool.submit(call), over.set, begun


def test_as_many_go_at_once_as_there_are_lanes() -> None:
    call = Callers(Turns([1.0, 1.0]))
    (first, end_first, first_begun), (second, end_second, second_begun) = call(), call()
    assert first_begun.wait(30) and second_begun.wait(30)
    third, end_third, third_begun = call()
    end_second()
    lane = second.result(30)
    assert third_begun.wait(30)
    end_third()
    assert third.result(30) == lane
    end_first()
    assert {first.result(30), lane} == {0, 1}
    assert sum(each.requests for each in call.turns.figures()) == 3


def test_who_asks_alone_gets_the_fastest_lane() -> None:
    turns = Turns([9.0, 1.0, 5.0])
    with turns.turn() as number:
        assert number == 1


def test_a_lane_that_hangs_holds_up_its_own_request_only() -> None:
    call = Callers(Turns([1.0, 50.0]))
    stuck, end_stuck, begun = call()
    assert begun.wait(30)
    for _ in range(5):
        other, end, _ = call()
        end()
        assert other.result(30) == 1
    assert not stuck.done()
    end_stuck()
    assert stuck.result(30) == 0


def test_a_request_that_fails_gives_its_lane_back() -> None:
    turns = Turns([None])
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), turns.turn():
            raise ZeroDivisionError
    assert turns.figures()[0].requests == 3


def test_a_lane_that_fails_at_once_does_not_look_like_the_fastest() -> None:
    turns = Turns([1e6, 2e6])
    with pytest.raises(ZeroDivisionError), turns.turn():
        raise ZeroDivisionError
    assert [lane.service_ms for lane in turns.figures()] == [1e6, 2e6]


def test_every_lane_is_found_out_and_all_requests_are_answered() -> None:
    turns = Turns([None, None, None])
    seen: list[int] = []

    def call(_: int) -> None:
        with turns.turn() as number:
            seen.append(number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(call, range(400)))
    figures = turns.figures()
    assert [seen.count(number) for number in range(3)] == [each.requests for each in figures]
    assert sum(each.requests for each in figures) == 400


def test_close_waits_for_what_runs_and_turns_away_what_waits() -> None:
    call = Callers(Turns([None]))
    running, end, begun = call()
    assert begun.wait(30)
    waiting, _, _ = call()
    closing = threading.Thread(target=call.turns.close)
    closing.start()
    with pytest.raises(SessionClosed):
        waiting.result(30)
    assert closing.is_alive()
    end()
    closing.join(30)
    assert running.result(30) == 0
    call.turns.close()
    with pytest.raises(SessionClosed), call.turns.turn():
        pass


def test_there_must_be_a_lane() -> None:
    with pytest.raises(InputValueError, match="at least one"):
        Turns([])


class Clock:
    """Time as a test lets it pass."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def asked(turns: Turns, clock: Clock, *takes_ms: float) -> list[int]:
    """One request after the other, each of which takes so long; their lanes."""
    found = []
    for each_ms in takes_ms:
        with turns.turn() as number:
            clock.now_s += each_ms / 1e3
        found.append(number)
    return found


def test_the_first_requests_tell_of_a_lane_what_the_shortest_takes() -> None:
    clock = Clock()
    turns = Turns([None], clock)
    asked(turns, clock, 90.0, 12.0, 10.0, 11.0)
    assert turns.figures()[0].service_ms == pytest.approx(10.0)


def test_one_slow_request_moves_what_is_known_a_little() -> None:
    clock = Clock()
    turns = Turns([None], clock)
    asked(turns, clock, *[10.0] * 8, 5_000.0)
    assert turns.figures()[0].service_ms == pytest.approx(12.5)


def test_a_lane_that_was_slow_for_a_moment_is_asked_again() -> None:
    clock = Clock()
    turns = Turns([10.0, 10.5], clock)
    assert asked(turns, clock, *[10.0] * 3) == [0] * 3
    lanes = asked(turns, clock, *[40.0] * 6, *[10.0] * 200)
    assert 1 in lanes[:20], "the other one is faster meanwhile"
    assert 0 in lanes[20:], "and this one is tried again"

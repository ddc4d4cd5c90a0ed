"""Lanes of unequal speed: whose turn it is, and where."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.errors import InputValueError, SessionClosed
from edge_sdk.schedule import LaneFigures, Turns, assigned
from tests.awaiting import until

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


class Clock:
    """Time as a test lets it pass; it jumps once, when it was asked so often."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.jump: tuple[int, float] | None = None

    def __call__(self) -> float:
        now_s = self.now_s
        if self.jump is not None:
            asked, to_s = self.jump
            self.jump = (asked - 1, to_s) if asked > 1 else None
            self.now_s = to_s if asked == 1 else now_s
        return now_s


class Lane(threading.Thread):
    """The thread of a lane; a request is an event that the test sets to have it end."""

    def __init__(self, turns: Turns[threading.Event], number: int) -> None:
        super().__init__(daemon=True)
        self.turns, self.number = turns, number
        self.begun: queue.SimpleQueue[threading.Event] = queue.SimpleQueue()

    def run(self) -> None:
        while (request := self.turns.take(self.number)) is not None:
            self.begun.put(request)
            assert request.wait(30)
            self.turns.ended(self.number)


@contextmanager
def working(turns: Turns[threading.Event]) -> Iterator[list[Lane]]:
    """The lanes of `turns`, when all of them wait for requests."""
    lanes = [Lane(turns, number) for number in range(len(turns.figures()))]
    for lane in lanes:
        lane.start()
    until(lambda: asleep(turns) == len(lanes))
    yield lanes
    turns.close()
    for lane in lanes:
        lane.join(30)
        assert not lane.is_alive()


def asleep(turns: Turns[threading.Event]) -> int:
    return sum(lane.asleep for lane in turns._lanes)


def events(count: int) -> list[threading.Event]:
    return [threading.Event() for _ in range(count)]


def test_as_many_go_at_once_as_there_are_lanes() -> None:
    turns: Turns[threading.Event] = Turns([1.0, 1.0])
    first, second, third = events(3)
    with working(turns) as (one, other):
        turns.put(first)
        turns.put(second)
        assert {one.begun.get(timeout=30), other.begun.get(timeout=30)} == {first, second}
        turns.put(third)
        second.set()
        until(lambda: not one.begun.empty() or not other.begun.empty())
        first.set()
        third.set()
    assert sum(lane.requests for lane in turns.figures()) == 3


def test_who_asks_alone_gets_the_fastest_lane() -> None:
    turns: Turns[threading.Event] = Turns([9.0, 1.0, 5.0])
    (request,) = events(1)
    with working(turns) as lanes:
        turns.put(request)
        assert lanes[1].begun.get(timeout=30) is request
        request.set()


def test_a_lane_that_hangs_holds_up_its_own_request_only() -> None:
    turns: Turns[threading.Event] = Turns([1.0, 50.0])
    stuck, *others = events(6)
    with working(turns) as (fast, slow):
        turns.put(stuck)
        assert fast.begun.get(timeout=30) is stuck
        for request in others:
            turns.put(request)
            assert slow.begun.get(timeout=30) is request
            request.set()
        stuck.set()


def test_what_is_another_lanes_after_all_when_its_own_wakes_is_not_forgotten() -> None:
    """Less and less is believed of a lane that nobody uses: so little that another one is the fastest meanwhile."""
    clock = Clock()
    turns: Turns[threading.Event] = Turns([10.0, 11.0], clock)
    for number, request in enumerate(events(2)):
        turns.put(request)
        assert turns.take(number) is request
    for number, ended_s in ((1, 0.011), (0, 0.060)):
        clock.now_s = ended_s
        turns.ended(number)
    with working(turns) as lanes:
        clock.jump = (1, 5.0)
        (request,) = events(1)
        turns.put(request)
        assert lanes[0].begun.get(timeout=30) is request
        request.set()


def test_a_lane_that_leaves_a_request_to_another_one_begins_the_next_at_once() -> None:
    """It looks again now and then whether the other one is late; what comes meanwhile does not wait for that."""
    turns: Turns[threading.Event] = Turns([100e3, 250e3])
    first, second, third = events(3)
    with working(turns) as (fast, slow):
        turns.put(first)
        assert fast.begun.get(timeout=30) is first
        turns.put(second)
        until(lambda: asleep(turns) == 0)
        assert slow.begun.empty(), "it ends earlier in the fast lane, after the first"
        turns.put(third)
        assert slow.begun.get(timeout=30) is third
        for request in (first, second, third):
            request.set()
        until(lambda: sum(lane.requests for lane in turns.figures()) == 3)


def test_a_request_that_fails_says_nothing_of_its_lanes_speed() -> None:
    """A broken lane would look like the fastest."""
    turns: Turns[int] = Turns([1e6, 2e6])
    for number in range(3):
        turns.put(number)
        assert turns.take(0) == number
        turns.ended(0, failed=True)
    assert turns.figures() == (LaneFigures(3, 1e6), LaneFigures(0, 2e6))


def test_a_request_that_is_wanted_no_more_leaves_its_lane_as_it_was() -> None:
    turns: Turns[int] = Turns([1.0])
    for number in range(2):
        turns.put(number)
        assert turns.take(0) == number
        turns.dropped(0)
    assert turns.figures() == (LaneFigures(0, 1.0),)


def test_every_lane_is_found_out_and_all_requests_are_answered() -> None:
    turns: Turns[threading.Event] = Turns([None, None, None])
    requests = events(400)
    with working(turns) as lanes:
        for request in requests:
            request.set()
            turns.put(request)
        until(lambda: sum(lane.requests for lane in turns.figures()) == 400)
    assert [lane.begun.qsize() for lane in lanes] == [lane.requests for lane in turns.figures()]
    assert all(lane.requests for lane in turns.figures())


def test_close_ends_the_lanes_and_tells_what_waited() -> None:
    turns: Turns[threading.Event] = Turns([None])
    running, waiting = events(2)
    with working(turns) as (lane,):
        turns.put(running)
        assert lane.begun.get(timeout=30) is running
        turns.put(waiting)
        assert turns.close() == (waiting,)
        assert turns.close() == ()
        with pytest.raises(SessionClosed):
            turns.put(waiting)
        running.set()
    assert turns.figures()[0].requests == 1


def test_there_must_be_a_lane() -> None:
    with pytest.raises(InputValueError, match="at least one"):
        Turns([])


def asked(turns: Turns[float], clock: Clock, *takes_ms: float) -> list[int]:
    """One request after the other, each of which takes so long; their lanes."""
    found = []
    for each_ms in takes_ms:
        turns.put(each_ms)
        (number,) = turns._assigned()
        assert turns.take(number) == each_ms
        clock.now_s += each_ms / 1e3
        turns.ended(number)
        found.append(number)
    return found


def test_the_first_requests_tell_of_a_lane_what_the_shortest_takes() -> None:
    clock = Clock()
    turns: Turns[float] = Turns([None], clock)
    asked(turns, clock, 90.0, 12.0, 10.0, 11.0)
    assert turns.figures()[0].service_ms == pytest.approx(10.0)


def test_one_slow_request_moves_what_is_known_a_little() -> None:
    clock = Clock()
    turns: Turns[float] = Turns([None], clock)
    asked(turns, clock, *[10.0] * 8, 5_000.0)
    assert turns.figures()[0].service_ms == pytest.approx(12.5)


def test_a_lane_that_was_slow_for_a_moment_is_asked_again() -> None:
    clock = Clock()
    turns: Turns[float] = Turns([10.0, 10.5], clock)
    assert asked(turns, clock, *[10.0] * 3) == [0] * 3
    lanes = asked(turns, clock, *[40.0] * 6, *[10.0] * 200)
    assert 1 in lanes[:20], "the other one is faster meanwhile"
    assert 0 in lanes[20:], "and this one is tried again"

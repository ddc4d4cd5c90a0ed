"""A breaker leaves an endpoint alone that keeps failing, and tries it with one request after a rest."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.breaker import Breaker
from edge_sdk.wire.simulated import SimulatedTimeline


def breaker(clock: SimulatedTimeline, chance: float = 0.0, **options: float) -> Breaker:
    return Breaker(failures=3, rest_s=1.0, longest_rest_s=8.0, clock=clock, chance=lambda: chance, **options)


def fail(which: Breaker, times: int = 1, rest_s: float | None = None) -> None:
    for _ in range(times):
        ticket = which.admit()
        assert ticket is not None
        which.failed(ticket, rest_s)


def test_it_opens_after_so_many_failures_in_a_row() -> None:
    it = breaker(SimulatedTimeline())
    fail(it, 2)
    assert it.state == "closed"
    fail(it)
    assert it.state == "open"
    assert it.admit() is None
    assert not it.admits()


def test_a_success_between_failures_keeps_it_closed() -> None:
    it = breaker(SimulatedTimeline())
    for _ in range(5):
        fail(it, 2)
        ticket = it.admit()
        assert ticket is not None
        it.succeeded(ticket)
    assert it.state == "closed"


def test_after_its_rest_one_request_is_the_trial_and_others_wait_for_it() -> None:
    clock = SimulatedTimeline()
    it = breaker(clock)
    fail(it, 3)
    clock.sleep(1.0)
    assert it.state == "half-open"
    trial = it.admit()
    assert trial is not None
    assert it.admit() is None
    it.succeeded(trial)
    assert it.state == "closed"
    assert it.admit() is not None


def test_each_failed_trial_doubles_the_rest_up_to_the_longest() -> None:
    clock = SimulatedTimeline()
    it = breaker(clock)
    fail(it, 3)
    rests = []
    for _ in range(5):
        rests.append(it.rest_left_s())
        clock.sleep(it.rest_left_s())
        fail(it)
    assert rests == [1.0, 2.0, 4.0, 8.0, 8.0]


def test_after_a_recovery_rests_are_short_again() -> None:
    clock = SimulatedTimeline()
    it = breaker(clock)
    fail(it, 3)
    clock.sleep(1.0)
    fail(it)
    clock.sleep(2.0)
    ticket = it.admit()
    assert ticket is not None
    it.succeeded(ticket)
    fail(it, 3)
    assert it.rest_left_s() == 1.0


def test_what_was_sent_before_it_opened_says_nothing_afterwards() -> None:
    clock = SimulatedTimeline()
    it = breaker(clock)
    early = [it.admit() for _ in range(5)]
    fail(it, 3)
    for ticket in early:
        assert ticket is not None
        it.succeeded(ticket)
    assert it.state == "open"
    assert it.rest_left_s() == 1.0


def test_a_trial_that_never_reports_back_does_not_block_the_next_one_for_ever() -> None:
    clock = SimulatedTimeline()
    it = breaker(clock)
    fail(it, 3)
    clock.sleep(1.0)
    assert it.admit() is not None
    assert it.admit() is None
    clock.sleep(1.0)
    assert it.admit() is not None


def test_an_abandoned_trial_leaves_room_for_another_at_once() -> None:
    clock = SimulatedTimeline()
    it = breaker(clock)
    fail(it, 3)
    clock.sleep(1.0)
    ticket = it.admit()
    assert ticket is not None
    it.abandoned(ticket)
    assert it.admit() is not None


def test_an_endpoint_that_asks_to_be_left_alone_is_at_once() -> None:
    it = breaker(SimulatedTimeline())
    fail(it, 1, rest_s=5.0)
    assert it.state == "open"
    assert it.rest_left_s() == 5.0


@pytest.mark.parametrize("chance, rest_s", [(0.0, 1.0), (0.5, 1.25), (1.0, 1.5)])
def test_rests_are_jittered(chance: float, rest_s: float) -> None:
    it = breaker(SimulatedTimeline(), chance)
    fail(it, 3)
    assert it.rest_left_s() == rest_s


@given(st.lists(st.sampled_from(["ok", "fail", "abandon", "ask", "wait"]), max_size=60))
@settings(max_examples=100)
def test_whatever_happens_an_endpoint_that_recovers_is_used_again(events: list[str]) -> None:
    clock = SimulatedTimeline()
    it = breaker(clock)
    tickets: list[int] = []
    for event in events:
        if event == "wait":
            clock.sleep(0.7)
        elif event == "ask":
            ticket = it.admit()
            assert (ticket is None) or it.state != "open"
            tickets += [] if ticket is None else [ticket]
        elif tickets:
            {"ok": it.succeeded, "fail": it.failed, "abandon": it.abandoned}[event](tickets.pop())
    clock.sleep(20.0)
    ticket = it.admit()
    assert ticket is not None
    it.succeeded(ticket)
    assert it.state == "closed"

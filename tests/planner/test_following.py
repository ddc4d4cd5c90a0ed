"""Another way is gone when it is better for long enough, and not before."""

from __future__ import annotations

import pytest

from edge_sdk.engines.simulated import SimulatedClock
from edge_sdk.planner.following import PATIENCE, SETTLING_S, Follower


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock()


def judged(follower: Follower[str], times: int, **costs: float) -> list[str]:
    """Keys of the switches that were due; each is made at once."""
    found = []
    for _ in range(times):
        if (switch := follower.judge(costs)) is not None:
            found.append(switch.key)
            follower.switched(switch.key)
    return found


def test_what_is_a_little_better_is_no_reason(clock: SimulatedClock) -> None:
    assert judged(Follower("here", clock), 50, here=10.0, there=9.5) == []


def test_one_good_moment_is_no_reason(clock: SimulatedClock) -> None:
    follower = Follower("here", clock)
    for _ in range(10):
        assert judged(follower, PATIENCE - 1, here=10.0, there=7.0) == []
        assert judged(follower, 1, here=10.0, there=11.0) == []


def test_what_stays_better_is_gone(clock: SimulatedClock) -> None:
    follower = Follower("here", clock)
    assert judged(follower, PATIENCE, here=10.0, there=7.0) == ["there"]
    assert follower.current == "there"


def test_what_is_far_better_is_gone_at_once(clock: SimulatedClock) -> None:
    assert judged(Follower("here", clock), 1, here=10.0, there=6.0) == ["there"]


def test_a_way_that_cannot_be_gone_any_more_is_left_at_once(clock: SimulatedClock) -> None:
    assert judged(Follower("there", clock), 1, here=10.0) == ["here"]


def test_right_after_a_switch_more_is_asked_for(clock: SimulatedClock) -> None:
    follower = Follower("here", clock)
    judged(follower, PATIENCE, here=10.0, there=7.0)
    assert judged(follower, 50, here=8.0, there=10.0) == []
    clock.sleep(SETTLING_S)
    assert judged(follower, PATIENCE, here=8.0, there=10.0) == ["here"]


def test_fractions_of_a_millisecond_are_not_worth_it(clock: SimulatedClock) -> None:
    assert judged(Follower("here", clock), 50, here=0.6, there=0.2) == []


def test_costs_that_swing_around_each_other_make_no_switches(clock: SimulatedClock) -> None:
    follower = Follower("here", clock)
    switches = []
    for turn in range(200):
        clock.sleep(0.1)
        swing = 1.2 if turn % 2 else 0.8
        switches += judged(follower, 1, here=10.0, there=10.0 * swing)
    assert switches == []

"""A plan is given up when latency has left it for long enough, and not before."""

from __future__ import annotations

import pytest

from edge_sdk.engines.simulated import SimulatedClock
from edge_sdk.planner.watching import PATIENCE_S, Watch


def seen(watch: Watch, clock: SimulatedClock, *medians_ms: float, every_s: float = 2.0) -> str:
    """Shows batch after batch; the first cause that is not empty."""
    for median_ms in medians_ms:
        clock.sleep(every_s)
        if why := watch.see(median_ms):
            return why
    return ""


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock()


def test_what_stays_within_a_fifth_is_no_reason(clock: SimulatedClock) -> None:
    assert seen(Watch(10.0, clock=clock), clock, *[11.9, 8.1, 10.0] * 20) == ""


def test_one_slow_batch_is_no_reason(clock: SimulatedClock) -> None:
    assert seen(Watch(10.0, clock=clock), clock, *[10.0, 40.0, 40.0, 10.0] * 10) == ""


@pytest.mark.parametrize("median_ms", [13.0, 7.0])
def test_what_lasts_is_a_reason_in_both_directions(clock: SimulatedClock, median_ms: float) -> None:
    why = seen(Watch(10.0, clock=clock), clock, *[median_ms] * 5)
    assert f"requests take {median_ms:.3g} ms where 10 ms were planned" in why


def test_many_batches_in_a_moment_do_not_count_as_long(clock: SimulatedClock) -> None:
    assert seen(Watch(10.0, clock=clock), clock, *[20.0] * 50, every_s=PATIENCE_S / 100) == ""


def test_swinging_from_one_side_to_the_other_starts_the_count_again(clock: SimulatedClock) -> None:
    assert seen(Watch(10.0, clock=clock), clock, *[20.0, 20.0, 5.0, 5.0] * 10) == ""


def test_a_promise_that_is_broken_is_a_reason_within_the_fifth_too(clock: SimulatedClock) -> None:
    why = seen(Watch(10.0, limit_ms=11.0, clock=clock), clock, *[11.5] * 5)
    assert "more than max_latency_ms=11" in why


def test_after_planning_anew_the_next_change_must_last_twice_as_long(clock: SimulatedClock) -> None:
    watch = Watch(10.0, clock=clock)
    assert seen(watch, clock, *[20.0] * 5)
    watch.planned_anew(20.0)
    assert seen(watch, clock, *[20.0] * 20) == ""
    assert seen(watch, clock, *[40.0] * 4) == ""
    assert seen(watch, clock, *[40.0] * 4)


def test_what_a_session_itself_adds_to_a_tiny_model_is_no_reason(clock: SimulatedClock) -> None:
    assert seen(Watch(0.004, clock=clock), clock, *[0.012] * 20) == ""

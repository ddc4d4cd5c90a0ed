"""Requests at a rate: what comes sooner is refused, or waits, and what only jitters is not."""

from __future__ import annotations

import math
import random

import pytest

from edge_sdk.engines.simulated import SimulatedClock
from edge_sdk.errors import InputValueError
from edge_sdk.schedule.pacing import Pace


def answered(pace: Pace, clock: SimulatedClock, hz: float, seconds: float, jitter: float = 0.0) -> int:
    """How many of the frames of a camera may go."""
    draw, went = random.Random(0), 0
    came_s = clock()
    for number in range(round(hz * seconds)):
        at_s = came_s + (number + draw.uniform(-jitter, jitter)) / hz
        clock.sleep(at_s - clock())
        went += pace.ready()
    return went


@pytest.mark.parametrize(("comes_hz", "pace_hz"), [(30, 15), (30, 20), (30, 7.5), (1000, 15)])
def test_so_many_a_second_go(comes_hz: float, pace_hz: float) -> None:
    clock = SimulatedClock(100.0)
    pace = Pace(clock)
    pace.hz = pace_hz
    went = answered(pace, clock, comes_hz, 60)
    assert went == pytest.approx(60 * pace_hz, abs=2)
    assert pace.skipped == 60 * comes_hz - went


def test_a_camera_that_jitters_at_the_rate_loses_no_frame() -> None:
    clock = SimulatedClock(100.0)
    pace = Pace(clock)
    pace.hz = 30
    assert answered(pace, clock, 30, 60, jitter=0.4) == 1800


def test_at_first_all_go() -> None:
    clock = SimulatedClock()
    pace = Pace(clock)
    assert answered(pace, clock, 1000, 1) == 1000 and pace.hz == math.inf


def test_turns_are_taken_one_after_the_other() -> None:
    clock = SimulatedClock()
    pace = Pace(clock)
    pace.hz = 10
    assert [pace.take() for _ in range(4)] == pytest.approx([0.0, 0.0, 0.1, 0.2])
    clock.sleep(10.0)
    assert pace.take() == 0.0
    pace.hz = math.inf
    assert [pace.take() for _ in range(3)] == [0.0] * 3


def test_another_rate_counts_from_now_on() -> None:
    pace = Pace(SimulatedClock())
    pace.hz = 0.01
    assert [pace.ready() for _ in range(3)] == [True, True, False]
    pace.hz = 10
    assert pace.ready()


def test_what_comes_is_counted_whether_it_goes_or_not() -> None:
    clock = SimulatedClock(5.0)
    pace = Pace(clock)
    assert pace.comes_hz() is None
    pace.hz = 5
    answered(pace, clock, 30, 10)
    assert pace.comes_hz() == pytest.approx(30, rel=0.1)


def test_a_rate_is_above_zero() -> None:
    with pytest.raises(InputValueError, match="above 0"):
        Pace().hz = 0

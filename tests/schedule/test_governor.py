"""The governor holds what can be held, on devices it knows nothing of, and does not swing."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.device.simulated_heat import Heat, SimulatedHeat
from edge_sdk.errors import InputValueError
from edge_sdk.schedule.governor import MARGIN_C, UP_AFTER_S, Governor, Level, Reading, Target
from tests.heat import heats

HOUR_S = 3600
LIMIT_C, RATE_HZ = 70.0, 15.0


@dataclass(frozen=True)
class Ladder:
    """Levels, and what each draws, which the governor is not told."""

    levels: tuple[Level, ...]
    watts: tuple[float, ...]


@dataclass(frozen=True)
class Hour:
    """What became of one simulated hour."""

    hottest_c: float
    throttled_s: float
    steps_s: tuple[float, ...]
    turns_s: tuple[float, ...]
    below_rate_s: float
    last_level: int


def run(heat: Heat, ladder: Ladder, governor: Governor | None, seconds: int = HOUR_S) -> Hour:
    device = SimulatedHeat(heat)
    level, hottest, below = 0, device.chip_c, 0.0
    steps: list[float] = []
    turns: list[float] = []
    direction = 1
    now_s = 0.0
    while now_s < seconds:
        passes_s = 1.0 if governor is None else governor.next_s
        device.passes(passes_s, ladder.watts[level])
        now_s += passes_s
        hottest = max(hottest, device.chip_c)
        below += passes_s * (ladder.levels[level].rate_hz < RATE_HZ)
        if governor is None:
            continue
        step = governor.see(Reading(now_s, device.read_c, device.throttled))
        if step is not None:
            toward = 1 if step.level > level else -1
            if toward != direction:
                turns.append(now_s)
            direction, level = toward, step.level
            steps.append(now_s)
    return Hour(hottest, device.throttled_s, tuple(steps), tuple(turns), below, level)


@st.composite
def devices(draw: st.DrawFn) -> tuple[Heat, Ladder]:
    """A device that throttles at its best level, with at least one level that holds rate and limit for ever."""
    heat = draw(heats(40))
    per_watt = heat.chip_c_per_w + heat.case_c_per_w
    held = (LIMIT_C - 4.0 - heat.ambient_c) / per_watt
    best = max((heat.trip_c + draw(st.floats(5, 40)) - heat.ambient_c) / per_watt, heat.idle_watts + 0.5)
    count = draw(st.integers(2, 6))
    holding = draw(st.integers(1, count - 1))  # the last level that holds the rate; it holds the limit too
    lowest = max(held * draw(st.floats(0.5, 1.0)), 0.05)
    watts = [best * (lowest / best) ** (number / holding) for number in range(count)]
    rates = [RATE_HZ + 15.0 * (holding - number) / holding if number <= holding else 5.0 for number in range(count)]
    levels = tuple(Level(f"level {number}", rate) for number, rate in enumerate(rates))
    return heat, Ladder(levels, tuple(watts))


@given(devices())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_where_it_can_be_held_it_is_for_an_hour(made: tuple[Heat, Ladder]) -> None:
    heat, ladder = made
    governor = Governor(ladder.levels, Target(max_c=LIMIT_C, rate_hz=RATE_HZ))
    hour = run(heat, ladder, governor)
    assert hour.throttled_s == 0
    assert hour.hottest_c <= LIMIT_C
    assert hour.below_rate_s == 0
    assert all(later - turn >= 60 for turn, later in zip(hour.turns_s, hour.turns_s[2:], strict=False))
    assert run(heat, ladder, None).throttled_s > 0


def test_where_it_cannot_be_held_the_limit_counts_before_the_rate() -> None:
    heat = Heat(ambient_c=40, chip_c_per_w=5, case_c_per_w=10, case_s=120)
    ladder = Ladder((Level("fast", 30), Level("slow", 15), Level("crawl", 2)), (6.0, 4.0, 1.0))
    governor = Governor(ladder.levels, Target(max_c=LIMIT_C, rate_hz=RATE_HZ))
    hour = run(heat, ladder, governor)
    assert hour.hottest_c <= LIMIT_C
    assert hour.below_rate_s > 0


def test_when_it_becomes_cooler_it_goes_up_again() -> None:
    ladder = Ladder((Level("fast", 30), Level("slow", 15)), (5.0, 2.0))
    governor = Governor(ladder.levels, Target(max_c=LIMIT_C))
    device = SimulatedHeat(Heat(ambient_c=40, chip_c_per_w=3, case_c_per_w=5, case_s=120))
    level = 0
    seen = []
    for second in range(2 * HOUR_S):
        if second == HOUR_S:
            device.heat = Heat(ambient_c=10, chip_c_per_w=3, case_c_per_w=5, case_s=120)
        device.passes(1.0, ladder.watts[level])
        step = governor.see(Reading(second + 1.0, device.read_c, device.throttled))
        if step is not None:
            level = step.level
            seen.append((second, level))
    assert seen[0][1] == 1 and seen[0][0] < HOUR_S
    assert level == 0
    assert seen[-1][0] < HOUR_S + 1800 + 60


def test_after_a_step_down_it_stays_there_for_a_while_and_longer_each_time() -> None:
    governor = Governor([Level("a"), Level("b")], Target(max_c=LIMIT_C))
    times = []
    for second in range(4000):
        celsius = LIMIT_C if governor.level == 0 else LIMIT_C - 20.0
        if governor.see(Reading(float(second), celsius)) is not None and governor.level == 1:
            times.append(second)
    apart = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert apart[0] >= UP_AFTER_S
    assert all(later >= earlier for earlier, later in itertools.pairwise(apart))
    assert apart[-1] >= 8 * UP_AFTER_S


def test_what_throttles_is_a_reason_without_any_temperature() -> None:
    governor = Governor([Level("a"), Level("b")], Target(max_c=LIMIT_C))
    step = governor.see(Reading(10.0, None, throttled=True))
    assert step is not None and step.level == 1 and "throttles" in step.reason


def test_the_reason_has_the_figures() -> None:
    governor = Governor([Level("all cores"), Level("little cores")], Target(max_c=LIMIT_C))
    step = governor.see(Reading(0.0, LIMIT_C - MARGIN_C / 4))
    assert step is not None
    assert step.reason == "down to little cores: 69.5 °C, and 70 °C is the limit"


@pytest.mark.parametrize("hours", [2.0, 4.0])
def test_a_battery_lasts_as_long_as_it_has_to_and_not_much_is_left(hours: float) -> None:
    """A battery that the best level would drain in 1.5 hours, and the least in 6."""
    drain_per_s = [100 / (1.5 * 3600), 100 / (3 * 3600), 100 / (6 * 3600)]
    governor = Governor([Level("a"), Level("b"), Level("c")], Target(hours=hours))
    percent, second = 100.0, 0
    while percent > 0 and second < hours * 3600:
        percent -= drain_per_s[governor.level]
        governor.see(Reading(float(second), battery_percent=math.ceil(percent)))
        second += 1
    assert second >= hours * 3600
    assert percent < 35


@given(
    hours=st.sampled_from([1.0, 4.0, 8.0]),
    best=st.floats(0.2, 0.95),
    least=st.floats(1.08, 2.0),
    count=st.integers(2, 6),
    digits=st.sampled_from([0, 2]),
)
@settings(max_examples=30, deadline=None, derandomize=True)
def test_a_battery_lasts_wherever_the_least_level_makes_it(
    hours: float, best: float, least: float, count: int, digits: int
) -> None:
    """`best` and `least`: for which share of the hours it lasts at these levels."""
    drain_per_s = [100 / (hours * 3600 * best * (least / best) ** (level / (count - 1))) for level in range(count)]
    governor = Governor([Level(f"level {number}") for number in range(count)], Target(hours=hours))
    percent, now_s, steps = 100.0, 0.0, 0
    while now_s < hours * 3600:
        assert percent > 0
        passes_s = 4 * governor.next_s
        now_s += passes_s
        percent -= passes_s * drain_per_s[governor.level]
        told = max(math.ceil(percent * 10**digits) / 10**digits, 0.0)
        steps += governor.see(Reading(now_s, battery_percent=told)) is not None
    assert steps <= 60 * hours


def test_on_mains_a_battery_is_no_reason() -> None:
    """Drained so fast that it steps down, then plugged in."""
    governor = Governor([Level("a"), Level("b")], Target(hours=4))
    for second in range(1200):
        governor.see(Reading(float(second), battery_percent=100 - second // 60))
    assert governor.level == 1 and "0.6 h more" not in governor.shortfall
    steps = [governor.see(Reading(1200.0 + second)) for second in range(600)]
    assert [step.level for step in steps if step is not None] == [0]
    assert governor.shortfall == ""


def test_what_is_not_held_is_told_with_figures() -> None:
    governor = Governor([Level("all cores", 12.5), Level("little cores", 5)], Target(max_c=LIMIT_C, rate_hz=RATE_HZ))
    governor.see(Reading(0.0, 40.0))
    assert governor.shortfall == "15 Hz are wanted, and all cores holds 12.5"
    governor.see(Reading(1.0, 71.5))
    governor.see(Reading(2.0, 71.5))
    assert governor.shortfall == ("15 Hz are wanted, and little cores holds 5; 71.5 °C, and 70 °C is the limit")


def test_a_battery_that_no_level_makes_last_is_told_with_figures() -> None:
    """A percent a minute: 1.6 hours in all."""
    governor = Governor([Level("a", 30), Level("b", 15), Level("c", 1)], Target(hours=4, rate_hz=RATE_HZ))
    for second in range(1200):
        governor.see(Reading(float(second), battery_percent=100 - second // 60))
    assert governor.level == 1  # the rate is not given up for the battery
    assert governor.shortfall == "the battery lasts 1.3 h more, and 3.7 h are wanted"


def test_a_target_and_levels_are_needed() -> None:
    with pytest.raises(InputValueError, match="max_c or hours"):
        Target(rate_hz=15)
    with pytest.raises(InputValueError, match="above 0"):
        Target(max_c=-1)
    with pytest.raises(InputValueError, match="at least one level"):
        Governor([], Target(max_c=70))

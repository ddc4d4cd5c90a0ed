"""Two requests compared in alternating blocks, with as few runs as their difference needs."""

from __future__ import annotations

import functools
import itertools
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from edge_sdk.engines.simulated import SimulatedClock
from edge_sdk.measuring import MAX_PAIRS, Comparison, compare, compare_blocks, median_ms, paced_block


def request(clock: SimulatedClock, ms: float, noise: Iterator[float] | None = None) -> Callable[[], object]:
    """A request that takes `ms` milliseconds of simulated time."""
    factors = noise or itertools.repeat(1.0)
    return lambda: clock.sleep(ms * next(factors) / 1e3)


def noisy(spread: float, seed: int = 0) -> Iterator[float]:
    """Factors around 1, now and then one of a machine that did something else."""
    generator = random.Random(seed)
    while True:
        yield math.exp(generator.gauss(0, spread)) * (3.0 if generator.random() < 0.05 else 1.0)


def compared(first_ms: float, second_ms: float, spread: float = 0.02, budget_s: float = 10.0) -> Comparison:
    clock = SimulatedClock()
    comparison = compare(
        request(clock, first_ms, noisy(spread)), request(clock, second_ms, noisy(spread, 1)), budget_s, clock=clock
    )
    assert comparison is not None
    return comparison


def test_a_large_difference_needs_two_pairs_and_a_small_one_more() -> None:
    assert len(compared(2.0, 1.0).ratios) == 2
    assert 2 < len(compared(1.0, 1.0).ratios) <= MAX_PAIRS


def test_the_faster_one_wins_with_confidence() -> None:
    comparison = compared(2.0, 1.6)
    assert comparison.ratio == pytest.approx(0.8, abs=0.03)
    assert comparison.second_wins(0.03) and comparison.confidence > 0.95
    low, high = comparison.interval()
    assert low < 0.8 < high
    assert comparison.first_ms == pytest.approx(2.0, rel=0.05)
    assert comparison.second_p95_ms >= comparison.second_ms


def test_the_slower_one_loses_with_confidence() -> None:
    comparison = compared(1.0, 1.25)
    assert not comparison.second_wins(0.03) and comparison.confidence > 0.95


def test_a_draw_changes_nothing_and_says_how_sure_that_is() -> None:
    comparison = compared(1.0, 1.0)
    assert not comparison.second_wins(0.03) and comparison.confidence > 0.9
    doubtful = compared(1.0, 0.97)
    assert doubtful.confidence < comparison.confidence


def test_confidence_follows_ratios_that_were_weighted() -> None:
    comparison = compared(1.0, 1.0)
    dearer = replace(comparison, ratios=tuple(ratio * 0.5 for ratio in comparison.ratios))
    assert dearer.second_wins(0.03) and dearer.confidence > 0.99


def test_one_pair_is_no_proof() -> None:
    clock = SimulatedClock()
    slow = compare(request(clock, 900), request(clock, 300), 5.0, clock=clock, max_pairs=1)
    assert slow is not None and len(slow.ratios) == 1 and not slow.second_wins(0.03)


def test_the_budget_is_kept_within_one_pair() -> None:
    for budget_s in (0.2, 0.5, 1.0):
        clock = SimulatedClock()
        compare(request(clock, 5.0, noisy(0.3)), request(clock, 5.0, noisy(0.3, 1)), budget_s, 0.001, 1000, clock)
        assert clock() < budget_s + 0.05


def test_where_not_even_one_pair_fits_there_is_no_figure() -> None:
    clock = SimulatedClock()
    assert compare(request(clock, 400), request(clock, 400), 0.5, clock=clock) is None
    assert compare(request(clock, 1), request(clock, 1), 0.0, clock=clock) is None


def test_long_requests_are_not_run_more_often_than_needed() -> None:
    clock = SimulatedClock()
    runs = itertools.count()

    def slow() -> None:
        next(runs)
        clock.sleep(0.5)

    comparison = compare(slow, request(clock, 250), 60.0, clock=clock)
    assert comparison is not None and comparison.second_wins(0.03)
    assert next(runs) <= 4


def test_drift_of_the_machine_falls_out_of_the_ratio() -> None:
    clock = SimulatedClock()
    heat = (1 + step * 2e-3 for step in itertools.count())

    def heated(ms: float) -> None:
        clock.sleep(ms * next(heat) / 1e3)

    comparison = compare(lambda: heated(1.0), lambda: heated(0.8), 10.0, clock=clock)
    assert comparison is not None and comparison.ratio == pytest.approx(0.8, abs=0.05)


def test_requests_that_take_no_time_at_all_come_to_an_end() -> None:
    clock = SimulatedClock()
    comparison = compare(lambda: None, lambda: None, 1.0, max_pairs=2, clock=clock)
    assert comparison is not None and comparison.ratio == 1


def test_the_first_requests_of_a_block_do_not_count() -> None:
    clock = SimulatedClock()
    cold = {"a": True, "b": True}

    def side(name: str, other: str) -> Callable[[], object]:
        def run() -> None:
            clock.sleep(0.005 if cold[name] else 0.001)
            cold[name], cold[other] = False, True  # the caches hold what this one used

        return run

    comparison = compare(side("a", "b"), side("b", "a"), 5.0, clock=clock)
    assert comparison is not None and comparison.first_ms == pytest.approx(1.0)


def test_paced_requests_leave_the_machine_idle_between_them() -> None:
    clock = SimulatedClock()
    last = {"end": 0.0}

    def dozing(ms: float) -> None:
        idle_s = clock() - last["end"]
        clock.sleep((ms + (2.0 if idle_s > 0.01 else 0.0)) / 1e3)
        last["end"] = clock()

    slow, fast = (paced_block(functools.partial(dozing, ms), 30.0, clock=clock) for ms in (2.0, 1.0))
    paced = compare_blocks(slow, fast, 20.0, clock=clock)
    back_to_back = compare(lambda: dozing(2.0), lambda: dozing(1.0), 20.0, clock=clock)
    assert paced is not None and back_to_back is not None
    assert paced.ratio == pytest.approx(3 / 4, abs=0.01)
    assert back_to_back.ratio == pytest.approx(1 / 2, abs=0.01)


def test_a_pace_that_cannot_be_kept_becomes_back_to_back() -> None:
    clock = SimulatedClock()
    blocks = (paced_block(request(clock, ms), 30.0, clock=clock) for ms in (50, 100))
    comparison = compare_blocks(*blocks, 20.0, clock=clock)
    assert comparison is not None and comparison.ratio == pytest.approx(2.0)


def test_blocks_from_elsewhere_are_compared_until_the_ratio_is_known() -> None:
    clock = SimulatedClock()
    noise = noisy(0.05)

    def block(ms: float) -> list[float]:
        clock.sleep(0.02)
        return [ms * next(noise) for _ in range(10)]

    rough = compare_blocks(lambda: block(1.0), lambda: block(0.5), 60.0, max_pairs=500, clock=clock)
    exact = compare_blocks(lambda: block(1.0), lambda: block(0.5), 60.0, max_pairs=500, clock=clock, within=0.01)
    assert rough is not None and exact is not None
    assert len(exact.ratios) > len(rough.ratios)
    low, high = exact.interval()
    assert high / low < 1.021 and exact.ratio == pytest.approx(0.5, rel=0.03)


def test_a_request_alone_has_a_median(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimulatedClock()
    monkeypatch.setattr("time.perf_counter", clock)
    latency_ms, runs = median_ms(request(clock, 2.0), 0.2)
    assert latency_ms == pytest.approx(2.0) and runs >= 3

"""Requests back to back, paced as a camera would, of several callers, and for minutes on end."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.engines.simulated import SimulatedClock
from edge_sdk.errors import EngineError
from edge_sdk.measuring import SoakWindow, concurrent, paced, soak, steady, summarise, warm_up


def request(clock: SimulatedClock, ms: float) -> Callable[[], object]:
    return lambda: clock.sleep(ms / 1e3)


def test_percentiles_are_values_that_occurred() -> None:
    figures = summarise([float(value) for value in range(100, 0, -1)])
    assert figures.runs == 100 and figures.min_ms == 1 and figures.max_ms == 100 and figures.mean_ms == 50.5
    assert (figures.median_ms, figures.p90_ms, figures.p95_ms, figures.p99_ms) == (50.5, 90, 95, 99)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50))
def test_percentiles_rise(latencies: list[float]) -> None:
    figures = summarise(latencies)
    slack = 1e-3
    ordered = (figures.min_ms, figures.median_ms, figures.p90_ms, figures.p95_ms, figures.p99_ms, figures.max_ms)
    assert all(before <= after + slack for before, after in itertools.pairwise(ordered))


def test_warming_up_takes_its_time_and_a_few_runs_of_a_slow_model() -> None:
    clock = SimulatedClock()
    assert warm_up(request(clock, 1.0), 0.5, clock=clock) == pytest.approx(500, abs=1)
    assert warm_up(request(clock, 1000.0), 0.5, clock=clock) == 3
    assert warm_up(request(clock, 9000.0), 0.5, clock=clock) == 1


def test_back_to_back_goes_on_until_the_time_is_up() -> None:
    clock = SimulatedClock()
    assert len(steady(request(clock, 10.0), 1.0, clock=clock)) == pytest.approx(100, abs=1)
    assert steady(request(clock, 5000.0), 1.0, clock=clock) == pytest.approx([5000.0] * 3)


def test_paced_requests_come_at_the_rate_of_the_camera() -> None:
    clock = SimulatedClock()
    result = paced(request(clock, 5.0), 30.0, 2.0, clock=clock)
    assert result.latencies.runs == 60 and result.missed == 0
    assert result.answered_hz == pytest.approx(30.0)
    assert clock() == pytest.approx(2.0, abs=0.04)


def test_frames_that_come_meanwhile_are_missed() -> None:
    clock = SimulatedClock()
    result = paced(request(clock, 50.0), 30.0, 2.0, clock=clock)
    # 50 ms are one and a half frames: every other one is missed.
    assert result.answered_hz == pytest.approx(15.0)
    assert result.missed == result.latencies.runs
    assert result.latencies.median_ms == pytest.approx(50.0)


def test_a_request_that_just_fits_misses_nothing() -> None:
    clock = SimulatedClock()
    assert paced(request(clock, 40.0), 25.0, 2.0, clock=clock).missed == 0


def test_callers_at_once_are_counted_together() -> None:
    inside, most, lock = [0], [0], threading.Lock()
    together = threading.Barrier(3)

    def make() -> Callable[[], object]:
        def run() -> None:
            with lock:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
            together.wait()
            with lock:
                inside[0] -= 1
            together.wait()

        return run

    # Each request waits for the two others, so that none ends before all are under way; all do equally many.
    counts = iter(range(1000))
    made = [make() for _ in range(3)]
    result = concurrent(lambda: made[next(counts)], 3, 0.0)
    assert result.concurrency == 3 and result.latencies.runs == 3 and most[0] == 3 and result.per_s > 0


def test_every_caller_has_a_request_of_its_own_and_an_error_comes_through() -> None:
    made: list[int] = []

    def make() -> Callable[[], object]:
        number = len(made)
        made.append(number)

        def run() -> None:
            if number == 1:
                raise EngineError("out of luck")

        return run

    with pytest.raises(EngineError, match="out of luck"):
        concurrent(make, 2, 60.0)
    assert made == [0, 1]


def test_a_long_run_compares_its_first_minute_with_its_last() -> None:
    clock = SimulatedClock()
    seen: list[SoakWindow] = []

    def heating() -> None:
        clock.sleep(0.010 if clock() < 300 else 0.014)

    result = soak(heating, 10, on_window=seen.append, clock=clock)
    assert len(result.windows) == 10 and tuple(seen) == result.windows
    assert result.minutes == pytest.approx(10, abs=0.01)
    assert result.first.median_ms == pytest.approx(10, rel=0.011)
    assert result.last.median_ms == pytest.approx(14, rel=0.011)
    assert result.ratio == pytest.approx(1.4, rel=0.02)


def test_a_short_run_has_two_halves() -> None:
    clock = SimulatedClock()
    result = soak(request(clock, 10.0), 0.1, clock=clock)
    assert [round(window.seconds) for window in result.windows] == [3, 3]


def test_a_long_run_may_be_paced() -> None:
    clock = SimulatedClock()
    result = soak(request(clock, 5.0), 2, rate_hz=20.0, clock=clock)
    assert [window.runs for window in result.windows] == pytest.approx([1200, 1200], abs=2)

"""How requests are timed that are compared with each other: the same way for what stays here and for heads."""

from __future__ import annotations

import pytest

from edge_sdk.offloading import timing
from edge_sdk.offloading.timing import MOST_ROUNDS, PAUSE_S, ROUNDS, mean_without_slowest, typical_ms


class Clock:
    """Time that passes only where somebody works or rests."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 0.0
        self.rests_s: list[float] = []
        monkeypatch.setattr(timing, "time", self)

    def perf_counter(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.rests_s.append(seconds)
        self.now_s += seconds

    def works(self, *each_ms: float) -> None:
        """What one call after the other takes, the last one again and again."""
        left = list(each_ms)

        def run(turn: int) -> None:
            self.now_s += (left.pop(0) if len(left) > 1 else left[0]) / 1e3

        self.run = run


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_each_call_follows_a_pause_as_requests_do_that_wait_for_a_camera_or_a_link(clock: Clock) -> None:
    clock.works(100.0)
    assert typical_ms(clock.run) == pytest.approx(100.0), "the pause is no part of it"
    assert clock.rests_s == [PAUSE_S] * ROUNDS


def test_the_first_and_the_slowest_call_do_not_count(clock: Clock) -> None:
    clock.works(900.0, 50.0, 500.0, 50.0)
    assert typical_ms(clock.run) == pytest.approx(50.0)


def test_short_calls_are_timed_more_often_than_long_ones(clock: Clock) -> None:
    clock.works(1.0)
    typical_ms(clock.run)
    assert len(clock.rests_s) == MOST_ROUNDS


def test_of_a_single_time_that_is_the_mean() -> None:
    assert mean_without_slowest([7.0]) == 7.0
    assert mean_without_slowest([10.0, 20.0, 30.0, 1000.0]) == 20.0

"""A lighter variant answers while a stream does not keep up, a better one again later, and it does not swing."""

from __future__ import annotations

from edge_sdk.schedule.degrading import CALM_S, Degrading


class Stream:
    """Requests at a rate, on a device where each variant takes as long as `service_ms` says at that moment."""

    def __init__(self, *service_ms: float, rate_hz: float, level: int = 0) -> None:
        self.now_s, self.rate_hz, self.room = 0.0, rate_hz, True
        self.service_ms = list(service_ms)
        self.degrading = Degrading(service_ms, 1e3 / 30, level, lambda level: self.room, lambda: self.now_s)
        self.steps: list[str] = []

    def go(self, seconds: float) -> Stream:
        until_s = self.now_s + seconds
        while self.now_s < until_s:
            self.now_s += 1 / self.rate_hz
            late = self.service_ms[self.degrading.level] > 1e3 / self.rate_hz
            if step := self.degrading.see(late):
                self.steps.append(step)
        return self


def test_who_keeps_up_stays() -> None:
    assert Stream(20.0, 5.0, rate_hz=30).go(600).steps == []


def test_a_lighter_variant_takes_over_while_frames_come_twice_as_fast_and_the_better_one_later() -> None:
    stream = Stream(20.0, 5.0, rate_hz=60).go(1)
    assert stream.degrading.level == 1
    assert stream.steps == ["3 of 3 requests were late or given up: a lighter variant answers"]
    stream.rate_hz = 30
    stream.go(2 * CALM_S + 1)
    assert stream.degrading.level == 0
    assert len(stream.steps) == 2
    assert stream.steps[1].endswith("of the time: a better variant answers")


def test_it_does_not_rise_into_what_would_not_fit() -> None:
    stream = Stream(20.0, 5.0, rate_hz=45, level=1).go(600)
    assert stream.steps == [], "20 ms 45 times a second fill 90 %"


def test_it_does_not_rise_while_others_have_the_room() -> None:
    stream = Stream(20.0, 5.0, rate_hz=30, level=1)
    stream.room = False
    assert stream.go(60).degrading.level == 1
    stream.room = True
    assert stream.go(CALM_S + 1).degrading.level == 0


def test_a_variant_that_had_to_be_left_again_is_tried_ever_more_seldom() -> None:
    stream = Stream(40.0, 5.0, rate_hz=30)
    stream.degrading = Degrading([20.0, 5.0], 1e3 / 30, 0, clock=lambda: stream.now_s)  # as it was thought to be
    assert len(stream.go(3600).steps) < 2 * 20, "and not once in three seconds"


def test_one_late_request_in_a_while_changes_nothing() -> None:
    stream = Stream(20.0, 5.0, rate_hz=30)
    for number in range(3000):
        stream.now_s += 1 / 30
        assert stream.degrading.see(number % 15 == 0) is None


def test_the_lightest_has_none_below() -> None:
    stream = Stream(80.0, 40.0, rate_hz=30).go(60)
    assert stream.degrading.level == 1
    assert len(stream.steps) == 1

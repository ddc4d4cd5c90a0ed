"""Tries follow each other after random pauses, never beyond the deadline, only where another try can help."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.errors import EndpointError, EndpointMismatch, EndpointRefused, EndpointUnreachable, InvalidAnswer
from edge_sdk.wire.deadline import Deadline
from edge_sdk.wire.retry import Retry, retried
from edge_sdk.wire.simulated import SimulatedTimeline


class Sender:
    """Fails as often as it is told, then answers."""

    def __init__(self, error: EndpointError, failures: int) -> None:
        self.error, self.failures, self.tries = error, failures, 0

    def __call__(self) -> str:
        self.tries += 1
        if self.tries <= self.failures:
            raise self.error
        return "answer"


def run(sender: Sender, clock: SimulatedTimeline, timeout_ms: float | None = None, retry: Retry | None = None) -> str:
    deadline = Deadline.after(timeout_ms, clock)
    return retried(sender, retry or Retry(attempts=3), deadline, clock.sleep, chance=lambda: 1.0)


def test_a_broken_connection_is_tried_again_after_growing_pauses() -> None:
    clock = SimulatedTimeline()
    sender = Sender(EndpointUnreachable("cut"), failures=2)
    assert run(sender, clock) == "answer"
    assert sender.tries == 3
    assert clock() == pytest.approx(0.02 + 0.04)


def test_when_tries_are_used_up_the_last_error_is_raised() -> None:
    sender = Sender(EndpointUnreachable("cut"), failures=9)
    with pytest.raises(EndpointUnreachable, match="cut"):
        run(sender, SimulatedTimeline())
    assert sender.tries == 3


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_busy_endpoint_is_asked_again(status: int) -> None:
    sender = Sender(EndpointRefused("busy", status), failures=1)
    assert run(sender, SimulatedTimeline()) == "answer"


@pytest.mark.parametrize(
    "error",
    [EndpointRefused("wrong", 400), EndpointRefused("bug", 500), InvalidAnswer("garbage"), EndpointMismatch("other")],
)
def test_what_would_fail_again_is_not_tried_again(error: EndpointError) -> None:
    sender = Sender(error, failures=1)
    with pytest.raises(type(error)):
        run(sender, SimulatedTimeline())
    assert sender.tries == 1


def test_retry_after_is_waited_for() -> None:
    clock = SimulatedTimeline()
    assert run(Sender(EndpointRefused("busy", 503, retry_after_s=2.0), failures=1), clock) == "answer"
    assert clock() >= 2.0


def test_a_pause_that_would_pass_the_deadline_is_not_begun() -> None:
    clock = SimulatedTimeline()
    sender = Sender(EndpointRefused("busy", 503, retry_after_s=2.0), failures=1)
    with pytest.raises(EndpointRefused):
        run(sender, clock, timeout_ms=1000)
    assert clock() == 0.0


def test_a_request_given_up_during_a_pause_is_not_sent_again() -> None:
    sender = Sender(EndpointUnreachable("cut"), failures=1)
    with pytest.raises(EndpointUnreachable):
        retried(sender, Retry(), Deadline.after(None), pause=lambda seconds: True)
    assert sender.tries == 1


@given(st.integers(0, 10**6), st.floats(0, 1), st.floats(0, 100))
@settings(max_examples=100)
def test_a_pause_lies_between_what_was_asked_for_and_the_longest_above_it(
    attempt: int, chance: float, asked_s: float
) -> None:
    pause_s = Retry(longest_pause_s=1.0).pause_s(attempt, asked_s, lambda: chance)
    assert asked_s <= pause_s <= asked_s + 1.0
    assert math.isfinite(pause_s)

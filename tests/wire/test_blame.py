"""What a failed request says about the endpoint, and what it does not."""

from __future__ import annotations

import pytest

from edge_sdk.breaker import Breaker
from edge_sdk.errors import (
    DeadlineExceeded,
    EdgeError,
    EndpointMismatch,
    EndpointRefused,
    EndpointUnreachable,
    InvalidAnswer,
    WireError,
)
from edge_sdk.wire.blame import blame
from edge_sdk.wire.link import Link
from edge_sdk.wire.passage import Passage


def opens(error: BaseException, spent_ms: float = 10.0, given_up: bool = False, usual_ms: float | None = None) -> bool:
    """Whether one such failure opens a breaker that opens at the first."""
    link, breaker = Link(), Breaker(failures=1)
    for _ in range(10 if usual_ms is not None else 0):
        link.record(Passage(up_bytes=1000, duration_ms=usual_ms or 0.0))
    ticket = breaker.admit()
    assert ticket is not None
    blame(link, breaker, ticket, error, spent_ms, 1000, given_up)
    return breaker.state == "open"


@pytest.mark.parametrize(
    "error",
    [
        EndpointUnreachable("cut"),
        InvalidAnswer("garbage"),
        EndpointMismatch("yesterday's"),
        EndpointRefused("bug", 500),
        EndpointRefused("busy", 503),
        EndpointRefused("too many", 429),
        EndpointRefused("timeout", 408),
    ],
)
def test_the_endpoint_is_to_blame(error: EdgeError) -> None:
    assert opens(error)


@pytest.mark.parametrize(
    "error", [EndpointRefused("wrong shape", 400), EndpointRefused("token", 401), WireError("complex64"), ValueError()]
)
def test_the_request_is_to_blame(error: BaseException) -> None:
    assert not opens(error)


@pytest.mark.parametrize(
    "spent_ms, usual_ms, expected",
    [(10.0, None, False), (2000.0, None, True), (500.0, 20.0, False), (1500.0, 20.0, True), (1500.0, 3000.0, False)],
)
def test_a_missed_deadline_counts_if_it_was_not_too_near(
    spent_ms: float, usual_ms: float | None, expected: bool
) -> None:
    assert opens(DeadlineExceeded("late"), spent_ms, usual_ms=usual_ms) is expected


@pytest.mark.parametrize(
    "spent_ms, usual_ms, expected", [(10.0, None, False), (10.0, 20.0, False), (30.0, 20.0, True), (1500.0, None, True)]
)
def test_being_overtaken_counts_once_it_was_later_than_usual(
    spent_ms: float, usual_ms: float | None, expected: bool
) -> None:
    assert opens(EndpointUnreachable("given up"), spent_ms, given_up=True, usual_ms=usual_ms) is expected

"""What a request without an answer says about the endpoint, if it says anything."""

from __future__ import annotations

from edge_sdk.breaker import Breaker
from edge_sdk.errors import DeadlineExceeded, EndpointError, EndpointMismatch, EndpointRefused
from edge_sdk.wire.link import Link

__all__ = ["blame", "is_own_fault"]

BLAMED_AFTER_MS = 1000.0
"""A deadline nearer than this, and than what is usual on the link, tells more about the request than the endpoint."""
OWN_FAULTS = range(400, 500)
NOT_OWN_FAULTS = frozenset({408, 429})


def blame(
    link: Link,
    breaker: Breaker,
    ticket: int,
    error: BaseException,
    spent_ms: float,
    sent_bytes: int,
    given_up: bool,
) -> None:
    """Tells link and breaker how a request failed.

    Args:
        link: to the endpoint.
        breaker: of the endpoint.
        ticket: of the request, from the breaker.
        error: what it ended with.
        spent_ms: how long it was on its way.
        sent_bytes: its size.
        given_up: whether it was ended here because its answer was no longer needed.
    """
    usual_ms = link.late_ms(up_bytes=sent_bytes)
    if given_up:
        # Overtaken once it was later than usual: three times in a row, and the local way alone is faster than both.
        overtaken = spent_ms > (BLAMED_AFTER_MS if usual_ms is None else usual_ms)
        link.outlasted(sent_bytes, spent_ms)
        (breaker.failed if overtaken else breaker.abandoned)(ticket)
    elif isinstance(error, DeadlineExceeded) and spent_ms < max(usual_ms or 0.0, BLAMED_AFTER_MS):
        link.outlasted(sent_bytes, spent_ms)
        breaker.abandoned(ticket)
    elif is_own_fault(error):
        breaker.succeeded(ticket)  # the endpoint is well: it is the request that was wrong
    elif isinstance(error, EndpointMismatch):
        breaker.failed(ticket)
    elif isinstance(error, EndpointError):
        link.failed()
        breaker.failed(ticket, error.retry_after_s)
    elif isinstance(error, DeadlineExceeded):
        link.failed()
        breaker.failed(ticket)
    else:
        breaker.abandoned(ticket)


def is_own_fault(error: BaseException) -> bool:
    """Whether the endpoint is well and refused the request for what it asks, as it would refuse it again."""
    return isinstance(error, EndpointRefused) and error.status in OWN_FAULTS and error.status not in NOT_OWN_FAULTS

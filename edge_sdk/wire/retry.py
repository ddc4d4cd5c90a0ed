"""When to try again: full jitter, never beyond the deadline, only where trying again is safe.

Source: M. Brooker, "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015): the pause before attempt n is
uniform in [0, min(longest, first * 2**n)], which spreads the clients of a recovering endpoint best.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from edge_sdk.errors import EndpointError, EndpointRefused, EndpointUnreachable
from edge_sdk.wire.deadline import Deadline

__all__ = ["BUSY", "NO_RETRY", "Retry", "retried", "worth_another_try"]

BUSY = frozenset({429, 502, 503, 504})
"""Statuses that say "not now"; any other error of the endpoint comes back the same when asked again."""

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How often and after which pauses a request is tried again.

    Attributes:
        attempts: tries in all.
        first_pause_s: the longest pause before the second try; it doubles with each.
        longest_pause_s: where that doubling ends.
    """

    attempts: int = 3
    first_pause_s: float = 0.02
    longest_pause_s: float = 1.0

    def pause_s(self, attempt: int, asked_s: float | None = None, chance: Callable[[], float] = random.random) -> float:
        """Seconds to wait after failed try number `attempt` (from 0).

        Args:
            attempt: number of the try that failed.
            asked_s: what the endpoint asked for (Retry-After): never less than that.
            chance: gives numbers from 0 to 1.
        """
        # The exponent is bounded because a float cannot hold 2**1024.
        longest_s = min(self.longest_pause_s, self.first_pause_s * 2.0 ** min(attempt, 60))
        return float((asked_s or 0.0) + chance() * longest_s)


NO_RETRY = Retry(attempts=1)


def worth_another_try(error: EndpointError) -> bool:
    """Whether the same request may be answered if sent again; inference changes nothing, so that is safe."""
    if isinstance(error, EndpointRefused):
        return error.status in BUSY
    return isinstance(error, EndpointUnreachable)


def retried(
    send: Callable[[], Answer],
    retry: Retry,
    deadline: Deadline,
    pause: Callable[[float], object],
    chance: Callable[[], float] = random.random,
) -> Answer:
    """Calls `send` until it answers, its error is final, tries are used up, or the next pause would pass the deadline.

    Args:
        send: sends the request once.
        retry: how often, after which pauses.
        deadline: of the request.
        pause: lets seconds pass; returns true where the request was given up meanwhile.
        chance: gives numbers from 0 to 1.

    Raises:
        EndpointError: the last one, as `send` raised it.
    """
    attempt = 0
    while True:
        try:
            return send()
        except EndpointError as error:
            pause_s = retry.pause_s(attempt, error.retry_after_s, chance)
            attempt += 1
            final = attempt >= retry.attempts or not worth_another_try(error)
            if final or pause_s >= deadline.left_s() or pause(pause_s) is True:
                raise

"""Two ways to one answer: the second begins when the first is late or has failed, and whichever ends first counts.

Source: J. Dean and L. A. Barroso, "The Tail at Scale" (Communications of the ACM, 2013), hedged requests: begun after
the 95th percentile of the usual time they cost 5 % more work and cut off the slowest answers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from edge_sdk.errors import EdgeError
from edge_sdk.wire.timeline import Timeline

__all__ = ["Outcome", "hedged", "patience_ms"]

Result = TypeVar("Result")

MARGIN_MS = 2.0
MARGIN_SHARE = 0.15
"""What the local way may take longer than its 95th percentile before the deadline is missed."""


@dataclass(frozen=True, slots=True)
class Outcome(Generic[Result]):
    """Which way the answer came.

    Attributes:
        remote: whether it came from the endpoint.
        hedged: whether both ways were begun because the endpoint was late.
        failure: why the endpoint gave none; None where it answered or was overtaken.
    """

    result: Result
    remote: bool
    hedged: bool
    failure: EdgeError | None = None


def patience_ms(usual_ms: float | None, first_ms: float, local_ms: float | None, left_ms: float) -> float:
    """How long to wait for the endpoint before the local way begins.

    Args:
        usual_ms: what 95 % of its answers took at most; None while there are too few to tell.
        first_ms: the patience in that case.
        local_ms: what the local way needs; None while unknown.
        left_ms: until the deadline; infinity where there is none.

    Returns:
        Milliseconds, 0 where the local way has to begin at once to be in time.
    """
    latest_ms = left_ms
    if left_ms != float("inf"):
        # A local way that never ran may need all the time there is.
        latest_ms = 0.0 if local_ms is None else left_ms - local_ms * (1 + MARGIN_SHARE) - MARGIN_MS
    return max(min(first_ms if usual_ms is None else usual_ms, latest_ms), 0.0)


def hedged(
    remote: Callable[[], Result],
    local: Callable[[], Result],
    patience_s: float,
    timeline: Timeline,
    give_up: Callable[[], object],
) -> Outcome[Result]:
    """Runs `remote`; after `patience_s`, or once it has failed, `local` too.

    Args:
        remote: the way over the endpoint; what it raises beside `EdgeError` is raised here too.
        local: the way without it.
        patience_s: how long `remote` has for itself.
        timeline: lets both go on at once.
        give_up: ends `remote`, whose answer is no longer needed.

    Raises:
        EdgeError: both failed; as `local` raised it.
    """
    away = timeline.start(remote)
    if timeline.first([away], patience_s) is not None:
        try:
            return Outcome(away.result(), remote=True, hedged=False)
        except EdgeError as error:
            failure = error
        return Outcome(local(), remote=False, hedged=False, failure=failure)
    here = timeline.start(local)
    first = timeline.first([away, here], None)
    if first is here and here.exception() is not None:
        first = timeline.first([away], None)  # only the endpoint can still save this request
    if first is away:
        try:
            return Outcome(away.result(), remote=True, hedged=True)
        except EdgeError as error:
            timeline.first([here], None)
            return Outcome(here.result(), remote=False, hedged=True, failure=error)
    give_up()
    return Outcome(here.result(), remote=False, hedged=True)

"""Several ways to one answer: the next begins when one is late or has failed, and whichever ends first counts.

Source: J. Dean and L. A. Barroso, "The Tail at Scale" (Communications of the ACM, 2013), hedged requests: begun after
the 95th percentile of the usual time they cost 5 % more work and cut off the slowest answers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic, TypeVar

from edge_sdk.errors import EdgeError, EndpointResting
from edge_sdk.wire.timeline import Timeline

__all__ = ["HedgeBudget", "Outcome", "Way", "hedged", "patience_ms"]

Result = TypeVar("Result")

MARGIN_MS = 2.0
MARGIN_SHARE = 0.15
"""What the local way may take longer than its 95th percentile before the deadline is missed."""
SPARED, MOST_SPARED = 1 / 16, 3.0
"""What each request adds to the budget of hedging, in requests, and how many it holds at most."""


@dataclass(frozen=True, slots=True)
class Way(Generic[Result]):
    """One way to an answer.

    Attributes:
        run: goes it; what it raises beside `EdgeError` is raised to whoever asked.
        give_up: ends it, because its answer is no longer needed.
        patience_s: how long it has before the next one begins beside it; infinity for ever.
        remote: whether it leads over an endpoint.
    """

    run: Callable[[], Result]
    give_up: Callable[[], object]
    patience_s: float
    remote: bool


@dataclass(frozen=True, slots=True)
class Outcome(Generic[Result]):
    """Which way the answer came.

    Attributes:
        remote: whether it came from the endpoint.
        hedged: whether another way was begun beside the first because that was late.
        failure: why an endpoint gave none; None where one answered or was overtaken.
    """

    result: Result
    remote: bool
    hedged: bool
    failure: EdgeError | None = None


class HedgeBudget:
    """How many requests may be hedged before they have to be: a few at once, and one of sixteen in the long run.

    The local way of a hedged request takes the processor from the heads of those that follow. These are late then, and
    would be hedged in turn: a weak device would do all its work twice and be the slower for it.
    """

    def __init__(self) -> None:
        self._left = MOST_SPARED

    def spare(self) -> bool:
        """Whether one more may be."""
        return self._left >= 1.0

    def ended(self, hedged: bool) -> None:
        """Counts a request."""
        self._left = max(self._left - 1.0, 0.0) if hedged else min(self._left + SPARED, MOST_SPARED)


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


def hedged(next_way: Callable[[bool], Way[Result] | None], timeline: Timeline) -> Outcome[Result]:
    """Begins one way after the other, each when the one before it is late or has failed; the first answer counts.

    Args:
        next_way: which way to begin now, told whether an earlier one is still on its way; None for no other.
        timeline: lets them go on at once.

    Raises:
        EdgeError: all failed; as the way that is not remote raised it.
    """
    running: dict[Future[Result], Way[Result]] = {}
    crowded = False
    failure: EdgeError | None = None
    local_failure: EdgeError | None = None
    while True:
        way = next_way(bool(running))
        if way is None and not running:
            raise local_failure or failure or EndpointResting("there is no way to an answer")
        until_s = math.inf
        newest = None
        if way is not None:
            crowded = crowded or bool(running)
            alone_here = not running and not way.remote  # then a thread of its own would only cost time
            newest = _done(way.run) if alone_here else timeline.start(way.run)
            running[newest] = way
            until_s = timeline() + way.patience_s
        while running and (newest is None or newest in running):
            left_s = None if math.isinf(until_s) else until_s - timeline()
            ended = timeline.first(list(running), left_s)
            if ended is None:
                break  # the newest is late
            way = running.pop(ended)
            try:
                result = ended.result()
            except EdgeError as error:
                if way.remote:
                    # Its traceback holds this frame, which holds it, and what an answer was read into: megabytes that
                    # only the collector would find.
                    failure = error.with_traceback(None)
                else:
                    local_failure = error
                continue
            for other in running.values():
                other.give_up()
            return Outcome(result, way.remote, crowded, None if way.remote else failure)


def _done(work: Callable[[], Result]) -> Future[Result]:
    """Work that is done here and now."""
    future: Future[Result] = Future()
    try:
        future.set_result(work())
    except EdgeError as error:
        future.set_exception(error)
    return future

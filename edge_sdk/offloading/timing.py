"""What a request takes on this device here and now: figures that are compared are taken in one way, in one minute."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from edge_sdk.engines.base import Runner

if TYPE_CHECKING:
    from edge_sdk.tensors import Feeds

__all__ = ["MOST_ROUNDS", "mean_without_slowest", "timed_ms", "typical_ms"]

ROUNDS, MOST_ROUNDS, WORTH_MS = 5, 24, 150.0
"""So many calls at least and at most, and as long as all together take less."""
PAUSE_S = 0.005
"""Between two calls. Requests come with pauses, and a head rests while its tensors travel: caches are colder then, and
a slow device takes up to a tenth more than back to back."""


def typical_ms(run: Callable[[int], object]) -> float:
    """What a call takes on average, without the first and the slowest, with pauses between them.

    The mean and not the median: a device that is throttled stops now and then, and a request of several parts meets
    that as often as its parts together do.

    Args:
        run: is told how often it was called before.
    """
    run(0)
    times_ms: list[float] = []
    spent_ms = 0.0
    while len(times_ms) < ROUNDS or (len(times_ms) < MOST_ROUNDS and spent_ms < WORTH_MS):
        began_s = time.perf_counter()
        run(len(times_ms) + 1)
        times_ms.append((time.perf_counter() - began_s) * 1e3)
        spent_ms += times_ms[-1]
        time.sleep(PAUSE_S)
    return mean_without_slowest(times_ms)


def mean_without_slowest(times_ms: Sequence[float]) -> float:
    """Of one or more durations; see `typical_ms`."""
    return statistics.fmean(sorted(times_ms)[: max(len(times_ms) - 1, 1)])


def timed_ms(runner: Runner, data: Sequence[Feeds] = ()) -> float:
    """What a request to a loaded model takes.

    Args:
        runner: of the model.
        data: requests as it takes them; the first is asked, a made-up one where there is none.

    Raises:
        InputError: the request does not fit.
        EngineError: the model failed on it.
    """
    from edge_sdk.engines.samples import made_up_feeds
    from edge_sdk.tensors import FeedCheck

    check = FeedCheck(runner.inputs, runner.optional_inputs, f"{runner.model}: data")
    feeds = check(data[0]) if data else made_up_feeds(runner.inputs, runner.optional_inputs)
    return typical_ms(lambda turn: runner.run(feeds))

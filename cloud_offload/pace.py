"""How long the requests to one model wait and are computed, and how long the next one will wait."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from statistics import median
from time import perf_counter

from edge_sdk.wire.passage import COMPUTE, QUEUE

__all__ = ["Pace", "expected_queue_s"]

KEPT = 32
QUEUE_MEMORY_S = 10.0
"""Older waiting says nothing about the queue of now."""


class Pace:
    """Of one model. All methods run on the event loop's thread, or before the model is served."""

    def __init__(self) -> None:
        self._computed_s: deque[float] = deque(maxlen=KEPT)
        self._queued_s: deque[tuple[float, float]] = deque(maxlen=KEPT)

    def record(self, queue_s: float, compute_s: float) -> None:
        """Adds a request that was computed."""
        self._computed_s.append(compute_s)
        self._queued_s.append((perf_counter(), queue_s))

    def compute_s(self) -> float:
        """Median of the latest; 0 before the first."""
        return median(self._computed_s) if self._computed_s else 0.0

    def queue_s(self) -> float:
        """Median of the latest seconds; 0 where nothing was asked in them."""
        since_s = perf_counter() - QUEUE_MEMORY_S
        latest = [queue_s for at_s, queue_s in self._queued_s if at_s >= since_s]
        return median(latest) if latest else 0.0

    def told(self, ahead_s: float) -> dict[str, float]:
        """As parameters of the model's metadata.

        Args:
            ahead_s: how long one that comes now would wait for what is there already.
        """
        queue_ms, compute_ms = max(self.queue_s(), ahead_s) * 1e3, self.compute_s() * 1e3
        return {COMPUTE: round(compute_ms, 3), QUEUE: round(queue_ms, 3)}


def expected_queue_s(models: Iterable[tuple[Pace, int]], threads: int) -> float:
    """How long a request that comes now waits for those that are there: for a thread, if all are busy.

    Args:
        models: pace of each model, and how many of its requests wait or are computed.
        threads: that compute, over all models.
    """
    present = [(pace.compute_s(), count) for pace, count in models if count]
    count = sum(number for _, number in present)
    if count < threads:
        return 0.0
    # A thread is free for it once all but `threads - 1` are done, and those that are computed now are half done.
    mean_s = sum(compute_s * number for compute_s, number in present) / count
    return mean_s * (count - threads + 0.5) / threads

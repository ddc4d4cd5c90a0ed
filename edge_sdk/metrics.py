"""Counters and histograms that cost a request well under a microsecond and any thread may write to."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Iterable, Sequence

import msgspec

__all__ = ["DRAIN_AT", "Distribution", "Histogram", "Summary", "joined"]

_BUCKETS_PER_E = 50.0
"""Buckets are e^(1/50) apart: a percentile is right to 1 %."""
DRAIN_AT = 1024


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What a histogram holds, in milliseconds. All figures are None while `count` is 0."""

    count: int
    mean_ms: float | None = None
    min_ms: float | None = None
    p50_ms: float | None = None
    p90_ms: float | None = None
    p99_ms: float | None = None
    max_ms: float | None = None


class Distribution(msgspec.Struct, frozen=True, kw_only=True):
    """A histogram with few buckets, in the form that Prometheus knows.

    Attributes:
        count: of all durations.
        total_ms: their sum.
        up_to: by edge, how many were at most so long. Those within 1 % of an edge may be on either side of it.
    """

    count: int
    total_ms: float
    up_to: tuple[int, ...]


class Histogram:
    """Durations in milliseconds, kept as logarithmic buckets, so that memory stays bounded however long it runs.

    Recording appends to a queue (atomic, no lock); the queue is sorted into buckets when it is long or read. A hot path
    may append to `pending` itself and call `drain` when that is longer than `DRAIN_AT`.
    """

    def __init__(self) -> None:
        self.pending: deque[float] = deque()
        self._lock = threading.Lock()
        self._buckets: dict[int, int] = {}
        self._count = 0
        self._total = 0.0
        self._min = math.inf
        self._max = 0.0

    def record(self, duration_ms: float) -> None:
        """Adds one duration in milliseconds."""
        pending = self.pending
        pending.append(duration_ms)
        if len(pending) >= DRAIN_AT:
            self.drain()

    def drain(self) -> None:
        """Sorts what is pending into the buckets."""
        with self._lock:
            pending, buckets = self.pending, self._buckets
            while True:
                try:
                    value = pending.popleft()
                except IndexError:
                    return
                index = math.floor(math.log(value) * _BUCKETS_PER_E) if value > 1e-9 else -1100
                buckets[index] = buckets.get(index, 0) + 1
                self._count += 1
                self._total += value
                self._min = min(self._min, value)
                self._max = max(self._max, value)

    def summary(self) -> Summary:
        """The figures so far."""
        self.drain()
        with self._lock:
            if not self._count:
                return Summary(count=0)
            return Summary(
                count=self._count,
                mean_ms=round(self._total / self._count, 6),
                min_ms=round(self._min, 6),
                p50_ms=self._percentile(0.50),
                p90_ms=self._percentile(0.90),
                p99_ms=self._percentile(0.99),
                max_ms=round(self._max, 6),
            )

    def distribution(self, edges_ms: Sequence[float]) -> Distribution:
        """What it holds, counted up to each of several edges.

        Args:
            edges_ms: above 0, each larger than the one before.
        """
        self.drain()
        with self._lock:
            fine = sorted(self._buckets.items())
            up_to, seen, at = [], 0, 0
            for edge_ms in edges_ms:
                last = math.floor(math.log(edge_ms) * _BUCKETS_PER_E - 0.5)  # the last one whose middle is below
                while at < len(fine) and fine[at][0] <= last:
                    seen += fine[at][1]
                    at += 1
                up_to.append(0 if edge_ms < self._min else self._count if edge_ms >= self._max else seen)
            return Distribution(count=self._count, total_ms=self._total, up_to=tuple(up_to))

    @property
    def count(self) -> int:
        """How many durations were recorded."""
        self.drain()
        return self._count

    def _percentile(self, share: float) -> float:
        wanted = max(1, math.ceil(share * self._count))
        seen = 0
        for index in sorted(self._buckets):
            seen += self._buckets[index]
            if seen >= wanted:
                middle = math.exp((index + 0.5) / _BUCKETS_PER_E)
                return round(min(max(middle, self._min), self._max), 6)
        return round(self._max, 6)


def joined(histograms: Iterable[Histogram]) -> Histogram:
    """One that holds what several hold now."""
    whole = Histogram()
    for part in histograms:
        part.drain()
        with part._lock:
            for index, count in part._buckets.items():
                whole._buckets[index] = whole._buckets.get(index, 0) + count
            whole._count += part._count
            whole._total += part._total
            whole._min = min(whole._min, part._min)
            whole._max = max(whole._max, part._max)
    return whole

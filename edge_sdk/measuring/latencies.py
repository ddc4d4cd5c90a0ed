"""Latencies as the few figures that people compare."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

__all__ = ["Latencies", "median", "percentile", "summarise"]


class Latencies(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of many requests, in milliseconds.

    Attributes:
        runs: how many were timed. A percentile says little where fewer than a handful of runs lie above it: of 100
            runs, one is above the 99th.
        median_ms, p90_ms, p95_ms, p99_ms: what half, 90, 95 and 99 of 100 requests stayed at or below.
    """

    runs: int
    mean_ms: float
    min_ms: float
    median_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


def median(values: Sequence[float]) -> float:
    """The middle of at least one value, or the mean of the two in the middle. As `statistics.median`, whose import
    costs a start more than all of this package's measuring."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that `share` (0 to 1) of all values do not exceed: nearest rank.

    Args:
        ordered: values from smallest to largest, at least one.
        share: 0.99 for the 99th percentile.
    """
    return ordered[min(len(ordered), max(1, math.ceil(share * len(ordered)))) - 1]


def summarise(latencies_ms: Sequence[float]) -> Latencies:
    """The figures of at least one latency in milliseconds, rounded to a tenth of a microsecond."""
    ordered = sorted(latencies_ms)
    return Latencies(
        runs=len(ordered),
        mean_ms=round(math.fsum(ordered) / len(ordered), 4),
        min_ms=round(ordered[0], 4),
        median_ms=round(median(ordered), 4),
        p90_ms=round(percentile(ordered, 0.90), 4),
        p95_ms=round(percentile(ordered, 0.95), 4),
        p99_ms=round(percentile(ordered, 0.99), 4),
        max_ms=round(ordered[-1], 4),
    )

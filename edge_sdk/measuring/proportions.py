"""Bounds on a true mean from samples of it: how bad it may be although the sample looked good."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from edge_sdk.tensors import Array

__all__ = ["mean_at_most", "share_at_least", "share_at_most"]

_HALVINGS = 60


def share_at_most(hits: int, count: int, risk: float) -> float:
    """The largest share that would give no more than `hits` in `count` samples with probability `risk` or more.

    The true share lies above with probability `risk` at most: Clopper and Pearson, "The use of confidence or fiducial
    limits illustrated in the case of the binomial", 1934.
    """
    if hits >= count:
        return 1.0
    return _crossing(lambda share: _at_most(hits, count, share) >= risk)


def share_at_least(hits: int, count: int, risk: float) -> float:
    """The mirror of `share_at_most`: the true share lies below with probability `risk` at most."""
    return 1.0 - share_at_most(count - hits, count, risk)


def mean_at_most(figures: Array, low: float, high: float, risk: float) -> float:
    """An upper bound on the mean of what the figures were drawn from; that is above with probability `risk` at most.

    Maurer and Pontil, "Empirical Bernstein Bounds and Sample Variance Penalization", 2009, theorem 4.

    Args:
        figures: (n,), each from `low` to `high`.
    """
    count = figures.size
    if count < 2:
        return high
    log = math.log(2 / risk)
    spread = math.sqrt(2 * float(np.var(figures, ddof=1)) * log / count)
    return min(high, float(figures.mean()) + spread + 7 * (high - low) * log / (3 * (count - 1)))


def _crossing(holds: Callable[[float], bool]) -> float:
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return high


def _at_most(hits: int, count: int, share: float) -> float:
    """Probability of no more than `hits` in `count`."""
    if share <= 0 or share >= 1:
        return 1.0 if share <= 0 or hits >= count else 0.0
    some = np.arange(hits + 1)
    ways = math.lgamma(count + 1) - _log_factorials(some) - _log_factorials(count - some)
    logs = ways + some * math.log(share) + (count - some) * math.log1p(-share)
    most = float(logs.max())
    return math.exp(min(0.0, most + math.log(float(np.exp(logs - most).sum()))))


def _log_factorials(numbers: Array) -> Array:
    return np.array([math.lgamma(number + 1) for number in numbers.tolist()])

"""Bounds on a true mean from samples of it: how bad it may be although the sample looked good."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from edge_sdk.tensors import Array

__all__ = ["mean_at_most", "share_at_least", "share_at_most"]

_HALVINGS = 36


def share_at_most(hits: int, count: int, risk: float) -> float:
    """The largest share that would give no more than `hits` in `count` samples with probability `risk` or more.

    The true share lies above with probability `risk` at most: Clopper and Pearson, "The use of confidence or fiducial
    limits illustrated in the case of the binomial", 1934.
    """
    if hits >= count:
        return 1.0
    at_most = _at_most(hits, count)
    return _crossing(lambda share: at_most(share) >= risk)


def share_at_least(hits: int, count: int, risk: float) -> float:
    """The mirror of `share_at_most`: the true share lies below with probability `risk` at most."""
    if hits <= 0:
        return 0.0
    fewer = _at_most(hits - 1, count)
    return _crossing(lambda share: fewer(share) >= 1 - risk)


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


def _at_most(hits: int, count: int) -> Callable[[float], float]:
    """Probability of no more than `hits`, fewer than `count`, in `count`: by the share."""
    some = np.arange(hits + 1)
    # The logarithm of how many ways there are, grown from one number of hits to the next.
    ways = np.concatenate([[0.0], np.cumsum(np.log(count - some[1:] + 1) - np.log(some[1:]))])

    def probability(share: float) -> float:
        if share <= 0 or share >= 1:
            return float(share <= 0)
        logs = ways + some * math.log(share) + (count - some) * math.log1p(-share)
        most = float(logs.max())
        return math.exp(min(0.0, most + math.log(float(np.exp(logs - most).sum()))))

    return probability

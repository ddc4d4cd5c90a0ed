"""The latest measurements of something that changes, of which older ones weigh less: by how many came after them, and
by how long ago they were."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["FADE", "HALF_LIFE_S", "KEPT", "Middle", "median", "weights"]

FADE = 0.8
"""Weight of a measurement against the one after it: four new ones outweigh all before them."""
HALF_LIFE_S = 20.0
"""A measurement that is older by so much weighs half as much: after a pause, the first new one counts most."""
KEPT = 24
"""Measurements; older ones weigh nothing."""
_BY_PLACE = tuple(FADE**place for place in range(KEPT))


def weights(at_s: Iterable[float], now_s: float) -> list[float]:
    """Of measurements made at these moments, the oldest first."""
    newest_first = zip(reversed(tuple(at_s)), _BY_PLACE, strict=False)
    weighed = [place * 0.5 ** (max(now_s - at, 0.0) / HALF_LIFE_S) for at, place in newest_first]
    weighed.reverse()
    return weighed


@dataclass(frozen=True, slots=True)
class Middle:
    """What weighted measurements say.

    Attributes:
        value: mean of the middle half by weight: as deaf to outliers as the median, and steadier.
        low, high: the 16th and the 84th percentile, one standard deviation off if they are normal.
    """

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, weighted: Iterable[tuple[float, float]]) -> Middle:
        """Of (value, weight), at least one."""
        ordered = sorted(weighted)
        total = sum(w for _, w in ordered)
        begin, end = 0.25 * total, 0.75 * total
        at = found = 0.0
        low, high = None, ordered[-1][0]
        for value, w in ordered:
            after = at + w
            if after > begin and at < end:
                found += value * (min(after, end) - max(at, begin))
            if low is None and after >= 0.16 * total:
                low = value
            if after >= 0.84 * total:
                high = value
                break
            at = after
        return cls(found / (end - begin), ordered[0][0] if low is None else low, high)


def median(weighted: Iterable[tuple[float, float]]) -> float:
    """The smallest value that half of the weight does not exceed, of (value, weight), at least one."""
    ordered = sorted(weighted)
    left = sum(w for _, w in ordered) / 2
    for value, w in ordered:
        left -= w
        if left <= 0:
            return value
    return ordered[-1][0]

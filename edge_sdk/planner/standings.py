"""What duels say together: how much each candidate costs over any other, and how sure that is.

Every challenger met one incumbent, so the duels form a tree. Two candidates that never met compare along the path
between them: logarithms of ratios add up, and so do their variances.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from edge_sdk.measuring import Comparison

__all__ = ["Standings"]


@dataclass(frozen=True, slots=True)
class _Duel:
    incumbent: int | None
    log_ratio: float
    variance: float


class Standings:
    """The duels of one tournament; candidates are known by their place in the table.

    Args:
        first: the first incumbent.
    """

    def __init__(self, first: int) -> None:
        self._duels: dict[int, _Duel] = {first: _Duel(None, 0.0, 0.0)}

    @property
    def places(self) -> tuple[int, ...]:
        """All that were measured."""
        return tuple(self._duels)

    def record(self, challenger: int, incumbent: int, cost: Comparison) -> None:
        """One duel; `cost` compares the challenger with the incumbent in the objective's terms."""
        belief = cost.belief
        self._duels[challenger] = _Duel(incumbent, math.log(cost.ratio), belief.scale**2)

    def relative(self, place: int, other: int) -> float:
        """What the candidate at `place` costs over the one at `other`."""
        return math.exp(self._total(place) - self._total(other))

    def beat(self, place: int, other: int) -> bool:
        """Whether it took the place of the other, or of one that did."""
        return other in self._path(place)[1:]

    def behind(self, incumbent: int, times: float) -> tuple[int, ...]:
        """Who lost to this one itself and took up to so many times as much, the closest first."""
        lost = [(duel.log_ratio, place) for place, duel in self._duels.items() if duel.incumbent == incumbent]
        return tuple(place for log_ratio, place in sorted(lost) if log_ratio <= math.log(times))

    def confidence(self, winner: int, margin: float) -> float:
        """Probability that no other candidate is better than the winner by `margin`, taking the closest rival."""
        least = 1.0
        for place in self._duels:
            if place == winner:
                continue
            apart = self._total(place) - self._total(winner)
            deviation = math.sqrt(self._variance_between(place, winner)) or 1e-9
            least = min(least, _normal((apart - math.log(1 - margin)) / deviation))
        return least

    def _path(self, place: int) -> list[int]:
        """From a candidate up to the first incumbent."""
        path = [place]
        while (above := self._duels[path[-1]].incumbent) is not None:
            path.append(above)
        return path

    def _total(self, place: int) -> float:
        return math.fsum(self._duels[step].log_ratio for step in self._path(place))

    def _variance_between(self, place: int, other: int) -> float:
        one, two = set(self._path(place)), set(self._path(other))
        return math.fsum(self._duels[step].variance for step in one ^ two)


def _normal(deviations: float) -> float:
    return 0.5 * (1 + math.erf(deviations / math.sqrt(2)))

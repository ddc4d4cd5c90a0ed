"""Which way to run next while link, load and heat move: the decision to switch, with hysteresis.

A single slow answer means nothing, and a switch that comes back at once costs more than it gains. So another way must
be better by a margin, several times on end; right after a switch the margin is larger. What is far better is not waited
for: what links and ways are taken to cost rests on several requests as it is, so that one alone never looks like that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Follower", "Switch"]

K = TypeVar("K", bound=Hashable)

MARGIN = 0.10
SETTLING_MARGIN = 0.30
SETTLING_S = 3.0
SLACK = 0.5
"""In the unit of what is compared (milliseconds, or millijoules): below it nothing is worth a switch."""
PATIENCE = 4
FAR_BETTER = 1.5


@dataclass(frozen=True, slots=True)
class Switch(Generic[K]):
    """Go another way.

    Attributes:
        key: of that way.
        cost, instead_of: what it costs now, and what the present way does.
    """

    key: K
    cost: float
    instead_of: float


class Follower(Generic[K]):
    """Watches what each way costs. Not for several threads at once.

    Args:
        current: the way that is gone now.
        clock: seconds.
    """

    def __init__(self, current: K, clock: Callable[[], float] = time.monotonic) -> None:
        self.current = current
        self._clock = clock
        self._switched_s = -SETTLING_S
        self._pending: K | None = None
        self._seen = 0

    def judge(self, costs: Mapping[K, float]) -> Switch[K] | None:
        """Takes what each way costs now; the switch that is due, if there is one.

        It is due again at each call until `switched` tells that it was made: preparing a way takes a while.

        Args:
            costs: of all ways that may be gone; the present one missing means that it cannot be gone any more.
        """
        if not costs:
            return None
        best = min(costs, key=lambda key: costs[key])
        now = costs.get(self.current, float("inf"))
        settling = self._clock() - self._switched_s < SETTLING_S
        margin = SETTLING_MARGIN if settling else MARGIN
        if best == self.current or now - costs[best] <= max(margin * now if now < float("inf") else 0.0, SLACK):
            self._pending, self._seen = None, 0
            return None
        self._seen = self._seen + 1 if best == self._pending else 1
        self._pending = best
        if self._seen < PATIENCE and now < costs[best] * FAR_BETTER:
            return None
        return Switch(best, costs[best], now)

    def switched(self, to: K) -> None:
        """The switch was made."""
        self.current = to
        self._switched_s = self._clock()
        self._pending, self._seen = None, 0

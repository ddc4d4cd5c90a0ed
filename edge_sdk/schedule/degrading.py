"""Which of several variants of a model answers a stream: a lighter one while requests come too fast or answers too
late, a better one again when there was room for it for long.

A variant that had to be left soon after it was tried is tried again only after twice as long, so that a stream at the
edge of what fits does not swing.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence

__all__ = ["Degrading"]

WINDOW, MOST_BAD = 20, 2
"""Of so many requests so many may be late or given up."""
CALM_S, LONGEST_CALM_S = 3.0, 300.0
FILLED = 0.8
"""Share of the time that the requests of a better variant may fill."""


class Degrading:
    """Steps between variants, best first; not for several threads at once.

    Args:
        service_ms: what a request takes on each.
        deadline_ms: from a request to its answer.
        level: where it begins.
        may_rise: whether there is room for the variant of a level beside the other sessions.
        clock: seconds.

    Attributes:
        level: of the variant that answers now, 0 for the best.
    """

    def __init__(
        self,
        service_ms: Sequence[float],
        deadline_ms: float,
        level: int = 0,
        may_rise: Callable[[int], bool] = lambda level: True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._service_ms, self._deadline_ms = tuple(service_ms), deadline_ms
        self._may_rise, self._clock = may_rise, clock
        self.level = level
        self._recent: deque[bool] = deque(maxlen=WINDOW)
        self._calm_s = CALM_S
        self._rose_s: float | None = None
        self._begin()

    def see(self, bad: bool) -> str | None:
        """Takes the end of one request.

        Args:
            bad: it was late, or given up since there was no room.

        Returns:
            One line why another level answers from now on; None where it stays.
        """
        self._recent.append(bad)
        self._count += 1
        now_s = self._clock()
        if bad:
            if sum(self._recent) > MOST_BAD and self.level + 1 < len(self._service_ms):
                return self._down(now_s)
            self._begin(keep=True)
            return None
        if self._rose_s is not None and now_s - self._rose_s >= self._calm_s:
            self._rose_s, self._calm_s = None, CALM_S  # it holds
        lasted_s = now_s - self._since_s
        if self.level == 0 or lasted_s < self._calm_s or self._count < WINDOW:
            return None
        return self._up(now_s, self._count / lasted_s)

    def _down(self, now_s: float) -> str:
        why = f"{sum(self._recent)} of {len(self._recent)} requests were late or given up"
        if self._rose_s is not None and now_s - self._rose_s < self._calm_s:
            self._calm_s = min(2 * self._calm_s, LONGEST_CALM_S)
        self._rose_s = None
        self.level += 1
        self._begin()
        return f"{why}: a lighter variant answers"

    def _up(self, now_s: float, rate_hz: float) -> str | None:
        better_ms = self._service_ms[self.level - 1]
        filled = better_ms * rate_hz / 1e3
        if better_ms > self._deadline_ms or filled > FILLED or not self._may_rise(self.level - 1):
            self._begin(keep=True)  # looked at again after as long
            return None
        calm_s = now_s - self._since_s
        self.level -= 1
        self._rose_s = now_s
        self._begin()
        return (
            f"{calm_s:.1f} s without a late request, and {better_ms:.3g} ms at {rate_hz:.3g} a second fill"
            f" {filled:.0%} of the time: a better variant answers"
        )

    def _begin(self, keep: bool = False) -> None:
        """Counts calm anew."""
        self._since_s, self._count = self._clock(), 0
        if not keep:
            self._recent.clear()

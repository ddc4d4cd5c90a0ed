"""The latest durations of something that changes with time, and their percentiles."""

from __future__ import annotations

import math
from collections import deque

__all__ = ["Recent"]


class Recent:
    """Keeps the latest durations only: what was an hour ago says nothing about the link of now.

    Args:
        kept: how many.
    """

    def __init__(self, kept: int = 128) -> None:
        self._durations_ms: deque[float] = deque(maxlen=kept)

    def __len__(self) -> int:
        return len(self._durations_ms)

    def record(self, duration_ms: float) -> None:
        """Adds one duration in milliseconds; the oldest goes. Any thread may."""
        self._durations_ms.append(duration_ms)

    def clear(self) -> None:
        """Forgets all of them."""
        self._durations_ms.clear()

    def latest(self) -> tuple[float, ...]:
        """Those kept, the oldest first."""
        return tuple(self._durations_ms.copy())

    def percentile_ms(self, share: float) -> float | None:
        """The smallest duration that `share` (0 to 1) of those kept do not exceed; None while there is none."""
        ordered = sorted(self._durations_ms.copy())
        if not ordered:
            return None
        return ordered[min(max(math.ceil(share * len(ordered)), 1), len(ordered)) - 1]

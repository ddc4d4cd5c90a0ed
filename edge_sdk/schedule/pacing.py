"""So many requests a second, and no more: for levels that save power by doing less.

Two requests may follow at once where the ones before came late: a camera that jitters at the very rate loses no frame.

Source: the generic cell rate algorithm of ITU-T I.371, with a tolerance of one period.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable

from edge_sdk.errors import InputValueError

__all__ = ["Pace"]

REMEMBERED = 64


class Pace:
    """Lets requests through at a rate. Any number of threads may call it.

    Args:
        clock: seconds.

    Attributes:
        skipped: how many `ready` refused.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._hz, self._period_s, self._due_s = math.inf, 0.0, -math.inf
        self._came_s: deque[float] = deque(maxlen=REMEMBERED)
        self.skipped = 0

    @property
    def hz(self) -> float:
        """Requests a second at most; infinity, as at first, for all that come."""
        return self._hz

    @hz.setter
    def hz(self, hz: float) -> None:
        if not hz > 0:
            raise InputValueError(f"hz is {hz!r}; expected a number above 0")
        with self._lock:
            self._hz, self._period_s, self._due_s = hz, 1 / hz, -math.inf

    def ready(self) -> bool:
        """Whether a request that comes now may go; where it may, it has."""
        now_s = self._clock()
        self._came_s.append(now_s)
        if self._hz == math.inf:
            return True
        with self._lock:
            if now_s < self._due_s - self._period_s:
                self.skipped += 1
                return False
            self._due_s = max(now_s, self._due_s) + self._period_s
            return True

    def take(self) -> float:
        """Takes the next turn; in so many seconds it comes, 0 for now."""
        now_s = self._clock()
        self._came_s.append(now_s)
        if self._hz == math.inf:
            return 0.0
        with self._lock:
            wait_s = max(self._due_s - self._period_s - now_s, 0.0)
            self._due_s = max(now_s, self._due_s) + self._period_s
            return wait_s

    def comes_hz(self) -> float | None:
        """Requests a second that came of late, those that were refused too; None before there were two."""
        came = tuple(self._came_s)
        lasted_s = self._clock() - came[0] if len(came) > 1 else 0.0
        return len(came) / lasted_s if lasted_s > 0 else None

"""How long a request may still take, carried along with it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["NO_DEADLINE", "Deadline"]


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment by a clock.

    Attributes:
        at_s: when the request is late, by `clock`; infinity where it never is.
        clock: seconds, as `time.monotonic` gives them.
    """

    at_s: float
    clock: Callable[[], float] = time.monotonic

    @classmethod
    def after(cls, timeout_ms: float | None, clock: Callable[[], float] = time.monotonic) -> Deadline:
        """The deadline of a request that begins now; `timeout_ms` None for none."""
        return cls(math.inf if timeout_ms is None else clock() + timeout_ms / 1e3, clock)

    def left_s(self) -> float:
        """Seconds left; negative once it has passed, infinity where there is none."""
        return self.at_s - self.clock()

    def passed(self) -> bool:
        """Whether no time is left."""
        return self.left_s() <= 0

    def within(self, timeout_s: float) -> Deadline:
        """This deadline, or the one in `timeout_s` seconds if that is nearer."""
        return Deadline(min(self.at_s, self.clock() + timeout_s), self.clock)


NO_DEADLINE = Deadline(math.inf)

"""The time that measuring goes by: the machine's own, or a simulated one in tests."""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["REAL_TIME", "Clock", "RealTime"]


class Clock(Protocol):
    """Tells the time and lets it pass; `edge_sdk.engines.simulated.SimulatedClock` is one that moves only when told."""

    def __call__(self) -> float:
        """Seconds since some moment; never goes back."""

    def sleep(self, seconds: float, /) -> None:
        """Lets `seconds` pass."""


class RealTime:
    """The machine's own time."""

    def __call__(self) -> float:
        """Seconds, to well under a microsecond."""
        return time.perf_counter()

    def sleep(self, seconds: float, /) -> None:
        """Sleeps; returns at once where `seconds` is not above 0."""
        if seconds > 0:
            time.sleep(seconds)


REAL_TIME = RealTime()

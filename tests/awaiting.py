"""What a test waits for where nothing can be awaited: a state that another thread or process comes to."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["until"]

LONGEST_S = 30.0


def until(met: Callable[[], bool]) -> None:
    """Asks again and again until it holds.

    Raises:
        AssertionError: it did not hold in half a minute.
    """
    end_s = time.monotonic() + LONGEST_S
    while not met():
        assert time.monotonic() < end_s, "what was awaited did not come"
        time.sleep(0.001)

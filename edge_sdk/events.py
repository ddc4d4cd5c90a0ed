"""What happened to a session beside its requests: lines for people, and how often each kind came."""

from __future__ import annotations

import threading

__all__ = ["KINDS", "Events"]

KINDS = (
    "request_failed",  # an engine's error reached the caller: nothing else could answer
    "accelerator_fallback",  # an accelerator did not start and is not tried again: the CPU does its work
    "lighter_variant",  # memory was refused, and a lighter variant took over
    "replanned",  # latency had left the plan, and another one runs now
    "replan_kept",  # latency had left the plan, and it is still the best
    "replan_failed",
    "switched",  # requests go another way over the links than before
    "stepped",  # heat or battery asked for another way, or allowed it
    "swapped",  # another model was put in the place of this one
)
"""All that is counted, so that each has a count from the beginning."""


MOST_LINES = 1000


class Events(list[str]):
    """The latest `MOST_LINES` lines, oldest first, and counts by kind. Any number of threads may write.

    Attributes:
        counts: by kind, all of `KINDS`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts = dict.fromkeys(KINDS, 0)
        self._lock = threading.Lock()

    def append(self, line: str) -> None:
        """Adds a line, and forgets the oldest where there are too many."""
        with self._lock:
            super().append(line)
            del self[:-MOST_LINES]

    def tell(self, kind: str, line: str) -> None:
        """Adds a line and counts it."""
        self.append(line)
        self.add(kind)

    def add(self, kind: str) -> None:
        """Counts what has no line of its own.

        Args:
            kind: one of `KINDS`.
        """
        with self._lock:
            self.counts[kind] += 1

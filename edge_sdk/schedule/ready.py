"""Which of several sessions' requests computes next: earliest deadline first within priority, and none waits for ever.

Source: C. L. Liu and J. W. Layland, "Scheduling algorithms for multiprogramming in a hard-real-time environment",
Journal of the ACM 20 (1973).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Waiting", "next_of"]

Key = TypeVar("Key")

STARVED_S = 1.0
"""Who has waited so long beyond its deadline, or since it came where there is none, goes before higher priorities."""


@dataclass(frozen=True, slots=True)
class Waiting(Generic[Key]):
    """The oldest request of one session.

    Attributes:
        key: of the session.
        priority: higher goes first.
        deadline_s: when its answer is due, by the clock of `now_s`; infinity for none.
        came_s: when it came.
    """

    key: Key
    priority: int
    deadline_s: float
    came_s: float

    def starved(self, now_s: float) -> bool:
        """Whether it has waited too long by any measure."""
        due_s = self.came_s if math.isinf(self.deadline_s) else self.deadline_s
        return now_s > due_s + STARVED_S


def next_of(waiting: Iterable[Waiting[Key]], now_s: float) -> Waiting[Key] | None:
    """The request that computes next; None where none waits.

    Args:
        waiting: the oldest request of each session.
        now_s: the time.
    """
    return min(
        waiting,
        key=lambda one: (
            not one.starved(now_s),
            one.came_s if one.starved(now_s) else 0.0,
            -one.priority,
            one.deadline_s,
            one.came_s,
        ),
        default=None,
    )

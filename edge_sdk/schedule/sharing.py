"""Cores that several contenders share: who may compute now.

Contenders with a promise have the cores in the order of `ready`; those without one have as many again, since the kernel
lets them compute only while the others do not.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from edge_sdk.errors import InputValueError, SessionClosed
from edge_sdk.schedule.ready import Waiting, next_of

__all__ = ["Contender", "SharedCores"]


class Contender(Protocol):
    """What contends for cores.

    Attributes:
        name: each its own.
        cores: that one of its requests computes on.
        cpus: where they are; empty where any will do.
        promised: whether it has a promise.
        closed: whether it wants no more.
    """

    name: str
    promised: bool
    closed: bool

    @property
    def cores(self) -> int: ...

    @property
    def cpus(self) -> frozenset[int]: ...

    def first_waiting(self) -> Waiting[str] | None:
        """Its oldest request that waits; called while `SharedCores.changed` is held."""

    def begin(self) -> None:
        """Its oldest request waits no longer: it is computed now. Called as `first_waiting`."""


C = TypeVar("C", bound=Contender)


class SharedCores(Generic[C]):
    """Gives cores to contenders, one request of each at a time.

    Args:
        cores: how many.
        clock: seconds.

    Attributes:
        changed: held while anything that waits is touched, and notified then.
    """

    def __init__(self, cores: int, clock: Callable[[], float]) -> None:
        self.cores, self.clock = cores, clock
        self.changed = threading.Condition()
        self._contenders: dict[str, C] = {}
        self._computing: set[str] = set()
        self._closed = False

    def join(self, contender: C) -> None:
        """One more contends.

        Raises:
            InputValueError: its name is taken.
            SessionClosed: nobody contends any more.
        """
        with self.changed:
            self.check_name(contender.name)
            self._contenders[contender.name] = contender

    def check_name(self, name: str) -> None:
        """As `join`, before there is a contender."""
        if self._closed:
            raise SessionClosed("the scheduler is closed; make another one")
        if name in self._contenders:
            raise InputValueError(f"there is a session {name!r} already; expected another name")

    def leave(self, contender: C) -> None:
        """One contends no more. Idempotent."""
        with self.changed:
            if self._contenders.get(contender.name) is contender:
                del self._contenders[contender.name]
            self.changed.notify_all()

    def contenders(self) -> tuple[C, ...]:
        """All, in the order in which they joined."""
        with self.changed:
            return tuple(self._contenders.values())

    def take(self, contender: C) -> bool:
        """Waits until the oldest request of a contender may compute, and gives it its cores; False once closed."""
        with self.changed:
            self.changed.wait_for(lambda: contender.closed or self._may_begin(contender))
            if contender.closed:
                return False
            self._computing.add(contender.name)
            contender.begin()
            return True

    def give_back(self, contender: C) -> None:
        """The request that computed has ended."""
        with self.changed:
            self._computing.discard(contender.name)
            self.changed.notify_all()

    def close(self) -> None:
        """Nobody may join any more. Idempotent."""
        with self.changed:
            self._closed = True

    def _may_begin(self, contender: C) -> bool:
        if contender.first_waiting() is None or contender.name in self._computing:
            return False
        rivals = [other for other in self._contenders.values() if other.promised == contender.promised]
        computing = [other for other in rivals if other.name in self._computing]
        if sum(other.cores for other in computing) + contender.cores > self.cores:
            return False
        there = sum(other.cores for other in computing if other.cpus & contender.cpus)
        if contender.cpus and there and there + contender.cores > len(contender.cpus):
            return False
        waiting = (
            other.first_waiting()
            for other in rivals
            if other.name not in self._computing and _meet(other.cpus, contender.cpus)
        )
        chosen = next_of((one for one in waiting if one is not None), self.clock())
        return chosen is not None and chosen.key == contender.name


def _meet(one: frozenset[int], other: frozenset[int]) -> bool:
    return not one or not other or bool(one & other)

"""A pool of things of which each serves one caller at a time, made when callers come, up to a bound."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import Generic, TypeVar

from edge_sdk.errors import SessionClosed
from edge_sdk.metrics import Histogram

__all__ = ["Pool"]

Item = TypeVar("Item")


class _Waiter(Generic[Item]):
    """A caller in the queue. `gate` opens when it got an item, or when it should look again."""

    __slots__ = ("gate", "item")

    def __init__(self) -> None:
        self.gate = threading.Lock()
        self.gate.acquire()
        self.item: Item | None = None


class Pool(Generic[Item]):
    """Hands out items, the last returned first since its memory is still in the cache.

    Callers beyond `bound` wait in line and are served in the order they came. The pool's lock is held for a few
    instructions, never while an item is made or used.

    Args:
        make: makes one more item; may raise.
        bound: how many items there may be.
        waited: records how long callers waited in line, in milliseconds; callers that did not wait leave no trace.
        name: what the message says that was closed.
    """

    def __init__(self, make: Callable[[], Item], bound: int, waited: Histogram, name: str) -> None:
        self.bound = bound
        self._make = make
        self._waited = waited
        self._name = name
        self._lock = threading.Lock()
        self._free: list[Item] = []
        self._line: deque[_Waiter[Item]] = deque()
        self._made = 0
        self._closed = False

    def take(self) -> Item:
        """An item of the caller's own until `give`.

        Raises:
            SessionClosed: the pool was closed.
        """
        with self._lock:
            if self._free:
                return self._free.pop()
            if self._closed:
                raise SessionClosed(f"{self._name}: the runner was closed before the call")
            waiter: _Waiter[Item] | None = None
            if self._made < self.bound:
                self._made += 1
            else:
                waiter = _Waiter()
                self._line.append(waiter)
        return self._new() if waiter is None else self._wait(waiter)

    def give(self, item: Item) -> None:
        """Returns an item: to the first in line, if anybody waits."""
        with self._lock:
            if self._line:
                waiter = self._line.popleft()
                waiter.item = item
                waiter.gate.release()
            elif not self._closed:
                self._free.append(item)

    def drop(self) -> None:
        """Says that an item taken will not come back; another may be made in its place."""
        with self._lock:
            self._made -= 1
            if self._line:
                self._line.popleft().gate.release()

    def close(self) -> None:
        """Forgets the free items; those in use are forgotten when they come back, and who waits is sent away."""
        with self._lock:
            self._closed = True
            self._free.clear()
            while self._line:
                self._line.popleft().gate.release()

    def _new(self) -> Item:
        try:
            return self._make()
        except BaseException:
            self.drop()
            raise

    def _wait(self, waiter: _Waiter[Item]) -> Item:
        started = perf_counter()
        try:
            waiter.gate.acquire()
        except BaseException:  # KeyboardInterrupt: an item handed over meanwhile must not be lost
            self._leave(waiter)
            raise
        self._waited.record((perf_counter() - started) * 1e3)
        return waiter.item if waiter.item is not None else self.take()

    def _leave(self, waiter: _Waiter[Item]) -> None:
        with self._lock:
            if waiter in self._line:
                self._line.remove(waiter)
                return
        if waiter.item is not None:
            self.give(waiter.item)

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

    Callers beyond `bound` wait in line and are served in the order they came. While nobody waits, taking and giving are
    one operation on a list each, without the lock: a caller may do them itself on `free` while `attention` is false,
    and must call `attend` when it finds `attention` true after giving.

    Args:
        make: makes one more item; may raise.
        bound: how many items there may be.
        waited: records how long callers waited in line, in milliseconds; callers that did not wait leave no trace.
        name: what the message says that was closed.

    Attributes:
        free: items that nobody uses.
        attention: whether somebody waits in line, or the pool is closed.
    """

    def __init__(self, make: Callable[[], Item], bound: int, waited: Histogram, name: str) -> None:
        self.bound = bound
        self.free: list[Item] = []
        self.attention = False
        self._make = make
        self._waited = waited
        self._name = name
        self._lock = threading.Lock()
        self._line: deque[_Waiter[Item]] = deque()
        self._made = 0
        self._closed = False

    def take(self) -> Item:
        """An item of the caller's own until `give`.

        Raises:
            SessionClosed: the pool was closed.
        """
        if not self.attention:
            try:
                return self.free.pop()
            except IndexError:
                pass
        waiter: _Waiter[Item] | None = None
        with self._lock:
            if self._closed:
                raise SessionClosed(f"{self._name}: the runner was closed before the call")
            if self._made < self.bound:
                self._made += 1
            else:
                waiter = _Waiter()
                self._line.append(waiter)
                # The flag first, then a look at what is free; `give` does it the other way round. So one of the two
                # sees the other, and no item lies free while somebody waits for it.
                self.attention = True
                self._serve()
        return self._new() if waiter is None else self._wait(waiter)

    def give(self, item: Item) -> None:
        """Returns an item: to the first in line, if anybody waits."""
        self.free.append(item)
        if self.attention:
            self.attend()

    def attend(self) -> None:
        """Hands what is free to those in line."""
        with self._lock:
            self._serve()

    def _serve(self) -> None:
        while self._line and self.free:
            try:
                item = self.free.pop()
            except IndexError:  # another caller was quicker
                break
            waiter = self._line.popleft()
            waiter.item = item
            waiter.gate.release()
        if self._closed:
            self.free.clear()
        self.attention = self._closed or bool(self._line)

    def drop(self) -> None:
        """Says that an item taken will not come back; another may be made in its place."""
        with self._lock:
            self._made -= 1
            if self._line:
                self._line.popleft().gate.release()
            self._serve()

    def close(self) -> None:
        """Forgets the free items; those in use are forgotten when they come back, and who waits is sent away."""
        with self._lock:
            self._closed = True
            self.free.clear()
            while self._line:
                self._line.popleft().gate.release()
            self.attention = True

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
                self._serve()
                return
        if waiter.item is not None:
            self.give(waiter.item)

"""Requests of one session that wait: a bounded queue, and what happens when it is full.

`block` makes who asks wait, `drop_oldest` gives up the request that has waited longest (a camera wants the newest
frame), `drop_newest` refuses the one that comes. `degrade` drops the oldest too, and whoever computes turns to
something lighter.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from edge_sdk.errors import InputValueError

__all__ = ["POLICIES", "Pending"]

Item = TypeVar("Item")

POLICIES = ("block", "drop_oldest", "drop_newest", "degrade")


class Pending(Generic[Item]):
    """What waits for one session, oldest first; guarded by the caller's condition.

    Args:
        bound: how many may wait, at least 1.
        policy: one of `POLICIES`.
        changed: held by whoever calls; waited on where a caller has to wait, notified by whoever takes.

    Raises:
        InputValueError: a bound or policy that there is none of.
    """

    def __init__(self, bound: int, policy: str, changed: threading.Condition) -> None:
        if policy not in POLICIES:
            raise InputValueError(f"when_full is {policy!r}; expected one of {', '.join(POLICIES)}")
        if bound < 1:
            raise InputValueError(f"ahead is {bound}; expected at least 1 request that may wait")
        self._bound, self._policy, self._changed = bound, policy, changed
        self._items: deque[Item] = deque()

    def __len__(self) -> int:
        return len(self._items)

    def first(self) -> Item | None:
        """The oldest; None where none waits."""
        return self._items[0] if self._items else None

    def add(self, item: Item, closed: Callable[[], bool]) -> Item | None:
        """Adds a request, waiting for room where that is the policy.

        Args:
            item: the request.
            closed: whether nothing is taken any more: then waiting is in vain.

        Returns:
            The request that is given up for it: an older one, or itself; None where there was room.
        """
        dropped: Item | None = None
        if len(self._items) >= self._bound:
            if self._policy == "drop_newest":
                return item
            if self._policy in ("drop_oldest", "degrade"):
                dropped = self._items.popleft()
            else:
                self._changed.wait_for(lambda: len(self._items) < self._bound or closed())
                if closed():
                    return item
        self._items.append(item)
        return dropped

    def take(self) -> Item:
        """The oldest, which waits no longer."""
        item = self._items.popleft()
        self._changed.notify_all()
        return item

    def remove(self, item: Item) -> bool:
        """Takes out a request wherever it stands; whether it was there."""
        try:
            self._items.remove(item)
        except ValueError:
            return False
        self._changed.notify_all()
        return True

    def clear(self) -> tuple[Item, ...]:
        """Takes out all."""
        found = tuple(self._items)
        self._items.clear()
        self._changed.notify_all()
        return found

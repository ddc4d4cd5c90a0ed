"""When a request came: its head, and what of its body came after it."""

from __future__ import annotations

from time import perf_counter

from edge_sdk.wire.passage import RECEIVE, RECEIVE_BYTES

__all__ = ["ARRIVAL", "Arrival"]

ARRIVAL = "edge_sdk.arrival"
"""ASGI extension: an `Arrival`, where the server follows how a request comes in."""
ASKED_LATE_S, ASKED_LATE_SHARE = 0.002, 0.05
"""A body that waits in the kernel until the application asks for it came sooner than it was read. Up to so much, or
such a share of the whole time, makes no difference."""


class Arrival:
    """Of one request; made when its head has come.

    Attributes:
        head_s: when that was, as `time.perf_counter` tells.
        seen: whether what came in one piece with the head was handed over.
    """

    __slots__ = ("_asked_s", "_bytes", "head_s", "seen", "whole_s")

    def __init__(self) -> None:
        self.head_s = self.whole_s = perf_counter()
        self._asked_s = 0.0
        self._bytes = 0
        self.seen = False

    def head_read(self, unread_bytes: int = 0) -> None:
        """What comes from now on did not come in one piece with the head.

        Args:
            unread_bytes: that have come too, and wait in the kernel.
        """
        if not self.seen:
            self.seen, self._bytes = True, -unread_bytes

    def asked(self) -> None:
        """The application asks for what was left in the kernel until now."""
        self._asked_s = perf_counter()

    def came(self, count: int) -> None:
        """So many bytes of the body."""
        if self.seen:
            self._bytes += count
        self.whole_s = perf_counter()

    def told(self) -> dict[str, float]:
        """As parameters of an answer; 0 bytes where their time tells nothing."""
        receive_s = self.whole_s - self.head_s
        waited_s = self._asked_s - self.head_s
        late = self._asked_s > 0 and waited_s > max(ASKED_LATE_S, ASKED_LATE_SHARE * receive_s)
        return {RECEIVE: round(receive_s * 1e3, 3), RECEIVE_BYTES: 0 if late else max(self._bytes, 0)}

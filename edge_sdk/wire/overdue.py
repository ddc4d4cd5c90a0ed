"""Ends transfers that take too long, however slowly they trickle.

A socket's timeout is for one read: an endpoint that sends a byte a second never meets it. So one thread watches the
deadlines of all transfers and shuts the socket of an overdue one, which ends any read or write on it at once.
"""

from __future__ import annotations

import heapq
import itertools
import math
import os
import socket
import threading
import time

from edge_sdk.wire.deadline import Deadline

__all__ = ["Transfer"]


class Transfer:
    """One request on its way, which may be given up from any thread.

    Attributes:
        given_up: set once it was given up.
        late: whether that was because of its deadline.
        begun: whether anything was sent.
    """

    def __init__(self) -> None:
        self.given_up = threading.Event()
        self.late = False
        self.begun = False
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None

    def hold(self, sock: socket.socket, deadline: Deadline) -> None:
        """From now on `sock` carries it, and is shut when `deadline` passes. Shut at once where it was given up."""
        with self._lock:
            self._socket, self.begun = sock, True
        if self.given_up.is_set():
            self.give_up()
        elif not math.isinf(deadline.at_s):
            _WATCH.add(self, deadline.left_s())

    def let_go(self) -> bool:
        """The transfer is over and the socket is another's from now on; false where it was shut before."""
        with self._lock:
            self._socket = None
            return not self.given_up.is_set()

    def give_up(self, late: bool = False) -> None:
        """Ends it: who reads or writes meets the end of the connection. Idempotent."""
        with self._lock:
            self.late = self.late or (late and not self.given_up.is_set() and self._socket is not None)
            if late and self._socket is None:
                return  # it was over in time
            self.given_up.set()
            if self._socket is not None:
                try:
                    # Not the method of a TLS socket, which would first take the encryption away from the reader.
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
                except OSError:
                    pass  # already shut, by the other side or by us


class _Watch:
    """The thread that waits for the next deadline. It starts with the first transfer that has one."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._due: list[tuple[float, int, Transfer]] = []
        self._numbers = itertools.count()
        self._process = 0
        self._wakes_s = math.inf

    def add(self, transfer: Transfer, left_s: float) -> None:
        at_s = time.monotonic() + left_s
        with self._condition:
            self._drop_finished()
            heapq.heappush(self._due, (at_s, next(self._numbers), transfer))
            if self._process != os.getpid():  # threads do not survive a fork
                self._process = os.getpid()
                self._wakes_s = math.inf
                threading.Thread(target=self._run, name="edge-sdk-overdue", daemon=True).start()
            elif at_s < self._wakes_s:  # waking it costs a request more than all else here, so it sleeps where it can
                self._condition.notify()

    def _drop_finished(self) -> None:
        """Transfers that ended in time go from the front, so that the heap holds little beyond what is on its way."""
        while self._due and self._due[0][2]._socket is None:
            heapq.heappop(self._due)

    def _run(self) -> None:
        while True:
            with self._condition:
                self._drop_finished()
                self._wakes_s = self._due[0][0] if self._due else math.inf
                left_s = self._wakes_s - time.monotonic()
                if left_s > 0:
                    self._condition.wait(None if math.isinf(left_s) else left_s)
                    continue
                transfer = heapq.heappop(self._due)[2]
            transfer.give_up(late=True)


_WATCH = _Watch()

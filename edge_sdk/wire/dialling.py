"""Connecting within a time: looking the name up, TCP and the TLS handshake together.

The system's resolver cannot be interrupted, and a server that accepts and then sends a byte now and again never meets a
socket's timeout. So a thread of its own connects, and whoever asked for the connection waits no longer than it may.
"""

from __future__ import annotations

import functools
import os
import socket
import ssl
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from edge_sdk.errors import DeadlineExceeded, EndpointUnreachable
from edge_sdk.wire.deadline import NO_DEADLINE, Deadline
from edge_sdk.wire.overdue import Transfer
from edge_sdk.wire.timeline import REAL_TIMELINE

if TYPE_CHECKING:
    from urllib3.connection import HTTPConnection

__all__ = ["Dialler"]

Connected = TypeVar("Connected")

MOST_LEFT_BEHIND = 4
"""Attempts that nobody waits for any more: while so many hang, another one would hang too."""


class Dialler(Generic[Connected]):
    """Connects to one place. Any number of threads may ask.

    Args:
        host, port: where.
        context: of TLS; None for none.
        timeout_s: how long an attempt may take, the resolver apart.
        made: makes of an open connection what is handed out.
        keep: takes a connection that came after whoever asked for it had gone: the next one finds it.
    """

    def __init__(
        self,
        host: str,
        port: int,
        context: ssl.SSLContext | None,
        timeout_s: float,
        made: Callable[[HTTPConnection], Connected],
        keep: Callable[[Connected], object],
    ) -> None:
        self._host, self._port, self._context = host, port, context
        self._name = f"{f'[{host}]' if ':' in host else host}:{port}"
        self._timeout_s = timeout_s
        self._made, self._keep = made, keep
        # Imported now: the first request would wait for it, and be late.
        self._kind = _connection_kind(context is not None)
        self._lock = threading.Lock()
        self._left_behind = 0
        self._process = os.getpid()

    def dial(self, deadline: Deadline) -> Connected:
        """A new connection.

        Raises:
            DeadlineExceeded: the deadline passed first; connecting goes on for the next one who asks.
            EndpointUnreachable: it failed, or took longer than `timeout_s`.
        """
        with self._lock:
            if self._process != os.getpid():  # threads do not survive a fork
                self._process, self._left_behind = os.getpid(), 0
            hanging = self._left_behind
        if hanging >= MOST_LEFT_BEHIND:
            raise EndpointUnreachable(f"{self._name}: cannot connect: {hanging} earlier attempts still hang")
        left_s = deadline.left_s()
        attempt = REAL_TIMELINE.start(self._attempt)
        if REAL_TIMELINE.first([attempt], max(min(self._timeout_s, left_s), 0.0)) is not None:
            return attempt.result()
        with self._lock:
            self._left_behind += 1
        attempt.add_done_callback(self._arrived_late)
        if left_s <= self._timeout_s:
            raise DeadlineExceeded(f"{self._name}: no connection within the deadline")
        raise EndpointUnreachable(f"{self._name}: cannot connect: timed out")

    def _arrived_late(self, attempt: Future[Connected]) -> None:
        with self._lock:
            self._left_behind = max(self._left_behind - 1, 0)
        if attempt.exception() is None:
            self._keep(attempt.result())

    def _attempt(self) -> Connected:
        # The package before its parts: threads that import different parts of it at once can make each other fail.
        import urllib3  # noqa: F401
        from urllib3.exceptions import HTTPError

        watched = Transfer()
        raw = self._kind(self._host, self._port, self._timeout_s, self._context)
        raw.watched, raw.until = watched, NO_DEADLINE.within(self._timeout_s)
        try:
            raw.connect()
        except (HTTPError, OSError, ValueError) as error:
            raw.close()
            why = "timed out" if watched.late else _reason(error)
            raise EndpointUnreachable(f"{self._name}: cannot connect: {why}") from None
        finally:
            in_time = watched.let_go()
            raw.unwatch()
        if not in_time:
            raw.close()
            raise EndpointUnreachable(f"{self._name}: cannot connect: timed out")
        raw.sock.settimeout(None)  # the deadline is held by `Transfer`, which sees slow trickles too
        return self._made(raw)


@functools.cache
def _connection_kind(encrypted: bool) -> Any:
    """urllib3's connection, with its socket watched from the moment that TCP is connected."""
    from urllib3.connection import HTTPConnection, HTTPSConnection

    class Watched(HTTPSConnection if encrypted else HTTPConnection):  # type: ignore[misc]
        watched: Transfer
        until: Deadline
        _second: socket.socket | None = None

        def __init__(self, host: str, port: int, timeout_s: float, context: ssl.SSLContext | None) -> None:
            super().__init__(host, port, timeout=timeout_s, **({} if context is None else {"ssl_context": context}))

        def _new_conn(self) -> socket.socket:
            connected: socket.socket = super()._new_conn()
            # A second handle: TLS takes the first one away from its socket before it shakes hands.
            self._second = connected.dup()
            self.watched.hold(self._second, self.until)
            return connected

        def unwatch(self) -> None:
            if self._second is not None:
                self._second.close()
                self._second = None

    return Watched


def _reason(error: BaseException) -> str:
    """The innermost cause in one line: urllib3 wraps it in the printed form of its own objects."""
    while error.__cause__ is not None or error.__context__ is not None:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).splitlines()[0] if str(error) else type(error).__name__

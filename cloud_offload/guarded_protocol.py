"""uvicorn's HTTP protocol with bounds that it has not: connections, size and time of a head, clients that stop reading.

A head that never ends would otherwise fill the memory, since no application is asked before it is whole; a connection
on which nothing is asked, and an answer that nobody takes, would be kept for ever.
"""

from __future__ import annotations

import asyncio
import resource

import msgspec
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

__all__ = ["MOST_HEAD_BYTES", "GuardedProtocol"]

MOST_HEAD_BYTES = 2**16
"""Of a request line with its headers, and of the trailers after a body."""
HEAD_TIMEOUT_S = 60.0
STALL_TIMEOUT_S = 30.0
MOST_CONNECTIONS = 4096
_BESIDE_BYTES = 32
"""Counted with each header, for the objects that hold it."""
_TOO_LARGE = f"The head of the request has more than {MOST_HEAD_BYTES} bytes."


def most_connections() -> int:
    """Open at once: half of the files that the process may open, since models, logs and uploads need some too."""
    return min(MOST_CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)


class GuardedProtocol(HttpToolsProtocol):
    """One connection.

    One of more than `most_connections` is answered 503. A head or trailer beyond `MOST_HEAD_BYTES` is answered 400. The
    connection ends where no head comes within `HEAD_TIMEOUT_S`, and where for `STALL_TIMEOUT_S` no byte of an answer
    was taken.
    """

    _counted = 0
    _heard = True
    _silent_bytes = 0
    _running: RequestResponseCycle | None = None
    _head_timer: asyncio.TimerHandle | None = None
    _stall_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > most_connections():
            self._refuse(503, "Service Unavailable", "the endpoint has as many connections as it may", "retry-after: 1")
            return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_head_timer()
        self._end_stall_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        self._heard = False
        super().data_received(data)
        # The parser keeps a name or value to itself until it ends.
        self._silent_bytes = 0 if self._heard else self._silent_bytes + len(data)
        if self.transport.is_closing():
            return
        if self._silent_bytes > MOST_HEAD_BYTES:
            self.send_400_response(_TOO_LARGE)
        elif self._head_timer is None and (self.cycle is None or self.cycle.response_complete):
            self._await_head()

    def eof_received(self) -> None:
        self._give_up()

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, "Bad Request", msg)
        self._give_up()

    def _refuse(self, status: int, phrase: str, reason: str, *headers: str) -> None:
        """Answers before there is a request, and closes."""
        body = msgspec.json.encode({"error": reason})
        told = (
            f"HTTP/1.1 {status} {phrase}",
            "content-type: application/json",
            f"content-length: {len(body)}",
            *headers,
        )
        self.transport.write("\r\n".join((*told, "connection: close", "", "")).encode() + body)
        self.transport.close()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _give_up(self) -> None:
        """Tells the application that its client has gone: it must not write to what is being closed."""
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
        self.pipeline.clear()

    def on_message_begin(self) -> None:
        self._heard, self._counted = True, 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + _BESIDE_BYTES)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._end_head_timer()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._heard = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._heard = True
        super().on_message_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reader(0)

    def resume_writing(self) -> None:
        self._end_stall_timer()
        super().resume_writing()

    def _count(self, size: int) -> None:
        self._heard = True
        self._counted += size
        if self._counted > MOST_HEAD_BYTES:
            raise ValueError(_TOO_LARGE)  # which the parser hands on, and uvicorn answers with 400

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self.transport.abort)

    def _end_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _watch_reader(self, before_bytes: int) -> None:
        left_bytes = self.transport.get_write_buffer_size()
        if before_bytes and left_bytes >= before_bytes:
            self.transport.abort()
            return
        self._stall_timer = self.loop.call_later(STALL_TIMEOUT_S, self._watch_reader, left_bytes)

    def _end_stall_timer(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

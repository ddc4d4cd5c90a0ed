"""Request bodies read from the socket straight into the buffer that the application gives.

A plain ASGI server hands a body over in pieces, and each of them was copied four times on its way: out of the loop's
buffer, out of the parser, into the server's buffer and out of it again. Here the head of a request goes to uvicorn as
ever; then reading pauses, so that a body waits in the kernel until the application has seen whom it is from, how long
it is and whether there is room for it, and asks for it with a `BodyReader`.

Offered to the application as the ASGI extension `EXTENSION`, for bodies of told length; it need not take it. All
others come as ASGI has it.
"""

from __future__ import annotations

import asyncio
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.server import ServerState

from cloud_offload.arrival import ARRIVAL, Arrival
from cloud_offload.exchange import EXTENSION
from cloud_offload.guarded_protocol import GuardedProtocol
from edge_sdk.wire.socket_facts import unread_bytes

__all__ = ["DirectProtocol"]

_HEAD_BYTES = 1 << 14
"""Read at once while no body is: what of a body comes with its head is copied as ever."""


class SocketReader:
    """Reads the body of one request; see `cloud_offload.exchange.BodyReader`.

    Attributes:
        size: bytes of the body, as its Content-Length tells.
    """

    def __init__(self, protocol: _HeadProtocol, cycle: RequestResponseCycle, size: int, arrival: Arrival) -> None:
        self._protocol, self._cycle, self.size, self._arrival = protocol, cycle, size, arrival
        self._parsed = 0
        self._left: int | None = None  # bytes still in the socket, once they do not pass by the parser
        self._keep_alive = cycle.keep_alive
        self._buffer = memoryview(b"")
        self._done: asyncio.Future[None] | None = None

    async def read(self, buffer: memoryview) -> None:
        """Fills `buffer` with the next bytes of the body, of which there must be so many.

        Raises:
            ConnectionResetError: the client has gone.
        """
        if self._left is None:
            self._begin()
        came = self._cycle.body[: len(buffer)]
        buffer[: len(came)] = came
        del self._cycle.body[: len(came)]
        self._buffer = buffer[len(came) :]
        if len(self._buffer):
            if self._cycle.disconnected:
                raise ConnectionResetError
            self._done = asyncio.get_running_loop().create_future()
            self._protocol.flow.resume_reading()
            try:
                await self._done
            finally:
                self._buffer, self._done = memoryview(b""), None
        if not self._left and not self._cycle.body:
            self._cycle.keep_alive = self._keep_alive and not self._protocol.ending

    def _begin(self) -> None:
        self._arrival.asked()
        self._left = self.size - self._parsed
        self._protocol.end_parsing()
        # Unless the body is read to its end, nobody can tell where the next request begins.
        self._keep_alive, self._cycle.keep_alive = self._cycle.keep_alive, False

    def room(self, scratch: memoryview) -> memoryview:
        """Where the next bytes from the socket belong: what is not asked for yet goes to `scratch`."""
        return self._buffer if len(self._buffer) else scratch[: self._left or len(scratch)]

    def parsed(self, count: int) -> None:
        """The parser met so many bytes of the body."""
        self._parsed += count

    def came(self, count: int, scratch: memoryview) -> bool:
        """So many bytes were put into `room`; false where they are not of this body but the parser's."""
        if not self._left:
            return False
        self._left -= count
        self._arrival.came(count)
        if len(self._buffer):
            self._buffer = self._buffer[count:]
        else:
            self._cycle.body += scratch[:count]
        if not len(self._buffer):
            self._protocol.flow.pause_reading()
            if self._done is not None and not self._done.done():
                self._done.set_result(None)
        return True

    @property
    def waits(self) -> bool:
        """Whether some of the body is still to come and nobody has asked for it."""
        return self._left is None and self._parsed < self.size and not self._cycle.response_complete

    def lost(self) -> None:
        """The connection has ended."""
        if self._done is not None and not self._done.done():
            self._done.set_exception(ConnectionResetError())


class _HeadProtocol(GuardedProtocol):
    """The protocol that reads heads, which offers a reader for each body that is worth one."""

    reader: SocketReader | None = None
    arrival: Arrival | None = None
    ending = False

    def on_headers_complete(self) -> None:
        before = self.cycle
        super().on_headers_complete()
        self.reader = self.arrival = None
        if self.cycle is before or self.pipeline or self.expect_100_continue:
            return
        self.arrival = Arrival()
        extensions: dict[str, object] = {ARRIVAL: self.arrival}
        size = _told_size(self.headers)
        if size > _HEAD_BYTES:
            self.reader = extensions[EXTENSION] = SocketReader(self, self.cycle, size, self.arrival)
        self.scope["extensions"] = extensions  # type: ignore[typeddict-item]

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        if self.arrival is not None:
            self.arrival.came(len(body))
        if self.reader is not None:
            self.reader.parsed(len(body))

    def end_parsing(self) -> None:
        """The rest of this body does not come by the parser: another one begins with the next request."""
        self.parser = httptools.HttpRequestParser(self)
        self.cycle.more_body = False

    def shutdown(self) -> None:
        self.ending = True
        super().shutdown()


class DirectProtocol(asyncio.BufferedProtocol):
    """What uvicorn takes as `http`: the loop reads into buffers that this names."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._head = _HeadProtocol(config, server_state, app_state, _loop)
        self._scratch = memoryview(bytearray(_HEAD_BYTES))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.BaseProtocol`; so are the others."""
        self._fileno = transport.get_extra_info("socket").fileno()
        self._head.connection_made(transport)  # type: ignore[arg-type]

    def connection_lost(self, exc: Exception | None) -> None:
        reader = self._head.reader
        self._head.connection_lost(exc)
        if reader is not None:
            reader.lost()

    def get_buffer(self, sizehint: int) -> memoryview:
        reader = self._head.reader
        return self._scratch if reader is None else reader.room(self._scratch)

    def buffer_updated(self, nbytes: int) -> None:
        reader = self._head.reader
        if reader is not None and reader.came(nbytes, self._scratch):
            return
        self._head.data_received(bytes(self._scratch[:nbytes]))
        if (arrival := self._head.arrival) is not None and not arrival.seen:
            arrival.head_read(unread_bytes(self._fileno))
        reader = self._head.reader
        if reader is not None and reader.waits:
            self._head.flow.pause_reading()

    def eof_received(self) -> None:
        self._head.eof_received()

    def pause_writing(self) -> None:
        self._head.pause_writing()

    def resume_writing(self) -> None:
        self._head.resume_writing()


def _told_size(headers: list[tuple[bytes, bytes]]) -> int:
    """What Content-Length says; 0 where another header makes the length, or it is told twice."""
    size = 0
    for name, value in headers:
        if name == b"transfer-encoding":
            return 0
        if name == b"content-length":
            if size or not value.isdigit() or len(value) > 15:
                return 0
            size = int(value)
    return size

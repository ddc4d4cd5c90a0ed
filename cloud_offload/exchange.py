"""One HTTP request at the endpoint, over ASGI: its head, its body within limits, and the answer.

The body is read into one buffer, placed so that tensors behind a head of told length begin aligned: engines then read
them where they lie.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping, Sequence
from typing import Any, Protocol
from urllib.parse import unquote

from cloud_offload.arrival import ARRIVAL, Arrival
from cloud_offload.refusals import Refusal, busy
from edge_sdk.wire.room import room_for

__all__ = [
    "EXTENSION",
    "TYPE_BINARY",
    "TYPE_JSON",
    "BodyReader",
    "Budget",
    "Exchange",
    "Receive",
    "Scope",
    "Send",
]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_FIRST_BYTES = 1 << 16
_MOST_AT_ONCE = 1 << 20
"""Memory taken for a body before any of it has come."""
TYPE_JSON, TYPE_BINARY = b"application/json", b"application/octet-stream"


EXTENSION = "edge_sdk.body"
"""ASGI extension: a `BodyReader`, where the server can read the body to where it is told."""


class BodyReader(Protocol):
    """Reads a body of told length. Where it is used, `receive` is not.

    Attributes:
        size: bytes of the body.
    """

    size: int

    async def read(self, buffer: memoryview) -> None:
        """Fills `buffer` with the next bytes of the body, of which there must be so many.

        Raises:
            ConnectionResetError: the client has gone.
        """


class Budget:
    """Bytes of bodies that may be held at once, over all clients."""

    def __init__(self, most_bytes: int) -> None:
        self._left = most_bytes

    def take(self, count: int) -> None:
        """Takes `count` bytes, or refuses with 503."""
        if count > self._left:
            raise busy(503, "the endpoint holds as many bytes of requests as it may; try again later")
        self._left -= count

    def give_back(self, count: int) -> None:
        """Gives back what `take` took."""
        self._left += count


class Exchange:
    """A request and the way to answer it.

    Attributes:
        status: of the answer, once it was sent.
        held_bytes: of the body, taken from the budget.
        arrival: when the request came.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        # Parted before it is decoded: an escaped slash is part of a name, not another level.
        raw: bytes = scope.get("raw_path") or self.path.encode()
        self.segments = [unquote(part, errors="replace") for part in raw.decode("latin-1").rstrip("/").split("/")[1:]]
        self.query: bytes = scope["query_string"]
        self.client: str = (scope.get("client") or ("local", 0))[0]
        self.headers: dict[bytes, bytes] = {}
        self._twice: set[bytes] = set()
        for key, value in scope["headers"]:
            if key in self.headers:
                self._twice.add(key)
            self.headers[key] = value
        self._receive, self._send = receive, send
        extensions = scope.get("extensions", {})
        self._reader: BodyReader | None = extensions.get(EXTENSION)
        self.arrival: Arrival = extensions.get(ARRIVAL) or Arrival()
        self.status = 0
        self.held_bytes = 0

    def header(self, name: bytes) -> str:
        """A header's value, empty where it is not there.

        Raises:
            Refusal: it is there twice, so that two readers might see two different requests.
        """
        if name in self._twice:
            raise Refusal(400, f"the header {name.decode()} is there twice")
        return self.headers.get(name, b"").decode("latin-1").strip()

    def number(self, name: bytes) -> int | None:
        """A header that is a whole number, None where it is not there.

        Raises:
            Refusal: it is something else.
        """
        text = self.header(name)
        if not text:
            return None
        if not (text.isascii() and text.isdigit() and len(text) <= 15):
            raise Refusal(400, f"the header {name.decode()} is {text[:40]!r}, expected a whole number")
        return int(text)

    async def body(self, max_bytes: int, timeout_s: float, budget: Budget, header_length: int = 0) -> memoryview:
        """The body as it travelled.

        Raises:
            Refusal: 413 where it is larger than `max_bytes`, 408 where it takes longer than `timeout_s`.
        """
        told = self.number(b"content-length")
        if told is not None and told > max_bytes:
            raise Refusal(413, f"the body has {told} bytes, more than the {max_bytes} allowed")
        try:
            async with asyncio.timeout(timeout_s):
                if self._reader is not None:
                    return await self._read(self._reader, budget, header_length)
                return await self._received(told, max_bytes, budget, header_length)
        except TimeoutError:
            raise Refusal(408, f"the body did not come within {timeout_s:g} s") from None

    async def _read(self, reader: BodyReader, budget: Budget, header_length: int) -> memoryview:
        """The body, from the socket into its place."""
        buffer = room_for(0, header_length)
        at = 0
        while at < reader.size:
            # Memory follows what has come, not what a client says will come.
            end = min(max(2 * at, _MOST_AT_ONCE), reader.size)
            budget.take(end - at)
            self.held_bytes += end - at
            larger = room_for(end, header_length)
            larger[:at] = buffer
            buffer = larger
            try:
                await reader.read(buffer[at:])
            except ConnectionResetError:
                raise _gone() from None
            at = end
        return buffer

    async def _received(self, told: int | None, max_bytes: int, budget: Budget, header_length: int) -> memoryview:
        """The body as the server hands it over, piece by piece."""
        buffer = room_for(min(told if told is not None else _FIRST_BYTES, _MOST_AT_ONCE), header_length)
        at = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise _gone()
            chunk = message.get("body", b"")
            if at + len(chunk) > max_bytes:
                raise Refusal(413, f"the body has more than the {max_bytes} bytes allowed")
            budget.take(len(chunk))
            self.held_bytes += len(chunk)
            if at + len(chunk) > len(buffer):
                size = min(max(2 * len(buffer), at + len(chunk), 1), max_bytes)
                larger = room_for(size, header_length)
                larger[:at] = buffer[:at]
                buffer = larger
            buffer[at : at + len(chunk)] = chunk
            at += len(chunk)
            if not message.get("more_body", False):
                return buffer[:at]

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body in pieces, as they come.

        Raises:
            Refusal: the client went before the end.
        """
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise Refusal(499, "the client has gone")
            if chunk := message.get("body", b""):
                yield chunk
            if not message.get("more_body", False):
                return

    async def answer(
        self,
        status: int,
        parts: Sequence[bytes | memoryview],
        content_type: bytes = TYPE_JSON,
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        """Sends the answer."""
        size = sum(len(part) for part in parts)
        head = [(b"content-length", str(size).encode())]
        if size:
            head.append((b"content-type", content_type))
        self.status = status
        await self._send({"type": "http.response.start", "status": status, "headers": [*head, *headers]})
        if size > _FIRST_BYTES:
            # A last piece of nothing is sent once the client has taken the others: till then this request goes on.
            parts = (*parts, b"")
        for part in parts[:-1]:
            await self._send({"type": "http.response.body", "body": part, "more_body": True})
        await self._send({"type": "http.response.body", "body": parts[-1] if parts else b""})


def _gone() -> Refusal:
    return Refusal(499, "the client has gone")

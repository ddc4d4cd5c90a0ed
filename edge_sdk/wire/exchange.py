"""One HTTP/1.1 request and its answer on one connection, with as few copies and system calls as HTTP allows.

The request's head and tensors go out in one `sendmsg` from where they lie. The answer is read into one buffer of its
size, placed so that its first tensor begins at a multiple of 64 bytes: engines then need no copy of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage, HTTPResponse, IncompleteRead, RemoteDisconnected
from time import perf_counter

from edge_sdk.errors import EndpointError, EndpointUnreachable, InvalidAnswer
from edge_sdk.wire.connections import Connection
from edge_sdk.wire.room import room_for
from edge_sdk.wire.socket_facts import unread_bytes

__all__ = ["HEADER_LENGTH", "Reply", "Unanswered", "exchange"]

HEADER_LENGTH = "Inference-Header-Content-Length"
MOST_PARTS = 512
"""Of one `sendmsg`; Linux takes 1024."""
PIECE_BYTES = 1 << 16
_TIMED_BYTES = 1 << 11
"""From so many on, how long a body comes in tells something about the link."""


class Unanswered(EndpointUnreachable):
    """The connection ended before the first byte of the answer: on a kept connection that is the endpoint's timeout."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as it came.

    Attributes:
        body: as it travelled.
        sent_head_bytes: of the request's line and headers.
        body_ms: from the first piece of the body to its last byte.
        body_bytes: those that came in this time.
    """

    status: int
    headers: HTTPMessage
    body: memoryview
    sent_head_bytes: int = 0
    body_ms: float = 0.0
    body_bytes: int = 0

    @property
    def head_bytes(self) -> int:
        """Of the answer's line and headers, about."""
        return 17 + sum(len(name) + len(value) + 4 for name, value in self.headers.items())


def exchange(
    connection: Connection,
    method: str,
    target: str,
    headers: Mapping[str, str],
    parts: Sequence[bytes | memoryview],
    max_bytes: int,
    where: str,
) -> Reply:
    """Sends a request and reads its answer.

    Args:
        connection: nobody else uses it meanwhile.
        method: "GET" or "POST".
        target: path, already quoted.
        headers: checked by the caller; Content-Length is added here.
        parts: the body, C-contiguous.
        max_bytes: of the answer's body.
        where: what messages call the endpoint.

    Raises:
        EndpointUnreachable: the connection broke (`Unanswered`: before any answer).
        InvalidAnswer: what came is no HTTP, or too large.
    """
    connection.reusable = False
    views = [memoryview(part).cast("B") for part in parts if len(part)]
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    if method != "GET":
        lines.append(f"Content-Length: {sum(view.nbytes for view in views)}")
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    broken: OSError | None = None
    try:
        _send(connection, [memoryview(head), *views])
    except OSError as error:
        broken = error  # an endpoint that refuses a large body answers before it has read it all, and hangs up
    response = HTTPResponse(connection.sock, method=method)
    begun = False
    try:
        response.begin()
        begun = True
        first_bytes = _first_bytes(response, connection, max_bytes)
        began_s = perf_counter()
        body = _body(response, max_bytes, where)
        body_ms = (perf_counter() - began_s) * 1e3
        connection.reusable = broken is None and not response.will_close
        after = 0 if first_bytes is None else max(body.nbytes - first_bytes, 0)
        return Reply(response.status, response.msg, body, len(head), body_ms, after)
    except EndpointError:
        raise  # these are OSErrors too
    except RemoteDisconnected:
        raise Unanswered(f"{where}: the connection ended without an answer") from None
    except (OSError, ValueError) as error:
        reason = getattr(broken or error, "strerror", None) or str(broken or error)
        kind = EndpointUnreachable if begun else Unanswered
        raise kind(f"{where}: the connection broke: {reason}") from None
    except IncompleteRead:
        raise EndpointUnreachable(f"{where}: the connection broke in the middle of the answer") from None
    except HTTPException as error:
        raise InvalidAnswer(
            f"{where}: what came is no HTTP answer: {type(error).__name__} {str(error)[:80]!r}"
        ) from None
    finally:
        response.close()


def _send(connection: Connection, views: list[memoryview]) -> None:
    if connection.tls:
        # One record for head and JSON; a TLS socket cannot gather.
        connection.sock.sendall(b"".join(views[:2]))
        for view in views[2:]:
            connection.sock.sendall(view)
        return
    while views:
        sent = connection.sock.sendmsg(views[:MOST_PARTS])
        while views and sent >= views[0].nbytes:
            sent -= views.pop(0).nbytes
        if sent:
            views[0] = views[0][sent:]


def _first_bytes(response: HTTPResponse, connection: Connection, max_bytes: int) -> int | None:
    """Waits for the first piece of a body that is worth timing, and tells how much has come by now; None for others."""
    if response.length is None or not _TIMED_BYTES <= response.length <= max_bytes:
        return None
    # A thread that wakes late finds more in the kernel than in its own buffer.
    return len(response.fp.peek(1)) + unread_bytes(connection.sock.fileno())


def _body(response: HTTPResponse, max_bytes: int, where: str) -> memoryview:
    length = response.length
    if length is None:
        return _body_of_unknown_length(response, max_bytes, where)
    if length > max_bytes:
        raise InvalidAnswer(f"{where}: the answer has {length} bytes, more than the {max_bytes} that are read")
    view = _aligned(length, response.headers.get(HEADER_LENGTH, ""))
    filled = 0
    while filled < length:
        count = response.readinto(view[filled:])
        if not count:
            raise EndpointUnreachable(f"{where}: the connection broke after {filled} of {length} bytes of the answer")
        filled += count
    return view


def _aligned(length: int, json_length: str) -> memoryview:
    """Room for `length` bytes; `json_length` is what a server says of its JSON head."""
    before = int(json_length) if json_length.isascii() and json_length.isdigit() and len(json_length) < 12 else 0
    return room_for(length, before)


def _body_of_unknown_length(response: HTTPResponse, max_bytes: int, where: str) -> memoryview:
    body = bytearray()
    while piece := response.read(PIECE_BYTES):
        body += piece
        if len(body) > max_bytes:
            raise InvalidAnswer(f"{where}: the answer has more than the {max_bytes} bytes that are read")
    return memoryview(body)

"""Sending a large file to an endpoint so that an interruption costs no byte that had arrived.

    begin ──▶ send pieces from where the endpoint stands ──▶ the last piece: it checks the whole
      ▲            │ the link breaks, the endpoint restarts: ask where it stands, go on there
      └────────────┘ the endpoint knows nothing of it: begin again

Source: "Resumable Uploads for HTTP" (draft-ietf-httpbis-resumable-upload-09); RFC 9530 for the hash.
"""

from __future__ import annotations

import base64
import hashlib
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from edge_sdk.errors import (
    DeadlineExceeded,
    EndpointError,
    EndpointRefused,
    EndpointUnreachable,
    InvalidAnswer,
    UnreadableInput,
)
from edge_sdk.wire.retry import BUSY, Retry

if TYPE_CHECKING:
    from edge_sdk.wire.exchange import Reply
    from edge_sdk.wire.http import HttpEndpoint

__all__ = ["Blob", "Sent", "send_blob"]

FIRST_PIECE_BYTES = 1 << 18
LEAST_PIECE_BYTES, MOST_PIECE_BYTES = 1 << 16, 1 << 23
FAST_S, SLOW_S = 1.0, 8.0
"""A piece that took less is followed by a larger one, one that took more by a smaller one."""
PIECE_TIMEOUT_S = 120.0
CHECK_TIMEOUT_S = 900.0
MOST_BEGINNINGS = MOST_ODD_ANSWERS = 3
PAUSES = Retry(first_pause_s=0.1, longest_pause_s=2.0)
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Sent:
    """How sending went.

    Attributes:
        sent_bytes: that travelled; 0 where the endpoint had the file already.
        resumed_bytes: that the endpoint had of an earlier, interrupted time when this one began.
    """

    sent_bytes: int
    resumed_bytes: int


class Blob:
    """A file that is sent: open, its size and hash known. A context manager.

    Attributes:
        size_bytes: of the file.
        sha256: of its content, 64 hexadecimal digits in lower case.

    Raises:
        UnreadableInput: it cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.name = Path(os.fspath(path)).name
        try:
            self._file = open(path, "rb")  # noqa: SIM115 - closed by `close`
            self.sha256 = hashlib.file_digest(self._file, "sha256").hexdigest()
            self.size_bytes = os.fstat(self._file.fileno()).st_size
        except OSError as error:
            raise UnreadableInput(f"{path}: cannot be read: {error.strerror or error}") from None

    def read(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes from `offset` on.

        Raises:
            UnreadableInput: it cannot be read, or became shorter.
        """
        try:
            content = os.pread(self._file.fileno(), count, offset)
        except OSError as error:
            raise UnreadableInput(f"{self.name}: cannot be read: {error.strerror or error}") from None
        if count and not content:
            raise UnreadableInput(f"{self.name}: became shorter while it was sent; send it again")
        return content

    def close(self) -> None:
        """Closes the file. Idempotent."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def send_blob(
    endpoint: HttpEndpoint,
    target: str,
    blob: Blob,
    *,
    query: str = "",
    patience_s: float = 30.0,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> Sent:
    """Sends a file, going on where an earlier time was interrupted; returns when the endpoint has checked the whole.

    Args:
        endpoint: where to.
        target: the path, below what stands before `/v2`, at which an upload begins.
        blob: what.
        query: options of the endpoint, as "replace=true".
        patience_s: how long to go on trying while nothing arrives there.
        progress: told how many bytes are there, and of how many.
        stop: once set, ends it after the piece that is on its way.

    Raises:
        EndpointRefused: the endpoint does not want it, or found it wrong; the message says why.
        EndpointError, DeadlineExceeded: as the last try ended.
    """
    return _Sending(endpoint, target, query, blob, patience_s, progress, stop or threading.Event()).run()


@dataclass(frozen=True, slots=True)
class _State:
    """How far the endpoint is."""

    offset: int
    complete: bool


class _Sending:
    def __init__(
        self,
        endpoint: HttpEndpoint,
        target: str,
        query: str,
        blob: Blob,
        patience_s: float,
        progress: Progress | None,
        stop: threading.Event,
    ) -> None:
        self._endpoint, self._blob, self._patience_s = endpoint, blob, patience_s
        self._beginning = f"{target}?{query}" if query else target
        self._place = f"{target}/{blob.sha256}"
        self._progress, self._stop = progress, stop
        self._piece_bytes = FIRST_PIECE_BYTES
        self._sent_bytes = self._beginnings = self._odd = 0
        self._moved_s, self._stands_at = time.monotonic(), -1
        self._where = f"{endpoint.name}: upload of {blob.name}"

    def run(self) -> Sent:
        begun, resumed, attempt = False, None, 0
        while True:
            try:
                state = self._ask("GET", self._place) if begun else self._begin()
                begun = True
                resumed = state.offset if resumed is None else resumed
                while not state.complete:
                    self._arrived(state.offset)
                    attempt = 0
                    state = self._send(state.offset)
                self._arrived(self._blob.size_bytes)
                return Sent(self._sent_bytes, resumed)
            except (EndpointError, DeadlineExceeded) as error:
                begun = begun and not (isinstance(error, EndpointRefused) and error.status == 404)
                if not self._worth_going_on(error, begun):
                    raise
                asked_s = error.retry_after_s if isinstance(error, EndpointError) else None
                if self._stop.wait(PAUSES.pause_s(attempt, asked_s)):
                    raise
                attempt += 1

    def _worth_going_on(self, error: EndpointError | DeadlineExceeded, begun: bool) -> bool:
        if time.monotonic() - self._moved_s > self._patience_s or self._stop.is_set():
            return False
        if isinstance(error, InvalidAnswer):  # an answer cut in its headers looks like that of another kind of server
            self._odd += 1
            return begun or self._odd < MOST_ODD_ANSWERS
        if not isinstance(error, EndpointRefused):
            return isinstance(error, EndpointUnreachable | DeadlineExceeded)
        if error.status == 409:
            return begun  # another byte is next: ask which. Before it began, the name is taken.
        if error.status == 404:
            return 0 < self._beginnings <= MOST_BEGINNINGS
        return error.status in BUSY or error.status == 408

    def _begin(self) -> _State:
        digest = base64.b64encode(bytes.fromhex(self._blob.sha256)).decode()
        state = self._ask(
            "POST",
            self._beginning,
            {
                "Upload-Length": str(self._blob.size_bytes),
                "Upload-Complete": "?0",
                "Repr-Digest": f"sha-256=:{digest}:",
            },
        )
        self._beginnings += 1
        return state

    def _send(self, offset: int) -> _State:
        if self._stop.is_set():
            raise EndpointUnreachable(f"{self._where}: stopped after {offset} of {self._blob.size_bytes} bytes")
        piece = self._blob.read(offset, min(self._piece_bytes, self._blob.size_bytes - offset))
        last = offset + len(piece) == self._blob.size_bytes
        headers = {
            "Content-Type": "application/partial-upload",
            "Upload-Offset": str(offset),
            "Upload-Complete": "?1" if last else "?0",
        }
        began_s = time.monotonic()
        try:
            state = self._ask("PATCH", self._place, headers, piece, CHECK_TIMEOUT_S if last else PIECE_TIMEOUT_S)
        except (EndpointUnreachable, DeadlineExceeded):
            self._piece_bytes = max(self._piece_bytes // 2, LEAST_PIECE_BYTES)
            raise
        took_s = time.monotonic() - began_s
        self._sent_bytes += len(piece)
        if not state.complete and state.offset <= offset:
            raise InvalidAnswer(
                f"{self._where}: {len(piece)} bytes were sent, and the endpoint stays at {state.offset}"
            )
        if took_s < FAST_S:
            self._piece_bytes = min(self._piece_bytes * 2, MOST_PIECE_BYTES)
        elif took_s > SLOW_S:
            self._piece_bytes = max(self._piece_bytes // 2, LEAST_PIECE_BYTES)
        return state

    def _arrived(self, offset: int) -> None:
        if offset < self._stands_at:
            self._beginnings += 1
            if self._beginnings > MOST_BEGINNINGS:
                raise EndpointRefused(f"{self._where}: what had arrived is lost there again and again")
        if offset != self._stands_at:
            self._stands_at, self._moved_s = offset, time.monotonic()
        if self._progress is not None:
            self._progress(offset, self._blob.size_bytes)

    def _ask(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str] | None = None,
        piece: bytes = b"",
        timeout_s: float = PIECE_TIMEOUT_S,
    ) -> _State:
        reply = self._endpoint.call(method, target, headers or {}, (piece,), timeout_s, self._where)
        return _read(reply, self._blob.size_bytes, self._where)


def _read(reply: Reply, size_bytes: int, where: str) -> _State:
    offset, complete = reply.headers.get("Upload-Offset", ""), reply.headers.get("Upload-Complete", "")
    if not (offset.isascii() and offset.isdigit() and len(offset) < 16) or complete not in ("?0", "?1"):
        raise InvalidAnswer(f"{where}: the endpoint does not tell how much has arrived; does it take uploads?")
    if int(offset) > size_bytes:
        raise InvalidAnswer(f"{where}: {offset} bytes have arrived there, of {size_bytes} in all; send it again")
    return _State(int(offset), complete == "?1")

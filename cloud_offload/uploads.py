"""Bundles that devices send: resumable, checked as a whole, then put into the repository and loaded.

    POST   /v2/repository/models/NAME/uploads           begins one, or takes up the one that began earlier
    HEAD   /v2/repository/models/NAME/uploads/SHA256    how much of it is here (GET too)
    PATCH  /v2/repository/models/NAME/uploads/SHA256    sends the next bytes
    DELETE /v2/repository/models/NAME/uploads/SHA256    gives it up

Source: "Resumable Uploads for HTTP" (draft-ietf-httpbis-resumable-upload-09) for the headers; RFC 9530 for the hash.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import re
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

from cloud_offload.exchange import Exchange
from cloud_offload.refusals import Refusal, busy
from cloud_offload.repository import is_name
from cloud_offload.settings import ServeSettings
from cloud_offload.store import Store
from cloud_offload.upload_check import check_upload
from cloud_offload.upload_files import Upload, UploadFiles, disk_full, no_room, wrong_offset
from cloud_offload.upload_headers import PARTIAL, read_digest, read_flag, read_length, read_replace
from edge_sdk.errors import InputError
from edge_sdk.storage import Files

__all__ = ["Uploads"]

Result = TypeVar("Result")

_LOG = logging.getLogger(__name__)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PIECE_BYTES = 1 << 20
_MOST_REASONS = 64
_LONGEST_NAME = 200
_STALLED_S = 2.0
"""A transfer that nothing came of for so long makes way for the next: its link may be dead without being cut."""


@dataclass(slots=True, eq=False)
class _Transfer:
    """A request that carries bytes of an upload now.

    Attributes:
        patience: how long it waits for the next bytes.
        heard_s: when the last came.
        over: set once it is.
    """

    patience: asyncio.Timeout
    heard_s: float = field(default_factory=monotonic)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def heard(self, idle_s: float) -> None:
        """Something came: it may go on for another `idle_s`."""
        self.heard_s = monotonic()
        self.patience.reschedule(asyncio.get_running_loop().time() + idle_s)

    def end(self) -> None:
        """Ends it now, as if nothing had come for too long."""
        with suppress(RuntimeError):  # it is not waiting for bytes, but for the disk
            self.patience.reschedule(asyncio.get_running_loop().time())


class Uploads:
    """Takes uploads. All methods run on the event loop's thread; the disk is touched in threads of its own.

    Args:
        settings: `upload_mb` says how much they may take; 0 refuses all.
        store: loads what came.

    Raises:
        InputError: uploads are wanted, and the repository cannot be written to.
    """

    def __init__(self, settings: ServeSettings, store: Store) -> None:
        self._settings, self._store = settings, store
        self._most_bytes = settings.upload_mb * 2**20
        self._files = UploadFiles(settings.repository, self._most_bytes)
        self._disk = ThreadPoolExecutor(2, "uploads")
        # Apart from them and one after the other: others go on sending while one is checked, which may take long.
        self._checker = ThreadPoolExecutor(1, "upload-check")
        self._transfers: dict[str, _Transfer] = {}
        self._finishing: dict[str, asyncio.Task[None]] = {}
        # A client whose connection broke while its upload was checked asks again, and is told what came of it.
        self._reasons: OrderedDict[str, Refusal] = OrderedDict()
        self._hashes: dict[Path, tuple[tuple[int, ...], str]] = {}
        self._placing = asyncio.Lock()
        if self._most_bytes:
            if not os.access(settings.repository, os.W_OK | os.X_OK):
                raise InputError(f"{settings.repository}: cannot be written to, so it can take no uploads")
            self._disk.submit(self._files.sweep)

    async def __call__(self, exchange: Exchange, name: str, rest: list[str]) -> None:
        """Answers one request below `…/NAME/uploads`.

        Raises:
            Refusal: with what is wrong.
        """
        if not self._most_bytes:
            raise Refusal(403, "this endpoint takes no uploads; whoever runs it can allow them with --upload-mb")
        if not is_name(name) or len(name) > _LONGEST_NAME:
            raise Refusal(400, f"{name[:100]!r} is no name for a model: expected letters, digits, '_', '.' and '-'")
        match rest:
            case []:
                _expect(exchange, "POST")
                await self._begin(exchange, name)
            case [sha256] if _SHA256.fullmatch(sha256):
                _expect(exchange, "GET", "HEAD", "PATCH", "DELETE")
                await self._go_on(exchange, name, sha256)
            case _:
                raise Refusal(404, f"there is nothing at {exchange.path[:200]!r}")

    def close(self) -> bool:
        """Takes no more. Returns whether one is still being checked."""
        for executor in (self._disk, self._checker):
            executor.shutdown(wait=False, cancel_futures=True)
        return bool(self._finishing)

    async def _begin(self, exchange: Exchange, name: str) -> None:
        if exchange.number(b"content-length") or exchange.header(b"transfer-encoding"):
            raise Refusal(400, "an upload begins with an empty body; its bytes follow with PATCH")
        upload = Upload(
            name=name,
            sha256=read_digest(exchange),
            size_bytes=read_length(exchange),
            replace=read_replace(exchange.query),
        )
        if await self._is_here(upload.name, upload.sha256):
            await self._told(exchange, 200, upload, upload.size_bytes, complete=True)
            return
        self._check_place(upload)
        self._reasons.pop(upload.key, None)
        if upload.key not in self._finishing:
            await self._on_disk(self._files.begin, upload)
        await self._told(exchange, 201, upload, await self._have(upload))

    async def _go_on(self, exchange: Exchange, name: str, sha256: str) -> None:
        upload = await self._on_disk(self._files.find, name, sha256)
        if upload is None and await self._is_here(name, sha256):
            size = (self._settings.repository / f"{name}.edge").stat().st_size
            here = Upload(name=name, sha256=sha256, size_bytes=size)
            await self._told(exchange, 204, here, size, complete=True)
            return
        if upload is None:
            reason = self._reasons.get(Upload(name=name, sha256=sha256, size_bytes=0).key)
            raise _again(reason) if reason is not None else Refusal(404, f"no upload of {name!r} with this hash began")
        if exchange.method == "DELETE":
            await self._drop(upload)
            await exchange.answer(204, [])
        elif exchange.method == "PATCH":
            await self._append(exchange, upload)
        else:
            await self._told(exchange, 204, upload, await self._have(upload))

    async def _have(self, upload: Upload) -> int:
        return upload.size_bytes if upload.key in self._finishing else await self._on_disk(self._files.have, upload)

    async def _append(self, exchange: Exchange, upload: Upload) -> None:
        offset, complete = exchange.number(b"upload-offset"), read_flag(exchange, b"upload-complete")
        if exchange.header(b"content-type").partition(";")[0].strip().lower() != PARTIAL:
            raise Refusal(415, f"bytes of an upload come as {PARTIAL}")
        if offset is None or complete is None:
            raise Refusal(400, "bytes of an upload need the headers Upload-Offset and Upload-Complete")
        if exchange.header(b"content-encoding"):
            raise Refusal(415, "bytes of an upload come as they are, without a content coding")
        if upload.key not in self._finishing:
            offset = await self._received(exchange, upload, offset, complete)
        elif offset != upload.size_bytes:
            raise wrong_offset(offset, upload.size_bytes)
        if offset < upload.size_bytes:
            await self._told(exchange, 204, upload, offset)
            return
        task = self._finishing.get(upload.key)
        if task is None:
            task = self._finishing[upload.key] = asyncio.create_task(self._finish(upload))
            task.add_done_callback(_heard)
        await asyncio.shield(task)
        await self._told(exchange, 204, upload, offset, complete=True)

    async def _received(self, exchange: Exchange, upload: Upload, offset: int, complete: bool) -> int:
        """Takes the body to the disk as it comes: what came before a connection broke need not come again."""
        await self._make_way(upload)
        transfer = self._transfers[upload.key] = _Transfer(asyncio.timeout(self._settings.body_timeout_s))
        try:
            return await self._taken(exchange, upload, offset, complete, transfer)
        finally:
            if self._transfers.get(upload.key) is transfer:
                del self._transfers[upload.key]
            transfer.over.set()

    async def _taken(self, exchange: Exchange, upload: Upload, offset: int, complete: bool, transfer: _Transfer) -> int:
        here = await self._on_disk(self._files.have, upload)
        if here != offset:
            raise wrong_offset(offset, here)
        left = upload.size_bytes - offset
        told = exchange.number(b"content-length")
        if told is not None and (told > left or complete != (told == left)):
            what = "more than" if told > left else "the last" if told == left else "not all of"
            raise Refusal(
                400, f"{told} bytes are to come, {what} the {left} that are left; Upload-Complete says {complete}"
            )
        piece = bytearray()
        try:
            async with transfer.patience:
                async for chunk in exchange.chunks():
                    left -= len(chunk)
                    if left < 0:
                        raise Refusal(400, f"more came than the {upload.size_bytes} bytes that were told")
                    piece += chunk
                    if len(piece) >= _PIECE_BYTES or not left:
                        whole, piece = piece, bytearray()
                        await self._on_disk(self._files.append, upload, offset, whole)
                        offset += len(whole)
                    transfer.heard(self._settings.body_timeout_s)
        except TimeoutError:
            raise Refusal(408, f"the bytes stopped coming; the upload goes on at byte {offset + len(piece)}") from None
        finally:
            # Also where the connection broke, and without waiting: the next request may be here already.
            if piece:
                self._at_once(upload, offset, piece)
        # What the client is told has arrived stays so, also when the power fails.
        await self._on_disk(self._files.sync, upload)
        return offset + len(piece)

    async def _make_way(self, upload: Upload) -> None:
        before = self._transfers.get(upload.key)
        if before is None:
            return
        stalled = monotonic() - before.heard_s >= _STALLED_S
        if stalled:
            before.end()
            with suppress(TimeoutError):
                await asyncio.wait_for(before.over.wait(), _STALLED_S)
        if self._transfers.get(upload.key) is not None:  # it goes on, or yet another was faster
            raise busy(503, f"another connection sends this upload of {upload.name!r} now; try again later")

    def _at_once(self, upload: Upload, offset: int, piece: bytearray) -> None:
        try:
            self._files.append(upload, offset, piece)
        except FileNotFoundError:
            raise Refusal(404, f"the upload of {upload.name!r} was given up") from None

    async def _drop(self, upload: Upload) -> None:
        if upload.key in self._finishing:
            raise Refusal(409, f"the upload of {upload.name!r} is whole and is being checked")
        if (transfer := self._transfers.get(upload.key)) is not None:
            transfer.end()
        await self._on_disk(self._files.drop, upload.name, upload.sha256)

    async def _finish(self, upload: Upload) -> None:
        """Checks a whole upload, puts it in place and loads it. Goes on where nobody waits for it any more."""
        path = self._files.path(upload)
        fields = {"model": upload.name, "bytes": upload.size_bytes, "sha256": upload.sha256}
        try:
            await self._on_disk(check_upload, path, upload, self._most_bytes, executor=self._checker)
            async with self._placing:
                await self._place(path, upload)
            self._files.drop(upload.name, upload.sha256)
            _LOG.info("uploaded", extra={"fields": fields})
        except Refusal as refusal:
            # Not after other failures, as the end of the endpoint: what is whole on the disk is then checked again.
            self._files.drop(upload.name, upload.sha256)
            self._reasons[upload.key] = refusal
            while len(self._reasons) > _MOST_REASONS:
                self._reasons.popitem(last=False)
            _LOG.error("upload refused", extra={"fields": {**fields, "error": str(refusal)}})
            raise
        finally:
            del self._finishing[upload.key]

    async def _place(self, path: Path, upload: Upload) -> None:
        self._check_place(upload)
        target = self._settings.repository / f"{upload.name}.edge"
        before = path.with_suffix(".before")
        stood = await self._on_disk(_put, path, target, before)
        try:
            await self._store.load(upload.name)
        except Refusal:
            # What answered before still does; it must be what the next start finds too.
            await self._on_disk(_put_back, target, before if stood else None)
            raise
        finally:
            before.unlink(missing_ok=True)

    def _check_place(self, upload: Upload) -> None:
        """Refuses where something else has the name."""
        repository, name = self._settings.repository, upload.name
        if os.path.lexists(repository / name) or (repository / f"{name}.edge").is_dir():
            raise Refusal(
                409,
                f"model {name!r} is a folder here, which no upload replaces; take another name, or ask whoever runs"
                " the endpoint",
            )
        if os.path.lexists(repository / f"{name}.edge") and not upload.replace:
            raise Refusal(
                409, f"a bundle {name!r} with other content is here; ask for it to be replaced, or take another name"
            )

    async def _is_here(self, name: str, sha256: str) -> bool:
        path = self._settings.repository / f"{name}.edge"
        return path.is_file() and await self._on_disk(self._hash_of, path) == sha256

    def _hash_of(self, path: Path) -> str:
        status = path.stat()
        stamp = (status.st_ino, status.st_size, status.st_mtime_ns)
        known = self._hashes.get(path)
        if known is not None and known[0] == stamp:
            return known[1]
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self._hashes[path] = (stamp, digest)
        return digest

    async def _on_disk(
        self, call: Callable[..., Result], *arguments: Any, executor: ThreadPoolExecutor | None = None
    ) -> Result:
        """Calls in a thread of its own; what the disk lacks is told the client, other failures go to the log.

        Raises:
            Refusal: 507 where there is no room.
        """
        try:
            return await asyncio.get_running_loop().run_in_executor(executor or self._disk, partial(call, *arguments))
        except FileNotFoundError:
            raise Refusal(404, "the upload is not here any more; begin it again") from None
        except OSError as error:
            if not disk_full(error):
                raise
            raise no_room("the disk is full") from None

    async def _told(self, exchange: Exchange, status: int, upload: Upload, offset: int, complete: bool = False) -> None:
        headers = [
            (b"upload-offset", str(offset).encode()),
            (b"upload-complete", b"?1" if complete else b"?0"),
            (b"upload-length", str(upload.size_bytes).encode()),
            (b"upload-limit", f"max-size={self._most_bytes}".encode()),
            (b"cache-control", b"no-store"),
        ]
        if status == 201:
            headers.append((b"location", f"{exchange.path.rstrip('/')}/{upload.sha256}".encode()))
        await exchange.answer(status, [], headers=headers)


def _put(path: Path, target: Path, before: Path) -> bool:
    """Puts a whole upload in place; what stood there stays reachable as `before`. Returns whether anything did."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    before.unlink(missing_ok=True)
    try:
        os.link(target, before)
        stood = True
    except FileNotFoundError:
        stood = False
    os.replace(path, target)
    _sync_folder(target.parent)
    return stood


def _put_back(target: Path, before: Path | None) -> None:
    if before is None:
        target.unlink(missing_ok=True)
    else:
        os.replace(before, target)
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    Files().sync_folder(folder)


def _expect(exchange: Exchange, *methods: str) -> None:
    if exchange.method not in methods:
        allowed = ", ".join(methods)
        raise Refusal(405, f"{exchange.path[:200]!r} takes {allowed}", ((b"allow", allowed.encode()),))


def _again(reason: Refusal) -> Refusal:
    return Refusal(reason.status, str(reason), reason.headers)


def _heard(task: asyncio.Task[None]) -> None:
    """Takes note of a failure for which nobody waits any more."""
    if not task.cancelled():
        task.exception()

"""A bundle as one zip archive, checked as a whole before any of it is expanded."""

from __future__ import annotations

import io
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from edge_sdk.bundle.consistency import MANIFEST
from edge_sdk.bundle.content import CHUNK_BYTES, Content
from edge_sdk.bundle.limits import Limits
from edge_sdk.bundle.manifest_json import MAX_MANIFEST_BYTES
from edge_sdk.bundle.paths import check_distinct, check_path, shortened
from edge_sdk.errors import (
    BundleDamaged,
    BundleError,
    BundleIncomplete,
    BundleTooLarge,
    EdgeError,
    InvalidManifest,
    UnsafePath,
)

__all__ = ["ArchiveContent"]

_ENCRYPTED = 0x1
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
# Bytes that one entry takes in the directory at the archive's end at most: names and extra fields are short.
_MAX_DIRECTORY_BYTES_PER_ENTRY = 1024 + 256


class ArchiveContent(Content):
    """A bundle as one zip archive, held open as long as this object is, so that replacing the file does not disturb it.

    Args:
        source: the archive's path or its bytes.
        limits: how far it may expand.
        where: what messages call it.

    Raises:
        BundleDamaged: it is no whole zip archive.
        BundleTooLarge: it would expand beyond the limits.
        UnsafePath: an entry leads out of the bundle, is a link, or occurs twice.
        BundleError: it is encrypted, compressed by another method than deflate, or cannot be read.
    """

    def __init__(self, source: Path | bytes, limits: Limits, where: str) -> None:
        self.where = where
        try:
            self._file: BinaryIO = io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb")  # noqa: SIM115
        except OSError as error:
            raise BundleError(f"{where}: cannot be read: {error.strerror or error}") from None
        try:
            with _archive_errors(where):
                _check_directory_size(self._file, limits, where)
                self._archive = zipfile.ZipFile(self._file)
            self._entries = _checked_entries(self._archive, limits, where, _size(self._file))
        except BaseException:
            self._file.close()
            raise

    def manifest_bytes(self) -> bytes:
        """See `Content.manifest_bytes`."""
        if MANIFEST not in self._entries:
            inner = sorted(path for path in self._entries if path.endswith(f"/{MANIFEST}"))
            hint = f"; {shortened(inner[0])} is there: zip the folder's content, not the folder" if inner else ""
            raise BundleIncomplete(f"{self.where}: has no {MANIFEST} at its top, so it is no bundle{hint}")
        with _archive_errors(self.where), self._archive.open(self._entries[MANIFEST]) as file:
            content = file.read(MAX_MANIFEST_BYTES + 1)
        if len(content) > MAX_MANIFEST_BYTES:
            raise InvalidManifest(
                f"{self.where}: {MANIFEST} has more than the {MAX_MANIFEST_BYTES} bytes that are read"
            )
        return content

    def size_bytes(self, path: str) -> int:
        """See `Content.size_bytes`."""
        if path not in self._entries:
            raise self.missing(path)
        return self._entries[path].file_size

    def chunks(self, path: str) -> Iterator[bytes]:
        """See `Content.chunks`."""
        if self._file.closed:
            raise BundleError(f"{self.where}: the bundle is closed; expected an open one; open it again")
        if path not in self._entries:
            raise self.missing(path)
        with _archive_errors(self.where):
            file = self._archive.open(self._entries[path])
        with file:
            while True:
                # Around reading alone, not around what the caller does with it.
                with _archive_errors(self.where):
                    chunk = file.read(CHUNK_BYTES)
                if not chunk:
                    return
                yield chunk

    def close(self) -> None:
        """Closes the archive."""
        self._archive.close()
        self._file.close()


@contextmanager
def _archive_errors(where: str) -> Iterator[None]:
    """Turns what the zip reader raises on a damaged archive into a `BundleDamaged`."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, struct.error, NotImplementedError, RuntimeError) as error:
        raise _damaged(where, error) from None
    except (ValueError, OverflowError, OSError) as error:
        if isinstance(error, EdgeError):
            raise
        raise _damaged(where, error) from None


def _damaged(where: str, error: Exception) -> BundleDamaged:
    reason = " ".join(str(error).split()) or type(error).__name__
    return BundleDamaged(f"{where}: is damaged as a zip archive: {reason}; fetch it again")


def _size(file: BinaryIO) -> int:
    return file.seek(0, os.SEEK_END)


def _check_directory_size(file: BinaryIO, limits: Limits, where: str) -> None:
    """Refuses an endless directory before it is read as a whole: it alone could take all memory.

    Source: PKWARE APPNOTE 6.3.9, 4.3.14 to 4.3.16.
    """
    size = _size(file)
    tail = file.seek(max(0, size - 65_557 - 20))
    content = file.read()
    end = content.rfind(b"PK\x05\x06")
    if end < 0 or len(content) < end + 22:
        raise zipfile.BadZipFile("it has no end-of-archive record")
    directory = struct.unpack_from("<L", content, end + 12)[0]
    if content[max(0, end - 20) : end].startswith(b"PK\x06\x07"):
        record = struct.unpack_from("<Q", content, end - 20 + 8)[0]
        file.seek(min(record, size))
        head = file.read(56)
        if len(head) == 56 and head.startswith(b"PK\x06\x06"):
            directory = max(directory if directory != 0xFFFFFFFF else 0, struct.unpack_from("<Q", head, 40)[0])
    file.seek(0)
    if directory > min(limits.max_entries * _MAX_DIRECTORY_BYTES_PER_ENTRY, tail + len(content)):
        raise BundleTooLarge(
            f"{where}: its directory alone has {directory} bytes; expected at most {limits.max_entries} entries;"
            " pass open(…, limits=Limits(max_entries=…)) if it is honest"
        )


def _checked_entries(
    archive: zipfile.ZipFile, limits: Limits, where: str, archive_bytes: int
) -> dict[str, zipfile.ZipInfo]:
    entries = archive.infolist()
    if len(entries) > limits.max_entries:
        raise BundleTooLarge(f"{where}: has {len(entries)} entries; expected at most {limits.max_entries}")
    files: dict[str, zipfile.ZipInfo] = {}
    for entry in entries:
        # What stands in the archive: the reader cuts `filename` at a NUL.
        name = check_path(entry.orig_filename.removesuffix("/"), where)
        _check_kind(entry, where)
        if entry.is_dir():
            continue
        if name in files:
            raise UnsafePath(
                f"{where}: {shortened(name)} occurs twice, so it is not clear what it holds; do not use it"
            )
        _check_ratio(entry, limits, where)
        files[name] = entry
    check_distinct(files, where)
    total = sum(entry.file_size for entry in files.values())
    if total > limits.max_total_bytes:
        raise BundleTooLarge(
            f"{where}: would expand to {total} bytes; expected at most {limits.max_total_bytes};"
            " pass open(…, limits=Limits(max_total_bytes=…)) if it is honest"
        )
    if sum(entry.compress_size for entry in files.values()) > archive_bytes:
        raise BundleDamaged(f"{where}: its entries overlap: they claim more bytes than the archive has; do not use it")
    return files


def _check_kind(entry: zipfile.ZipInfo, where: str) -> None:
    name = shortened(entry.filename)
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise UnsafePath(f"{where}: {name} is a link or a device; expected plain files only; do not use this bundle")
    if entry.flag_bits & _ENCRYPTED:
        raise BundleError(f"{where}: {name} is encrypted; expected plain files; unpack it and zip it again")
    if entry.compress_type not in _METHODS:
        raise BundleError(
            f"{where}: {name} is compressed by method {entry.compress_type}; expected stored or deflated;"
            " zip it again with deflate"
        )


def _check_ratio(entry: zipfile.ZipInfo, limits: Limits, where: str) -> None:
    if entry.file_size <= limits.free_bytes or entry.file_size <= limits.max_ratio * entry.compress_size:
        return
    raise BundleTooLarge(
        f"{where}: {shortened(entry.filename)} would expand from {entry.compress_size} to {entry.file_size} bytes,"
        f" more than {limits.max_ratio:g}:1, as an archive made to fill the disk would;"
        " if it is honest, store it uncompressed or pass open(…, limits=Limits(max_ratio=…))"
    )

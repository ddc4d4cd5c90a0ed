"""Putting a bundle on disk so that whatever stops the writer leaves the old bundle or the new one, whole.

A folder: every file gets a name made from its content, so new content never touches old; `manifest.json` follows by
one atomic rename; only then, and only where nobody has the old bundle open, files that it no longer names are removed.
A zip archive is made as a file without a name and put in place by one atomic rename.
"""

from __future__ import annotations

import hashlib
import logging
import mmap
import os
import re
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from edge_sdk.bundle import locks
from edge_sdk.bundle.consistency import MANIFEST
from edge_sdk.bundle.limits import Limits
from edge_sdk.bundle.manifest import BundleFile
from edge_sdk.bundle.manifest_json import decode_manifest
from edge_sdk.bundle.paths import shortened
from edge_sdk.errors import BundleError, StorageError
from edge_sdk.storage import Files, write_whole

__all__ = ["CONTENT_FOLDERS", "Piece", "store_archive", "store_folder", "sweep"]

_log = logging.getLogger(__name__)
CONTENT_FOLDERS = ("variants", "golden")
"""Folders of a bundle that belong to its writer: what the manifest does not name is removed from them."""
_LONG_AGO = (1980, 1, 1, 0, 0, 0)
_LEVEL = 6
_ZIP64_FROM = 2**31 - 2**20


@dataclass(frozen=True, slots=True)
class Piece:
    """One file to be stored, and how to read it."""

    file: BundleFile
    chunks: Callable[[], Iterable[bytes]]

    def read(self) -> bytes:
        """All of it.

        Raises:
            BundleError: it changed since it was hashed.
        """
        content = b"".join(self.chunks())
        _require_same(self.file, hashlib.sha256(content).hexdigest())
        return content


def _require_same(file: BundleFile, sha256: str) -> None:
    if sha256 != file.sha256:
        raise BundleError(
            f"{shortened(file.path)}: what was read is not what its hash says: it changed meanwhile or is damaged;"
            " leave it alone and try again, or build it again"
        )


def store_folder(
    root: Path, pieces: Sequence[Piece], manifest: bytes, is_current: Callable[[], None], files: Files
) -> None:
    """Writes a bundle as a folder over what bundle there is.

    Args:
        root: the folder; created on demand.
        pieces: all files the manifest names.
        manifest: content of `manifest.json`.
        is_current: called when no other writer can come between any more; raises where another was faster.
        files: the operations to use.

    Raises:
        StorageError: it could not be written; the old bundle stands.
        BundleError: a source changed, or `is_current` raised it.
    """
    _make_folder(root, files)
    lock = root / CONTENT_FOLDERS[0]
    _make_folder(lock, files)
    try:
        with locks.writing(lock):
            is_current()
            fresh: list[Path] = []
            try:
                for piece in pieces:
                    _store_piece(root, piece, fresh, files)
                write_whole(root / MANIFEST, manifest, files)
            except BaseException:
                _take_back(root, fresh)
                raise
            _remove_unnamed(root, {piece.file.path for piece in pieces})
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(f"{root}: could not be written: {error.strerror or error}; the old bundle stands") from error


def _make_folder(folder: Path, files: Files) -> None:
    try:
        folder.mkdir(exist_ok=True)
        files.sync_folder(folder.parent)
    except OSError as error:
        raise StorageError(
            f"{folder}: the folder could not be made: {error.strerror or error}; the folder above it must exist and be"
            " writable"
        ) from error


def _store_piece(root: Path, piece: Piece, fresh: list[Path], files: Files) -> None:
    target = root / piece.file.path
    if _is_whole(target, piece.file):
        return
    missing = [parent for parent in target.parents if not parent.is_dir()]
    for folder in reversed(missing):
        _make_folder(folder, files)
    content = piece.read()
    fresh.append(target)
    write_whole(target, content, files)


def _is_whole(path: Path, file: BundleFile) -> bool:
    """Whether the file is there with its content, from the bundle before or from a writer that was stopped."""
    try:
        with open(path, "rb") as source:
            return (
                os.fstat(source.fileno()).st_size == file.size_bytes
                and hashlib.file_digest(source, "sha256").hexdigest() == file.sha256
            )
    except OSError:
        return False


def _take_back(root: Path, fresh: Collection[Path]) -> None:
    """After a failure: new files go, so that a full disk is not left fuller, unless the new manifest stands already."""
    try:
        standing = (root / MANIFEST).read_bytes()
    except OSError:
        standing = b""
    for path in fresh:
        if path.relative_to(root).as_posix().encode() not in standing:
            try:
                path.unlink(missing_ok=True)
                _remove_empty(path.parent, root)
            except OSError as error:
                _log.debug("%s: stays until the next write: %s", path, error)


def sweep(root: Path) -> None:
    """Removes from a folder what its manifest does not name, where nobody has it open; of an archive, nothing."""
    try:
        with locks.writing(root / CONTENT_FOLDERS[0]):
            manifest = decode_manifest((root / MANIFEST).read_bytes(), str(root))
            _remove_unnamed(root, {file.path for file in manifest.files})
    except (OSError, BundleError) as error:
        _log.debug("%s: nothing is removed: %s", root, error)


def _remove_unnamed(root: Path, named: Collection[str]) -> None:
    """Removes what the manifest does not name, and what writers that were stopped left behind."""
    with locks.is_held_by_others(root) as held:
        if held:
            _log.info("%s: is in use; the files of the release before go with the next write", root)
            return
        left = [*root.glob(f".{MANIFEST}.*.part")]
        for name in CONTENT_FOLDERS:
            # Links are not followed: what they lead to is none of the bundle's.
            for folder, _, members in os.walk(root / name):
                left += [Path(folder, member) for member in members]
        for path in left:
            if path.relative_to(root).as_posix() in named:
                continue
            try:
                path.unlink()
                _remove_empty(path.parent, root)
            except OSError as error:
                _log.debug("%s: stays until the next write: %s", path, error)


def _remove_empty(folder: Path, root: Path) -> None:
    keep = {root, *(root / name for name in CONTENT_FOLDERS)}
    while folder not in keep:
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent


def store_archive(
    path: Path, pieces: Sequence[Piece], manifest: bytes, is_current: Callable[[], None], files: Files
) -> None:
    """Writes a bundle as one zip archive, byte for byte the same for the same content. Arguments as of `store_folder`.

    Raises:
        StorageError: it could not be written; the old bundle stands.
        BundleError: a source changed, or `is_current` raised it.
    """
    try:
        with tempfile.TemporaryFile(dir=path.parent) as made:
            with zipfile.ZipFile(made, "w") as archive:
                archive.writestr(_entry(MANIFEST, zipfile.ZIP_DEFLATED), manifest, compresslevel=_LEVEL)
                for piece in pieces:
                    _add(archive, piece)
            made.flush()
            # Any buffer can be written; this one is never all in memory, and goes with its last user.
            content = mmap.mmap(made.fileno(), 0, access=mmap.ACCESS_READ)
            is_current()
            write_whole(path, cast("bytes", content), files)
        _remove_stale(path)
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(f"{path}: could not be written: {error.strerror or error}; the old bundle stands") from error


def _add(archive: zipfile.ZipFile, piece: Piece) -> None:
    method = zipfile.ZIP_STORED if _compresses_too_well(piece) else zipfile.ZIP_DEFLATED
    digest = hashlib.sha256()
    big = piece.file.size_bytes >= _ZIP64_FROM
    with archive.open(_entry(piece.file.path, method), "w", force_zip64=big) as target:
        for chunk in piece.chunks():
            digest.update(chunk)
            target.write(chunk)
    _require_same(piece.file, digest.hexdigest())


def _entry(path: str, method: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(path, _LONG_AGO)
    entry.compress_type = method
    entry.external_attr = 0o100644 << 16
    return entry


def _compresses_too_well(piece: Piece) -> bool:
    """Whether readers would take the file for one made to fill the disk. Reads on only until it is clear that not."""
    limits = Limits()
    size = piece.file.size_bytes
    if size <= limits.free_bytes:
        return False
    enough = 2 * size / limits.max_ratio
    deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    made = 0
    for chunk in piece.chunks():
        made += len(deflate.compress(chunk))
        if made > enough:
            return False
    return made + len(deflate.flush()) <= enough


def _remove_stale(path: Path) -> None:
    """Removes what writers of this archive that were killed left beside it: it may be as large as the archive."""
    pattern = re.compile(rf"\.{re.escape(path.name)}\.(\d+)\.[0-9a-f]+\.part")
    try:
        for beside in path.parent.iterdir():
            match = pattern.fullmatch(beside.name)
            if match and not Path(f"/proc/{match[1]}").exists():
                beside.unlink(missing_ok=True)
    except OSError as error:
        _log.debug("%s: what lies beside it stays: %s", path, error)

"""Variants of an archive, unpacked into the cache folder on demand: engines and external weights need real files.

Each variant has a folder named by its content. Whoever uses it holds a lock on the folder, so that making room for
others never takes a file away that a running session may open again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import weakref
from pathlib import Path
from typing import BinaryIO

from edge_sdk.bundle import locks
from edge_sdk.bundle.content import Content
from edge_sdk.bundle.manifest import BundleFile, Variant
from edge_sdk.bundle.paths import shortened
from edge_sdk.errors import BundleDamaged, StorageError
from edge_sdk.storage import cache_folder

__all__ = ["MAX_CACHE_BYTES", "Extracted"]

_log = logging.getLogger(__name__)
MAX_CACHE_BYTES = 2**30
"""What unpacked variants may take together; the one in use is kept even where it alone takes more."""
_TRIES = 10


class Extracted:
    """One variant of an archive as files in the cache folder, locked against removal as long as this object is open.

    Args:
        content: the archive.
        variant: which variant.

    Raises:
        StorageError: the cache folder cannot be written, or the disk is full.
    """

    def __init__(self, content: Content, variant: Variant) -> None:
        self._content = content
        self._base = variant.file.rpartition("/")[0]
        key = hashlib.sha256("\n".join(f"{self._inner(f.path)} {f.sha256}" for f in variant.files).encode())
        self._home = cache_folder("variants")
        self.folder = self._home / key.hexdigest()[:32]
        self._let_go = weakref.finalize(self, os.close, _held(self.folder))
        _make_room(self._home, variant.total_bytes)

    def path(self, file: BundleFile) -> Path:
        """Where a file of the variant lies in the cache folder, whether it was unpacked or not."""
        return self.folder / self._inner(file.path)

    def unpack(self, file: BundleFile) -> tuple[Path, bool]:
        """Unpacks one file, checking its hash on the way; what is there already with the right size is left as it is.

        Returns:
            Where it lies, and whether it was unpacked, so that its hash is known to be right.

        Raises:
            BundleDamaged: it is not the file that the manifest names; nothing is kept of it.
            StorageError: it could not be written.
        """
        target = self.path(file)
        try:
            if target.stat().st_size == file.size_bytes:
                return target, False
        except OSError:
            pass
        part = target.with_name(f".{os.urandom(8).hex()}.part")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(part, "xb") as out:
                self._copy(file, out)
            os.replace(part, target)
        except OSError as error:
            if isinstance(error, StorageError):
                raise
            raise StorageError(
                f"{target}: could not be unpacked: {error.strerror or error}; make room, or name another folder in"
                " EDGE_SDK_CACHE"
            ) from error
        finally:
            part.unlink(missing_ok=True)
        return target, True

    def forget(self, file: BundleFile) -> None:
        """Removes one unpacked file, so that `unpack` makes it again."""
        self.path(file).unlink(missing_ok=True)

    def close(self) -> None:
        """Lets go of the folder. Idempotent."""
        self._let_go()

    def _inner(self, path: str) -> str:
        return path.removeprefix(f"{self._base}/") if self._base else path

    def _copy(self, file: BundleFile, out: BinaryIO) -> None:
        digest = hashlib.sha256()
        for chunk in self._content.chunks(file.path):
            digest.update(chunk)
            out.write(chunk)
        if digest.hexdigest() != file.sha256:
            raise BundleDamaged(
                f"{self._content.where}: {shortened(file.path)} is not the file that was written: its sha256 is"
                f" {digest.hexdigest()[:12]}…, expected {file.sha256[:12]}…; fetch the bundle again"
            )


def _held(folder: Path) -> int:
    """`locks.hold` of a folder that is created on demand and that nobody removed in between."""
    for _ in range(_TRIES):
        try:
            folder.mkdir(exist_ok=True)
            fd = locks.hold(folder)
        except FileNotFoundError:
            continue  # somebody made room between the two
        except OSError as error:
            raise StorageError(f"{folder}: the cache cannot be written: {error.strerror or error}") from error
        try:
            if os.path.samestat(os.fstat(fd), os.stat(folder)):
                os.utime(folder)  # the oldest use goes first when room is needed
                return fd
        except OSError:
            pass
        os.close(fd)
    raise StorageError(f"{folder}: other processes keep removing it; try again")


def _make_room(home: Path, wanted_bytes: int) -> None:
    """Removes variants that nobody uses, longest unused first, until all that is there and `wanted_bytes` fit."""
    try:
        folders = sorted((p for p in home.iterdir() if p.is_dir()), key=lambda p: p.stat().st_mtime, reverse=True)
        total = wanted_bytes
        for folder in folders:
            total += sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
            if total > MAX_CACHE_BYTES:
                with locks.is_held_by_others(folder) as held:
                    if not held:
                        shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        _log.debug("%s: no room was made: %s", home, error)  # another process makes room at the same time

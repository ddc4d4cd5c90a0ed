"""Where a bundle's files lie: a folder, or one zip archive. Paths are checked before anything is opened."""

from __future__ import annotations

import os
import stat
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

from edge_sdk.bundle import locks
from edge_sdk.bundle.consistency import MANIFEST
from edge_sdk.bundle.manifest_json import MAX_MANIFEST_BYTES
from edge_sdk.bundle.paths import check_path, shortened
from edge_sdk.errors import BundleError, BundleIncomplete, EdgeError, UnreadableInput, UnsafePath
from edge_sdk.storage import read_whole

__all__ = ["CHUNK_BYTES", "Content", "FolderContent", "file_chunks"]


CHUNK_BYTES = 2**20


def file_chunks(path: Path) -> Iterator[bytes]:
    """A file's content, some at a time. Raises `OSError`."""
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


class Content(ABC):
    """The files of one bundle.

    Attributes:
        where: what messages call the bundle.
    """

    where: str

    @abstractmethod
    def manifest_bytes(self) -> bytes:
        """Content of `manifest.json`.

        Raises:
            BundleIncomplete: there is none.
            UnsafePath: it is a link out of the bundle.
            BundleError: it cannot be read.
        """

    @abstractmethod
    def size_bytes(self, path: str) -> int:
        """Size of a file.

        Raises:
            BundleIncomplete: there is no such file.
            UnsafePath: it is a link out of the bundle.
        """

    @abstractmethod
    def chunks(self, path: str) -> Iterator[bytes]:
        """A file's content from its beginning, some at a time.

        Raises:
            BundleIncomplete: there is no such file.
            UnsafePath: it is a link out of the bundle.
            BundleDamaged: it cannot be unpacked.
            BundleError: it cannot be read.
        """

    @abstractmethod
    def close(self) -> None:
        """Gives back what is held open. Idempotent."""

    def missing(self, path: str) -> BundleIncomplete:
        """The error for a file that is not here."""
        return BundleIncomplete(
            f"{self.where}: {shortened(path)} is missing, which the manifest names; fetch or build the bundle again"
        )


class FolderContent(Content):
    """A bundle as a folder. As long as this object is open no writer removes a file of it.

    Args:
        root: the folder.

    Raises:
        BundleError: it cannot be read.
    """

    def __init__(self, root: Path) -> None:
        self.where = str(root)
        self.root = root
        self._real_root = os.path.realpath(root)
        try:
            self._let_go = weakref.finalize(self, os.close, locks.hold(root))
        except OSError as error:
            raise BundleError(f"{root}: cannot be read: {error.strerror or error}") from None

    def close(self) -> None:
        """See `Content.close`."""
        self._let_go()

    def manifest_bytes(self) -> bytes:
        """See `Content.manifest_bytes`."""
        try:
            path = self.path(MANIFEST)
        except BundleIncomplete:
            raise BundleIncomplete(
                f"{self.where}: has no {MANIFEST}: it is no bundle, or was never finished; build or fetch it again"
            ) from None
        try:
            return read_whole(path, MAX_MANIFEST_BYTES)
        except UnreadableInput as error:
            raise BundleError(f"{error}; expected a bundle's manifest") from None

    def path(self, path: str) -> Path:
        """Where a file lies.

        Raises:
            BundleIncomplete: there is no such regular file.
            UnsafePath: it lies outside the folder, by its name or through a link.
        """
        check_path(path, self.where)
        full = self.root / path
        real = os.path.realpath(full)
        if os.path.commonpath((self._real_root, real)) != self._real_root:
            raise UnsafePath(
                f"{self.where}: {shortened(path)} is a link out of the bundle; expected a file inside it;"
                " copy the file itself into the bundle"
            )
        try:
            regular = stat.S_ISREG(os.stat(real).st_mode)
        except (OSError, ValueError):
            regular = False
        if not regular:
            raise self.missing(path)
        return full

    def size_bytes(self, path: str) -> int:
        """See `Content.size_bytes`."""
        try:
            return os.stat(self.path(path)).st_size
        except OSError:
            raise self.missing(path) from None

    def chunks(self, path: str) -> Iterator[bytes]:
        """See `Content.chunks`."""
        try:
            yield from file_chunks(self.path(path))
        except OSError as error:
            if isinstance(error, EdgeError):
                raise
            raise BundleError(f"{self.where}: {shortened(path)} cannot be read: {error.strerror or error}") from None

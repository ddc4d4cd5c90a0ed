"""Uploads that are under way, on disk: what has come of each, within bounds. Nothing of it is in the repository yet.

    REPOSITORY/.uploads/KEY.json    what is to come
    REPOSITORY/.uploads/KEY.edge    what has come

They lie in the repository so that one rename puts a whole one in place, and under a name that is none of a model.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from cloud_offload.refusals import Refusal, busy
from edge_sdk.errors import StorageError
from edge_sdk.storage import write_whole

__all__ = ["FOLDER", "Upload", "UploadFiles", "disk_full"]

FOLDER = ".uploads"
MOST_UPLOADS = 16
IDLE_S = 3600.0
"""An upload that nothing came of for so long makes room for another."""
EXPIRES_S = 24 * 3600.0
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """What is to come.

    Attributes:
        name: of the model.
        sha256: of the bundle as one file, 64 hexadecimal digits in lower case.
        size_bytes: of it.
        replace: whether it may take the place of a bundle of that name with other content.
    """

    name: str
    sha256: str
    size_bytes: int
    replace: bool = False

    @property
    def key(self) -> str:
        """What its files are called."""
        return key_of(self.name, self.sha256)


def key_of(name: str, sha256: str) -> str:
    """What the files of an upload are called: as safe and as short as a hash, whatever the name."""
    return hashlib.sha256(f"{name}/{sha256}".encode()).hexdigest()[:32]


def disk_full(error: OSError) -> bool:
    """Whether there was no room, by the disk or by a limit."""
    return error.errno in _FULL


class UploadFiles:
    """The unfinished uploads of a repository. Methods block: not for the event loop's thread.

    Args:
        repository: the folder of models.
        most_bytes: what unfinished uploads, at their full size, and the repository's one-file bundles may take.
        clock: seconds since the epoch, as file times have them.
    """

    def __init__(self, repository: Path, most_bytes: int, clock: Callable[[], float] = time.time) -> None:
        self._repository, self._most_bytes, self._clock = repository, most_bytes, clock
        self.folder = repository / FOLDER
        self._beginning = threading.Lock()

    def begin(self, upload: Upload) -> int:
        """Makes room for an upload, or takes up the one that began earlier. Returns how many bytes of it are here.

        Raises:
            Refusal: 413 where it is too large, 507 where there is no room, 503 where too many are unfinished.
            OSError: the disk failed.
        """
        with self._beginning:
            return self._begun(upload)

    def _begun(self, upload: Upload) -> int:
        known = self.find(upload.name, upload.sha256)
        if known is not None and known.size_bytes == upload.size_bytes:
            if known != upload:
                self._write(upload)
            return self.have(upload)
        if upload.size_bytes > self._most_bytes:
            raise Refusal(
                413, f"the bundle has {upload.size_bytes} bytes, more than the {self._most_bytes} that uploads may take"
            )
        self.drop(upload.name, upload.sha256)
        self._make_room(upload)
        try:
            self.folder.mkdir(exist_ok=True)
            self.path(upload).touch()
            self._write(upload)
        except OSError:
            self.drop(upload.name, upload.sha256)
            raise
        return 0

    def find(self, name: str, sha256: str) -> Upload | None:
        """The unfinished upload of this name and hash."""
        return self._read(self.folder / f"{key_of(name, sha256)}.json")

    def path(self, upload: Upload) -> Path:
        """Where what has come of it lies."""
        return self.folder / f"{upload.key}.edge"

    def have(self, upload: Upload) -> int:
        """How many bytes of it are here."""
        try:
            return self.path(upload).stat().st_size
        except OSError:
            return 0

    def append(self, upload: Upload, offset: int, content: bytes | bytearray) -> None:
        """Adds what came. Where there is no room for it the whole upload goes: others need the disk too.

        Raises:
            Refusal: 409 where `offset` is not what is here, 507 where there is no room.
            OSError: the disk failed.
        """
        fd = os.open(self.path(upload), os.O_WRONLY | os.O_CLOEXEC)
        try:
            if (here := os.fstat(fd).st_size) != offset:
                raise wrong_offset(offset, here)
            view = memoryview(content)
            while view:
                written = os.pwrite(fd, view, offset)
                view, offset = view[written:], offset + written
        except OSError as error:
            if not disk_full(error):
                raise
            self.drop(upload.name, upload.sha256)
            raise no_room(f"the disk is full after {offset} of {upload.size_bytes} bytes") from None
        finally:
            os.close(fd)

    def sync(self, upload: Upload) -> None:
        """Forces what has come to the disk."""
        fd = os.open(self.path(upload), os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.fdatasync(fd)
        finally:
            os.close(fd)

    def drop(self, name: str, sha256: str) -> bool:
        """Removes all of an upload. Returns whether there was anything."""
        key = key_of(name, sha256)
        found = False
        for suffix in (".json", ".edge"):
            try:
                (self.folder / f"{key}{suffix}").unlink()
                found = True
            except OSError:
                pass
        return found

    def sweep(self) -> None:
        """Removes what expired, and files without the record of what they were to become."""
        with self._beginning:
            self._sweep()

    def _sweep(self) -> None:
        for upload, idle_s in list(self._unfinished()):
            if idle_s > EXPIRES_S:
                self.drop(upload.name, upload.sha256)
        records = {path.stem for path in self.folder.glob("*.json")}
        for path in self.folder.glob("*"):
            if path.stem not in records:
                path.unlink(missing_ok=True)

    def _make_room(self, upload: Upload) -> None:
        self._sweep()
        unfinished = sorted(self._unfinished(), key=lambda found: found[1])
        while True:
            used = sum(other.size_bytes for other, _ in unfinished) + self._stored_bytes(upload)
            free = shutil.disk_usage(self._repository).free
            enough = used + upload.size_bytes <= self._most_bytes and upload.size_bytes <= free
            if enough and len(unfinished) < MOST_UPLOADS:
                return
            if not unfinished or unfinished[-1][1] <= IDLE_S:
                break
            idle, _ = unfinished.pop()
            self.drop(idle.name, idle.sha256)
        if enough:
            raise busy(503, f"{len(unfinished)} uploads are unfinished already; try again later", 60)
        if upload.size_bytes > free:
            raise no_room(f"{upload.size_bytes} bytes are to come and {free} are free on its disk")
        raise no_room(f"{upload.size_bytes} bytes are to come and {used} of {self._most_bytes} are taken")

    def _stored_bytes(self, upload: Upload) -> int:
        """Size of the one-file bundles in the repository, without the one that would be replaced."""
        total = 0
        for path in self._repository.glob("*.edge"):
            if path.is_file() and not (upload.replace and path.name == f"{upload.name}.edge"):
                total += path.stat().st_size
        return total

    def _unfinished(self) -> Iterator[tuple[Upload, float]]:
        """All, each with the seconds since anything came of it."""
        for path in self.folder.glob("*.json"):
            upload = self._read(path)
            try:
                if upload is None or upload.key != path.stem:
                    path.unlink()  # of another version, or damaged: it could never be finished
                else:
                    yield upload, self._clock() - self.path(upload).stat().st_mtime
            except FileNotFoundError:
                path.unlink(missing_ok=True)

    def _read(self, path: Path) -> Upload | None:
        try:
            return msgspec.json.decode(path.read_bytes(), type=Upload)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return None

    def _write(self, upload: Upload) -> None:
        try:
            write_whole(self.folder / f"{upload.key}.json", msgspec.json.encode(upload))
        except StorageError as error:
            cause = error.__cause__
            raise cause if isinstance(cause, OSError) else error from None


def wrong_offset(given: int, here: int) -> Refusal:
    """409 for bytes that do not follow those that are here; tells where to go on."""
    return Refusal(
        409,
        f"the upload goes on at byte {here}, not at {given}",
        ((b"upload-offset", str(here).encode()), (b"upload-complete", b"?0")),
    )


def no_room(why: str) -> Refusal:
    """507: the upload may succeed later, the same request will not now."""
    return Refusal(507, f"the endpoint has no room for the bundle: {why}")

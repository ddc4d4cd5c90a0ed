"""The one way to write a file whole and to read one that a user named, and where the package keeps what it may lose.

A reader sees the old content or the new one, never a part: write a sibling, fsync it, rename it over the target, fsync
the folder. `FailingFiles` is the twin for tests: it stops at any of these operations, as a power cut would.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from edge_sdk.errors import StorageError, UnreadableInput

__all__ = ["FailingFiles", "Files", "cache_folder", "drop_oldest", "move_whole", "read_whole", "write_whole"]

CACHE_VARIABLE = "EDGE_SDK_CACHE"


class Files:
    """The file operations that `write_whole` is made of, each in a method so that a twin can fail at it."""

    def write(self, path: Path, content: bytes) -> None:
        """Creates `path` with `content` and forces it to the disk."""
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(fd, view) :]
            self.sync(fd)
        finally:
            os.close(fd)

    def sync(self, fd: int) -> None:
        """Forces what was written to `fd` to the disk."""
        os.fsync(fd)

    def rename(self, source: Path, target: Path) -> None:
        """Puts `source` in the place of `target` in one step."""
        os.replace(source, target)

    def sync_folder(self, folder: Path) -> None:
        """Forces the folder's own entries to the disk, so that the rename survives a power cut."""
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


class FailingFiles(Files):
    """A twin that raises `OSError` at operation number `fail_at` (from 0) and leaves the disk as it is then.

    Args:
        fail_at: which operation fails; operations are counted over the life of the object.

    Attributes:
        operations: names of the operations begun so far.
    """

    def __init__(self, fail_at: int) -> None:
        self.fail_at = fail_at
        self.operations: list[str] = []

    def _step(self, name: str) -> None:
        self.operations.append(name)
        if len(self.operations) - 1 == self.fail_at:
            raise OSError(5, f"simulated failure of {name}")

    def write(self, path: Path, content: bytes) -> None:
        """Writes half of `content` before the simulated failure."""
        try:
            self._step("write")
        except OSError:
            path.write_bytes(content[: len(content) // 2])
            raise
        super().write(path, content)

    def sync(self, fd: int) -> None:
        """Fails or forces to the disk."""
        self._step("sync")
        super().sync(fd)

    def rename(self, source: Path, target: Path) -> None:
        """Fails or renames."""
        self._step("rename")
        super().rename(source, target)

    def sync_folder(self, folder: Path) -> None:
        """Fails or forces the folder to the disk."""
        self._step("sync_folder")
        super().sync_folder(folder)


_FILES = Files()


def write_whole(path: str | os.PathLike[str], content: bytes, files: Files = _FILES) -> None:
    """Writes `content` to `path` so that a reader, or a machine that lost power, finds the old content or the new one.

    Args:
        path: the file; its folder must exist.
        content: all of the file.
        files: the operations to use.

    Raises:
        StorageError: the disk is full, the folder is missing or not writable; the old content still stands.
    """
    target = Path(path)
    sibling = target.with_name(f".{target.name}.{os.getpid()}.{os.urandom(4).hex()}.part")
    try:
        files.write(sibling, content)
        files.rename(sibling, target)
        files.sync_folder(target.parent)
    except OSError as error:
        try:
            sibling.unlink(missing_ok=True)
        except OSError:
            pass  # the folder itself is gone or read-only: nothing of ours is left there
        raise StorageError(
            f"{target}: could not be written: {error.strerror or error}; the old content stands"
        ) from error


def move_whole(made: str | os.PathLike[str], path: str | os.PathLike[str], files: Files = _FILES) -> None:
    """Puts a file that something else wrote, on the same disk, in the place of `path`, as `write_whole` would.

    Args:
        made: the file; gone afterwards.
        path: where it belongs; its folder must exist.
        files: the operations to use.

    Raises:
        StorageError: as `write_whole`.
    """
    target = Path(path)
    try:
        fd = os.open(made, os.O_RDONLY | os.O_CLOEXEC)
        try:
            files.sync(fd)
        finally:
            os.close(fd)
        files.rename(Path(made), target)
        files.sync_folder(target.parent)
    except OSError as error:
        raise StorageError(
            f"{target}: could not be written: {error.strerror or error}; the old content stands"
        ) from error


def read_whole(path: str | os.PathLike[str], max_bytes: int) -> bytes:
    """Reads a file that a user named: all of a regular file of a bounded size.

    Raises:
        UnreadableInput: missing, not readable, no regular file, or larger than `max_bytes`.
    """
    where = os.fspath(path)
    try:
        # Opening a pipe would wait for a writer, hence O_NONBLOCK and a look at what was opened.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as file:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise UnreadableInput(f"{where}: not a regular file")
            if status.st_size > max_bytes:
                raise UnreadableInput(f"{where}: has {status.st_size} bytes, more than the {max_bytes} that are read")
            return file.read()
    except UnreadableInput:
        raise
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UnreadableInput(f"{where}: cannot be read: {reason}") from None


def cache_folder(*parts: str) -> Path:
    """The folder for what can be made again (plans, verdicts, optimised graphs), created on demand.

    `EDGE_SDK_CACHE` names it; otherwise `$XDG_CACHE_HOME/edge-sdk`, otherwise `~/.cache/edge-sdk`.

    Raises:
        StorageError: it cannot be created.
    """
    root = os.environ.get(CACHE_VARIABLE)
    if not root:
        base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        root = os.path.join(base, "edge-sdk")
    folder = Path(root, *parts)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"{folder}: the cache folder cannot be created: {error.strerror}; set {CACHE_VARIABLE} to a writable folder"
        ) from error
    return folder


def drop_oldest(newest: Path, max_bytes: int) -> None:
    """Drops what was used longest ago of the files beside `newest` that end as it does, until all stay below a limit.

    Raises:
        OSError: the folder cannot be read.
    """
    entries = sorted(((file.stat(), file) for file in newest.parent.glob(f"*{newest.suffix}")), key=_used)
    total = sum(status.st_size for status, _ in entries)
    for status, file in entries:
        if total <= max_bytes or file == newest:
            break
        file.unlink(missing_ok=True)
        total -= status.st_size


def _used(entry: tuple[os.stat_result, Path]) -> int:
    return entry[0].st_mtime_ns

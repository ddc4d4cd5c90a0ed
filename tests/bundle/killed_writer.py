"""A process that kills itself while it writes a bundle, once at each operation. Run by `test_interrupted.py`.

    python -m tests.bundle.killed_writer FOLDER

For each point at which something reaches the disk a child is forked, does the write and ends by SIGKILL just there.
What is left is read, then the write is repeated. Prints as JSON what was found after each kill.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

from edge_sdk import bundle
from edge_sdk.errors import BundleIncomplete, ModelNotFound
from edge_sdk.storage import Files
from tests.bundle.making import LARGE, SMALL, everything, golden, make, variants

_ON_DISK = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.link"}


class UnsyncedFiles(Files):
    """File operations of a process that is not stopped: nothing has to be on the disk at once."""

    def sync(self, fd: int) -> None:
        """Nothing."""

    def sync_folder(self, folder: Path) -> None:
        """Nothing."""


class KilledFiles(UnsyncedFiles):
    """File operations of a process that is killed at one of them: before it, or in the middle of a write.

    Args:
        kill_at: number of the point, from 0.
    """

    def __init__(self, kill_at: int) -> None:
        self._left = kill_at
        sys.addaudithook(self._audit)

    def _point(self) -> None:
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self._left -= 1

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _ON_DISK or (event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_CREAT):
            self._point()

    def write(self, path: Path, content: bytes) -> None:
        """Killed before it, when half is written, or when all is."""
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        os.write(fd, content[: len(content) // 2])
        self._point()
        os.close(fd)
        os.unlink(path)
        super().write(path, content)
        self._point()

    def sync(self, fd: int) -> None:
        """Killed before it. What a killed process wrote stays in the kernel, synced or not."""
        self._point()

    def rename(self, source: Path, target: Path) -> None:
        """Killed before it or after it."""
        super().rename(source, target)
        self._point()

    def sync_folder(self, folder: Path) -> None:
        """Killed before it."""
        self._point()


def write_new(path: Path, how: str, as_zip: bool, storage: Files) -> None:
    """The write that is interrupted: one file stays, one goes, one comes."""
    if how == "update":
        files = {"third": LARGE}
        bundle.update(path, variants=variants("small", "third"), files=files, golden=[golden("third")], storage=storage)
    else:
        files = {"small": SMALL, "third": LARGE}
        parts: dict[str, Any] = {"variants": variants("small", "third"), "files": files, "golden": [golden("third")]}
        make(path, as_zip, storage=storage, **parts).close()


def killed(path: Path, how: str, as_zip: bool, kill_at: int) -> bool:
    """Whether a child that writes was killed at point `kill_at`; otherwise it came to its end."""
    child = os.fork()
    if child == 0:
        _write_and_end(path, how, as_zip, kill_at)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL, status
        return True
    assert os.WEXITSTATUS(status) == 0, "the child failed by itself"
    return False


def _write_and_end(path: Path, how: str, as_zip: bool, kill_at: int) -> NoReturn:
    try:
        write_new(path, how, as_zip, KilledFiles(kill_at))
    except BaseException:  # noqa: BLE001 - a forked child must never come back
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        os._exit(1)
    os._exit(0)


def found(path: Path) -> dict[str, Any] | None:
    """All that is in the bundle; None where there is none yet."""
    try:
        with bundle.open(path) as opened:
            return everything(opened)
    except (BundleIncomplete, ModelNotFound):
        return None


def left_over(path: Path) -> list[str]:
    """Files that no bundle names, after a write that came to its end."""
    with bundle.open(path) as opened:
        named = {file.path for file in opened.manifest.files} | {"manifest.json"}
    inside = {p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()} if path.is_dir() else set()
    beside = {p.name for p in path.parent.iterdir() if p != path}
    return sorted((inside - named) | beside)


def states_after_kills(folder: Path, as_zip: bool, how: str) -> list[str]:
    """Kills a writer at every point there is: whether the bundle was then the old one or the new one, kill by kill."""
    folder.mkdir()
    path, saved = folder / "m.edge", folder.with_name(f"{folder.name}-saved")
    old = None
    if how != "create":
        make(path, as_zip, storage=UnsyncedFiles()).close()
        old = found(path)
    shutil.copytree(folder, saved)
    states: list[str] = []
    new = None
    while killed(path, how, as_zip, len(states)):
        state = found(path)
        write_new(path, how if state is not None else "create", as_zip, UnsyncedFiles())
        after = found(path)
        assert after is not None
        new = new or {key: after[key] for key in ("files", "golden")}
        assert {key: after[key] for key in new} == new, "the write that is repeated gives what it would have given"
        assert left_over(path) == [], "the next write removes what a killed one left"
        states.append("old" if state == old else "new" if state and {k: state[k] for k in new} == new else "broken")
        shutil.rmtree(folder)
        shutil.copytree(saved, folder)
    return states


def main(folder: Path) -> None:
    """All forms and ways."""
    found_states = {
        f"{form} {how}": states_after_kills(folder / f"{form}-{how}", form == "zip", how)
        for form in ("folder", "zip")
        for how in ("create", "replace", "update")
    }
    print(json.dumps(found_states))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

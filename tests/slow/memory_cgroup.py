"""A memory control group of the kernel, version 1 or 2, below this process's own, for one child."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

_ENTER = 'echo $$ > "$0/cgroup.procs" && exec "$@"'


class MemoryCgroup:
    """A group that may take so much.

    Args:
        folder: in the kernel's tree; made already.
        limit_mb: for all of its processes, and the pages of files that they read.
    """

    def __init__(self, folder: Path, limit_mb: int) -> None:
        self._folder = folder
        self._v2 = (folder / "memory.max").exists()
        (folder / ("memory.max" if self._v2 else "memory.limit_in_bytes")).write_text(str(limit_mb << 20))
        if self._v2 and (folder / "memory.swap.max").exists():
            (folder / "memory.swap.max").write_text("0")

    def run(self, command: Sequence[str], **arguments: object) -> subprocess.CompletedProcess[str]:
        """`subprocess.run` within the group."""
        entered = ["sh", "-c", _ENTER, str(self._folder), *command]
        return subprocess.run(entered, capture_output=True, text=True, check=False, **arguments)  # type: ignore[call-overload,no-any-return]

    def killed(self) -> int:
        """How many processes the kernel ended for want of memory."""
        told = (self._folder / ("memory.events" if self._v2 else "memory.oom_control")).read_text()
        found = re.search(r"^oom_kill (\d+)", told, re.MULTILINE)
        assert found is not None, told
        return int(found[1])

    def peak_mb(self) -> float:
        """The most that was taken; pages of files that the kernel can have back count too."""
        return int((self._folder / ("memory.peak" if self._v2 else "memory.max_usage_in_bytes")).read_text()) / 2**20


@contextmanager
def memory_cgroup(limit_mb: int) -> Iterator[MemoryCgroup]:
    """A group for one test; skips where this process may make none."""
    folder = _made(f"edge-sdk-test-{os.getpid()}")
    if folder is None:
        pytest.skip("no memory control group may be made here: it takes root and a kernel that has them")
    try:
        yield MemoryCgroup(folder, limit_mb)
    finally:
        for _ in range(500):  # the kernel lets go of a process a moment after it has ended
            try:
                folder.rmdir()
                break
            except OSError:
                time.sleep(0.01)


def _made(name: str) -> Path | None:
    """The folder of a new group with a memory controller, as far down the tree as the kernel grants one."""
    own = dict(line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines())
    for mount in Path("/proc/self/mounts").read_text().splitlines():
        _, point, kind, options, *_ = mount.split()
        if kind == "cgroup2":
            within, limit = own.get(""), "memory.max"
        elif kind == "cgroup" and "memory" in options.split(","):
            within, limit = (
                next((path for names, path in own.items() if "memory" in names), None),
                "memory.limit_in_bytes",
            )
        else:
            continue
        parts = Path((within or "/").lstrip("/")).parts
        for depth in range(len(parts), -1, -1):
            folder = Path(point, *parts[:depth], name)
            try:
                folder.mkdir()
            except OSError:
                continue
            if (folder / limit).exists():
                return folder
            folder.rmdir()
    return None

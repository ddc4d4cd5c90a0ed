"""Which threads an engine started, and on which CPUs they may run.

Engines do not tell their workers' ids, but Linux lets a new thread inherit the name of the thread that creates it. So
the calling thread bears a name of the runner's own while the engine may start workers: whatever bears it afterwards is
a worker, however many others load or start threads at the same time, and `top -H` shows whose it is.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from edge_sdk.device.affinity import thread_cpus
from edge_sdk.engines.base import ThreadPlacement

__all__ = ["WorkerMark"]

_TASKS = "/proc/self/task"
_numbers = itertools.count(1)


class WorkerMark:
    """Finds the threads that an engine starts for one runner.

    Args:
        engine: at most 7 characters, the beginning of the workers' name.
    """

    def __init__(self, engine: str) -> None:
        self.name = f"{engine}-{next(_numbers)}"  # the kernel keeps 15 characters

    @contextmanager
    def marking(self) -> Iterator[None]:
        """Threads started by the calling thread within belong to this runner."""
        own = f"{_TASKS}/{threading.get_native_id()}/comm"
        before = _read(own)
        if before is None or not _write(own, self.name):
            yield
            return
        try:
            yield
        finally:
            _write(own, before)

    def thread_ids(self) -> tuple[int, ...] | None:
        """Ids of the workers that live now; None where the kernel does not tell."""
        try:
            tids = [int(tid) for tid in os.listdir(_TASKS)]
        except OSError:
            return None
        # A Python thread bears the name only while the engine starts workers for it.
        of_python = {thread.native_id for thread in threading.enumerate()}
        return tuple(t for t in sorted(tids) if t not in of_python and _read(f"{_TASKS}/{t}/comm") == self.name)

    def placements(self) -> tuple[ThreadPlacement, ...] | None:
        """Where the workers may run now, as the kernel tells; None where it does not."""
        tids = self.thread_ids()
        if tids is None:
            return None
        placed = ((tid, thread_cpus(tid)) for tid in tids)
        return tuple(ThreadPlacement(tid, cpus) for tid, cpus in placed if cpus)


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read().rstrip("\n")
    except OSError:  # the thread has ended, or there is no /proc
        return None


def _write(path: str, name: str) -> bool:
    try:
        with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(name)
    except OSError:
        return False
    return True

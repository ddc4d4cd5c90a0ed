"""Which CPUs this process and its threads may use, and pinning a thread for a while."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

__all__ = ["running_on", "thread_cpus", "thread_ids", "usable_cpus"]

_ALLOWED = re.compile(r"^Cpus_allowed_list:\s*(\S*)$", re.MULTILINE)


def usable_cpus() -> tuple[int, ...]:
    """Ids of the CPUs the calling thread may run on: the kernel keeps offline CPUs and those outside the cpuset out."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


@contextmanager
def running_on(cpus: Sequence[int] | None) -> Iterator[None]:
    """Pins the calling thread to `cpus` and restores it exactly; threads created meanwhile inherit `cpus`.

    Args:
        cpus: CPU ids; None changes nothing.

    Raises:
        OSError: none of them may be used by this process.
    """
    if cpus is None or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def thread_ids() -> frozenset[int]:
    """Kernel ids of all threads of this process; empty where the system has no /proc."""
    try:
        return frozenset(int(name) for name in os.listdir("/proc/self/task"))
    except OSError:
        return frozenset()


def thread_cpus(thread_id: int) -> tuple[int, ...]:
    """CPUs that a thread of this process may run on, as the kernel tells; empty where it has ended."""
    try:
        with open(f"/proc/self/task/{thread_id}/status", encoding="ascii", errors="replace") as file:
            found = _ALLOWED.search(file.read())
    except OSError:
        return ()
    if found is None:
        return ()
    cpus: list[int] = []
    for part in found[1].split(","):
        first, _, last = part.partition("-")
        cpus += range(int(first), int(last or first) + 1)
    return tuple(cpus)

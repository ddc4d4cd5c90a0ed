"""CPUs that threads of this process may run on: reading, and pinning for a while."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from edge_sdk.device.sysroot import parse_cpu_list
from edge_sdk.errors import DeviceError

__all__ = ["running_on", "thread_cpus", "thread_ids", "usable_cpus"]

_TASKS = "/proc/self/task"


def usable_cpus() -> tuple[int, ...]:
    """CPUs the calling thread may run on, ascending; all of them where the system has no affinity."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


@contextmanager
def running_on(cpus: Sequence[int] | None) -> Iterator[None]:
    """Pins the calling thread to `cpus` for the time of the block, then gives it back exactly the CPUs it had.

    Threads created in the block inherit the CPUs and keep them afterwards. None, or a system without affinity, changes
    nothing.

    Raises:
        DeviceError: none of `cpus` may be used here.
    """
    if cpus is None or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, cpus)
    except (OSError, ValueError, OverflowError) as error:
        raise DeviceError(
            f"CPUs {sorted(cpus)} cannot be used: this process may run on {sorted(before)}; choose among these"
        ) from error
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def thread_ids() -> frozenset[int]:
    """Ids of all threads of this process, as the kernel numbers them; empty where `/proc` does not tell."""
    try:
        return frozenset(int(name) for name in os.listdir(_TASKS))
    except OSError:
        return frozenset()


def thread_cpus(thread_id: int) -> tuple[int, ...]:
    """CPUs that a thread of this process may run on, as the kernel says; empty where it has ended or nothing tells."""
    try:
        with open(f"{_TASKS}/{int(thread_id)}/status", "rb") as status:
            for line in status:
                if line.startswith(b"Cpus_allowed_list:"):
                    return tuple(sorted(parse_cpu_list(line.split(b":", 1)[1].decode()) or ()))
    except OSError:
        pass
    return ()

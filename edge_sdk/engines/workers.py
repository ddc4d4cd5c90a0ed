"""Which threads an engine started, and on which CPUs they may run.

Engines do not tell their workers' ids, but a worker inherits the affinity of the thread that creates it and appears
under /proc/self/task. So loading happens with the calling thread pinned, and what is new afterwards is the engine's.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from edge_sdk.device.affinity import running_on, thread_cpus, thread_ids
from edge_sdk.engines.base import ThreadPlacement

__all__ = ["read_back", "starting_workers"]

_ONE_AT_A_TIME = threading.RLock()
"""Two loads at once could not tell their workers apart."""


@contextmanager
def starting_workers(cpus: Sequence[int] | None) -> Iterator[set[int]]:
    """Pins the calling thread to `cpus` while an engine starts its workers; yields the set that will hold their ids."""
    found: set[int] = set()
    with _ONE_AT_A_TIME, running_on(cpus):
        before = thread_ids()
        try:
            yield found
        finally:
            of_python = {thread.native_id for thread in threading.enumerate()}
            found |= {tid for tid in thread_ids() - before if tid not in of_python}


def read_back(workers: Sequence[int]) -> tuple[ThreadPlacement, ...]:
    """Where these workers may run now, as the kernel tells; workers that have ended are left out."""
    placed = []
    for tid in sorted(workers):
        cpus = thread_cpus(tid)
        if cpus:
            placed.append(ThreadPlacement(tid, tuple(cpus)))
    return tuple(placed)

"""Which cores compute faster than others now, whatever the device says of them.

Cores that are alike on paper are not where one of them is held down by heat, by another program's real-time threads, or
by the host of a virtual machine. Each is timed for milliseconds; only what stays unequal counts.
"""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Callable, Sequence

from edge_sdk.device.affinity import running_on
from edge_sdk.errors import DeviceError

__all__ = ["UNEQUAL", "core_groups"]

UNEQUAL = 1.6
"""A core that takes so many times as long as the next faster one belongs to another group. A request that is shared out
evenly is as slow as the slowest core: two at less than this are clearly faster together than the fast one alone."""
TIMED_S, TIMES = 1e-3, 3
"""So long each core computes, so often; the shortest counts."""
CONFIRMED, APART_S = 3, 4e-3
"""Unequal cores are timed so many times more, so far apart: what comes and goes is no reason."""
PROBED_BYTES = 1 << 14

Timed = Callable[[int], float]


def core_groups(
    cpus: Sequence[int], timed: Timed | None = None, sleep: Callable[[float], None] = time.sleep
) -> tuple[tuple[int, ...], ...]:
    """CPUs by how fast they compute now, the fastest group first; one group where they are alike, or cannot be told
    apart. Takes 3 ms a core where they are alike, and four times that where they are not.

    Args:
        cpus: those to time.
        timed: how long a CPU takes for a piece of work, in seconds.
        sleep: waits so many seconds.
    """
    alike = (tuple(cpus),)
    if len(cpus) < 2:
        return alike
    try:
        timed = timed or _sized(cpus[0])
        groups = _grouped(cpus, timed)
        for _ in range(CONFIRMED):
            if len(groups) < 2:
                return alike
            sleep(APART_S)
            if _grouped(cpus, timed) != groups:
                return alike
    except DeviceError:
        return alike
    return groups


def _grouped(cpus: Sequence[int], timed: Timed) -> tuple[tuple[int, ...], ...]:
    shortest_s = {cpu: float("inf") for cpu in cpus}
    for _ in range(TIMES):
        for cpu in cpus:
            shortest_s[cpu] = min(shortest_s[cpu], timed(cpu))
    order = sorted(cpus, key=lambda cpu: shortest_s[cpu])
    groups = [[order[0]]]
    for faster, slower in itertools.pairwise(order):
        if shortest_s[slower] > shortest_s[faster] * UNEQUAL:
            groups.append([])
        groups[-1].append(slower)
    return tuple(tuple(sorted(group)) for group in groups)


def _sized(cpu: int) -> Timed:
    """Work that takes about `TIMED_S` here: hashing, during which other Python threads go on."""
    took_s = min(_hashing_s(cpu, bytes(PROBED_BYTES)) for _ in range(TIMES))
    data = bytes(int(PROBED_BYTES * min(max(TIMED_S / max(took_s, 1e-9), 1.0), 256.0)))
    return lambda on: _hashing_s(on, data)


def _hashing_s(cpu: int, data: bytes) -> float:
    with running_on((cpu,)):
        began_s = time.perf_counter()
        hashlib.sha256(data)
        return time.perf_counter() - began_s

"""A model so small that its split is plain: y = 3 * (x + 1), head x + 1, tail times 3."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from edge_sdk.offload import LocalTail, SplitRunner, SplitSpec
from edge_sdk.tensors import Array, TensorSpec
from edge_sdk.wire.endpoint import Endpoint, TailIdentity
from edge_sdk.wire.simulated import SimulatedTimeline

IDENTITY = TailIdentity(bundle="sha256:1234", cut="c0ffee", codec="none")
SPLIT = SplitSpec(
    name="model",
    inputs=(TensorSpec("x", "float32", (1, 4)),),
    outputs=(TensorSpec("y", "float32", (1, 4)),),
    tail="model@c0ffee",
    travels=("h",),
    gives=(TensorSpec("y", "float32", (1, 4)),),
    identity=IDENTITY,
)

SETTLED = 200
"""Requests after which engines, threads and the allocator have what they need."""
MOST_GROWTH_MB = 8.0
"""For threads that wait for a silent endpoint, and the allocator; 1,800 requests that leak 5 KB each take more."""


def resident_mb() -> float:
    """Memory that this process holds now, in MiB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def feeds_of(number: float) -> dict[str, Array]:
    return {"x": np.full((1, 4), number, np.float32)}


def answer_of(number: float) -> Array:
    return np.full((1, 4), 3 * (number + 1), np.float32)


def head(feeds: Mapping[str, Any]) -> dict[str, Array]:
    return {"h": feeds["x"] + np.float32(1)}


def tail(feeds: Mapping[str, Any]) -> dict[str, Array]:
    return {"y": feeds["h"] * np.float32(3)}


class Timed:
    """Computes something and lets simulated time pass meanwhile.

    Attributes:
        calls: when each call began, in seconds.
    """

    def __init__(self, compute: Any, timeline: SimulatedTimeline, ms: float) -> None:
        self.compute, self.timeline, self.ms = compute, timeline, ms
        self.calls: list[float] = []

    def __call__(self, feeds: Mapping[str, Any]) -> Any:
        self.calls.append(self.timeline())
        self.timeline.sleep(self.ms / 1e3)
        return self.compute(feeds)


def simulated_split(
    timeline: SimulatedTimeline,
    endpoints: list[Endpoint],
    *,
    local_ms: float = 30.0,
    head_ms: float = 0.0,
    **options: Any,
) -> tuple[SplitRunner, Timed]:
    """A runner in simulated time, and its local tail."""
    local = Timed(tail, timeline, local_ms)
    known = LocalTail(lambda: local, expected_ms=local_ms, timeline=timeline)
    runner = SplitRunner(SPLIT, Timed(head, timeline, head_ms), known, endpoints, timeline=timeline, **options)
    return runner, local

"""How long the requests of a session took: by stage, and inside the model by the way it ran."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from edge_sdk.metrics import Histogram, joined

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edge_sdk.planner import Plan

__all__ = ["Timings", "Way"]


class Way(NamedTuple):
    """What answered requests on the device, in words: of what a plan says, that which latency depends on."""

    variant: str
    engine: str
    accelerator: str
    placement: str


class Timings:
    """Histograms of one session. Any number of threads may write and read.

    Args:
        plan: the one that runs first.

    Attributes:
        stages: all but "run", by name.
    """

    def __init__(self, plan: Plan) -> None:
        self.stages = {name: Histogram() for name in ("decode", "pre", "queue", "post")}
        self._ways: dict[Way, Histogram] = {}
        self.begin(plan)

    def begin(self, plan: Plan) -> None:
        """What is added from now on ran as this plan says."""
        way = Way(plan.variant, plan.engine, plan.accelerator, plan.placement.describe())
        self._now = self._ways.setdefault(way, Histogram())

    def add(self, times_ms: Iterable[float]) -> None:
        """Takes durations of requests."""
        now = self._now
        now.pending.extend(times_ms)
        now.drain()

    def ways(self) -> dict[Way, Histogram]:
        """All of "run", by the way the model ran."""
        return self._ways.copy()

    def by_stage(self) -> dict[str, Histogram]:
        """All of them in the order of a request; "run" of all ways together, as it was when this was called."""
        stages = self.stages.copy()
        before = {name: stages.pop(name) for name in ("decode", "pre", "queue")}
        return {**before, "run": joined(self.ways().values()), **stages}

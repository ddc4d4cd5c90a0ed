"""One model in several lanes: a runner on each group of CPUs, among which independent requests are shared out.

A request that computes on cores of unequal speed is as slow as the slowest of them. Requests that need not wait for
each other are better off on one group of cores each: none waits for another one's threads.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from edge_sdk.engines.base import PlacementReport, Runner
from edge_sdk.metrics import Histogram
from edge_sdk.planner.overlapping import Overlapping
from edge_sdk.schedule.turns import LaneFigures, Turns

__all__ = ["LanesRunner"]

MOST_FOR_ONE = 4
"""So many requests wait for one lane at most, however much faster it is than the slowest."""


class LanesRunner(Overlapping):
    """Several runners of one model; a request computes on that which answers it first. As many callers as there are
    lanes are answered at once, further ones wait.

    Args:
        runners: at least one, all of one file; closed with this one.
        service_ms: what a request takes on each, where that is known.

    Attributes:
        cpus: of each lane.
    """

    def __init__(self, runners: Sequence[Runner], service_ms: Sequence[float | None] | None = None) -> None:
        first = runners[0]
        self.engine, self.model, self.options = first.engine, first.model, first.options
        self.inputs, self.outputs, self.optional_inputs = first.inputs, first.outputs, first.optional_inputs
        self.notes = (*first.notes, f"{len(runners)} lanes")
        self.queue, self.keeps_state = Histogram(), first.keeps_state
        self.cpus = tuple(runner.options.cpus or () for runner in runners)
        self._runners = tuple(runners)
        self._turns = Turns(service_ms or [None] * len(runners))
        self._closed = False

    def run(self, feeds: Mapping[str, Any], out: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """See `Runner.run`."""
        came_s = time.perf_counter()
        with self._turns.turn() as lane:
            self.queue.record((time.perf_counter() - came_s) * 1e3)
            return self._runners[lane].run(feeds, out)

    @property
    def at_once(self) -> int:  # type: ignore[override]
        """Callers that keep every lane busy: a slow one has requests only while more wait than fast ones end first."""
        known = [lane.service_ms for lane in self._turns.figures()]
        slowest_ms = max((ms for ms in known if ms is not None), default=0.0)
        if slowest_ms == 0.0 or None in known:
            return 2 * len(known)
        return sum(min(math.ceil(slowest_ms / max(ms or 0.0, 1e-6)), MOST_FOR_ONE) for ms in known)

    def lanes(self) -> tuple[LaneFigures, ...]:
        """How each went so far."""
        return self._turns.figures()

    def request_ms(self) -> float:
        """What a request takes in the slowest lane, as known now."""
        return max((lane.service_ms or 0.0) for lane in self._turns.figures())

    def placement(self) -> PlacementReport:
        """See `Runner.placement`; nodes as the first lane has them, as all do."""
        reports = [runner.placement() for runner in self._runners]
        return PlacementReport(
            threads=tuple(thread for report in reports for thread in report.threads),
            nodes=reports[0].nodes,
            verified=all(report.verified for report in reports),
        )

    def close(self) -> None:
        """See `Runner.close`."""
        if not self._closed:
            self._closed = True
            self._turns.close()
            for runner in self._runners:
                runner.close()

"""The levels of one session: its other ways to run, loaded beside its requests, and how often it runs.

While a level runs, the next way below it is loaded already: a step down, which is made because it is hot, waits for
nothing. A step up loads first. Requests in flight end on the way they began on.
"""

from __future__ import annotations

import logging
import math
import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from edge_sdk.activation import Active, active_as
from edge_sdk.device.affinity import usable_cpus
from edge_sdk.errors import EdgeError, SessionClosed
from edge_sdk.plan_runners import engines_of
from edge_sdk.planner import Figures, this_device
from edge_sdk.planner.power_levels import PowerLevel, power_levels
from edge_sdk.schedule.governor import Level
from edge_sdk.schedule.pacing import Pace

if TYPE_CHECKING:
    from edge_sdk.planner import Candidate, Plan
    from edge_sdk.session import Session

__all__ = ["SessionLevels"]

_log = logging.getLogger(__name__)

TIMED_RUNS = 5


class SessionLevels:
    """Steps one session. What `Governing` takes; for one thread at a time, while any number of others run the session.

    A session with carried state, with endpoints or as a cascade changes only how often it runs: anything else would
    lose the state, or undo what follows the link.

    Args:
        session: from here on it does not plan anew by itself.
        rate_hz: to be held while that is possible.
        most_accurate: the first level is the most accurate variant that holds the rate, not what the plan chose.
        clock: seconds.

    Attributes:
        pace: what asks before each request goes at the rate of the level.
        steps: the levels with their figures.
    """

    def __init__(
        self,
        session: Session,
        rate_hz: float | None = None,
        most_accurate: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.session, self.rate_hz, self._most_accurate = session, rate_hz, most_accurate
        self.pace = Pace(clock)
        self._comes_hz: float | None = None
        self._spare: tuple[Candidate, Active] | None = None
        session.plan_no_more()
        self._make()

    def _make(self) -> None:
        active, settings = self.session.running()
        plan = self._timed(active)
        self._variants, self._runs, self._placed = active.variants, plan.chosen, active
        able = engines_of(active.variants, settings.engine)
        movable = not settings.state and settings.offload is None and plan.kind == "local"
        self.steps: tuple[PowerLevel, ...] = power_levels(
            plan,
            settings.device or this_device(),
            {engine.name: engine for engines in able.values() for engine in engines},
            usable_cpus(),
            rate_hz=self.rate_hz,
            comes_hz=settings.wish.rate_hz,
            max_latency_ms=settings.wish.max_latency_ms,
            other_ways=movable,
            most_accurate=self._most_accurate,
        )
        if self.steps[0].candidate.runs_as(self._runs):
            self.pace.hz = self.steps[0].pace_hz
        else:
            self.go(0, f"begins with {self.steps[0].name}")

    def _timed(self, active: Active) -> Plan:
        """The plan, with what a request takes where planning did not measure it."""
        plan, (_, settings) = active.plan_now(), self.session.running()
        if plan.measured is not None or plan.kind != "local" or settings.state:
            return plan
        try:
            self.session.warm_up()
            times_ms = [self.session.warm_up() for _ in range(TIMED_RUNS)]
        except EdgeError as error:  # made-up inputs that the model refuses
            _log.info("%s: not timed: %s", active.name, error)
            return plan
        measured = Figures(latency_ms=statistics.median(times_ms), runs=TIMED_RUNS)
        chosen = msgspec.structs.replace(plan.chosen, measured=measured)
        rows = tuple(chosen if row.runs_as(chosen) else row for row in plan.candidates)
        return msgspec.structs.replace(plan, measured=measured, candidates=rows)

    @property
    def levels(self) -> tuple[Level, ...]:
        """The best first."""
        return tuple(step.level for step in self.steps)

    def refresh(self) -> bool:
        """Makes the levels anew where another model was put into the session; whether it did.

        Raises:
            SessionClosed: it was closed.
        """
        active, _ = self.session.running()
        if active.variants is self._variants:
            return False
        self._drop_spare()
        self._make()
        return True

    def go(self, level: int, why: str) -> None:
        """Runs the session at a level from now on. Where its way cannot be loaded, the way stays, and the pace changes.

        Raises:
            SessionClosed: the session was closed.
        """
        step = self.steps[level]
        if not step.candidate.runs_as(self._runs):
            why = self._switch(step.candidate, why)
        else:
            self.session.tell(why)
        self.pace.hz = self._pace_hz(step)

    def _switch(self, wanted: Candidate, why: str) -> str:
        active, settings = self.session.running()
        spare, self._spare = self._spare, None
        new: Active | None = None
        if spare is not None and spare[0].runs_as(wanted):
            new = spare[1]
        try:
            new = new or active_as(active, wanted, settings)
            new.plan = msgspec.structs.replace(new.plan, reason=why)
            old = self.session.switch(new, why)
        except SessionClosed:
            if new is not None:
                new.retire(wait=False)
            raise
        except EdgeError as error:
            self.session.tell(
                f"{why}; but {wanted.variant}, {wanted.describe()} does not load, and its pace alone counts: {error}"
            )
            return why
        finally:
            if spare is not None and spare[1] is not new:
                spare[1].retire(wait=False)
        if old is self._placed:
            self._spare = self._runs, old
        else:  # something else took its place, because it failed
            old.retire(wait=False)
        self._runs, self._placed = wanted, new
        return why

    def _pace_hz(self, step: PowerLevel) -> float:
        if step.share == 1:
            self._comes_hz = None
            return step.pace_hz
        if self._comes_hz is None:
            able_hz = 1e3 / step.latency_ms if step.latency_ms else math.inf
            self._comes_hz = min(self.pace.comes_hz() or able_hz, able_hz)
        return self._comes_hz * step.share

    def settle(self, level: int) -> None:
        """Has the next way below a level ready, if memory allows both, and gives back what is not that."""
        below = next((step.candidate for step in self.steps[level:] if not step.candidate.runs_as(self._runs)), None)
        active, settings = self.session.running()
        if below is not None and not self._fit(below, settings.wish.max_memory_mb):
            below = None
        if self._spare is not None and (below is None or not self._spare[0].runs_as(below)):
            self._drop_spare()
        if below is None or self._spare is not None:
            return
        try:
            self._spare = below, active_as(active, below, settings)
        except EdgeError as error:
            _log.warning("%s: %s, %s does not load: %s", active.name, below.variant, below.describe(), error)

    def _fit(self, other: Candidate, max_memory_mb: float | None) -> bool:
        if max_memory_mb is None:
            return True
        return (self._runs.memory_mb or math.inf) + (other.memory_mb or math.inf) <= max_memory_mb

    def tell(self, event: str) -> None:
        """Adds a line to the session's events."""
        self.session.tell(event)

    def _drop_spare(self) -> None:
        if self._spare is not None:
            self._spare[1].retire(wait=False)
            self._spare = None

    def close(self) -> None:
        """Gives back what was ready; the session goes on as it runs now."""
        self._drop_spare()

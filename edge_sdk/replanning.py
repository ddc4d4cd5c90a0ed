"""Planning anew while requests run: when latency has left the plan, or a variant no longer fits in memory."""

from __future__ import annotations

import logging
import math
import statistics
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from edge_sdk.activation import Active, active_of
from edge_sdk.errors import EdgeError
from edge_sdk.events import Events
from edge_sdk.metrics import DRAIN_AT
from edge_sdk.planner.watching import Watch
from edge_sdk.settings import Settings

if TYPE_CHECKING:
    from edge_sdk.planner import Plan, Wish

__all__ = ["Replanner", "lighter_than", "worth_watching"]

_log = logging.getLogger(__name__)

BATCH_S = 2.0
LEAST_BATCH = 16
BUSY = 0.5
"""Requests that fill less than this share of the time are paced by whoever makes them."""


def worth_watching(settings: Settings, plan: Plan) -> bool:
    """Whether another plan could take over: there are others, the caller allows measuring, nothing is carried from call
    to call that would be lost, and latency is not a matter of a link or of how many callers there are too."""
    feasible = sum(candidate.feasible for candidate in plan.candidates)
    if not settings.replan or settings.state or settings.offload is not None or settings.batching is not None:
        return False
    if settings.keep_answers_bytes:
        return False  # what is answered without computing says nothing of the plan
    if settings.wish.objective == "throughput":
        return False
    return plan.measured is not None and feasible > 1 and settings.wish.budget_s > 0


class Replanner:
    """Watches one session's latencies, and makes a new plan in a thread of its own when they have left the plan.

    Args:
        settings: of the session.
        plan: the one it runs.
        take: puts a new `Active` in the place of the old; whether it did.
        events: of the session, told what happened.
        clock: seconds.
    """

    def __init__(
        self,
        settings: Settings,
        plan: Plan,
        take: Callable[[Active, Active], bool],
        events: Events,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        assert plan.measured is not None
        self._settings, self._take, self._events, self._clock = settings, take, events, clock
        self._watch = Watch(plan.measured.latency_ms, settings.wish.max_latency_ms, clock)
        self._lock = threading.Lock()
        self._batch: list[float] = []
        self._size = LEAST_BATCH
        self._at_s = clock()
        self._planning: threading.Thread | None = None
        self._stopped = False

    def add(self, times_ms: Iterable[float]) -> bool:
        """Takes latencies of requests, one each; whether there are enough to judge."""
        with self._lock:
            self._batch.extend(times_ms)
            return len(self._batch) >= self._size

    def judge(self, active: Active, feeds: dict[str, Any]) -> int:
        """Looks at what was added, if it is enough; how many requests make the next batch.

        Args:
            active: what answered them.
            feeds: the latest request's: a new plan is measured with them.
        """
        with self._lock:
            if len(self._batch) >= self._size:
                batch, self._batch = self._batch, []
                now_s = self._clock()
                lasted_s, self._at_s = now_s - self._at_s, now_s
                size = round(len(batch) * BATCH_S / lasted_s) if lasted_s > 0 else DRAIN_AT
                self._size = min(max(size, LEAST_BATCH), DRAIN_AT)
                median_ms = statistics.median(batch)
                if self._planning is None and (why := self._watch.see(median_ms)):
                    rate_hz = len(batch) / lasted_s if lasted_s > 0 else math.inf
                    self._start(why, median_ms, rate_hz, active, feeds)
            return self._size

    def _start(self, why: str, median_ms: float, rate_hz: float, active: Active, feeds: dict[str, Any]) -> None:
        wish = replace(self._settings.wish, sample=dict(feeds))
        if wish.rate_hz is None and rate_hz * median_ms / 1e3 < BUSY:
            wish = replace(wish, rate_hz=rate_hz)  # paced requests rank otherwise than such that follow at once
        self._planning = threading.Thread(
            target=self._plan_anew, args=(why, median_ms, active, wish), name="edge-sdk-replan", daemon=True
        )
        self._planning.start()

    def _plan_anew(self, why: str, median_ms: float, active: Active, wish: Wish) -> None:
        settings = replace(self._settings, wish=wish)
        expected_ms = median_ms
        try:
            new = active_of(active.name, active.variants, settings, Events(), time.perf_counter(), use_cache=False)
        except EdgeError as error:
            self._tell("replan_failed", f"planned anew because {why}: {error}; the plan stays")
        else:
            if _same(new.plan, active.plan):
                new.retire()
                self._tell("replan_kept", f"planned anew because {why}: the choice stays: {new.plan.reason}")
            elif self._stopped or not self._take(active, new):
                new.retire()
            else:
                if new.plan.measured is not None:
                    expected_ms = new.plan.measured.latency_ms
                self._tell("replanned", f"planned anew because {why}: now {new.plan.reason}")
        with self._lock:
            self._watch.planned_anew(expected_ms)
            self._planning = None
            self._batch.clear()
            self._at_s = self._clock()

    def _tell(self, kind: str, event: str) -> None:
        self._events.tell(kind, event)
        _log.warning("%s", event)

    def stop(self) -> None:
        """Lets a plan in the making come to nothing, and waits for it."""
        self._stopped = True
        with self._lock:
            planning = self._planning
        if planning is not None and planning is not threading.current_thread():
            planning.join()


def _same(new: Plan, old: Plan) -> bool:
    ways = [(plan.variant, plan.engine, plan.accelerator, plan.placement) for plan in (new, old)]
    return ways[0] == ways[1]


def lighter_than(active: Active, settings: Settings, cause: str) -> Active | None:
    """Another variant in the place of one that ran out of memory: the best among those with smaller files that hold the
    constraints; None where there is none.

    Raises:
        EdgeError: none of the lighter ones loads.
    """
    sizes = {variant.name: variant.file().size_bytes for variant in active.variants}
    lighter = tuple(v for v in active.variants if sizes[v.name] < sizes[active.plan.variant])
    for variant in active.variants:
        variant.close()
    floor = settings.wish.min_accuracy
    if floor is not None:
        lighter = tuple(v for v in lighter if v.accuracy is not None and v.accuracy >= floor)
    if not lighter:
        return None
    _log.warning("%s: %s; a lighter variant takes over", active.name, cause)
    return active_of(active.name, lighter, settings, Events(), time.perf_counter())

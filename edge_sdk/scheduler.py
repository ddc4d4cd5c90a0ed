"""Several models on one device, and promises to each of them.

    scheduler = edge_sdk.Scheduler()
    camera = scheduler.load("camera", "detector.edge", priority=1, rate_hz=30, when_full="drop_oldest")
    words = scheduler.load("words", "keywords.tflite", rate_hz=10)
    batch = scheduler.load("batch", "embedding.onnx")

What has a rate or a deadline is promised that it is kept, or refused in advance. Of what waits, higher priorities go
first, and within one the earliest deadline. What has no promise computes on what is left: its threads give way to all
others within the kernel, in the middle of a request too, so that a long one costs nobody a deadline.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from edge_sdk.admitting import Admitting, Way, give_way
from edge_sdk.errors import InputValueError
from edge_sdk.residence import Residence
from edge_sdk.schedule.admission import Demand
from edge_sdk.schedule.sharing import SharedCores
from edge_sdk.scheduled import Promise, Scheduled, ScheduledFigures

if TYPE_CHECKING:
    from edge_sdk.settings import ModelSource

__all__ = ["Scheduler"]

MODELS_SHARE = 0.75


class Scheduler:
    """Shares one device among several models. Any number of threads may call it; a context manager that closes all.

    Args:
        cores: how many CPUs compute at once; those this process may use where None.
        max_memory_mb: what all models together may take: those without a promise are unloaded while others need the
            room, the least recently used first, and loaded again when they are asked. Where None and the process is
            limited (a control group), three quarters of what is left of that; the rest is for loading and the caller.
        clock: seconds.
    """

    def __init__(
        self,
        cores: int | None = None,
        max_memory_mb: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        from edge_sdk.device.affinity import usable_cpus

        if cores is not None and cores < 1:
            raise InputValueError(f"cores is {cores}; expected 1 or more")
        self._shared: SharedCores[Scheduled] = SharedCores(cores or len(usable_cpus()), clock)
        self._residence = Residence(_left_mb() if max_memory_mb is None else max_memory_mb)
        self._admitting = Admitting(self._shared.cores, self._residence, self._demands)
        self._one_at_a_time = threading.Lock()

    def load(
        self,
        name: str,
        model: ModelSource,
        *,
        priority: int = 0,
        rate_hz: float | None = None,
        deadline_ms: float | None = None,
        when_full: str = "block",
        ahead: int = 1,
        **arguments: Any,
    ) -> Scheduled:
        """Loads a model to be run beside the others.

        Args:
            name: for reports; each once.
            model: as of `edge_sdk.load`.
            priority: higher goes first; among those with a promise.
            rate_hz: requests a second that will come.
            deadline_ms: from a request to its answer; the time between two requests where only a rate is given. Without
                either there is no promise: the session has what the others leave.
            when_full: what happens to requests beyond those that may wait: "block", "drop_oldest", "drop_newest", or
                "degrade": the oldest is dropped, and a lighter variant of the bundle answers while the best one that
                fits beside the others, or `variant`, does not keep up; all of them stay loaded.
            ahead: how many may wait.
            arguments: of `edge_sdk.load`. Where neither `threads` nor `cpus` are given, the cores are taken that keep
                the promise with least energy.

        Raises:
            AdmissionRefused: the promise cannot be kept beside those already made; the message has the figures.
            OutOfMemory: there is no room for it beside the models that stay loaded.
            InputValueError: an argument does not fit.
            EdgeError: as `edge_sdk.load`.
        """
        promise = Promise(priority, rate_hz, deadline_ms)
        if when_full == "degrade" and not promise.made:
            raise InputValueError(
                "when_full='degrade' is for what has a rate_hz or a deadline_ms: expected one of them"
            )
        arguments.setdefault("map_weights", self._residence.budget_mb is not None)
        arguments.setdefault("replan", False)  # latency is that of several models, and measuring would disturb them
        if "max_batch" in arguments and promise.made:
            arguments.setdefault("max_latency_ms", promise.due_ms)  # no request waits for others past its deadline
        admitting = self._admitting
        with self._one_at_a_time:  # two at once would each be promised what there is once
            self._shared.check_name(name)
            start = 0
            if not promise.made:
                ways: tuple[Way, ...] = (admitting.unpromised(name, model, arguments),)
            elif when_full == "degrade":
                ways, start = admitting.degrading(model, promise.demand(name), arguments)
            else:
                ways = (admitting.promised(model, promise.demand(name), arguments),)
            try:
                scheduled = Scheduled(
                    name, promise, ways, when_full, ahead, self._shared, self._residence, start, admitting.fits
                )
                self._shared.join(scheduled)
            except BaseException:
                for way in ways:
                    self._residence.remove(way.key)
                raise
        scheduled.start(None if promise.made else give_way)
        return scheduled

    def _demands(self) -> list[Demand]:
        return [other.demand for other in self._shared.contenders() if other.demand is not None]

    @property
    def sessions(self) -> tuple[Scheduled, ...]:
        """Those that are not closed, in the order in which they were loaded."""
        return self._shared.contenders()

    @property
    def max_memory_mb(self) -> float | None:
        """What all models together may take, in MiB; None for any."""
        return self._residence.budget_mb

    def resident_mb(self) -> dict[str, float]:
        """What the models that are loaded now take, in MiB, the least recently used first."""
        return self._residence.resident()

    def figures(self) -> tuple[ScheduledFigures, ...]:
        """How all sessions went so far, in the order in which they were loaded."""
        return tuple(scheduled.figures() for scheduled in self._shared.contenders())

    def close(self) -> None:
        """Closes all sessions; requests that wait are given up. Idempotent."""
        self._shared.close()
        for scheduled in self._shared.contenders():
            scheduled.close()
        self._residence.close()

    def __enter__(self) -> Scheduler:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _left_mb() -> float | None:
    """What models may take of a limit that the system sets to this process; None where it sets none."""
    from edge_sdk.device.limits import read_limits
    from edge_sdk.device.sysroot import Sysroot
    from edge_sdk.measuring.processes import memory_of

    limit_mb = read_limits(Sysroot()).memory_mb
    if limit_mb is None:
        return None
    return max(MODELS_SHARE * (limit_mb - (memory_of().resident_mb or 0.0)), 1.0)

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

import functools
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from edge_sdk.errors import AdmissionRefused, InputValueError
from edge_sdk.residence import Residence
from edge_sdk.schedule.admission import Demand, admissible
from edge_sdk.schedule.sharing import SharedCores
from edge_sdk.scheduled import Promise, Scheduled, ScheduledFigures

if TYPE_CHECKING:
    from edge_sdk.activation import ModelSource
    from edge_sdk.session import Session

__all__ = ["Scheduler"]

LEAST_NICE = 19
"""For what has no promise: a hundredth of a core beside what has."""
MODELS_SHARE = 0.75
MEASURED_S, MEASURED_RUNS = 0.3, 12


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
        self._admitting = threading.Lock()

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
            when_full: what happens to requests beyond those that may wait: "block", "drop_oldest" or "drop_newest".
            ahead: how many may wait.
            arguments: of `edge_sdk.load`. Where no `threads` are given, one is taken if that keeps the promise.

        Raises:
            AdmissionRefused: the promise cannot be kept beside those already made; the message has the figures.
            OutOfMemory: there is no room for it beside the models that stay loaded.
            InputValueError: an argument does not fit.
            EdgeError: as `edge_sdk.load`.
        """
        promise = Promise(priority, rate_hz, deadline_ms)
        arguments.setdefault("map_weights", self._residence.budget_mb is not None)
        arguments.setdefault("replan", False)  # latency is that of several models, and measuring would disturb them
        with self._admitting:  # two at once would each be promised what there is once
            self._shared.check_name(name)
            demand = self._resident(name, model, promise, arguments)
            try:
                scheduled = Scheduled(name, promise, demand, when_full, ahead, self._shared, self._residence)
                self._shared.join(scheduled)
            except BaseException:
                self._residence.remove(name)
                raise
        scheduled.start(None if promise.made else _give_way)
        return scheduled

    def _resident(self, name: str, model: ModelSource, promise: Promise, arguments: dict[str, Any]) -> Demand | None:
        """Loads it on as few cores as keep its promise; what it asks for."""
        size_mb = _thought_mb(model)
        if not promise.made:
            give_way = functools.partial(_loaded_to_give_way, model, arguments)
            self._residence.add(name, give_way, keep=False, size_mb=size_mb)
            return None
        from edge_sdk.loading import load

        tried = [arguments] if "threads" in arguments else [{**arguments, "threads": 1}, arguments]
        reason = ""
        for attempt in tried:
            load_it = functools.partial(load, model, **attempt)
            session = self._residence.add(name, load_it, keep=True, size_mb=size_mb)
            cores = min(session.plan.placement.threads or self._shared.cores, self._shared.cores)
            demand = promise.demand(name, _service_ms(session), cores)
            others = [other.demand for other in self._shared.contenders() if other.demand is not None]
            verdict = admissible(demand, others, self._shared.cores)
            if verdict.admitted:
                return demand
            self._residence.remove(name)
            reason = reason or verdict.reason
        raise AdmissionRefused(reason)

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


def _thought_mb(model: ModelSource) -> float:
    """What a model may take, before it was loaded: by the size of its file, of a bundle's largest."""
    from edge_sdk.planner.memory import memory_mb

    if isinstance(model, bytes):
        return memory_mb("", len(model), 0)
    if not isinstance(model, (str, os.PathLike)):
        return 0.0
    files = [Path(model)] if os.path.isfile(model) else [file for file in Path(model).rglob("*") if file.is_file()]
    return memory_mb("", max((file.stat().st_size for file in files), default=0), 0)


def _loaded_to_give_way(model: ModelSource, arguments: dict[str, Any]) -> Session:
    """Workers that the engine starts give way as the thread does that starts them."""
    from edge_sdk.loading import load

    with ThreadPoolExecutor(1, "edge-sdk-load", _give_way) as loading:
        return loading.submit(load, model, **arguments).result()


def _give_way() -> None:
    """The calling thread, and those that it starts, compute only while no other wants to."""
    if hasattr(os, "setpriority"):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LEAST_NICE)


def _service_ms(session: Session) -> float:
    """What a request takes alone, 95 of 100."""
    from edge_sdk.measuring.latencies import percentile

    session.warm_up(2)
    times: list[float] = []
    until_s = time.perf_counter() + MEASURED_S
    while len(times) < MEASURED_RUNS or time.perf_counter() < until_s:
        times.append(session.warm_up())
    return percentile(sorted(times), 0.95)

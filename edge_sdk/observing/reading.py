"""From what runs to a snapshot of it. Nothing here loads a model, waits for a request or keeps one waiting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from edge_sdk.device.cpu_topology import CPU_TREE
from edge_sdk.device.cpuinfo import read_cpuinfo
from edge_sdk.device.limits import read_limits
from edge_sdk.device.memory import installed_memory_mb
from edge_sdk.device.sysroot import Sysroot
from edge_sdk.device.thermal import read_frequencies, read_power, read_zones
from edge_sdk.measuring.processes import memory_of
from edge_sdk.observing.snapshot import (
    DeviceNow,
    GovernorNow,
    ProcessNow,
    ScheduledNow,
    SchedulerNow,
    SessionNow,
    WayNow,
    timing,
)
from edge_sdk.schedule.governor import Target
from edge_sdk.scheduled import Scheduled
from edge_sdk.scheduler import Scheduler
from edge_sdk.session import Session

__all__ = [
    "Leveled",
    "device_now",
    "governor_now",
    "process_now",
    "scheduled_now",
    "scheduler_now",
    "session_now",
]


class Named(Protocol):
    """A level, as far as it is told of."""

    @property
    def name(self) -> str:
        """What it is called."""


class Leveled(Protocol):
    """What steps among levels: a `Governor`, or a `Governed` session."""

    @property
    def levels(self) -> Sequence[Named]:
        """The best first."""

    @property
    def level(self) -> int:
        """The one to run now."""

    @property
    def target(self) -> Target:
        """What is held."""

    @property
    def reachable(self) -> bool:
        """Whether the target's rate is held."""


def session_now(session: Session) -> SessionNow:
    """A session as it is.

    Raises:
        SessionClosed: it was closed.
    """
    in_progress = session.in_progress
    report = session.report()
    return SessionNow(
        report=msgspec.structs.replace(
            report,
            plan=msgspec.structs.replace(report.plan, candidates=()),
            nodes=tuple(msgspec.structs.replace(nodes, names=()) for nodes in report.nodes),
            stages={name: timing(histogram) for name, histogram in session.stage_times().items()},
        ),
        ways=tuple(WayNow(**way._asdict(), run=timing(histogram)) for way, histogram in session.run_times().items()),
        in_progress=in_progress,
        split=session.split_figures(),
        endpoints=session.endpoint_figures(),
    )


def scheduled_now(scheduled: Scheduled, scheduler: str) -> ScheduledNow:
    """A session's part in its scheduler, which is called so."""
    figures, times, promise = scheduled.figures(), scheduled.times(), scheduled.promise
    return ScheduledNow(
        scheduler=scheduler,
        priority=promise.priority,
        deadline_ms=promise.due_ms if promise.made else None,
        rate_hz=promise.rate_hz,
        answered=figures.answered,
        failed=figures.failed,
        dropped=figures.dropped,
        missed=figures.missed,
        within=figures.within,
        waiting=scheduled.waiting,
        queue=timing(times["queue"]),
        service=timing(times["service"]),
        loads=figures.loads,
        memory_mb=scheduled.resident_mb(),
    )


def scheduler_now(scheduler: Scheduler, resident_mb: dict[str, float]) -> SchedulerNow:
    """A scheduler's memory; `resident_mb` as it told."""
    return SchedulerNow(max_memory_mb=scheduler.max_memory_mb, resident_mb=sum(resident_mb.values()))


def governor_now(governor: Leveled) -> GovernorNow:
    """A governor as it is."""
    return GovernorNow(
        level=governor.level,
        levels=tuple(level.name for level in governor.levels),
        max_c=governor.target.max_c,
        rate_hz=governor.target.rate_hz,
        reachable=governor.reachable,
    )


def device_now(sysroot: str) -> DeviceNow:
    """What changes of the machine from moment to moment, below its root folder."""
    files = Sysroot(sysroot)  # each time: what lies where may change too
    zones, info = tuple(read_zones(files).values()), read_cpuinfo(files)
    online = files.cpus(f"{CPU_TREE}/online") or (info.cpus if info is not None else ())
    cpus = read_frequencies(files, info, sorted(online), zones)
    bounds_mb = (installed_memory_mb(files), read_limits(files).memory_mb)
    return DeviceNow(
        zones=zones,
        throttled=cpus.throttled,
        why=cpus.why,
        cpu_mhz=cpus.now_mhz,
        power=read_power(files),
        memory_mb=min((bound for bound in bounds_mb if bound is not None), default=None),
    )


def process_now() -> ProcessNow:
    """What this process takes."""
    memory = memory_of()
    return ProcessNow(resident_mb=memory.resident_mb, private_mb=memory.private_mb, peak_mb=memory.peak_mb)

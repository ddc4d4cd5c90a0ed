"""Everything that is measured, as it was at one moment: value objects with one versioned JSON form."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from edge_sdk.device.facts import Power, ThermalZone
from edge_sdk.metrics import Histogram, Summary
from edge_sdk.report import Report

if TYPE_CHECKING:
    # Only those who have endpoints need what these bring along.
    from edge_sdk.offload import SplitFigures
    from edge_sdk.offloading import EndpointFigures

__all__ = [
    "EDGES_MS",
    "SCHEMA",
    "DeviceNow",
    "GovernorNow",
    "ModelNow",
    "ProcessNow",
    "ScheduledNow",
    "SchedulerNow",
    "SessionNow",
    "Snapshot",
    "Timing",
    "WayNow",
    "timing",
]

SCHEMA = 1

EDGES_MS = (
    *(0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0, 15.0, 20.0, 30.0, 50.0, 70.0),
    *(100.0, 150.0, 200.0, 300.0, 500.0, 700.0, 1000.0, 1500.0, 2000.0, 3000.0, 5000.0, 7000.0, 10000.0),
)
"""Six a decade: a quantile that Prometheus takes from them is right to a quarter, in the long run to less."""


class Timing(Summary, frozen=True, kw_only=True):
    """Durations: their figures since the beginning, and how many were at most as long as each of `edges_ms` of the
    snapshot (within 1 % of an edge on either side of it)."""

    total_ms: float
    up_to: tuple[int, ...]


def timing(histogram: Histogram) -> Timing:
    """What a histogram holds now."""
    distribution = histogram.distribution(EDGES_MS)
    figures = msgspec.structs.asdict(histogram.summary())
    # Requests may have come in between: count, sum and buckets are of one moment.
    return Timing(**{**figures, **msgspec.structs.asdict(distribution)})


class WayNow(msgspec.Struct, frozen=True, kw_only=True):
    """Requests that ran one way on the device; see `edge_sdk.timings.Way`."""

    variant: str
    engine: str
    accelerator: str
    placement: str
    run: Timing


class SessionNow(msgspec.Struct, frozen=True, kw_only=True):
    """A session.

    Attributes:
        report: as `Session.report()` has it, but `stages` are `Timing`s, the plan is without its
            table and the nodes without their names.
        ways: all that "run" took, by the way the model ran.
        in_progress: requests that compute, or wait inside the session.
        split: None without endpoints.
        endpoints: those that it may ask.
    """

    report: Report
    ways: tuple[WayNow, ...]
    in_progress: int
    split: SplitFigures | None = None
    endpoints: tuple[EndpointFigures, ...] = ()


class ScheduledNow(msgspec.Struct, frozen=True, kw_only=True):
    """A session's part in its scheduler.

    Attributes:
        scheduler: name of the scheduler.
        priority, deadline_ms, rate_hz: what it was promised; None where that was not named.
        answered, failed, dropped, missed, within: see `edge_sdk.scheduled.ScheduledFigures`.
        waiting: requests that wait for their turn.
        queue: waiting for its turn.
        service: computing.
        loads: how often the model was loaded.
        memory_mb: what it takes, in MiB; 0 while it is unloaded.
    """

    scheduler: str
    priority: int
    deadline_ms: float | None
    rate_hz: float | None
    answered: int
    failed: int
    dropped: int
    missed: int
    within: float | None
    waiting: int
    queue: Timing
    service: Timing
    loads: int
    memory_mb: float


class ModelNow(msgspec.Struct, frozen=True, kw_only=True):
    """One model: its session where it is in memory, and its part in a scheduler where it has one."""

    session: SessionNow | None = None
    scheduled: ScheduledNow | None = None


class SchedulerNow(msgspec.Struct, frozen=True, kw_only=True):
    """A scheduler; `max_memory_mb` is None where it holds no budget."""

    max_memory_mb: float | None
    resident_mb: float


class GovernorNow(msgspec.Struct, frozen=True, kw_only=True):
    """A governor: the level it says to run, 0 the best, and what it holds.

    Attributes:
        level, levels: index of the level that runs, and the names of all.
        max_c, rate_hz: of its target; None where that was not named.
        reachable: whether the target's rate is held.
    """

    level: int
    levels: tuple[str, ...]
    max_c: float | None
    rate_hz: float | None
    reachable: bool


class DeviceNow(msgspec.Struct, frozen=True, kw_only=True):
    """The machine; None and empty where no source tells.

    Attributes:
        zones: temperature sensors, in the kernel's order.
        throttled, why: whether something holds the frequencies down, and what.
        cpu_mhz: by CPU.
        power: where it comes from.
        memory_mb: what this process may take of the memory, in MiB: installed, or the cgroup's limit.
    """

    zones: tuple[ThermalZone, ...] = ()
    throttled: bool | None = None
    why: str = ""
    cpu_mhz: dict[str, int] = {}
    power: Power = Power()
    memory_mb: int | None = None


class ProcessNow(msgspec.Struct, frozen=True, kw_only=True):
    """Memory of this process in MiB; see `edge_sdk.measuring.processes.Memory`."""

    resident_mb: float | None = None
    private_mb: float | None = None
    peak_mb: float | None = None


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """All of it.

    Attributes:
        at_s: seconds since 1970.
        version: of this package.
        edges_ms: of all timings.
        models, schedulers, governors: by the names they were given.
        unread: times that something could not be read, and is missing from a snapshot.
    """

    schema: int = SCHEMA
    at_s: float
    version: str
    edges_ms: tuple[float, ...] = EDGES_MS
    models: dict[str, ModelNow] = {}
    schedulers: dict[str, SchedulerNow] = {}
    governors: dict[str, GovernorNow] = {}
    device: DeviceNow = DeviceNow()
    process: ProcessNow = ProcessNow()
    unread: int = 0

"""The families of metrics in Prometheus' conventions (base units, `_total`, `_info`), and their samples of a snapshot.

What a new part of a report is told by is added here: a `Family`, and a function that yields its samples, in the list of
its kind (`OF_A_SESSION`, `OF_A_SCHEDULED`, `OF_ALL`).

Source: https://prometheus.io/docs/practices/naming/ and https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from edge_sdk.observing.snapshot import ScheduledNow, SessionNow, Snapshot, Timing

__all__ = ["FAMILIES", "Family", "Sample", "samples"]

_MIB = float(1 << 20)


@dataclass(frozen=True, slots=True)
class Family:
    """Metrics of one name.

    Attributes:
        name: without the `_total` of a counter and the `_info` of an info.
        kind: "gauge", "counter", "histogram" or "info".
        help: one line.
        labels: names of its labels.
    """

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()

    @property
    def exposed(self) -> str:
        """Its name on the page; a histogram's samples have `_bucket`, `_sum` and `_count` behind it."""
        return self.name + {"counter": "_total", "info": "_info"}.get(self.kind, "")


@dataclass(frozen=True, slots=True)
class Sample:
    """One of a family: the values of its labels, in their order, and its own."""

    family: Family
    labels: tuple[str, ...]
    value: float | Timing


_made: list[Family] = []


def _family(name: str, kind: str, told: str, *labels: str) -> Family:
    _made.append(Family(f"edge_sdk_{name}", kind, told, labels))
    return _made[-1]


_WAY = ("variant", "engine", "accelerator", "placement")

RUN = _family("run_seconds", "histogram", "Session.run, by the way the model ran on the device", "model", *_WAY)
STAGE = _family("stage_seconds", "histogram", "Other stages of a request: decode, pre, queue, post", "model", "stage")
IN_PROGRESS = _family("in_progress_requests", "gauge", "Requests that compute or wait inside the session", "model")
EVENTS = _family("events", "counter", "What happened: re-plans, fallbacks, swaps, failed requests", "model", "event")
PLAN = _family("plan", "info", "How the model runs now", "model", "file", "kind", *_WAY, "objective", "power_mode")
PLAN_LATENCY = _family("plan_latency_seconds", "gauge", "What the plan says a request takes", "model", "figure")
OBJECTIVE = _family("objective_latency_seconds", "gauge", "What a request may take: max_latency_ms of load", "model")
NODES = _family("nodes", "gauge", "Nodes of the graph by the place where they run", "model", "place")
VERIFIED = _family("placement_verified", "gauge", "1 where engine and kernel told where it runs", "model")
LOAD = _family("load_seconds", "gauge", "Opening, checking, planning and loading", "model")
FIRST = _family("first_result_seconds", "gauge", "From the call of load to the first answer", "model")
LANE_REQUESTS = _family("lane_requests", "counter", "Requests that each lane answered", "model", "lane", "cpus")
LANE_SERVICE = _family("lane_service_seconds", "gauge", "What a request takes in a lane now", "model", "lane", "cpus")

_ACCELERATOR = ("model", "accelerator", "index")
ACCELERATOR_STATE = _family("accelerator_state", "gauge", "1 for the state that it is in", *_ACCELERATOR, "state")
ACCELERATOR_ANSWERS = _family("accelerator_answers", "counter", "Its requests by who answered", *_ACCELERATOR, "by")
ACCELERATOR_FAILURES = _family("accelerator_failures", "counter", "How often it failed", *_ACCELERATOR, "cause")
ACCELERATOR_RESTORES = _family("accelerator_restores", "counter", "How often it came back", *_ACCELERATOR)
ACCELERATOR_UNVERIFIED = _family(
    "accelerator_unverified_answers", "gauge", "Since it was last seen to compute rightly", *_ACCELERATOR
)

SPLIT_REQUESTS = _family("split_requests", "counter", "Requests by who answered them", "model", "answered")
SPLIT_HEDGED = _family("split_hedged_requests", "counter", "Another way was begun beside a late endpoint", "model")
SPLIT_RESTING = _family("split_resting_requests", "counter", "Answered here as all endpoints rested", "model")
SPLIT_LATE = _family("split_late_requests", "counter", "Answered after their deadline", "model")
SPLIT_BESIDE = _family("split_beside_requests", "counter", "Copies to another endpoint, to learn of it", "model")
SPLIT_MOVES = _family("split_moves", "counter", "Another endpoint became the preferred one", "model")
ENDPOINT_UP = _family("endpoint_up", "gauge", "1 where it may be asked, 0 where it failed", "model", "endpoint")
LINK_RTT = _family("link_rtt_seconds", "gauge", "Round trip to an endpoint", "model", "endpoint")
LINK_SPEED = _family(
    "link_bytes_per_second", "gauge", "Bandwidth to an endpoint (up) and back (down)", "model", "endpoint", "direction"
)
LINK_FAILURES = _family("link_failure_ratio", "gauge", "Latest requests that got no answer", "model", "endpoint")

REQUESTS = _family("scheduled_requests", "counter", "Requests by what came of them", "model", "outcome")
MISSED = _family("missed_deadlines", "counter", "Requests answered after their deadline", "model")
QUEUE = _family("scheduled_queue_seconds", "histogram", "Waiting for its turn among the other models", "model")
SERVICE = _family("scheduled_service_seconds", "histogram", "Computing, when it was its turn", "model")
WAITING = _family("scheduled_waiting_requests", "gauge", "Requests that wait for their turn", "model")
DEADLINE = _family("promised_deadline_seconds", "gauge", "From a request to its answer, as promised", "model")
RATE = _family("promised_rate_hertz", "gauge", "Requests a second, as promised", "model")
PRIORITY = _family("priority", "gauge", "Higher goes first", "model")
LOADS = _family("model_loads", "counter", "How often a model was loaded", "scheduler", "model")
MODEL_MEMORY = _family("model_memory_bytes", "gauge", "What a model takes; 0 while unloaded", "scheduler", "model")
BUDGET = _family("memory_budget_bytes", "gauge", "What all models of a scheduler may take", "scheduler")

LEVEL = _family("governor_level", "gauge", "The level that runs, 0 the best", "governor")
LEVEL_NAME = _family("governor", "info", "The level that runs, by name", "governor", "level")
LEVELS = _family("governor_levels", "gauge", "How many levels there are", "governor")
GOVERNED = _family("governor_target_celsius", "gauge", "The temperature that is held", "governor")
REACHABLE = _family("governor_target_reachable", "gauge", "1 while the target's rate is held", "governor")

ZONE = _family("thermal_zone_celsius", "gauge", "Temperature of a sensor", "zone", "index")
TRIP = _family("thermal_zone_trip_celsius", "gauge", "Where the kernel begins to throttle", "zone", "index")
THROTTLED = _family("throttled", "gauge", "1 while something holds the frequencies down")
FREQUENCY = _family("cpu_frequency_hertz", "gauge", "Of a CPU now", "cpu")
BATTERY = _family("battery_ratio", "gauge", "What is left of the battery")
ON_BATTERY = _family("on_battery", "gauge", "1 while a battery feeds the device")
RESIDENT = _family("process_resident_memory_bytes", "gauge", "Of this process, files that it maps among it")
PRIVATE = _family("process_private_memory_bytes", "gauge", "Of this process, shared with no other")
PEAK = _family("process_peak_memory_bytes", "gauge", "The most that was resident")
LIMIT = _family("memory_limit_bytes", "gauge", "What this process may take: installed, or the limit of its cgroup")
VERSION = _family("build", "info", "The package", "version")
UNREAD = _family("unread", "counter", "Times that something could not be read, and is missing here")

FAMILIES = tuple(_made)
"""All of them."""


def samples(snapshot: Snapshot) -> Iterator[Sample]:
    """All that a snapshot holds."""
    for name, model in snapshot.models.items():
        if model.session is not None:
            for of_session in OF_A_SESSION:
                yield from of_session(name, model.session)
        if model.scheduled is not None:
            for of_scheduled in OF_A_SCHEDULED:
                yield from of_scheduled(name, model.scheduled)
    for of_all in OF_ALL:
        yield from of_all(snapshot)


def _given(family: Family, labels: tuple[str, ...], value: float | None, unit: float = 1.0) -> Iterator[Sample]:
    """A sample where there is a value, in the base unit."""
    if value is not None:
        yield Sample(family, labels, value * unit)


def _times(name: str, session: SessionNow) -> Iterator[Sample]:
    for way in session.ways:
        yield Sample(RUN, (name, way.variant, way.engine, way.accelerator, way.placement), way.run)
    for stage, found in session.report.stages.items():
        if stage != "run" and isinstance(found, Timing) and (found.count or stage == "queue"):
            yield Sample(STAGE, (name, stage), found)
    yield Sample(IN_PROGRESS, (name,), session.in_progress)
    yield Sample(LOAD, (name,), session.report.load_ms / 1e3)
    yield from _given(FIRST, (name,), session.report.first_result_ms, 1e-3)


def _events(name: str, session: SessionNow) -> Iterator[Sample]:
    for event, count in session.report.counts.items():
        yield Sample(EVENTS, (name, event), count)


def _plan(name: str, session: SessionNow) -> Iterator[Sample]:
    report, plan = session.report, session.report.plan
    way = (plan.variant, plan.engine, plan.accelerator, plan.placement.describe())
    said = (plan.objective, report.power_mode)
    yield Sample(PLAN, (name, report.model, plan.kind, *way, *said), 1.0)
    for figure, figures in (("predicted", plan.predicted), ("measured", plan.measured)):
        yield from _given(PLAN_LATENCY, (name, figure), None if figures is None else figures.latency_ms, 1e-3)
    yield from _given(OBJECTIVE, (name,), plan.holds.get("max_latency_ms"), 1e-3)


def _places(name: str, session: SessionNow) -> Iterator[Sample]:
    yield Sample(VERIFIED, (name,), float(session.report.verified))
    by_place: dict[str, int] = {}
    for nodes in session.report.nodes:
        by_place[nodes.where] = by_place.get(nodes.where, 0) + nodes.count
    for place, count in by_place.items():
        yield Sample(NODES, (name, place), count)
    for index, lane in enumerate(session.report.lanes):
        labels = (name, str(index), ",".join(map(str, lane.cpus)))
        yield Sample(LANE_REQUESTS, labels, lane.requests)
        yield from _given(LANE_SERVICE, labels, lane.service_ms, 1e-3)


def _accelerators(name: str, session: SessionNow) -> Iterator[Sample]:
    for index, accelerator in enumerate(session.report.accelerators):  # lanes have one each, of one name
        labels = (name, accelerator.name, str(index))
        for state in ("working", "quarantined", "probing"):
            yield Sample(ACCELERATOR_STATE, (*labels, state), float(accelerator.state == state))
        yield Sample(ACCELERATOR_ANSWERS, (*labels, "accelerator"), accelerator.answered)
        yield Sample(ACCELERATOR_ANSWERS, (*labels, "cpu"), accelerator.by_cpu)
        for cause in ("start", "error", "hang", "crash", "wrong"):
            yield Sample(ACCELERATOR_FAILURES, (*labels, cause), accelerator.failures.get(cause, 0))
        yield Sample(ACCELERATOR_RESTORES, labels, accelerator.restores)
        yield Sample(ACCELERATOR_UNVERIFIED, labels, accelerator.unverified)


def _split(name: str, session: SessionNow) -> Iterator[Sample]:
    figures = session.split
    if figures is None:
        return
    for answered, count in (("endpoint", figures.remote), ("here", figures.local), ("early exit", figures.early)):
        yield Sample(SPLIT_REQUESTS, (name, answered), count)
    yield Sample(SPLIT_HEDGED, (name,), figures.hedged)
    yield Sample(SPLIT_RESTING, (name,), figures.resting)
    yield Sample(SPLIT_LATE, (name,), figures.late)
    yield Sample(SPLIT_BESIDE, (name,), figures.beside)
    yield Sample(SPLIT_MOVES, (name,), figures.moved)


def _endpoints(name: str, session: SessionNow) -> Iterator[Sample]:
    for endpoint in {known.name: known for known in session.endpoints}.values():
        labels = (name, endpoint.name)
        yield Sample(ENDPOINT_UP, labels, float(endpoint.breaker == "closed"))
        yield from _given(LINK_RTT, labels, endpoint.rtt_ms, 1e-3)
        yield from _given(LINK_SPEED, (*labels, "up"), endpoint.up_mbps, 1e6 / 8)
        yield from _given(LINK_SPEED, (*labels, "down"), endpoint.down_mbps, 1e6 / 8)
        yield from _given(LINK_FAILURES, labels, endpoint.failure_share)


def _promise(name: str, scheduled: ScheduledNow) -> Iterator[Sample]:
    yield Sample(PRIORITY, (name,), scheduled.priority)
    yield from _given(DEADLINE, (name,), scheduled.deadline_ms, 1e-3)
    yield from _given(RATE, (name,), scheduled.rate_hz)


def _turns(name: str, scheduled: ScheduledNow) -> Iterator[Sample]:
    for outcome in ("answered", "failed", "dropped"):
        yield Sample(REQUESTS, (name, outcome), getattr(scheduled, outcome))
    yield Sample(MISSED, (name,), scheduled.missed)
    yield Sample(QUEUE, (name,), scheduled.queue)
    yield Sample(SERVICE, (name,), scheduled.service)
    yield Sample(WAITING, (name,), scheduled.waiting)


def _residence(name: str, scheduled: ScheduledNow) -> Iterator[Sample]:
    yield Sample(LOADS, (scheduled.scheduler, name), scheduled.loads)
    yield Sample(MODEL_MEMORY, (scheduled.scheduler, name), scheduled.memory_mb * _MIB)


def _budgets(snapshot: Snapshot) -> Iterator[Sample]:
    for name, scheduler in snapshot.schedulers.items():
        yield from _given(BUDGET, (name,), scheduler.max_memory_mb, _MIB)


def _governors(snapshot: Snapshot) -> Iterator[Sample]:
    for name, governor in snapshot.governors.items():
        yield Sample(LEVEL, (name,), governor.level)
        yield Sample(LEVEL_NAME, (name, governor.levels[governor.level]), 1.0)
        yield Sample(LEVELS, (name,), len(governor.levels))
        yield from _given(GOVERNED, (name,), governor.max_c)
        yield Sample(REACHABLE, (name,), float(governor.reachable))


def _device(snapshot: Snapshot) -> Iterator[Sample]:
    device = snapshot.device
    for index, zone in enumerate(device.zones):  # several may have one name
        yield from _given(ZONE, (zone.name, str(index)), zone.temperature_c)
        yield from _given(TRIP, (zone.name, str(index)), zone.trip_c)
    yield from _given(THROTTLED, (), device.throttled)
    for cpu, mhz in device.cpu_mhz.items():
        yield Sample(FREQUENCY, (cpu,), mhz * 1e6)
    yield from _given(BATTERY, (), device.power.battery_percent, 0.01)
    if device.power.source != "unknown":
        yield Sample(ON_BATTERY, (), float(device.power.source == "battery"))
    yield from _given(LIMIT, (), device.memory_mb, _MIB)


def _process(snapshot: Snapshot) -> Iterator[Sample]:
    process = snapshot.process
    yield from _given(RESIDENT, (), process.resident_mb, _MIB)
    yield from _given(PRIVATE, (), process.private_mb, _MIB)
    yield from _given(PEAK, (), process.peak_mb, _MIB)
    yield Sample(VERSION, (snapshot.version,), 1.0)
    yield Sample(UNREAD, (), snapshot.unread)


OF_A_SESSION: tuple[Callable[[str, SessionNow], Iterator[Sample]], ...] = (
    _times,
    _events,
    _plan,
    _places,
    _accelerators,
    _split,
    _endpoints,
)
OF_A_SCHEDULED: tuple[Callable[[str, ScheduledNow], Iterator[Sample]], ...] = (_promise, _turns, _residence)
OF_ALL: tuple[Callable[[Snapshot], Iterator[Sample]], ...] = (_budgets, _governors, _device, _process)

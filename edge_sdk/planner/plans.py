"""A `Plan` and the table of `Candidate`s it was chosen from, as value objects with one versioned JSON form."""

from __future__ import annotations

import msgspec

from edge_sdk.schedule.placing import Placement

__all__ = ["SCHEMA", "Candidate", "Escalation", "Figures", "LinkFigures", "Plan", "Remote"]

SCHEMA = 1


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What a candidate costs: predicted, or measured over `runs` requests.

    Attributes:
        latency_ms: median of one request inside the engine; of several lanes that of the slowest, of
            stages their sum.
        p95_ms: what 95 of 100 requests stay below.
        low_ms, high_ms: where a prediction expects `latency_ms` to lie.
        energy_mj: energy of one request in millijoules; an estimate where `energy_measured` is False.
        runs: how many requests were measured; 0 for a prediction.
        interval_ms: time from answer to answer while requests wait all the time; None where that is the latency.
    """

    latency_ms: float
    p95_ms: float | None = None
    low_ms: float | None = None
    high_ms: float | None = None
    energy_mj: float | None = None
    energy_measured: bool = False
    runs: int = 0
    interval_ms: float | None = None

    @property
    def pace_ms(self) -> float:
        """What counts for throughput: the time from answer to answer."""
        return self.latency_ms if self.interval_ms is None else self.interval_ms


class Remote(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a candidate that is not on the device.

    Attributes:
        endpoint: its name; "" for one that was only described.
        cut: id of the cut.
        tensors: what travels.
        codec: how these tensors are stored where they travel, as part of head and tail.
        coding: how their bytes are packed beyond that: "none", "deflate", "zstd", "jpeg@75", …
        up_bytes, down_bytes: bodies of request and answer.
        head_ms: what computes and encodes on the device.
        link_ms: the way there and back.
        endpoint_ms: queue and computing there.
        leakage: share of the input's variance that a linear decoder rebuilds from what travels; None where unknown.
        measured: whether `head_ms` and the bytes were measured on this device, or worked out from the graph.
    """

    endpoint: str
    cut: str
    tensors: tuple[str, ...]
    codec: str = "none"
    coding: str = "none"
    up_bytes: int
    down_bytes: int
    head_ms: float
    link_ms: float
    endpoint_ms: float
    leakage: float | None = None
    measured: bool = False

    def describe(self) -> str:
        """One phrase: "cut 3f21… as int8+zstd, 9,310 bytes to http://…"."""
        packed = "" if self.coding == "none" else f"+{self.coding}"
        coded = "" if self.codec == "none" and not packed else f" as {self.codec}{packed}"
        where = f" to {self.endpoint}" if self.endpoint else ""
        return f"{self.up_bytes:,} bytes{coded}{where}"


class Escalation(msgspec.Struct, frozen=True, kw_only=True):
    """The two parts of a cascade, and how often the big one is asked.

    Attributes:
        small, big: names of variants; equal where an early exit of it is the small one.
        score, threshold: an answer of the small one with this score or more stands.
        share: of requests that go to the big one, as held-out data showed.
        small_ms, big_ms: what a request to each takes.
        big_kind: how the big one runs: "local", "split" or "offload".
    """

    small: str
    big: str
    score: str
    threshold: float
    share: float
    small_ms: float
    big_ms: float
    big_kind: str


class LinkFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The link to an endpoint that a plan was made for.

    Attributes:
        endpoint: its name; "" for one that was only described.
        up_mbps, down_mbps: megabits a second from and to the device; None where nothing tells.
        rtt_ms: round trip.
        loss_share: of packets, from 0 to 1.
        stated: whether somebody said so, instead of measuring it.
        speed: how many times as fast as the device the endpoint is taken to be; None for one that tells itself.
    """

    endpoint: str
    up_mbps: float | None
    down_mbps: float | None
    rtt_ms: float
    loss_share: float = 0.0
    stated: bool = False
    speed: float | None = None


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """One way to run, with its figures.

    Attributes:
        kind: "local", "split" (head here, tail at an endpoint), "offload" (all of it there) or "cascade".
        variant: name of the model file.
        engine: what executes it.
        accelerator: "cpu", or the accelerator of that engine; in stages that of one of them.
        placement: CPUs and threads, of lanes and stages too.
        accuracy: of the variant, by the bundle's own metric; None where nobody measured it.
        memory_mb: what the process grows by when it is loaded and runs, in MiB: an estimate.
        feasible: whether it may be chosen at all; where not, `reason` says what stands against it.
        predicted: None where no rates or no graph are known.
        measured: None where it was not measured; `reason` says why.
        relative: what it costs (latency or energy) over what the chosen candidate costs, as measured in pairs; the
            quotient of two `measured` figures holds the machine's drift between them too.
        remote: what is at an endpoint; None for "local".
        cascade: its parts; None for other kinds.
        reason: one line: how it fared.
    """

    kind: str = "local"
    variant: str
    engine: str
    accelerator: str = "cpu"
    placement: Placement
    accuracy: float | None = None
    memory_mb: float | None = None
    feasible: bool = True
    predicted: Figures | None = None
    measured: Figures | None = None
    relative: float | None = None
    remote: Remote | None = None
    cascade: Escalation | None = None
    reason: str = ""

    @property
    def way(self) -> tuple[str, str, str]:
        """What is loaded, apart from where: variant, engine, accelerator."""
        shared = self.accelerator != "cpu" and self.placement.stages
        return self.variant, self.engine, f"{self.accelerator} and cpu" if shared else self.accelerator

    def runs_as(self, other: Candidate) -> bool:
        """Whether both are one way to run, whatever their figures."""
        mine, theirs = ((one.kind, one.way, one.placement, one.remote, one.cascade) for one in (self, other))
        return mine == theirs

    @property
    def figures(self) -> Figures | None:
        """The measured figures, or the predicted ones where there are no others."""
        return self.measured or self.predicted

    def describe(self) -> str:
        """One phrase: "onnxruntime, 2 threads on all CPUs"."""
        if self.cascade is not None:
            parts = self.cascade
            return f"cascade: {parts.small}, and {parts.big} ({parts.big_kind}) for {parts.share:.0%} of requests"
        if self.remote is not None:
            at = "the whole model elsewhere" if self.kind == "offload" else f"cut {self.remote.cut}"
            return f"{self.kind}: {at}, {self.remote.describe()}"
        where = "" if self.accelerator == "cpu" or self.placement.stages else f" on {self.accelerator}"
        return f"{self.engine}{where}, {self.placement.describe()}"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The chosen way to run a model on a device, and the table it was chosen from.

    Attributes:
        device: name of the device it was made for.
        objective: what was minimised: "latency", "throughput" (the time from answer to answer), "energy" or "bytes".
        holds: the constraints it was made under, by name: "min_accuracy", "max_latency_ms", "max_memory_mb",
            "max_bytes", "max_leakage", "keep_input_local" (1.0), "rate_hz".
        misses: those of `holds` that no candidate meets, so that this plan breaks them.
        confidence: how likely, from 0 to 1, the chosen candidate is no slower than any other that was measured; None
            where nothing was measured.
        remote: what is at an endpoint; None where all of it runs here.
        links: those that it was made for.
        cascade: its parts; None for other kinds.
        reason: one line that a person can read.
        cached: whether an earlier plan for the same model, device and engines was used.
        planning_ms: how long choosing took.
    """

    schema: int = SCHEMA
    kind: str
    model: str = ""
    device: str = ""
    variant: str
    engine: str
    accelerator: str
    placement: Placement
    objective: str
    holds: dict[str, float] = {}
    misses: tuple[str, ...] = ()
    accuracy: float | None = None
    confidence: float | None = None
    predicted: Figures | None = None
    measured: Figures | None = None
    remote: Remote | None = None
    links: tuple[LinkFigures, ...] = ()
    cascade: Escalation | None = None
    reason: str
    candidates: tuple[Candidate, ...] = ()
    cached: bool = False
    planning_ms: float = 0.0

    @property
    def figures(self) -> Figures | None:
        """The measured figures, or the predicted ones where there are no others."""
        return self.measured or self.predicted

    @property
    def chosen(self) -> Candidate:
        """The row of the table that was chosen; made of the plan's own figures where the table has none."""
        own = Candidate(
            kind=self.kind,
            variant=self.variant,
            engine=self.engine,
            accelerator=self.accelerator,
            placement=self.placement,
            accuracy=self.accuracy,
            predicted=self.predicted,
            measured=self.measured,
            remote=self.remote,
            cascade=self.cascade,
        )
        return next((row for row in self.candidates if row.runs_as(own)), own)

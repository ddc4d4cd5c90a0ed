"""`BenchResult`: what benching one model gave, with one versioned JSON form."""

from __future__ import annotations

import msgspec

from edge_sdk.measuring import Energy, Latencies, Memory, Paced, Soak, Throughput

__all__ = ["SCHEMA", "Against", "BenchResult", "RequestEnergy", "Start", "Way"]

SCHEMA = 1
SMALLEST = 0.02
"""Two processes that run the very same differ by this much, by the memory they happened to get."""


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """What ran, and how.

    Attributes:
        model: the file or bundle as it was named.
        variant: the variant of a bundle; the file's name otherwise.
        by: "edge-sdk" for a `Session`, "bare" for the engine as its own documentation calls it.
        engine: what executes it.
        engine_version: of the library; None where it does not tell.
        accelerator: "cpu", or the accelerator of that engine.
        placement: CPUs and threads in one phrase.
        why: the plan's reason; empty for a bare engine.
    """

    model: str
    variant: str
    by: str
    engine: str
    engine_version: str | None = None
    accelerator: str = "cpu"
    placement: str
    why: str = ""

    def describe(self) -> str:
        """One phrase: "digits.onnx by onnxruntime", "digits.onnx by bare onnxruntime"."""
        own = self.model.rpartition("/")[2] or self.model
        name = own if self.variant in (own, self.model) else f"{own}: {self.variant}"
        return f"{name} by {'bare ' if self.by == 'bare' else ''}{self.engine}"


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """Starting, in milliseconds: medians over `starts` fresh processes. The files were in the page cache, and plan and
    verdicts were kept from an earlier start.

    Attributes:
        cold_ms: from the start of the process to its first answer.
        load_ms: of that, loading the model; imports that it needs are in it.
        first_run_ms: of that, the first request.
    """

    starts: int
    cold_ms: float
    load_ms: float
    first_run_ms: float


class RequestEnergy(msgspec.Struct, frozen=True, kw_only=True):
    """Energy of requests that follow each other at once, measured.

    Attributes:
        total: over all timed requests; other work of the machine is in it.
        request_mj: of one request, all that the source delivered.
        idle_watts: of the machine just before, the model loaded and idle.
        above_idle_mj: of one request, less what the machine takes idle.
    """

    total: Energy
    request_mj: float
    idle_watts: float
    above_idle_mj: float


class Against(msgspec.Struct, frozen=True, kw_only=True):
    """How this compares with another model or engine, measured in turn, each in a process of its own.

    Attributes:
        way: what it was measured against.
        rate_hz: pace of the requests compared; None for back to back.
        ratio: latency of this over that of the other: below 1 this is the faster.
        low, high: between these the true ratio lies with 95 % probability.
        pairs: of blocks.
        other_ms, this_ms: medians over the compared runs.
        start, memory: of the other.
    """

    way: Way
    rate_hz: float | None
    ratio: float
    low: float
    high: float
    pairs: int
    other_ms: float
    this_ms: float
    start: Start | None
    memory: Memory

    def verdict(self) -> str:
        """The comparison in words."""
        likely = f"95 %: {self.low:.2f} to {self.high:.2f}; {self.pairs} pairs of blocks"
        times = f"{self.ratio:.2f} times the other's latency ({likely})"
        if self.low <= 1 <= self.high or abs(self.ratio - 1) < SMALLEST:
            return f"no difference shows: {times}"
        return f"{'faster' if self.ratio < 1 else 'slower'}: {times}"


class BenchResult(msgspec.Struct, frozen=True, kw_only=True):
    """What benching one model gave. Absent figures were not asked for, or cannot be had here.

    Attributes:
        way: what ran, and how.
        device: name of the machine.
        usable_cpus: how many CPUs the process may use.
        inputs: "made up", or the file they were read from.
        warm_up_runs: requests before the timed ones.
        latency: back to back, one caller.
        start: starting in a fresh process.
        memory: of the process that ran nothing else, after `latency`.
        memory_at_end: of the same process after all that was asked for.
        energy: None where it cannot be measured; `energy_note` says why, or by what it was.
        paced, concurrent, soak, against: where asked for.
        throttled: whether the machine was held down at the end; None where no source tells.
        notes: what else is worth telling: fallbacks, what loading found, re-planning.
    """

    schema: int = SCHEMA
    edge_sdk: str
    way: Way
    device: str
    usable_cpus: int
    inputs: str
    warm_up_runs: int
    latency: Latencies
    start: Start | None
    memory: Memory
    memory_at_end: Memory
    energy: RequestEnergy | None = None
    energy_note: str = ""
    paced: Paced | None = None
    concurrent: Throughput | None = None
    soak: Soak | None = None
    against: Against | None = None
    throttled: bool | None = None
    notes: tuple[str, ...] = ()

    def to_json(self) -> bytes:
        """The versioned JSON form."""
        return msgspec.json.encode(self)

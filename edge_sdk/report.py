"""What a session tells of itself: where it runs, verified, and how a request's time divides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from edge_sdk.engines.answers import KeptAnswers
from edge_sdk.engines.guard import AcceleratorState
from edge_sdk.events import Events
from edge_sdk.metrics import Histogram, Summary

if TYPE_CHECKING:
    from edge_sdk.engines.base import Runner, ThreadPlacement
from edge_sdk.planner.overlapping import overlapping
from edge_sdk.planner.plans import Plan

__all__ = ["KeptAnswers", "Lane", "Nodes", "PipelineStage", "Report", "Worker", "make_report"]

SCHEMA = 1


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """One worker thread of the engine and the CPUs the kernel lets it run on."""

    thread_id: int
    cpus: tuple[int, ...]


class Nodes(msgspec.Struct, frozen=True, kw_only=True):
    """How many nodes of the graph ran at one place, and their names where the engine tells them."""

    where: str
    count: int
    names: tuple[str, ...] = ()


class Lane(msgspec.Struct, frozen=True, kw_only=True):
    """One of several runners of the model, among which requests are shared out.

    Attributes:
        cpus: that it computes on.
        requests: that it answered.
        service_ms: what one takes now; None before the first.
    """

    cpus: tuple[int, ...]
    requests: int
    service_ms: float | None


class PipelineStage(msgspec.Struct, frozen=True, kw_only=True):
    """One of the parts that the model is cut in.

    Attributes:
        cpus: that it computes on; None for all the process may use.
        accelerator: "cpu", or what computes it.
        workers: its own thread and its engine's workers, as read back from the kernel.
        requests: that passed it.
        service_ms: what one usually takes there; None before the first.
    """

    cpus: tuple[int, ...] | None
    accelerator: str
    workers: tuple[Worker, ...]
    requests: int
    service_ms: float | None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A session so far.

    Attributes:
        nodes: where the graph's nodes run; `verified` when engine and kernel told, not the request.
        workers: the engine's worker threads (the calling thread computes too and is not among them).
        accelerators: how those fare that it was loaded for; empty where it is the CPU.
        lanes: where requests are shared out among several runners; empty where one answers all.
        pipeline: the parts that the model is cut in, first to last; empty where it is whole.
        answers: of requests equal to earlier ones; None without `keep_answers_mb`.
        stages: durations of "run" (all of `Session.run`), of it "queue" (waiting for a free interpreter, counted only
            where a request had to), and of "decode", "pre" and "post" where `Session.stage` timed them.
        load_ms: opening, checking, trial, planning and loading.
        first_result_ms: from the call of `load` to the first answer; None before it.
        notes: what loading found worth telling.
        events: fallbacks, swaps and uploads, oldest first.
        power_mode: that the plan was made for: "performance", "balanced" or "efficiency".
        counts: how often what `edge_sdk.events.KINDS` names happened.
    """

    schema: int = SCHEMA
    model: str
    plan: Plan
    verified: bool
    nodes: tuple[Nodes, ...]
    workers: tuple[Worker, ...]
    stages: dict[str, Summary]
    load_ms: float
    first_result_ms: float | None
    notes: tuple[str, ...]
    events: tuple[str, ...]
    lanes: tuple[Lane, ...] = ()
    accelerators: tuple[AcceleratorState, ...] = ()
    power_mode: str = "balanced"
    counts: dict[str, int] = {}
    pipeline: tuple[PipelineStage, ...] = ()
    answers: KeptAnswers | None = None

    def to_json(self) -> bytes:
        """The versioned JSON form."""
        return msgspec.json.encode(self)


def make_report(
    *,
    model: str,
    plan: Plan,
    power_mode: str,
    runner: Runner,
    stages: Mapping[str, Histogram],
    load_ms: float,
    first_result_ms: float | None,
    events: Events,
) -> Report:
    """Reads everything back now."""
    placement = runner.placement()
    summaries = {name: histogram.summary() for name, histogram in stages.items()}
    summaries["queue"] = runner.queue.summary()
    return Report(
        model=model,
        plan=plan,
        power_mode=power_mode,
        verified=placement.verified,
        nodes=tuple(Nodes(where=n.where, count=n.count, names=n.nodes) for n in placement.nodes),
        workers=_workers(placement.threads),
        stages=summaries,
        load_ms=round(load_ms, 3),
        first_result_ms=None if first_result_ms is None else round(first_result_ms, 3),
        notes=runner.notes,
        events=tuple(events),
        counts=events.counts.copy(),
        lanes=_lanes(runner),
        accelerators=runner.accelerators(),
        pipeline=_pipeline(runner),
        answers=_answers(runner),
    )


def _workers(threads: Sequence[ThreadPlacement]) -> tuple[Worker, ...]:
    return tuple(Worker(thread_id=thread.thread_id, cpus=thread.cpus) for thread in threads)


def _answers(runner: Runner) -> KeptAnswers | None:
    from edge_sdk.engines.remembering import RememberingRunner

    behind: Runner | None = runner
    while behind is not None:
        if isinstance(behind, RememberingRunner):
            return behind.figures()
        behind = behind.inner
    return None


def _lanes(runner: Runner) -> tuple[Lane, ...]:
    from edge_sdk.planner.lanes import LanesRunner

    lanes = overlapping(runner)
    if not isinstance(lanes, LanesRunner):
        return ()
    return tuple(
        Lane(cpus=cpus, requests=figures.requests, service_ms=figures.service_ms)
        for cpus, figures in zip(lanes.cpus, lanes.lanes(), strict=True)
    )


def _pipeline(runner: Runner) -> tuple[PipelineStage, ...]:
    from edge_sdk.planner.stages import StagesRunner

    stages = overlapping(runner)
    if not isinstance(stages, StagesRunner):
        return ()
    return tuple(
        PipelineStage(
            cpus=figures.stage.cpus,
            accelerator=figures.stage.accelerator,
            workers=_workers(figures.threads),
            requests=figures.requests,
            service_ms=figures.service_ms,
        )
        for figures in stages.figures()
    )

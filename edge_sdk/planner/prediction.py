"""Estimates for a table of candidates: latency and energy from the cost model, memory from weights and activations."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from edge_sdk.device.facts import Device
from edge_sdk.engines.base import Engine
from edge_sdk.errors import EdgeError
from edge_sdk.planner.cost import CostModel
from edge_sdk.planner.memory import memory_mb
from edge_sdk.planner.plans import Candidate, Figures
from edge_sdk.planner.power import placement_watts
from edge_sdk.planner.rates import Rates, rates_for
from edge_sdk.planner.variants import Variant
from edge_sdk.schedule.placing import Placement

__all__ = ["cost_model", "predict_table", "threads_of", "watts_of"]

_log = logging.getLogger(__name__)


def predict_table(
    table: Sequence[Candidate],
    variants: Sequence[Variant],
    engines: Mapping[str, Engine],
    device: Device,
    usable_cpus: Sequence[int],
) -> list[Candidate]:
    """The table with `memory_mb` and `predicted` filled where they can be, likeliest way first. Of stages
    `predicted` follows from where they are cut (`edge_sdk.planner.staging`).

    Within a way the engine's default stays in front; ways without a prediction stay behind in their order.

    Args:
        table: candidates of `variants`.
        variants: those whose files can be read as graphs have estimates.
        engines: by name those of the table.
        device: its rates; calibrated, from a profile, or derived from its cores.
        usable_cpus: those a request may run on.
    """
    named = {variant.name: variant for variant in variants}
    rates = rates_for(device)
    models: dict[tuple[str, str], CostModel | None] = {}
    estimated = []
    for candidate in table:
        variant, engine = named[candidate.variant], engines.get(candidate.engine)
        graph = variant.graph() if engine is not None else None
        if graph is None or engine is None:
            estimated.append(candidate)
            continue
        size_mb = memory_mb(candidate.engine, graph.parameter_bytes, graph.peak_activation_bytes)
        size_mb = round(size_mb * max(len(candidate.placement.lanes), 1), 1)
        candidate = replace(candidate, memory_mb=size_mb)
        if rates is not None and candidate.accelerator == "cpu" and not candidate.placement.stages:
            key = candidate.variant, candidate.engine
            if key not in models:
                models[key] = _model(variant, candidate.engine, rates)
            candidate = _predicted(candidate, models[key], engine, device, usable_cpus)
        estimated.append(candidate)
    return _likeliest_first(estimated)


def cost_model(variant: Variant, engine: str, device: Device) -> CostModel | None:
    """What predicts a variant on a device; None where its graph cannot be read, or nothing is known of the device."""
    rates = rates_for(device)
    return None if rates is None else _model(variant, engine, rates)


def _model(variant: Variant, engine: str, rates: Rates) -> CostModel | None:
    graph = variant.graph()
    if graph is None:
        return None
    try:
        return CostModel(graph, engine, rates)
    except EdgeError as error:
        _log.info("%s on %s: no prediction: %s", variant.name, engine, error)
        return None


def watts_of(candidate: Candidate, engine: Engine, device: Device, usable_cpus: Sequence[int]) -> float | None:
    """Estimated power while the candidate computes, in watts; None on an accelerator, or where no cluster is known."""
    if candidate.accelerator != "cpu":
        return None
    placement = candidate.placement
    groups = placement.lanes or tuple(stage.cpus or () for stage in placement.stages)
    if groups:
        cpus = tuple(cpu for group in groups for cpu in group)
        placement = Placement(cpus=cpus, threads=len(cpus))
    threads = threads_of(placement, engine, usable_cpus)
    return placement_watts(placement, threads, device, usable_cpus)


def threads_of(placement: Placement, engine: Engine, usable_cpus: Sequence[int]) -> int:
    """How many compute one request there."""
    return placement.threads or engine.default_threads(len(placement.cpus or usable_cpus))


def _predicted(
    candidate: Candidate, model: CostModel | None, engine: Engine, device: Device, usable_cpus: Sequence[int]
) -> Candidate:
    if model is None:
        return candidate
    placement = candidate.placement
    lanes = [Placement(cpus=cpus, threads=len(cpus)) for cpus in placement.lanes]
    if not lanes:
        lanes = [replace(placement, threads=threads_of(placement, engine, usable_cpus))]
    watts = watts_of(candidate, engine, device, usable_cpus)
    predictions = [model.predict(lane) for lane in lanes]
    slowest = max(predictions, key=lambda prediction: prediction.latency_ms)
    interval_ms = 1 / sum(1 / prediction.latency_ms for prediction in predictions)
    figures = Figures(
        latency_ms=round(slowest.latency_ms, 4),
        low_ms=round(slowest.low_ms, 4),
        high_ms=round(slowest.high_ms, 4),
        energy_mj=None if watts is None else round(interval_ms * watts, 4),
        interval_ms=round(interval_ms, 4) if placement.lanes else None,
    )
    return replace(candidate, predicted=figures)


def _likeliest_first(table: Sequence[Candidate]) -> list[Candidate]:
    """Whole ways by their best prediction: a way's own order tells which is the engine's default."""
    best: dict[tuple[str, str, str], float] = {}
    for candidate in table:
        figures = candidate.predicted
        pace_ms = figures.pace_ms if figures is not None else float("inf")
        best[candidate.way] = min(pace_ms, best.get(candidate.way, pace_ms))
    return sorted(table, key=lambda candidate: best[candidate.way])

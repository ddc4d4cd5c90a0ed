"""`plan`: from a model or bundle and a device to a `Plan`."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from edge_sdk.device.facts import Device
from edge_sdk.engines.base import Engine, LoadOptions
from edge_sdk.errors import EngineNotInstalled, InputError
from edge_sdk.formats import ModelFile
from edge_sdk.planner.candidates import barred, candidates
from edge_sdk.planner.choosing import choose
from edge_sdk.planner.plans import Candidate, Plan
from edge_sdk.planner.prediction import predict_table
from edge_sdk.planner.reasons import what
from edge_sdk.planner.sources import ModelSource, open_variants
from edge_sdk.planner.variants import Variant
from edge_sdk.planner.wish import Wish

__all__ = ["engines_by_format", "plan", "this_device", "try_first"]

BUDGET_S = 10.0


@functools.cache
def this_device() -> Device:
    """The machine as probed once in this process, with its calibrated rates and the accelerators proven before.

    `this_device.cache_clear()` forgets it.
    """
    import msgspec

    from edge_sdk.device import probe
    from edge_sdk.engines.accelerators import find_accelerators
    from edge_sdk.engines.proof_verdicts import recall
    from edge_sdk.engines.registry import engine_versions

    device = probe(engines=engine_versions(), accelerators=find_accelerators())
    return msgspec.structs.replace(device, accelerators=recall(device.accelerators, device.fingerprint))


def engines_by_format(formats: Sequence[str]) -> dict[str, tuple[Engine, ...]]:
    """The installed engines for each model format.

    Raises:
        EngineNotInstalled: there is none for any of them.
    """
    from edge_sdk.engines.registry import engines_for

    found: dict[str, tuple[Engine, ...]] = {}
    missing: EngineNotInstalled | None = None
    for model_format in dict.fromkeys(formats):
        try:
            found[model_format] = engines_for(model_format)
        except EngineNotInstalled as error:
            missing = missing or error
    if not found and missing is not None:
        raise missing
    return found


def try_first(file: ModelFile, engine: Engine, options: LoadOptions) -> None:
    """Lets a child process load an unknown file first, so that one which crashes an engine never reaches this process.
    Not where it runs in a process of its own anyway.

    Raises:
        DamagedModel, AcceleratorError: as `require_trial`.
    """
    from edge_sdk.engines.trial import require_trial

    if options.accelerator != "cpu":
        from edge_sdk.engines.apart import runs_apart

        if runs_apart(engine, file, options):
            return
    if engine.native and engine.version() is not None:
        require_trial(file, engine, options)


def plan(
    model: ModelSource,
    device: Device | None = None,
    objective: str = "latency",
    *,
    max_latency_ms: float | None = None,
    min_accuracy: float | None = None,
    max_memory_mb: float | None = None,
    rate_hz: float | None = None,
    power_mode: str = "balanced",
    budget_s: float = BUDGET_S,
    sample: Mapping[str, Any] | None = None,
    variant: str | None = None,
    use_cache: bool = True,
) -> Plan:
    """Finds the best way to run a model: on this machine by measuring, for another device by prediction.

    Args:
        model: path of an ONNX or TFLite file or of a bundle, the bytes of a model, or an open `Bundle`.
        device: where it shall run; this machine where None. For a device that is not here (`Profile.device()`) nothing
            is measured: figures are predictions from its rates.
        objective: what to minimise: "latency", "energy", or with "throughput" the time from answer to answer.
        max_latency_ms: what one request may take, in milliseconds.
        min_accuracy: what a variant must reach by the bundle's metric, from 0 to 1.
        max_memory_mb: what weights and activations may take, in MiB.
        rate_hz: requests a second, as a camera would make them; back to back where None.
        power_mode: "performance", "balanced" or "efficiency".
        budget_s: how long measuring may take, in seconds; 0 measures nothing.
        sample: feeds to measure with; made up where None.
        variant: name of the one variant of a bundle that is wanted; chosen where None.
        use_cache: whether a plan kept earlier will do.

    Raises:
        ModelError: the model cannot be used.
        InputError: an argument does not fit, or no candidate holds the constraints.
        EngineNotInstalled: no engine for any of its formats is installed here.
    """
    wish = Wish(objective, max_latency_ms, power_mode, budget_s, sample, min_accuracy, max_memory_mb, rate_hz)
    name, variants = open_variants(model, variant)
    try:
        if device is not None and device.fingerprint != this_device().fingerprint:
            return _predicted_plan(name, variants, device, wish)
        engines = engines_by_format([variant.format for variant in variants])
        choice = choose(
            variants,
            device or this_device(),
            engines,
            wish,
            LoadOptions(),
            model=name,
            admit=try_first,
            use_cache=use_cache,
        )
        if choice.runner is not None:
            choice.runner.close()
        return choice.plan
    finally:
        for opened in variants:
            opened.close()


def _predicted_plan(name: str, variants: Sequence[Variant], device: Device, wish: Wish) -> Plan:
    """The plan for a device that is not here: every figure is a prediction."""
    import msgspec

    engines = _engines_there(device)
    found = candidates(variants, engines, device, device.usable_cpus, wish.power_mode)
    by_name = {engine.name: engine for able in engines.values() for engine in able}
    table = predict_table(found, variants, by_name, device, device.usable_cpus)
    for place, candidate in enumerate(table):
        variant = next(v for v in variants if v.name == candidate.variant)
        against = barred(candidate, variant, wish.min_accuracy, wish.max_memory_mb, len(variants) == 1)
        if not against and candidate.predicted is None:
            against = "nothing is known of its speed there"
        if against:
            table[place] = msgspec.structs.replace(candidate, feasible=False, reason=against)
    table.sort(key=lambda candidate: (not candidate.feasible, _cost(candidate, wish)))
    if not table or not table[0].feasible:
        lacks = dict.fromkeys(f"{c.variant}: {c.reason}" for c in table)
        raise InputError(f"{name}: no candidate may run on {device.name}: {'; '.join(lacks)}")
    best = table[0]
    figures = best.figures
    assert figures is not None
    misses = wish.max_latency_ms is not None and figures.latency_ms > wish.max_latency_ms
    reason = f"{what(best, len(variants) > 1)}: {figures.latency_ms:.3g} ms predicted, an estimate; not measured there"
    if misses:
        reason += f"; misses max_latency_ms={wish.max_latency_ms:g}"
    return Plan(
        kind=best.kind,
        model=name,
        device=device.name,
        variant=best.variant,
        engine=best.engine,
        accelerator=best.accelerator,
        placement=best.placement,
        objective=wish.objective,
        holds=wish.holds(),
        misses=("max_latency_ms",) if misses else (),
        accuracy=best.accuracy,
        predicted=best.predicted,
        reason=reason,
        candidates=tuple(table),
    )


def _engines_there(device: Device) -> dict[str, tuple[Engine, ...]]:
    """The engines the device is said to have; where its profile names none, those that exist for its architecture."""
    from edge_sdk.engines.registry import real_engines

    found: dict[str, list[Engine]] = {}
    for engine in real_engines().values():
        if device.engines and engine.name not in device.engines:
            continue
        if not device.engines and engine.name == "onnxruntime" and device.bits == 32:
            continue  # there is no build of it
        for model_format in engine.formats:
            found.setdefault(model_format, []).append(engine)
    return {model_format: tuple(able) for model_format, able in found.items()}


def _cost(candidate: Candidate, wish: Wish) -> float:
    figures = candidate.figures
    if figures is None:
        return float("inf")
    if wish.objective == "energy" and figures.energy_mj is not None:
        return figures.energy_mj
    return figures.latency_ms

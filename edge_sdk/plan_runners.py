"""From a model's variants to the plan chosen among them and its runner, and the way back to the CPU."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from edge_sdk.engines.base import Engine, LoadOptions, Runner
from edge_sdk.engines.loading import load_guarded, waiting_for
from edge_sdk.errors import AcceleratorError, EdgeError, EngineError, InputError
from edge_sdk.events import Events
from edge_sdk.settings import Settings

if TYPE_CHECKING:
    from edge_sdk.formats import ModelFile
    from edge_sdk.planner import Choice, Plan, Variant

__all__ = ["engines_of", "loaded", "planned", "wrapped"]


def engines_of(variants: tuple[Variant, ...], wanted: str | Engine | None) -> dict[str, tuple[Engine, ...]]:
    """By model format, the engines that run these variants.

    Raises:
        InputError: the one that is wanted runs none of them.
        EngineNotInstalled: there is none.
    """
    from edge_sdk.engines.registry import find_engine
    from edge_sdk.planner import engines_by_format

    formats = tuple(dict.fromkeys(variant.format for variant in variants))
    if wanted is None:
        return engines_by_format(formats)
    engine = find_engine(wanted) if isinstance(wanted, str) else wanted
    if not set(formats) & engine.formats:
        raise InputError(
            f"{variants[0].name}: engine {engine.name!r} runs {', '.join(sorted(engine.formats))},"
            f" not {', '.join(formats)}; leave engine out to have one chosen"
        )
    return {model_format: (engine,) for model_format in formats if model_format in engine.formats}


def planned(
    name: str, variants: tuple[Variant, ...], settings: Settings, events: Events, use_cache: bool
) -> tuple[Runner, Plan]:
    """The plan chosen among the variants, and its runner.

    Raises:
        EdgeError: as `edge_sdk.load`.
    """
    from edge_sdk.planner import choose, this_device

    wrap = functools.partial(wrapped, settings=settings)
    engines = engines_of(variants, settings.engine)
    try:
        choice = choose(
            variants,
            settings.device or this_device(),
            engines,
            settings.wish,
            settings.options,
            model=name,
            wrap=wrap,
            admit=functools.partial(_admit, trusted=settings.trusted),
            use_cache=use_cache,
        )
        try:
            engine = next(e for e in engines[choice.variant.format] if e.name == choice.plan.engine)
            runner = choice.runner or loaded(choice, engine, settings, wrap)
            plan = choice.plan
            if settings.offload is not None:
                runner, plan = _offloaded(name, choice, runner, engine, settings, wrap, events)
            return _cascaded(name, choice, variants, runner, plan, engines, settings, wrap)
        except EdgeError as error:
            stale = choice.plan.cached and (isinstance(error, EngineError) or choice.plan.placement.stages)
            if not stale or settings.options.accelerator != "cpu":
                raise
            return planned(name, variants, settings, events, use_cache=False)  # what was kept holds no longer
    except AcceleratorError as error:
        if settings.options.strict or settings.options.accelerator == "cpu":
            raise
        return _planned_on_cpu(name, variants, settings, events, str(error))


def _planned_on_cpu(
    name: str, variants: tuple[Variant, ...], settings: Settings, events: Events, cause: str
) -> tuple[Runner, Plan]:
    """As planned for the CPU; an accelerator that may come back takes over when it does."""
    wanted = settings.options
    on_cpu = replace(settings, options=replace(wanted, accelerator="cpu", accelerator_options={}))
    runner, plan = planned(name, variants, on_cpu, events, use_cache=True)
    engine = next(e for e in engines_of(variants, settings.engine)[_format(variants, plan)] if e.name == plan.engine)
    several = plan.placement.lanes or plan.placement.stages
    if plan.kind != "local" or several or not _may_come_back(wanted, engine):
        from edge_sdk.engines.guard import announce_fallback

        announce_fallback(wanted.guard, cause)
        events.add("accelerator_fallback")
        return runner, plan
    runner.close()
    from edge_sdk.planner import Choice

    variant = next(variant for variant in variants if variant.name == plan.variant)
    wait = functools.partial(waiting_for, wanted, cause)
    wrap = functools.partial(wrapped, settings=settings)
    return loaded(Choice(plan, variant, None), engine, on_cpu, wrap, wait), plan


def _format(variants: tuple[Variant, ...], plan: Plan) -> str:
    return next(variant.format for variant in variants if variant.name == plan.variant)


def _may_come_back(options: LoadOptions, engine: Engine) -> bool:
    """Whether an accelerator is one that this engine knows of, or a library that may appear."""
    known = {accelerator.name for accelerator in engine.accelerators()}
    return math.isfinite(options.guard.rest_s) and (options.accelerator in known or "/" in options.accelerator)


def _admit(file: ModelFile, engine: Engine, options: LoadOptions, trusted: bool) -> None:
    from edge_sdk.planner.planning import try_first

    if not trusted:
        try_first(file, engine, replace(options, accelerator="cpu", accelerator_options={}))
    if options.accelerator != "cpu":
        # Also where the file is trusted: a driver may end the process on a machine that it was not built for.
        try_first(file, engine, options)


def _planned_options(plan: Plan, settings: Settings) -> LoadOptions:
    placement = plan.placement
    return replace(settings.options, threads=placement.threads, cpus=placement.cpus, accelerator=plan.accelerator)


def loaded(
    choice: Choice,
    engine: Engine,
    settings: Settings,
    wrap: Callable[[Runner], Runner],
    load: Callable[[Engine, ModelFile, LoadOptions], Runner] = load_guarded,
) -> Runner:
    """The runner of a choice, as `load` makes those of one file.

    Raises:
        EdgeError: it does not load.
    """
    from edge_sdk.planner.placed import placed

    variant, options = choice.variant, _planned_options(choice.plan, settings)
    file, placement = variant.file(), choice.plan.placement
    _admit(file, engine, replace(options, accelerator="cpu") if placement.stages else options, settings.trusted)

    def load_part(part: ModelFile, where: LoadOptions) -> Runner:
        if part is not file and where.accelerator != "cpu":
            _admit(part, engine, where, trusted=True)  # parts of a file that survived its trial need none on the CPU
        return load(engine, part, where)

    return placed(file, load_part, options, placement, lambda runner: wrap(variant.wrap(runner)))


def _offloaded(
    name: str,
    choice: Choice,
    whole: Runner,
    engine: Engine,
    settings: Settings,
    wrap: Callable[[Runner], Runner],
    events: Events,
) -> tuple[Runner, Plan]:
    """The model with endpoints: cut where the caller says, or as the planner finds best, now and later."""
    offload, options = settings.offload, _planned_options(choice.plan, settings)
    assert offload is not None

    def around(runner: Runner) -> Runner:
        return wrap(choice.variant.wrap(runner))

    if offload.pinned:
        from edge_sdk.offloading import split_runner

        whole.close()  # it has shown that it runs here; head and local tail take its place
        runner, plan = split_runner(offload, name, choice.variant, choice.plan, engine, options, around)
        return around(runner), plan
    from edge_sdk.offloading import Automatic, samples_of
    from edge_sdk.planner import this_device

    device = settings.device or this_device()
    try:
        on_cpu = replace(options, accelerator="cpu", accelerator_options={})
        samples = samples_of(offload, choice.variant, name, lambda: engine.load(choice.variant.file(), on_cpu), around)
        automatic = Automatic(
            offload,
            name,
            choice,
            whole,
            device,
            settings.wish,
            engine,
            options,
            around,
            samples,
            events,
            follows=not settings.state,
        )
        return automatic.open()
    except BaseException:
        whole.close()
        raise


def _cascaded(
    name: str,
    choice: Choice,
    variants: tuple[Variant, ...],
    big: Runner,
    plan: Plan,
    engines: dict[str, tuple[Engine, ...]],
    settings: Settings,
    wrap: Callable[[Runner], Runner],
) -> tuple[Runner, Plan]:
    """A cascade before the chosen variant, where the bundle has one that pays and nothing stands against it."""
    offload = settings.offload
    barred = offload is not None and (offload.pinned or "cascade" not in offload.ways)
    if barred or settings.state or not choice.variant.cascades or settings.wish.objective != "latency":
        return big, plan
    from edge_sdk.cascading import cascaded

    options = _planned_options(choice.plan, settings)

    def load(variant: Variant) -> Runner:
        engine, file = engines[variant.format][0], variant.file()
        _admit(file, engine, options, settings.trusted)
        return wrap(variant.wrap(load_guarded(engine, file, options)))

    return cascaded(name, big, plan, variants, load, settings.wish.min_accuracy)


def wrapped(runner: Runner, settings: Settings) -> Runner:
    """What the settings put around a runner before it is measured: conversion to floats, state.

    Raises:
        InputError: the state does not fit the model; the runner is closed then.
    """
    if settings.float_io:
        from edge_sdk.engines.quantised import FloatRunner

        runner = FloatRunner(runner)
    if settings.state:
        from edge_sdk.engines.state import StatefulRunner

        try:
            runner = StatefulRunner(runner, settings.state)
        except InputError:
            runner.close()
            raise
    return runner

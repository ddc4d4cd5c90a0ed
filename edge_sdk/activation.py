"""From a file to something that runs: check, trial, plan, load, and the way back to the CPU."""

from __future__ import annotations

import functools
import math
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import TYPE_CHECKING, Any, Union

from edge_sdk.engines.base import Engine, LoadOptions, Runner
from edge_sdk.engines.loading import load_guarded, waiting_for
from edge_sdk.errors import AcceleratorError, EdgeError, EngineError, InputError
from edge_sdk.events import Events
from edge_sdk.tensors import FeedCheck

if TYPE_CHECKING:
    from edge_sdk.bundle import Bundle
    from edge_sdk.device.facts import Device
    from edge_sdk.device.utilization import UtilizationClamp
    from edge_sdk.formats import ModelFile
    from edge_sdk.offloading import Offload
    from edge_sdk.planner import Candidate, Choice, Plan, Variant, Wish
    from edge_sdk.planner.batched import Batching
    from edge_sdk.schedule.capping import LimitedFrequencies

__all__ = [
    "Active",
    "ModelSource",
    "Settings",
    "activate",
    "active_as",
    "active_of",
    "checked_cpus",
    "checked_threads",
    "engines_of",
]

ModelSource = Union[str, os.PathLike[str], bytes, "Bundle"]


@dataclass(frozen=True, slots=True)
class Settings:
    """What `load` was asked for, kept for `swap`."""

    engine: str | Engine | None
    options: LoadOptions
    wish: Wish
    device: Device | None
    state: Mapping[str, str]
    float_io: bool
    check_finite: bool
    trusted: bool
    variant: str | None = None
    offload: Offload | None = None
    batching: Batching | None = None
    replan: bool = True
    keep_answers_bytes: int = 0
    clamp: UtilizationClamp | None = None
    frequencies: LimitedFrequencies | None = None


@dataclass(slots=True, eq=False)
class Active:
    """One loaded model: what a request takes hold of, so that `swap` and `close` can wait for it.

    Attributes:
        name: of the model, for messages.
        variants: those it was chosen from.
    """

    name: str
    variants: tuple[Variant, ...]
    runner: Runner
    plan: Plan
    check: FeedCheck
    load_ms: float
    run: Callable[[Mapping[str, Any], Mapping[str, Any] | None], dict[str, Any]] = field(init=False)
    lease: list[None] = field(default_factory=list)
    retired: bool = False
    freed: threading.Event = field(default_factory=threading.Event)
    freeing: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.run = self.runner.run

    def plan_now(self) -> Plan:
        """The plan; where its runner follows a link, as of its latest switch, and with what computes now where an
        accelerator failed or came back."""
        from_runner: Callable[[], Plan] | None = getattr(self.runner, "plan_now", None)
        plan = self.plan if from_runner is None else from_runner()
        states = self.runner.accelerators()
        if len(states) == 1:
            now = states[0].name if states[0].state == "working" else "cpu"
            if now != plan.accelerator:
                import msgspec

                plan = msgspec.structs.replace(plan, accelerator=now)
        return plan

    def retire(self, wait: bool = True) -> None:
        """Frees the runner when the last request in flight lets go. No new request may find this object.

        Appending to `lease` comes before reading `retired`, and setting `retired` before reading `lease`: whoever comes
        last sees the other, so that one of them frees the runner.
        """
        self.retired = True
        if not self.lease:
            self.free()
        if wait:
            self.freed.wait()

    def release(self) -> None:
        """Ends one request's hold."""
        self.lease.pop()
        if self.retired and not self.lease:
            self.free()

    def free(self) -> None:
        """Frees the runner, once."""
        with self.freeing:
            if not self.freed.is_set():
                self.runner.close()
                self.freed.set()


def checked_threads(threads: int | None) -> int | None:
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
        raise InputError(f"threads is {threads!r}; expected a whole number, 1 or more")
    return threads


def checked_cpus(cpus: Sequence[int] | None) -> tuple[int, ...] | None:
    if cpus is None:
        return None
    from edge_sdk.device.affinity import usable_cpus

    wanted, usable = tuple(sorted(set(cpus))), usable_cpus()
    if not wanted or not set(wanted) <= set(usable):
        raise InputError(f"cpus is {list(cpus)}; expected one or more of those this process may use: {list(usable)}")
    return wanted


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


def activate(source: ModelSource, settings: Settings, events: Events, *, use_cache: bool = True) -> Active:
    """From a file or bundle to something that runs: check, plan (with a trial of what is unknown), load."""
    from edge_sdk.planner.sources import open_variants

    began = perf_counter()
    name, variants = open_variants(source, settings.variant)
    return active_of(name, variants, settings, events, began, use_cache=use_cache)


def active_of(
    name: str,
    variants: tuple[Variant, ...],
    settings: Settings,
    events: Events,
    began: float,
    *,
    use_cache: bool = True,
) -> Active:
    """Plans among variants that are open already, and loads what was chosen."""
    try:
        with _clamped(settings):
            runner, plan = _planned(name, variants, settings, events, use_cache)
            try:
                runner = _around(runner, settings)
            except BaseException:
                runner.close()
                raise
    finally:
        # The engine has what it needs; a file that is still mapped when somebody shortens it would kill the process.
        for variant in variants:
            variant.close()
    check = FeedCheck(runner.inputs, runner.optional_inputs, name)
    return Active(name, variants, runner, plan, check, (perf_counter() - began) * 1e3)


def _clamped(settings: Settings) -> AbstractContextManager[None]:
    """What is measured is measured as it will run, and workers that the engine starts inherit the clamp."""
    if settings.clamp is None:
        return nullcontext()
    from edge_sdk.device.utilization import clamped

    return clamped(settings.clamp)


def _around(runner: Runner, settings: Settings) -> Runner:
    """What stands between requests and the runner where the caller asked for it; nothing else costs a request."""
    if settings.clamp is not None:
        from edge_sdk.engines.clamped import ClampedRunner

        runner = ClampedRunner(runner, settings.clamp)
    if settings.batching is not None:
        from edge_sdk.planner.batched import batched

        runner = batched(runner, settings.batching, settings.wish.budget_s)
    if settings.keep_answers_bytes:
        from edge_sdk.engines.remembering import RememberingRunner

        runner = RememberingRunner(runner, settings.keep_answers_bytes)
    return runner


def active_as(like: Active, candidate: Candidate, settings: Settings) -> Active:
    """The same model another way, as a local candidate of its plan's table says; nothing is measured.

    Args:
        like: what runs the model now.
        candidate: the way.
        settings: of the session.

    Raises:
        EdgeError: it does not load, or gives other answers here than where the bundle was made.
    """
    import msgspec

    from edge_sdk.engines.samples import made_up_feeds
    from edge_sdk.planner import Choice
    from edge_sdk.planner.golden import golden_fault

    began = perf_counter()
    variant = next(variant for variant in like.variants if variant.name == candidate.variant)
    engine = next(e for e in engines_of((variant,), settings.engine)[variant.format] if e.name == candidate.engine)
    plan = msgspec.structs.replace(
        like.plan,
        variant=candidate.variant,
        engine=candidate.engine,
        accelerator=candidate.accelerator,
        placement=candidate.placement,
        accuracy=candidate.accuracy,
        predicted=candidate.predicted,
        measured=candidate.measured,
        confidence=None,
        reason=candidate.describe(),
    )
    try:
        with _clamped(settings):
            wrap = functools.partial(_wrapped, settings=settings)
            runner = _load(Choice(plan, variant, None), engine, settings, wrap)
            try:
                if fault := golden_fault(variant, runner):
                    raise EngineError(f"{like.name}: variant {variant.name} on {engine.name}: {fault}")
                with suppress(EdgeError):  # so that caches are full before the first request
                    runner.run(made_up_feeds(runner.inputs, runner.optional_inputs))
                runner = _around(runner, settings)
            except BaseException:
                runner.close()
                raise
    finally:
        variant.close()
    check = FeedCheck(runner.inputs, runner.optional_inputs, like.name)
    return Active(like.name, like.variants, runner, plan, check, (perf_counter() - began) * 1e3)


def _planned(
    name: str, variants: tuple[Variant, ...], settings: Settings, events: Events, use_cache: bool
) -> tuple[Runner, Plan]:
    from edge_sdk.planner import choose, this_device

    wrap = functools.partial(_wrapped, settings=settings)
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
            runner = choice.runner or _load(choice, engine, settings, wrap)
            plan = choice.plan
            if settings.offload is not None:
                runner, plan = _offloaded(name, choice, runner, engine, settings, wrap, events)
            return _cascaded(name, choice, variants, runner, plan, engines, settings, wrap)
        except EdgeError as error:
            stale = choice.plan.cached and (isinstance(error, EngineError) or choice.plan.placement.stages)
            if not stale or settings.options.accelerator != "cpu":
                raise
            return _planned(name, variants, settings, events, use_cache=False)  # what was kept holds no longer
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
    runner, plan = _planned(name, variants, on_cpu, events, use_cache=True)
    engine = next(e for e in engines_of(variants, settings.engine)[_format(variants, plan)] if e.name == plan.engine)
    if plan.kind != "local" or plan.placement.lanes or not _may_come_back(wanted, engine):
        from edge_sdk.engines.guard import announce_fallback

        announce_fallback(wanted.guard, cause)
        events.add("accelerator_fallback")
        return runner, plan
    runner.close()
    from edge_sdk.planner import Choice

    variant = next(variant for variant in variants if variant.name == plan.variant)
    wait = functools.partial(waiting_for, wanted, cause)
    wrap = functools.partial(_wrapped, settings=settings)
    return _load(Choice(plan, variant, None), engine, on_cpu, wrap, wait), plan


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


def _load(
    choice: Choice,
    engine: Engine,
    settings: Settings,
    wrap: Callable[[Runner], Runner],
    load: Callable[[Engine, ModelFile, LoadOptions], Runner] = load_guarded,
) -> Runner:
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


def _wrapped(runner: Runner, settings: Settings) -> Runner:
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

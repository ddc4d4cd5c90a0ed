"""From a file to something that runs: check, trial, plan, load, and the way back to the CPU."""

from __future__ import annotations

import functools
import os
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

from edge_sdk.engines.base import Engine, LoadOptions, Runner
from edge_sdk.errors import AcceleratorError, InputError
from edge_sdk.tensors import FeedCheck

if TYPE_CHECKING:
    from edge_sdk.device.facts import Device
    from edge_sdk.formats import ModelFile
    from edge_sdk.planner import Plan, Wish

__all__ = [
    "AcceleratorFallback",
    "Active",
    "ModelSource",
    "Settings",
    "activate",
    "announce_fallback",
    "checked_cpus",
    "checked_threads",
    "on_cpu_instead",
]

ModelSource = str | os.PathLike[str] | bytes


class AcceleratorFallback(UserWarning):
    """An accelerator was asked for and the CPU does the work; the message names the cause."""


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


@dataclass(slots=True, eq=False)
class Active:
    """One loaded model: what a request takes hold of, so that `swap` and `close` can wait for it."""

    file: ModelFile
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


@functools.cache
def _this_device() -> Device:
    """The machine as probed once in this process; `_this_device.cache_clear()` forgets it."""
    from edge_sdk.device import probe
    from edge_sdk.engines.registry import engine_versions

    return probe(engines=engine_versions())


def _engines(model: ModelFile, wanted: str | Engine | None) -> tuple[Engine, ...]:
    from edge_sdk.engines.registry import engines_for, find_engine

    if wanted is None:
        return engines_for(model.format)
    engine = find_engine(wanted) if isinstance(wanted, str) else wanted
    if model.format not in engine.formats:
        raise InputError(
            f"{model.name}: engine {engine.name!r} runs {', '.join(sorted(engine.formats))}, not {model.format};"
            " leave engine out to have one chosen"
        )
    return (engine,)


def activate(source: ModelSource, settings: Settings, events: list[str]) -> Active:
    """From a file to something that runs: check, trial, plan, load."""
    from edge_sdk.formats import open_model

    began = perf_counter()
    file = open_model(source)
    try:
        file.check()
        engines = _engines(file, settings.engine)
        if not settings.trusted:
            on_cpu = replace(settings.options, accelerator="cpu", accelerator_options={})
            for engine in engines:
                _try_first(file, engine, on_cpu)
        runner, plan = _planned(file, engines, settings, events)
    finally:
        # The engine has what it needs; a file that is still mapped when somebody shortens it would kill the process.
        file.close()
    check = FeedCheck(runner.inputs, runner.optional_inputs, file.name)
    return Active(file, runner, plan, check, (perf_counter() - began) * 1e3)


def _try_first(file: ModelFile, engine: Engine, options: LoadOptions) -> None:
    from edge_sdk.engines.trial import require_trial

    if engine.native and engine.version() is not None:
        require_trial(file, engine, options)


def _planned(
    file: ModelFile, engines: tuple[Engine, ...], settings: Settings, events: list[str]
) -> tuple[Runner, Plan]:
    from edge_sdk.planner import choose

    device = settings.device or _this_device()
    wrap = functools.partial(_wrapped, settings=settings)
    wish = settings.wish
    if wish.sample is not None and "" in wish.sample:
        name = file.describe().inputs[0].name
        wish = replace(wish, sample={name: wish.sample[""]})
    choice = choose(file, device, engines, wish, settings.options, wrap)
    if choice.runner is not None:
        return choice.runner, choice.plan
    plan = choice.plan
    engine = next(e for e in engines if e.name == plan.engine)
    options = replace(settings.options, threads=plan.placement.threads, cpus=plan.placement.cpus)
    try:
        if options.accelerator != "cpu":
            # Also where the file is trusted: a driver may end the process on a machine that it was not built for.
            _try_first(file, engine, options)
        return wrap(engine.load(file, options)), plan
    except AcceleratorError as error:
        if settings.options.strict or settings.options.accelerator == "cpu":
            raise
        announce_fallback(str(error), events)
        on_cpu = replace(settings, options=replace(settings.options, accelerator="cpu", accelerator_options={}))
        return _planned(file, engines, on_cpu, events)


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


def announce_fallback(cause: str, events: list[str]) -> None:
    message = f"the CPU takes over from the accelerator: {cause}"
    events.append(message)
    warnings.warn(message, AcceleratorFallback, stacklevel=4)


def on_cpu_instead(failed: Active, settings: Settings, cause: str, events: list[str]) -> tuple[Active, Settings]:
    """The same model on the CPU after its accelerator failed at run time."""
    announce_fallback(cause, events)
    settings = replace(settings, options=replace(settings.options, accelerator="cpu", accelerator_options={}))
    runner, plan = _planned(failed.file, _engines(failed.file, settings.engine), settings, [])
    check = FeedCheck(runner.inputs, runner.optional_inputs, failed.file.name)
    return Active(failed.file, runner, plan, check, failed.load_ms), settings

"""What runs in a session: opened, chosen, loaded, and held by the requests in flight until another takes its place."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any

from edge_sdk.engines.base import Runner
from edge_sdk.errors import EdgeError, EngineError
from edge_sdk.events import Events
from edge_sdk.plan_runners import engines_of, loaded, planned, wrapped
from edge_sdk.settings import ModelSource, Settings
from edge_sdk.tensors import FeedCheck

if TYPE_CHECKING:
    from edge_sdk.planner import Candidate, Plan, Variant

__all__ = ["Active", "activate", "active_as", "active_of"]


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
            runner, plan = planned(name, variants, settings, events, use_cache)
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
            wrap = functools.partial(wrapped, settings=settings)
            runner = loaded(Choice(plan, variant, None), engine, settings, wrap)
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

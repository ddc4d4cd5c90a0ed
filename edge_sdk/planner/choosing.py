"""Choosing a plan: the engine's default stands until something beats it clearly in a measurement."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from edge_sdk.device.affinity import usable_cpus
from edge_sdk.device.facts import Device
from edge_sdk.engines.base import Engine, LoadOptions, Runner
from edge_sdk.engines.samples import OPEN_SIZES, made_up_feeds
from edge_sdk.errors import EdgeError, InputError
from edge_sdk.formats import ModelFile
from edge_sdk.planner.candidates import POWER_MODES, candidates
from edge_sdk.planner.measuring import compare, median_ms
from edge_sdk.planner.plan import Candidate, Figures, Plan
from edge_sdk.planner.plan_cache import cached_plan, keep_plan, plan_key

__all__ = ["OBJECTIVES", "Choice", "Wish", "choose"]

_log = logging.getLogger(__name__)

OBJECTIVES = ("latency",)
CLEARLY = 0.04
"""A challenger must be this much faster than the incumbent: below that the machine's noise decides."""
FIRST_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Wish:
    """What the caller asked for.

    Attributes:
        objective: what to minimise; "latency".
        max_latency_ms: what one request may take; a plan that misses it says so in its reason.
        power_mode: "performance", "balanced" or "efficiency" (little cores where there are any).
        budget_s: how long measuring may take; 0: from the cache, or the engine's default unmeasured.
        sample: feeds to measure with; made-up ones where None.
    """

    objective: str = "latency"
    max_latency_ms: float | None = None
    power_mode: str = "balanced"
    budget_s: float = 1.0
    sample: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise InputError(f"objective {self.objective!r} is not known; expected one of {', '.join(OBJECTIVES)}")
        if self.power_mode not in POWER_MODES:
            raise InputError(f"power_mode {self.power_mode!r} is not known; expected one of {', '.join(POWER_MODES)}")
        if not self.budget_s >= 0:
            raise InputError(f"plan_budget_s is {self.budget_s!r}; expected seconds, 0 or more")


@dataclass(frozen=True, slots=True)
class Choice:
    """A plan, and the runner that measuring left open for it (None where nothing was loaded)."""

    plan: Plan
    runner: Runner | None


def choose(
    model: ModelFile,
    device: Device,
    engines: Sequence[Engine],
    wish: Wish,
    options: LoadOptions,
    wrap: Callable[[Runner], Runner] = lambda runner: runner,
) -> Choice:
    """Chooses engine, threads and CPUs for a model, measuring within `wish.budget_s`.

    Args:
        model: checked.
        device: where it will run.
        engines: those that run its format.
        wish: what to minimise and how long to take.
        options: how to load it; threads and CPUs stated there are kept and nothing is measured.
        wrap: puts state or float conversion around a runner before it is measured.

    Raises:
        ModelError: no engine loads it.
    """
    return _Choosing(model, device, tuple(engines), wish, options, wrap).choice()


class _Choosing:
    def __init__(
        self,
        model: ModelFile,
        device: Device,
        engines: tuple[Engine, ...],
        wish: Wish,
        options: LoadOptions,
        wrap: Callable[[Runner], Runner],
    ) -> None:
        self.model, self.device, self.wish, self.options, self.wrap = model, device, wish, options, wrap
        self.engines = {engine.name: engine for engine in engines}
        self.cpus = usable_cpus()
        self.open_size = OPEN_SIZES[0]
        self.began = time.perf_counter()

    def choice(self) -> Choice:
        if self.options.threads is not None or self.options.cpus is not None or self.options.accelerator != "cpu":
            return self._given()
        key = self._key()
        if (kept := cached_plan(key)) is not None and kept.engine in self.engines:
            return Choice(msgspec.structs.replace(kept, planning_ms=self._elapsed_ms()), None)
        table = candidates(self.model.name, tuple(self.engines.values()), self.device, self.cpus, self.wish.power_mode)
        if self.wish.budget_s == 0:
            return Choice(self._plan(table[0], table, "not measured (plan_budget_s=0): the engine's default"), None)
        choice = self._measured(list(table))
        if choice.plan.measured is not None:
            keep_plan(key, choice.plan)
        return choice

    def _given(self) -> Choice:
        engine = next(iter(self.engines.values()))
        from edge_sdk.planner.plan import Placement

        placement = Placement(cpus=self.options.cpus, threads=self.options.threads, label="given")
        candidate = Candidate(
            variant=self.model.name,
            engine=engine.name,
            accelerator=self.options.accelerator,
            placement=placement,
            reason="given by the caller",
        )
        return Choice(self._plan(candidate, (candidate,), "given by the caller"), None)

    def _measured(self, table: list[Candidate]) -> Choice:
        deadline = self.began + self.wish.budget_s
        incumbent, runner, request = self._first(table, deadline)
        if request is None:
            reason = f"{incumbent.describe()}: {incumbent.reason}"
            return Choice(self._plan(incumbent, table, reason), runner)
        for place, challenger in enumerate(table):
            if challenger.measured is not None or challenger.reason.startswith("cannot load"):
                continue
            left = deadline - time.perf_counter()
            if left < self.wish.budget_s * 0.05:
                table[place] = _noted(challenger, "not measured: the budget was spent")
                continue
            incumbent, runner, request = self._duel(table, place, incumbent, runner, request, left)
        return Choice(self._plan(incumbent, table, _why(incumbent, table)), runner)

    def _first(self, table: list[Candidate], deadline: float) -> tuple[Candidate, Runner, Callable[[], object] | None]:
        """Loads the first candidate whose engine takes the model and measures it alone."""
        failure: EdgeError | None = None
        for place, candidate in enumerate(table):
            if not candidate.reason.startswith("the engine's default"):
                continue
            try:
                runner = self._load(candidate)
            except EdgeError as error:
                failure = error
                for other, same in enumerate(table):
                    if same.engine == candidate.engine:
                        table[other] = _noted(same, f"cannot load: {error}")
                continue
            try:
                request = self._first_request(runner)
                budget = min(self.wish.budget_s * FIRST_SHARE, deadline - time.perf_counter())
                if budget <= 0:
                    table[place] = _noted(candidate, "not measured: loading and one request took the whole budget")
                    return table[place], runner, None
                latency_ms, runs = median_ms(request, budget)
            except EdgeError as error:
                hint = "" if self.wish.sample is not None else "; give a sample to measure with"
                table[place] = _noted(candidate, f"not measured: made-up inputs failed ({error}){hint}")
                return table[place], runner, None
            table[place] = msgspec.structs.replace(
                candidate, measured=Figures(latency_ms=round(latency_ms, 4), runs=runs)
            )
            return table[place], runner, request
        assert failure is not None
        raise failure

    def _duel(
        self,
        table: list[Candidate],
        place: int,
        incumbent: Candidate,
        runner: Runner,
        request: Callable[[], object],
        left_s: float,
    ) -> tuple[Candidate, Runner, Callable[[], object]]:
        challenger = table[place]
        waiting = sum(1 for c in table[place:] if c.measured is None)
        try:
            other = self._load(challenger)
            other_request = self._request(other)
            other_request()
            comparison = compare(request, other_request, left_s / waiting, CLEARLY)
        except EdgeError as error:
            table[place] = _noted(challenger, f"cannot load: {error}")
            return incumbent, runner, request
        if comparison is None:
            other.close()
            table[place] = _noted(challenger, "not measured: the budget was spent")
            return incumbent, runner, request
        ratio = f"{comparison.ratio:.2f} times the latency of {incumbent.describe()} ({len(comparison.ratios)} pairs)"
        table[place] = msgspec.structs.replace(
            challenger,
            measured=Figures(latency_ms=round(comparison.second_ms, 4), runs=comparison.runs),
            reason=ratio,
        )
        if comparison.second_wins(CLEARLY):
            runner.close()
            return table[place], other, other_request
        other.close()
        return incumbent, runner, request

    def _load(self, candidate: Candidate) -> Runner:
        placement = candidate.placement
        options = replace(self.options, threads=placement.threads, cpus=placement.cpus)
        return self.wrap(self.engines[candidate.engine].load(self.model, options))

    def _request(self, runner: Runner) -> Callable[[], object]:
        feeds = self.wish.sample
        if feeds is None:
            feeds = made_up_feeds(runner.inputs, runner.optional_inputs, self.open_size)
        return lambda: runner.run(feeds)

    def _first_request(self, runner: Runner) -> Callable[[], object]:
        """The request to measure with, run once; made-up inputs grow until the model takes them."""
        sizes = OPEN_SIZES if self.wish.sample is None else (self.open_size,)
        for self.open_size in sizes:
            request = self._request(runner)
            try:
                request()
            except EdgeError:
                if self.open_size == sizes[-1]:
                    raise
            else:
                break
        return request

    def _key(self) -> str:
        wish, options = self.wish, self.options
        shapes = None
        if wish.sample is not None:
            shapes = [(name, getattr(value, "shape", None)) for name, value in sorted(wish.sample.items())]
        return plan_key(
            {
                "device": self.device.fingerprint,
                "cpus": str(self.cpus),
                "model": self.model.fingerprint,
                "engines": str(sorted((name, engine.version()) for name, engine in self.engines.items())),
                "wish": f"{wish.objective} {wish.power_mode} {shapes}",
                "options": f"{options.initializer_inputs} {options.custom_ops}",
            }
        )

    def _elapsed_ms(self) -> float:
        return round((time.perf_counter() - self.began) * 1e3, 3)

    def _plan(self, chosen: Candidate, table: Sequence[Candidate], reason: str) -> Plan:
        limit = self.wish.max_latency_ms
        if limit is not None and chosen.measured is not None and chosen.measured.latency_ms > limit:
            reason += f"; {chosen.measured.latency_ms:.2f} ms misses max_latency_ms={limit:g}"
        return Plan(
            kind=chosen.kind,
            variant=chosen.variant,
            engine=chosen.engine,
            accelerator=chosen.accelerator,
            placement=chosen.placement,
            objective=self.wish.objective,
            predicted=chosen.predicted,
            measured=chosen.measured,
            reason=reason,
            candidates=tuple(table),
            planning_ms=self._elapsed_ms(),
        )


def _noted(candidate: Candidate, reason: str) -> Candidate:
    return msgspec.structs.replace(candidate, reason=reason)


def _why(chosen: Candidate, table: Sequence[Candidate]) -> str:
    measured = [c for c in table if c.measured is not None]
    assert chosen.measured is not None
    latency = f"{chosen.measured.latency_ms:.2f} ms"
    if len(measured) == 1:
        return f"{chosen.describe()}: {latency}; the only candidate that was measured"
    if chosen is table[0] or chosen.reason.startswith("the engine's default"):
        return f"{chosen.describe()}: {latency}; none of {len(measured) - 1} others was clearly faster"
    return f"{chosen.describe()}: {latency}; {chosen.reason}; best of {len(measured)} measured"

"""Choosing a plan: what may run is listed and predicted, what is worth it is measured, and what wins is checked."""

from __future__ import annotations

import importlib.util
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec

from edge_sdk.device.affinity import usable_cpus
from edge_sdk.device.facts import Device
from edge_sdk.device.frequency_limits import frequency_limits_mhz
from edge_sdk.device.utilization import UtilizationClamp, thread_clamp
from edge_sdk.engines.base import Engine, LoadOptions, Runner
from edge_sdk.engines.loading import load_guarded
from edge_sdk.engines.samples import OPEN_SIZES, made_up_feeds
from edge_sdk.errors import DeviceError, EdgeError, InputError
from edge_sdk.formats import ModelFile
from edge_sdk.measuring.cores import core_groups
from edge_sdk.planner.candidates import barred, candidates, default_placement, stages_with
from edge_sdk.planner.placed import placed
from edge_sdk.planner.plan_cache import cached_plan, keep_plan, plan_key
from edge_sdk.planner.plans import Candidate, Plan
from edge_sdk.planner.stage_candidates import StageCandidates
from edge_sdk.planner.variants import Variant
from edge_sdk.planner.wish import Wish
from edge_sdk.schedule.placing import Placement
from edge_sdk.tensors import FeedCheck

if TYPE_CHECKING:
    from edge_sdk.planner.tournament import Request, Seat, Tournament

__all__ = ["Choice", "choose"]

_log = logging.getLogger(__name__)

LEAST_BUDGET_S = 0.2
"""What a second tournament gets when the first one's winner failed its golden check and the budget is spent."""


class WrongSample(Exception):
    """The caller's sample does not fit the model: nothing that another candidate could make good."""

    def __init__(self, error: InputError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True, slots=True)
class Choice:
    """A plan, the variant it names, and the runner that measuring left open for it (None where nothing was loaded)."""

    plan: Plan
    variant: Variant
    runner: Runner | None


def choose(
    variants: Sequence[Variant],
    device: Device,
    engines: Mapping[str, Sequence[Engine]],
    wish: Wish,
    options: LoadOptions,
    *,
    model: str = "",
    wrap: Callable[[Runner], Runner] = lambda runner: runner,
    admit: Callable[[ModelFile, Engine, LoadOptions], None] = lambda file, engine, options: None,
    use_cache: bool = True,
) -> Choice:
    """Chooses variant, engine, accelerator, threads and CPUs, measuring within `wish.budget_s`.

    Args:
        variants: of one model, the source first.
        device: where it will run: this machine.
        engines: by model format those that run it.
        wish: what to minimise, what to hold, and how long to take.
        options: how to load; threads, CPUs and an accelerator stated there are kept.
        model: what the plan calls the model; the first variant's name by default.
        wrap: puts state or float conversion around a runner before it is measured.
        admit: called before a file is loaded by an engine for the first time; raises where that must not happen. Its
            time is not in the budget.
        use_cache: whether a plan kept earlier will do.

    Raises:
        InputError: no candidate holds the constraints; the message tells what each lacks.
        ModelError: no engine loads it.
    """
    return _Choosing(variants, device, engines, wish, options, model, wrap, admit).choice(use_cache)


class _Choosing:
    def __init__(
        self,
        variants: Sequence[Variant],
        device: Device,
        engines: Mapping[str, Sequence[Engine]],
        wish: Wish,
        options: LoadOptions,
        model: str,
        wrap: Callable[[Runner], Runner],
        admit: Callable[[ModelFile, Engine, LoadOptions], None],
    ) -> None:
        self.variants = {variant.name: variant for variant in variants}
        self.device, self.wish, self.options, self.wrap, self.admit = device, wish, options, wrap, admit
        self.model = model or variants[0].name
        self.by_format = engines
        self.engines = {engine.name: engine for able in engines.values() for engine in able}
        self.cpus = usable_cpus()
        self.by_speed = self._by_speed()
        self.open_size = OPEN_SIZES[0]
        self.admitted: set[tuple[str, str, str]] = set()
        self.in_stages = StageCandidates(self.variants, device)
        self.tournament: Tournament | None = None
        self.began = time.perf_counter()

    def choice(self, use_cache: bool) -> Choice:
        key = self._key()
        if use_cache and (kept := self._kept(key)) is not None:
            return Choice(
                msgspec.structs.replace(kept, planning_ms=self._elapsed_ms()), self.variants[kept.variant], None
            )
        table = self._table()
        feasible = [candidate for candidate in table if candidate.feasible]
        if not feasible:
            raise self._nothing_holds(table)
        if len(feasible) == 1 and self._given():
            return self._unmeasured(table, "given by the caller")
        if self.wish.budget_s == 0:
            told = "predicted" if feasible[0].predicted is not None else "the engine's default"
            return self._unmeasured(table, f"not measured (plan_budget_s=0): {told}")
        choice = self._measured(table)
        if choice.plan.measured is not None:
            keep_plan(key, choice.plan)
        return choice

    def _by_speed(self) -> tuple[tuple[int, ...], ...]:
        """CPUs by how fast they compute now, where nothing else tells them apart, and measuring is wanted."""
        alike = len({cluster.role for cluster in self.device.clusters}) < 2
        if not alike or self._given() or self.wish.budget_s == 0 or not set(self.cpus) <= set(self.device.usable_cpus):
            return ()
        groups = core_groups(self.cpus)
        return groups if len(groups) > 1 else ()

    def _kept(self, key: str) -> Plan | None:
        kept = cached_plan(key)
        known = kept is not None and kept.engine in self.engines and kept.variant in self.variants
        return kept if known else None

    def _given(self) -> bool:
        return self.options.threads is not None or self.options.cpus is not None or self.options.accelerator != "cpu"

    def _table(self) -> list[Candidate]:
        """All candidates, the infeasible last, the others likeliest first."""
        from edge_sdk.planner.prediction import predict_table

        variants = tuple(self.variants.values())
        shared = self.wish.objective == "throughput"
        wish, by_format = self.wish, self.by_format
        found = candidates(variants, by_format, self.device, self.cpus, wish.power_mode, self.by_speed, shared)
        if self._given():
            found = self._as_given(found)
        table = predict_table(found, variants, self.engines, self.device, self.cpus)
        table = [self.in_stages.with_cuts(candidate) for candidate in table]
        for place, candidate in enumerate(table):
            variant = self.variants[candidate.variant]
            alone = len(variants) == 1
            if against := barred(candidate, variant, self.wish.min_accuracy, self.wish.max_memory_mb, alone):
                table[place] = msgspec.structs.replace(candidate, feasible=False, reason=against)
        return sorted(table, key=lambda candidate: not candidate.feasible)

    def _as_given(self, found: Sequence[Candidate]) -> tuple[Candidate, ...]:
        """The placement and accelerator that the caller stated, for each variant and engine. For throughput the
        accelerator may have the CPU do a part, where the caller said nothing of CPUs and does not forbid it."""
        options = self.options
        given = [Placement(cpus=options.cpus, threads=options.threads, label="given")]
        ways = dict.fromkeys((c.variant, c.engine, c.accuracy) for c in found if c.engine)
        table = []
        for variant, engine, accuracy in ways:
            placements = list(given)
            if self._may_share_accelerator():
                default = default_placement(self.engines[engine], self.device, self.cpus, self.wish.power_mode)
                placements += stages_with(options.accelerator, default)
            table += [
                Candidate(
                    variant=variant,
                    engine=engine,
                    accelerator=options.accelerator,
                    placement=placement,
                    accuracy=accuracy,
                    reason="" if placement.stages else "given by the caller",
                )
                for placement in placements
            ]
        return tuple(table)

    def _may_share_accelerator(self) -> bool:
        options = self.options
        free = options.threads is None and options.cpus is None and not options.strict
        return free and options.accelerator != "cpu" and self.wish.objective == "throughput" and self.wish.budget_s > 0

    def _nothing_holds(self, table: Sequence[Candidate]) -> EdgeError:
        lacks = dict.fromkeys(f"{candidate.variant}: {candidate.reason}" for candidate in table)
        return InputError(f"{self.model}: no candidate may run: {'; '.join(lacks)}")

    def _unmeasured(self, table: list[Candidate], reason: str) -> Choice:
        """The likeliest candidate; loaded only where golden requests must be answered first."""
        from edge_sdk.planner.golden import golden_fault

        for place in range(len(table)):
            candidate = table[place]
            if not candidate.feasible:
                continue
            variant = self.variants[candidate.variant]
            runner = self._load(candidate) if any(True for _ in variant.golden()) else None
            fault = golden_fault(variant, runner) if runner is not None else ""
            if not fault:
                return Choice(self._plan(candidate, table, reason, None), variant, runner)
            assert runner is not None
            runner.close()
            self._rule_out(table, candidate, fault)
        raise self._nothing_holds(table)

    def _measured(self, table: list[Candidate]) -> Choice:
        from edge_sdk.planner.golden import golden_fault
        from edge_sdk.planner.metering import metered_watts
        from edge_sdk.planner.tournament import Tournament

        began = self.began
        while True:
            tournament = self.tournament = Tournament(
                table=table,
                load=self._load,
                request=self._request,
                watts=self._watts,
                meter=metered_watts if self.wish.objective == "energy" else None,
                objective=self.wish.objective,
                budget_s=max(self.wish.budget_s - (time.perf_counter() - self.began), LEAST_BUDGET_S),
                rate_hz=self.wish.rate_hz,
                max_latency_ms=self.wish.max_latency_ms,
            )
            try:
                measured = tournament.run(began)
            except WrongSample as wrong:
                raise wrong.error from None
            seat, confidence = measured.seat, measured.confidence
            winner = table[seat.place]
            variant = self.variants[winner.variant]
            if not (fault := golden_fault(variant, seat.runner)):
                return Choice(self._reasoned(seat, table, confidence), variant, seat.runner)
            seat.runner.close()
            self._rule_out(table, winner, fault)
            if not any(candidate.feasible for candidate in table):
                raise self._nothing_holds(table)
            began = time.perf_counter()

    def _watts(self, candidate: Candidate) -> float | None:
        from edge_sdk.planner.prediction import watts_of

        return watts_of(candidate, self.engines[candidate.engine], self.device, self.cpus)

    def _reasoned(self, seat: Seat, table: list[Candidate], confidence: float | None) -> Plan:
        from edge_sdk.planner.reasons import reason_for

        winner = table[seat.place]
        return self._plan(winner, table, reason_for(winner, table, len(self.variants) > 1), confidence)

    def _rule_out(self, table: list[Candidate], failed: Candidate, fault: str) -> None:
        _log.warning("%s: variant %s on %s: %s", self.model, failed.variant, failed.engine, fault)
        for place, other in enumerate(table):
            if other.way == failed.way:
                table[place] = msgspec.structs.replace(other, feasible=False, reason=fault)

    def _load(self, candidate: Candidate) -> Runner:
        variant, engine = self.variants[candidate.variant], self.engines[candidate.engine]
        options = replace(self.options, accelerator=candidate.accelerator)
        file, stages = variant.file(), candidate.placement.stages
        if candidate.way not in self.admitted:
            self._admit(file, engine, replace(options, accelerator="cpu") if stages else options)
            self.admitted.add(candidate.way)

        def load(part: ModelFile, where: LoadOptions) -> Runner:
            if part is not file and where.accelerator != "cpu":
                self._admit(part, engine, where)
            return load_guarded(engine, part, where)

        def at(placement: Placement) -> Runner:
            graph = variant.graph() if stages else None
            return placed(file, load, options, placement, lambda runner: self.wrap(variant.wrap(runner)), graph)

        return self._loaded_in_stages(candidate, at) if stages else at(candidate.placement)

    def _admit(self, file: ModelFile, engine: Engine, options: LoadOptions) -> None:
        began = time.perf_counter()
        self.admit(file, engine, options)
        if self.tournament is not None:
            self.tournament.deadline += time.perf_counter() - began

    def _loaded_in_stages(self, candidate: Candidate, at: Callable[[Placement], Runner]) -> Runner:
        assert self.tournament is not None
        table = self.tournament.table

        def answers(runner: Runner) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
            feeds = self._feeds(runner)
            return runner.run(feeds), self._whole_answer(candidate, feeds)

        runner, cut = self.in_stages.loaded(candidate, at, self._request, answers)
        table[table.index(candidate)] = cut
        return runner

    def _whole_answer(self, candidate: Candidate, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """What the variant answers on the CPU, uncut."""
        assert self.tournament is not None
        seat = self.tournament.seat
        if seat is not None:
            seated = self.tournament.table[seat.place]
            if seated.way == (candidate.variant, candidate.engine, "cpu") and not seated.placement.stages:
                return seat.runner.run(feeds)
        variant, engine = self.variants[candidate.variant], self.engines[candidate.engine]
        options = replace(self.options, accelerator="cpu", accelerator_options={})
        with closing(self.wrap(variant.wrap(engine.load(variant.file(), options)))) as whole:
            return whole.run(feeds)

    def _request(self, runner: Runner) -> Request:
        """The request to measure with, run once; made-up inputs grow until the model takes them."""
        sizes: tuple[int, ...] = (self.open_size,)
        if self.wish.sample is None:
            sizes = OPEN_SIZES[OPEN_SIZES.index(self.open_size) :]
        for self.open_size in sizes:
            request = self._request_of(runner)
            try:
                request()
            except EdgeError:
                if self.open_size == sizes[-1]:
                    raise
            else:
                break
        return request

    def _request_of(self, runner: Runner) -> Request:
        feeds = self._feeds(runner)
        return lambda: runner.run(feeds)

    def _feeds(self, runner: Runner) -> Mapping[str, Any]:
        """What to measure with: the caller's sample, or made-up inputs."""
        feeds = self.wish.sample
        if feeds is None:
            return made_up_feeds(runner.inputs, runner.optional_inputs, self.open_size)
        array = feeds.get("")  # one array, for the only input
        check = FeedCheck(runner.inputs, runner.optional_inputs, f"{self.model}: sample")
        try:
            return check(feeds if array is None else array)
        except InputError as error:
            raise WrongSample(error) from None

    def _key(self) -> str:
        wish, options = self.wish, self.options
        shapes = None
        if wish.sample is not None:
            shapes = [(name, getattr(value, "shape", None)) for name, value in sorted(wish.sample.items())]
        # With the packages for cutting there are more candidates; without them, kept stages cannot be made again.
        cuts = wish.objective == "throughput" and importlib.util.find_spec("onnx") is not None
        usable = [(a.engine, a.name, a.usable) for a in self.device.accelerators if a.present]
        given = f"{options.threads} {options.cpus} {options.accelerator} {sorted(options.accelerator_options.items())}"
        return plan_key(
            {
                "device": self.device.fingerprint,
                "cpus": f"{self.cpus} {self.by_speed} {frequency_limits_mhz()} {usable}{_clamp_now()}",
                "model": " ".join(f"{variant.name}={variant.digest}" for variant in self.variants.values()),
                "engines": str(sorted((name, engine.version()) for name, engine in self.engines.items())),
                "wish": f"{wish.objective} {wish.power_mode} {sorted(wish.holds().items())} {shapes} {cuts}",
                "options": f"{options.initializer_inputs} {options.custom_ops} {given}",
            }
        )

    def _elapsed_ms(self) -> float:
        return round((time.perf_counter() - self.began) * 1e3, 3)

    def _plan(self, chosen: Candidate, table: Sequence[Candidate], reason: str, confidence: float | None) -> Plan:
        holds, misses = self.wish.holds(), []
        limit, figures = self.wish.max_latency_ms, chosen.figures
        if limit is not None and figures is not None and figures.latency_ms > limit:
            misses.append("max_latency_ms")
            reason += f"; {figures.latency_ms:.3g} ms misses max_latency_ms={limit:g}"
        if self.wish.min_accuracy is not None and chosen.accuracy is None:
            misses.append("min_accuracy")
            reason += f"; nobody measured its accuracy, so min_accuracy={self.wish.min_accuracy:g} is not checked"
        return Plan(
            kind=chosen.kind,
            model=self.model,
            device=self.device.name,
            variant=chosen.variant,
            engine=chosen.engine,
            accelerator=chosen.accelerator,
            placement=chosen.placement,
            objective=self.wish.objective,
            holds=holds,
            misses=tuple(misses),
            accuracy=chosen.accuracy,
            confidence=None if confidence is None else round(confidence, 3),
            predicted=chosen.predicted,
            measured=chosen.measured,
            reason=reason,
            candidates=tuple(table),
            planning_ms=self._elapsed_ms(),
        )


def _clamp_now() -> str:
    """What the calling thread is measured with; empty where it is as strong as its core."""
    try:
        clamp = thread_clamp()
    except DeviceError:
        return ""
    return "" if clamp == UtilizationClamp() else f" {clamp}"

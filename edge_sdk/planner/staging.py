"""Where to cut a model in stages so that none is slower than it must be: predicted first, then put right by measuring.

The stage that takes longest says how often an answer comes. So the cuts are wanted whose slowest stage is the fastest,
where each stage takes its share of the model's time at its own place, and a little for what is handed on.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from edge_sdk.engines.base import Runner
from edge_sdk.errors import AcceleratorError, EngineError
from edge_sdk.graph.cuts import Cut, head_ops, single_cuts
from edge_sdk.graph.cuts_pareto import pareto_cuts
from edge_sdk.graph.splitting import FLOAT_TOLERANCE, compared
from edge_sdk.graph.view import Graph
from edge_sdk.planner.cost import CostModel
from edge_sdk.planner.overlapping import overlapping
from edge_sdk.planner.plans import Candidate, Figures
from edge_sdk.planner.stages import StagesRunner
from edge_sdk.schedule.placing import Placement, Stage

__all__ = ["Staging", "balanced", "checked", "staged"]

_log = logging.getLogger(__name__)

MS_PER_MB = 0.2
"""What writing or reading a megabyte takes that another core wrote, or will read."""
HANDED_MS = 0.03
"""What handing a request on to another thread takes."""
UNEVEN = 1.15
"""Where cuts of one tensor leave the slowest stage so many times the ideal, cuts of several are looked at."""
BETTER = 0.9
"""Other cuts are taken where the slowest stage is then predicted to take no more than this share of what it took."""
MEASURED_S, LEAST_RUNS, MOST_RUNS = 0.03, 3, 50
"""So long, but no fewer and no more requests one after the other, stages are measured before they are balanced."""
TRIES = 3
LEAST_SHARE = 0.02
"""What a stage of a smaller share took says nothing of how fast the whole model is there."""
ACCELERATOR_TOLERANCE = 0.02
"""Largest |difference| / largest |value| of an output where an accelerator computes a part, perhaps in 16 bits."""


@dataclass(frozen=True, slots=True)
class Balance:
    """Cuts and what they lead to.

    Attributes:
        cuts: from front to back.
        shares: of each stage, the part of the model's time.
        stage_ms: what each stage is predicted to take.
    """

    cuts: tuple[Cut, ...]
    shares: tuple[float, ...]
    stage_ms: tuple[float, ...]


class Staging:
    """The cuts of one model, and what part of its time lies before each.

    Args:
        graph: of the model.
        model: predicts it; multiply-accumulates tell the shares where None.

    Raises:
        UnsupportedOp: the graph holds control flow, or ops that keep state.
    """

    def __init__(self, graph: Graph, model: CostModel | None) -> None:
        self.graph, self.model = graph, model
        self._many, self._cuts = False, list[Cut]()
        self._take(single_cuts(graph))

    def whole_ms(self, stage: Stage) -> float:
        """What the whole model is predicted to take where a stage computes; of an accelerator nothing is known, so it
        is taken to be as fast as all CPUs."""
        if self.model is None:
            return 1.0
        return self.model.predict(Placement(cpus=stage.cpus, threads=stage.threads)).latency_ms

    def balance(self, whole_ms: Sequence[float], most: Sequence[float] = ()) -> Balance | None:
        """The cuts whose slowest stage is the fastest; None where the model cannot be cut in so many.

        Args:
            whole_ms: by stage, what the whole model takes there.
            most: by stage, the largest share of the model that it may have; all of it where left out.
        """
        most = most or (1.0,) * len(whole_ms)
        found = self._best(whole_ms, most)
        ideal_ms = 1 / sum(1 / max(each_ms, 1e-9) for each_ms in whole_ms)
        if not self._many and (found is None or max(found.stage_ms) > UNEVEN * ideal_ms):
            self._many = True
            self._take(pareto_cuts(self.graph).cuts)
            found = self._best(whole_ms, most)
        return found

    def shares(self, stages: Sequence[Stage]) -> tuple[float, ...]:
        """The part of the model's time in each stage."""
        known = {frozenset(cut.tensors): share for cut, share in zip(self._cuts, self._shares, strict=True)}
        ends = [0.0, *(known[frozenset(stage.tensors)] for stage in stages[:-1]), 1.0]
        return tuple(end - start for start, end in itertools.pairwise(ends))

    def _take(self, cuts: Sequence[Cut]) -> None:
        known = {cut.id for cut in self._cuts}
        self._cuts += [cut for cut in cuts if cut.divides and cut.id not in known]
        self._heads = head_ops(self.graph, self._cuts)
        if self.model is not None:
            self._shares = self.model.head_shares(self._heads)
        else:
            self._shares = [cut.head_macs / max(cut.head_macs + cut.tail_macs, 1) for cut in self._cuts]
        self._handed_ms = [HANDED_MS + (cut.wire_bytes or 0) / 1e6 * MS_PER_MB for cut in self._cuts]

    def _best(self, whole_ms: Sequence[float], most: Sequence[float]) -> Balance | None:
        """By stages from the front: for each cut behind one, the fastest slowest stage up to there."""
        # Before the first stage there is nothing: no share, nothing to take over. Behind the last there is all.
        reached: dict[int, tuple[float, tuple[int, ...]]] = {-1: (0.0, ())}
        for place, (each_ms, limit) in enumerate(zip(whole_ms, most, strict=True)):
            ends = range(len(self._cuts)) if place < len(whole_ms) - 1 else [-1]
            following: dict[int, tuple[float, tuple[int, ...]]] = {}
            for end in ends:
                for start, (slowest_ms, path) in reached.items():
                    share = self._between(start, end)
                    if share is None or share > limit:
                        continue
                    worst_ms = max(slowest_ms, self._stage_ms(start, end, share, each_ms))
                    if end not in following or worst_ms < following[end][0]:
                        following[end] = worst_ms, (*path, end)
            reached = following
        if -1 not in reached:
            return None
        path = reached[-1][1]
        bounds = list(zip((-1, *path[:-1]), path, strict=True))
        shares = tuple(self._between(start, end) or 0.0 for start, end in bounds)
        times = tuple(
            self._stage_ms(start, end, share, each_ms)
            for (start, end), share, each_ms in zip(bounds, shares, whole_ms, strict=True)
        )
        return Balance(tuple(self._cuts[end] for end in path[:-1]), shares, times)

    def _between(self, start: int, end: int) -> float | None:
        """The share of the model between two cuts; None where one does not lie before the other."""
        if start >= 0 and end >= 0 and not self._heads[start] < self._heads[end]:
            return None
        return (1.0 if end < 0 else self._shares[end]) - (0.0 if start < 0 else self._shares[start])

    def _stage_ms(self, start: int, end: int, share: float, whole_ms: float) -> float:
        return share * whole_ms + sum(self._handed_ms[cut] for cut in (start, end) if cut >= 0)


def staged(candidate: Candidate, staging: Staging | None, why_not: str = "") -> Candidate:
    """A candidate in stages with its cuts, and with figures where they can be predicted; infeasible where it cannot be
    cut.

    Args:
        candidate: with stages.
        staging: of its variant and engine; None where there is none.
        why_not: then the reason.
    """
    stages = candidate.placement.stages
    balance = None if staging is None else staging.balance([staging.whole_ms(stage) for stage in stages])
    if staging is None or balance is None:
        reason = why_not or f"the model cannot be cut in {len(stages)} stages"
        return msgspec.structs.replace(candidate, feasible=False, reason=reason)
    candidate = msgspec.structs.replace(candidate, placement=_cut(candidate.placement, balance))
    if staging.model is None or candidate.accelerator != "cpu":
        return candidate
    spread = staging.model.predict().high_ms / max(staging.model.predict().latency_ms, 1e-9)
    latency_ms = sum(balance.stage_ms)
    figures = Figures(
        latency_ms=round(latency_ms, 4),
        low_ms=round(latency_ms / spread, 4),
        high_ms=round(latency_ms * spread, 4),
        interval_ms=round(max(balance.stage_ms), 4),
    )
    return msgspec.structs.replace(candidate, predicted=figures)


def balanced(
    placement: Placement,
    staging: Staging,
    load: Callable[[Placement], Runner],
    request: Callable[[Runner], Callable[[], object]],
) -> tuple[Runner, Placement]:
    """Loads a model in stages, measures each, and cuts it elsewhere where that is clearly better.

    An accelerator that refuses its part is offered half of it.

    Args:
        placement: with the cuts as predicted.
        staging: of the model.
        load: loads the model at a placement.
        request: makes a request of a runner, which it has run once.

    Returns:
        The runner, and where it computes.

    Raises:
        EdgeError: as `load` and `request`.
    """
    most = [1.0] * len(placement.stages)
    whole_ms = [staging.whole_ms(stage) for stage in placement.stages]
    best: tuple[float, Placement] | None = None
    for turn in range(TRIES):
        shares = staging.shares(placement.stages)
        runner: Runner | None = None
        try:
            runner = load(placement)
            measured_ms = _measured_ms(runner, request(runner))
        except BaseException as error:
            if runner is not None:
                runner.close()
            on_cpu = [stage.accelerator == "cpu" for stage in placement.stages]
            most = [max_share if cpu else share / 2 for max_share, share, cpu in zip(most, shares, on_cpu, strict=True)]
            balance = staging.balance(whole_ms, most)
            if not isinstance(error, AcceleratorError) or turn == TRIES - 1 or balance is None:
                raise
            placement = _cut(placement, balance)
            continue
        slowest_ms = max(measured_ms)
        if best is not None and slowest_ms >= best[0]:
            runner.close()  # what was measured before misled
            return load(best[1]), best[1]
        best = slowest_ms, placement
        whole_ms = [
            max(took_ms - HANDED_MS, took_ms / 2) / share if share > LEAST_SHARE else known_ms
            for took_ms, share, known_ms in zip(measured_ms, shares, whole_ms, strict=True)
        ]
        balance = staging.balance(whole_ms, most)
        if turn == TRIES - 1 or balance is None or max(balance.stage_ms) > BETTER * slowest_ms:
            return runner, placement
        _log.info("%s: stages took %s ms; cut elsewhere", runner.model, measured_ms)
        runner.close()
        placement = _cut(placement, balance)
    raise AssertionError("the last turn returns or raises")


def checked(runner: Runner, answer: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Compares an answer of a model in stages with that of the whole.

    Raises:
        EngineError: they differ by more than rounding; the message names the output.
    """
    on_cpu = runner.options.accelerator == "cpu"
    allowed = FLOAT_TOLERANCE if on_cpu else ACCELERATOR_TOLERANCE
    worst = compared(expected, answer)
    if not worst.relative <= allowed:
        raise EngineError(
            f"{runner.model}: in stages its output {worst.output!r} differs from the whole model's by"
            f" {worst.relative:.2g} of its largest value, more than {allowed:g}"
        )


def _measured_ms(runner: Runner, request: Callable[[], object]) -> tuple[float, ...]:
    until_s = time.perf_counter() + MEASURED_S
    for run in range(MOST_RUNS):
        request()
        if run + 1 >= LEAST_RUNS and time.perf_counter() >= until_s:
            break
    stages = overlapping(runner)
    assert isinstance(stages, StagesRunner)
    return stages.alone_ms()


def _cut(placement: Placement, balance: Balance) -> Placement:
    tensors = [*(cut.tensors for cut in balance.cuts), ()]
    stages = tuple(
        msgspec.structs.replace(stage, tensors=tuple(names))
        for stage, names in zip(placement.stages, tensors, strict=True)
    )
    return msgspec.structs.replace(placement, stages=stages)

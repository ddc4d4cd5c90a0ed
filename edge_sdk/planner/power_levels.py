"""From a plan's table to levels of power: the same model in ways that take less and less.

Power beyond what the device takes idle is energy of a request × requests a second. Energy is what sensors told, else
what the cores of a placement draw by their rank and clock × the time a request takes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from edge_sdk.device.facts import Device
from edge_sdk.engines.base import Engine
from edge_sdk.planner.plans import Candidate, Plan
from edge_sdk.planner.prediction import threads_of, watts_of
from edge_sdk.schedule.governor import Level

__all__ = ["PowerLevel", "power_levels"]

LESS = 0.85
"""A level must take at most this share of the power of the one before it to be one of its own."""
SHARES = (0.5, 0.25)
"""Of the rate that is wanted, or of what comes: the last levels."""
PARALLEL = 0.8
"""Threads speed a model up by their number to this power, where nobody measured it."""


@dataclass(frozen=True, slots=True)
class PowerLevel:
    """One way to run, and how often.

    Attributes:
        candidate: variant, engine, accelerator and placement.
        pace_hz: so many requests a second at most; infinity where all that come are answered.
        share: of the requests that come, where no rate is stated.
        latency_ms: of one request; None where nothing tells.
        energy_mj: of one request; None where nothing tells.
        watts: estimated power beyond what the device takes idle; None where nothing tells. With `pace_hz` infinite,
            while it computes all the time.
    """

    candidate: Candidate
    pace_hz: float = math.inf
    share: float = 1.0
    latency_ms: float | None = None
    energy_mj: float | None = None
    watts: float | None = None

    @property
    def name(self) -> str:
        """One phrase: "int8, onnxruntime, 2 threads on little CPUs 0-3, 15 Hz"."""
        often = f", {self.pace_hz:g} Hz" if math.isfinite(self.pace_hz) else ""
        often += f", {self.share:.0%} of requests" if self.share < 1 else ""
        return f"{self.candidate.variant}, {self.candidate.describe()}{often}"

    @property
    def level(self) -> Level:
        """As the governor knows it: with the rate that it holds."""
        return Level(self.name, min(self.pace_hz, _able_hz(self.latency_ms)) if self.share == 1 else 0.0)

    @property
    def accuracy(self) -> float:
        """Of the variant; 0 where nobody measured it."""
        return self.candidate.accuracy or 0.0


def power_levels(
    plan: Plan,
    device: Device,
    engines: Mapping[str, Engine],
    usable_cpus: Sequence[int],
    *,
    rate_hz: float | None = None,
    comes_hz: float | None = None,
    max_latency_ms: float | None = None,
    other_ways: bool = True,
    most_accurate: bool = False,
) -> tuple[PowerLevel, ...]:
    """The levels, the best first, each with clearly less power than the one before.

    First come those that hold `rate_hz`, or the rate that comes nearest, then those that give it up; without it, those
    that answer all that comes, then shares of it. What would be no better in anything than another level of no more
    power is left out.

    Args:
        plan: of the session; only candidates that it calls feasible are used.
        device: its clusters tell what cores draw.
        engines: by name those of the plan's table.
        usable_cpus: those a request may run on.
        rate_hz: to be held while that is possible.
        comes_hz: requests a second that come; None where nobody says.
        max_latency_ms: ways that take longer for a request are left out.
        other_ways: False where only the rate may change.
        most_accurate: the first is the most accurate variant that holds the rate, and not the plan's choice.
    """
    estimates = _Estimates(plan, device, engines, tuple(usable_cpus))
    first = estimates.way(plan.chosen)
    ways = [first]
    if other_ways:
        rows = (row for row in plan.candidates if row.feasible and row.kind == "local" and row.engine in engines)
        known = (estimates.way(row) for row in rows if not row.runs_as(first.candidate))
        longest_ms = max_latency_ms or math.inf
        ways += [way for way in known if way.energy_mj is not None and (way.latency_ms or 0.0) <= longest_ms]
    if rate_hz is None:
        paces = [(math.inf, 1.0), *((math.inf, share) for share in SHARES)]
        wanted_hz = 0.0
    else:
        comes = comes_hz if comes_hz is not None and comes_hz > rate_hz else math.inf
        paces = [(comes, 1.0), *((rate_hz * share, 1.0) for share in (1.0, *SHARES))]
        wanted_hz = min(rate_hz, max(way.able_hz for way in ways))
    if most_accurate:
        able = [way for way in ways if way.able_hz >= wanted_hz]
        first = max(able, key=lambda way: (way.candidate.accuracy or 0.0, way is first, way.able_hz))
    top = first.at(*paces[0])
    every = [way.at(hz, share) for hz, share in paces for way in ways if math.isinf(hz) or way.able_hz >= hz]
    holding = [level for level in every if level.share == 1 and level.level.rate_hz >= wanted_hz]
    levels = _thinned([top], holding)
    last = levels[-1].candidate  # who gives up the rate is at the way that takes least: no other is loaded for that
    beyond = [level for level in every if level not in holding and level.candidate.runs_as(last)]
    return tuple(_thinned(levels, beyond))


def _able_hz(latency_ms: float | None) -> float:
    return 1e3 / latency_ms if latency_ms else math.inf


@dataclass(frozen=True, slots=True)
class _Way:
    """A candidate with what a request takes."""

    candidate: Candidate
    latency_ms: float | None
    energy_mj: float | None
    watts: float | None

    @property
    def able_hz(self) -> float:
        """Requests a second, one after the other; infinity where nothing tells."""
        return _able_hz(self.latency_ms)

    def at(self, pace_hz: float, share: float) -> PowerLevel:
        """It, so often."""
        watts = self.watts
        if math.isfinite(pace_hz):
            watts = None if self.energy_mj is None else self.energy_mj * pace_hz / 1e3
        if watts is not None:
            watts *= share
        return PowerLevel(self.candidate, pace_hz, share, self.latency_ms, self.energy_mj, watts)


@dataclass(frozen=True, slots=True)
class _Estimates:
    """What requests take; see `power_levels`."""

    plan: Plan
    device: Device
    engines: Mapping[str, Engine]
    usable_cpus: tuple[int, ...]

    def way(self, candidate: Candidate) -> _Way:
        """A candidate with its figures."""
        engine, figures = self.engines.get(candidate.engine), candidate.figures
        watts = None if engine is None else watts_of(candidate, engine, self.device, self.usable_cpus)
        latency_ms = self._latency_ms(candidate)
        energy_mj = None if watts is None or latency_ms is None else watts * latency_ms
        if figures is not None and figures.energy_mj is not None and (figures.energy_measured or energy_mj is None):
            energy_mj = figures.energy_mj
        if watts is None and energy_mj is not None and latency_ms:
            watts = energy_mj / latency_ms
        return _Way(candidate, latency_ms, energy_mj, watts)

    def _latency_ms(self, candidate: Candidate) -> float | None:
        """As measured, in pairs if it was; else as measured of the same files elsewhere, by the ratio of predictions or
        of cores."""
        chosen = self.plan.measured
        if candidate.measured is not None:
            if candidate.relative is None or chosen is None or self.plan.objective == "energy":
                return candidate.measured.pace_ms
            return chosen.pace_ms * candidate.relative
        for row in (self.plan.chosen, *self.plan.candidates):
            if row.way != candidate.way or row.measured is None:
                continue
            if candidate.predicted is not None and row.predicted is not None and row.predicted.pace_ms > 0:
                return row.measured.pace_ms * candidate.predicted.pace_ms / row.predicted.pace_ms
            return row.measured.pace_ms * self._speed(row) / self._speed(candidate)
        return None if candidate.predicted is None else candidate.predicted.pace_ms

    def _speed(self, candidate: Candidate) -> float:
        """Of a placement's cores, where nothing else tells: only ratios mean anything."""
        placement = candidate.placement
        cpus = set(placement.cpus or self.usable_cpus)
        threads = threads_of(placement, self.engines[candidate.engine], self.usable_cpus)
        used = [cluster for cluster in self.device.clusters if cpus & set(cluster.cpus)]
        core = min((cluster.capacity or cluster.max_mhz or 1.0 for cluster in used), default=1.0)
        return core * math.pow(threads, PARALLEL)


def _thinned(levels: Sequence[PowerLevel], more: Iterable[PowerLevel]) -> list[PowerLevel]:
    """`levels` with those of `more` behind them that take clearly less than the last, none of them for nothing."""
    kept, found = list(levels), list(more)
    for level in sorted(found, key=_preference):
        last = kept[-1]
        if any(_beats(other, level) for other in found):
            continue
        if _less(level, last):
            kept.append(level)
    return kept


def _preference(level: PowerLevel) -> tuple[float, ...]:
    """Most power first; without figures, by how often alone."""
    return -(level.watts or 0.0), -level.pace_hz, -level.share, -level.accuracy


def _less(level: PowerLevel, than: PowerLevel) -> bool:
    if level.watts is None or than.watts is None:
        fewer = level.pace_hz < than.pace_hz or level.share < than.share
        return fewer and level.candidate.runs_as(than.candidate)
    if math.isinf(than.pace_hz) and math.isfinite(level.pace_hz) and level.candidate.runs_as(than.candidate):
        return True  # how much less is a matter of what comes
    if math.isinf(than.pace_hz) and level.share == 1 and (level.energy_mj or 0.0) > (than.energy_mj or 0.0):
        return False  # less at once, and for longer: more where requests are paced by whoever makes them
    return level.watts <= LESS * than.watts


def _beats(one: PowerLevel, other: PowerLevel) -> bool:
    """Whether `one` takes no more power and is as good in everything else; a little faster is no better."""
    if one.watts is None or other.watts is None:
        return False
    mine, theirs = ((-(level.watts or 0.0), level.pace_hz, level.share, level.accuracy) for level in (one, other))
    as_fast = LESS * (one.latency_ms or 0.0) <= (other.latency_ms or 0.0)
    return as_fast and mine != theirs and all(a >= b for a, b in zip(mine, theirs, strict=True))

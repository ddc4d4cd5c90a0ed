"""Measuring a table of candidates: one incumbent, challenged in turn, never more than two loaded at a time.

First each way (variant, engine, accelerator) meets the incumbent at its own default placement; then the other
placements of the winner, and of ways that came close, do. A challenger takes the place only when it is clearly better,
so that an engine's default stands against noise.
"""

from __future__ import annotations

import logging
import math
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import msgspec

from edge_sdk.engines.base import Runner
from edge_sdk.errors import EdgeError
from edge_sdk.measuring import (
    Block,
    Comparison,
    back_to_back,
    compare_blocks,
    concurrent_block,
    median_ms,
    paced_block,
)
from edge_sdk.measuring.comparing import MIN_PAIRS
from edge_sdk.planner.overlapping import overlapping
from edge_sdk.planner.plans import Candidate, Figures
from edge_sdk.planner.standings import Standings

__all__ = ["Measured", "Seat", "Tournament"]

_log = logging.getLogger(__name__)

CLEARLY = 0.04
"""A placement must beat the engine's default by this much: below that the machine's noise decides."""
FASTER = 0.015
"""A variant or engine must beat another by this much."""
CLOSE = 1.35
"""Other placements of a way are measured when its default placement was within this factor of the winner."""
HOPELESS = 1.5
"""A candidate is not measured when the least it is predicted to take is this many times the incumbent's most."""
NEAR = 1.1
"""A model is cut in stages only where that is predicted to take no more than so many times what the incumbent does:
making the parts takes longer than to measure them."""
LOADS_OF_STAGES = 4
"""Cutting a model and loading its parts, perhaps twice, is taken to last so many times as long as loading it."""
UNDECIDED = 1.15
"""Who took up to so many times as much as the winner is measured again when all others were: where a machine is shared,
a duel of half a second may fall into a moment in which one core has less to give."""
AGAIN_SHARE = 0.25
"""Of the budget, at most, for that, and as much for the winner to beat the default placement of its way once more."""
MISLED = 2.0
"""A prediction that is off by more than this factor is not believed."""
FIRST_SHARE = 0.2
MIN_SHARE = 0.05

Request = Callable[[], object]


@dataclass(slots=True)
class Seat:
    """A loaded candidate."""

    place: int
    runner: Runner
    request: Request | None


@dataclass(frozen=True, slots=True)
class Measured:
    """What the tournament left: the winner, loaded, and how sure it is (None where nothing was compared)."""

    seat: Seat
    confidence: float | None


@dataclass(slots=True)
class Tournament:
    """One measured choice.

    Attributes:
        table: feasible and infeasible candidates, likeliest first; measured figures and reasons are written into it.
        load: loads a candidate.
        request: makes the request to measure with, which it has run once.
        watts: estimated power of a candidate, in watts; None where nobody knows.
        meter: measures the power of running a request again and again, in watts; None where no sensor does.
        objective: "latency", "throughput" or "energy".
        budget_s: for everything.
        rate_hz: pace of the requests; None for back to back.
        max_latency_ms: a candidate that keeps it beats one that does not.
    """

    table: list[Candidate]
    load: Callable[[Candidate], Runner]
    request: Callable[[Runner], Request]
    watts: Callable[[Candidate], float | None]
    budget_s: float
    rate_hz: float | None = None
    max_latency_ms: float | None = None
    objective: str = "latency"
    meter: Callable[[Request], float | None] | None = None
    deadline: float = 0.0
    load_s: float = 0.0
    seat: Seat | None = None
    metered: dict[int, float] = field(default_factory=dict)
    """Power as measured, in watts, by place in the table."""
    standings: Standings | None = None

    def run(self, began: float) -> Measured:
        """Measures until the table or the budget is through.

        Raises:
            EdgeError: no feasible candidate loads; the first one's error.
        """
        self.deadline = began + self.budget_s
        seat = self._first()
        if seat.request is None:
            return Measured(seat, None)
        self._challenge(self._defaults())
        self._challenge(self._placements())
        self._confirm()
        self._look_again()
        seat, standings = self._seated(), self._standings()
        for place in standings.places:
            relative = round(standings.relative(place, seat.place), 4)
            self.table[place] = msgspec.structs.replace(self.table[place], relative=relative)
        self._tell_why_not_measured(seat.place)
        return Measured(seat, standings.confidence(seat.place, CLEARLY))

    def _seated(self) -> Seat:
        assert self.seat is not None
        return self.seat

    def _standings(self) -> Standings:
        assert self.standings is not None
        return self.standings

    def _tell_why_not_measured(self, winner: int) -> None:
        """Placements of ways that did not come close have no reason of their own yet."""
        standings = self._standings()
        for place, candidate in enumerate(self.table):
            if candidate.feasible and candidate.measured is None and not candidate.reason:
                ways = [other for other in standings.places if self.table[other].way == candidate.way]
                if ways:
                    times = min(standings.relative(other, winner) for other in ways)
                    self._note(place, f"not measured: its default takes {times:.2f} times as much as the best")

    def _defaults(self) -> list[int]:
        """The first candidate of each way that is not the incumbent's."""
        seen = {self.table[self._seated().place].way}
        found = []
        for place, candidate in enumerate(self.table):
            if candidate.feasible and candidate.way not in seen:
                seen.add(candidate.way)
                found.append(place)
        return found

    def _placements(self) -> list[int]:
        """The other candidates of ways that came close: the incumbent's first, then by how close."""
        best, standings = self._seated().place, self._standings()
        least: dict[tuple[str, str, str], float] = {}
        for place in standings.places:
            way, cost = self.table[place].way, standings.relative(place, best)
            least[way] = min(cost, least.get(way, cost))
        near = [way for _, way in sorted((cost, way) for way, cost in least.items() if cost <= CLOSE)]
        # Where one order of stages did not run, another may.
        near += dict.fromkeys(row.way for row in self.table if row.placement.stages and row.way not in least)
        return [
            place
            for way in near
            for place, candidate in enumerate(self.table)
            if candidate.way == way and candidate.feasible and candidate.measured is None and not _failed(candidate)
        ]

    def _first(self) -> Seat:
        failure: EdgeError | None = None
        for place, candidate in enumerate(self.table):
            if not candidate.feasible or _failed(candidate):
                continue
            began_s = time.perf_counter() - self.deadline  # a trial moves the deadline, and is no part of loading
            try:
                runner = self.load(candidate)
            except EdgeError as error:
                failure = failure or error
                self._cannot_load(candidate, error)
                continue
            self.load_s = time.perf_counter() - self.deadline - began_s
            self.seat = Seat(place, runner, None)
            self.standings = Standings(place)
            self._measure_alone(self.seat)
            return self.seat
        assert failure is not None, "a tournament needs a feasible candidate"
        raise failure

    def _measure_alone(self, seat: Seat) -> None:
        candidate = self.table[seat.place]
        try:
            request = self._request(seat.runner)
            budget_s = min(self.budget_s * FIRST_SHARE, self.deadline - time.perf_counter())
            if budget_s <= 0:
                self._note(seat.place, "not measured: loading and one request took the whole budget")
                return
            if self.rate_hz is None and overlapping(seat.runner) is None:
                pace_ms, runs = median_ms(request, budget_s)
            else:
                times = self._block(seat.runner, request)()
                pace_ms, runs = statistics.median(times), len(times)
        except EdgeError as error:
            self._note(seat.place, f"not measured: a trial request failed ({error}); give a sample to measure with")
            return
        seat.request = request
        self._meter(seat.place, request)
        self.table[seat.place] = self._measured(seat, pace_ms, runs, candidate.reason)

    def _request(self, runner: Runner) -> Request:
        try:
            return self.request(runner)
        except EdgeError:
            raise
        except Exception:
            runner.close()  # nobody will take it any more
            raise

    def _challenge(self, places: Iterable[int]) -> None:
        waiting = list(places)
        for turn, place in enumerate(waiting):
            candidate = self.table[place]
            if _failed(candidate):
                continue
            if (times := self._hopeless(candidate)) is not None:
                self._note(place, f"not measured: predicted to take {times:.1f} times the best one's {self._counted()}")
                continue
            left_s = self.deadline - time.perf_counter()
            if left_s < max(
                self.budget_s * MIN_SHARE, LOADS_OF_STAGES * self.load_s * bool(candidate.placement.stages)
            ):
                self._note(place, "not measured: the budget was spent")
                continue
            self._duel(place, left_s / (len(waiting) - turn))

    def _confirm(self) -> None:
        """Has the winner beat the default placement of its way once more; else that stays."""
        winner, standings = self._seated(), self._standings()
        way = self.table[winner.place].way
        default = next(place for place, candidate in enumerate(self.table) if candidate.way == way)
        share_s = min(self.deadline - time.perf_counter(), AGAIN_SHARE * self.budget_s)
        if not standings.beat(winner.place, default) or share_s < self.load_s:
            return
        try:
            runner = self.load(self.table[default])
        except EdgeError:
            return  # there was memory for it before
        try:
            seat = Seat(default, runner, self._request(runner))
            comparison = self._compared(seat, winner, share_s, CLEARLY)
        except EdgeError:
            comparison = None
        if comparison is None or len(comparison.ratios) < MIN_PAIRS:
            runner.close()  # nothing was learnt in that time
            return
        self.seat = seat
        if self._settle(winner, comparison, CLEARLY):
            runner.close()
            self.seat = winner
        else:
            winner.runner.close()

    def _look_again(self) -> None:
        """Measures those again that came close to the winner; who then wins twice in a row takes the place."""
        end_s = min(self.deadline, time.perf_counter() + AGAIN_SHARE * self.budget_s)
        winner = self._seated().place
        waiting = list(self._standings().behind(winner, UNDECIDED))
        for turn, place in enumerate(waiting):
            left_s = end_s - time.perf_counter()
            if left_s < self.load_s * (LOADS_OF_STAGES if self.table[place].placement.stages else 1):
                continue
            share_s = left_s / (len(waiting) - turn) / 2
            if self._duel(place, share_s, takes_place=False) and self._duel(place, share_s):
                return

    def _hopeless(self, candidate: Candidate) -> float | None:
        """How many times the incumbent's latency a candidate is predicted to take, where that rules it out.

        Placements of one way are always measured, but for stages: how threads scale changes with what else runs. And a
        prediction that was wrong about the incumbent rules no other way out.
        """
        best = self.table[self._seated().place]
        own, others = candidate.predicted, best.predicted
        if own is None or others is None or own.low_ms is None or others.high_ms is None:
            return None
        if candidate.way == best.way:
            times = own.pace_ms / others.pace_ms
            return times if candidate.placement.stages and times > NEAR else None
        if best.measured is None or not 1 / MISLED <= best.measured.pace_ms / others.pace_ms <= MISLED:
            return None
        price = self._price(self.table.index(candidate)) / self._price(self._seated().place)
        least_ms = own.low_ms / own.latency_ms * own.pace_ms
        most_ms = others.high_ms / others.latency_ms * others.pace_ms
        if least_ms * price <= most_ms * HOPELESS:
            return None
        return own.pace_ms * price / others.pace_ms

    def _duel(self, place: int, share_s: float, takes_place: bool = True) -> bool:
        """Measures a candidate and the incumbent in turn; whether it won, and so takes the place if it may."""
        seat, challenger = self._seated(), self.table[place]
        incumbent = self.table[seat.place]
        margin = CLEARLY if challenger.way == incumbent.way else FASTER
        try:
            runner = self.load(challenger)
        except EdgeError as error:
            self._cannot_load(challenger, error)
            return False
        try:
            request = self._request(runner)
            challenging = Seat(place, runner, request)
            comparison = self._compared(seat, challenging, share_s, margin)
        except EdgeError as error:
            runner.close()
            self._note(place, f"cannot run: {error}")
            return False
        if comparison is None:
            runner.close()
            if challenger.measured is None:
                self._note(place, "not measured: the budget was spent")
            return False
        self._meter(place, request)
        wins = self._settle(challenging, comparison, margin)
        if wins and takes_place:
            seat.runner.close()
            self.seat = challenging
        else:
            runner.close()
        return wins

    def _compared(self, first: Seat, second: Seat, share_s: float, margin: float) -> Comparison | None:
        assert first.request is not None and second.request is not None
        blocks = self._block(first.runner, first.request), self._block(second.runner, second.request)
        return compare_blocks(*blocks, share_s, margin)

    def _block(self, runner: Runner, request: Request) -> Block:
        """Stretches of requests as they are meant to come: one after the other, paced, or as many as keep it busy."""
        if (several := overlapping(runner)) is not None:
            return concurrent_block(request, several.at_once)
        return back_to_back(request) if self.rate_hz is None else paced_block(request, self.rate_hz)

    def _settle(self, challenging: Seat, comparison: Comparison, margin: float) -> bool:
        """Writes the figures of a duel into the table; whether the challenger takes the place."""
        place, seated_runner = challenging.place, self._seated().runner
        incumbent, challenger = self.table[self._seated().place], self.table[place]
        price = self._price(place) / self._price(self._seated().place)
        cost = replace(comparison, ratios=tuple(ratio * price for ratio in comparison.ratios))
        told = f"{comparison.ratio:.2f} times the {self._counted()} of {_short(incumbent, challenger)}"
        told += f" ({len(comparison.ratios)} pairs)"
        self.table[place] = self._measured(
            challenging, comparison.second_ms, comparison.runs, told, comparison.second_p95_ms
        )
        seated = self.table[self._seated().place]
        measured = seated.measured
        if measured is not None and measured.p95_ms is None and measured.interval_ms is None:
            figures = msgspec.structs.replace(measured, p95_ms=_rounded(comparison.first_p95_ms))
            self.table[self._seated().place] = msgspec.structs.replace(seated, measured=figures)
        self._standings().record(place, self._seated().place, cost)
        wins = cost.second_wins(margin)
        limit = self.max_latency_ms
        if limit is not None:
            first_ms = _latency_ms(seated_runner, comparison.first_ms)
            second_ms = _latency_ms(challenging.runner, comparison.second_ms)
            if (first_ms > limit) != (second_ms > limit):
                wins = second_ms <= limit
        return wins

    def _counted(self) -> str:
        return "time from answer to answer" if self.objective == "throughput" else "latency"

    def _price(self, place: int) -> float:
        """What a millisecond of a candidate costs, in the objective's terms."""
        if self.objective != "energy":
            return 1.0
        return self.metered.get(place) or self.watts(self.table[place]) or 1.0

    def _meter(self, place: int, request: Request) -> None:
        if self.objective == "energy" and self.meter is not None and (watts := self.meter(request)):
            self.metered[place] = watts

    def _measured(self, seat: Seat, pace_ms: float, runs: int, reason: str, p95_ms: float | None = None) -> Candidate:
        place, several = seat.place, overlapping(seat.runner) is not None
        candidate = self.table[place]
        watts = self.metered.get(place) or self.watts(candidate)
        figures = Figures(
            latency_ms=round(_latency_ms(seat.runner, pace_ms), 4),
            p95_ms=None if several else _rounded(p95_ms),
            energy_mj=None if watts is None else round(pace_ms * watts, 4),
            energy_measured=place in self.metered,
            runs=runs,
            interval_ms=round(pace_ms, 4) if several else None,
        )
        return msgspec.structs.replace(candidate, measured=figures, reason=reason)

    def _cannot_load(self, candidate: Candidate, error: EdgeError) -> None:
        """What does not load at one placement does not at another either, but what cannot be cut may run whole."""
        for place, other in enumerate(self.table):
            cut = bool(candidate.placement.stages)
            if other.way == candidate.way and (not cut or other.placement == candidate.placement):
                self.table[place] = msgspec.structs.replace(other, feasible=False, reason=f"cannot load: {error}")

    def _note(self, place: int, reason: str) -> None:
        self.table[place] = msgspec.structs.replace(self.table[place], reason=reason)


def _latency_ms(runner: Runner, pace_ms: float) -> float:
    """What one request takes, at most, where answers come so far apart."""
    several = overlapping(runner)
    return pace_ms if several is None else several.request_ms()


def _failed(candidate: Candidate) -> bool:
    return candidate.reason.startswith(("cannot load", "cannot run"))


def _rounded(value_ms: float | None) -> float | None:
    return None if value_ms is None or math.isnan(value_ms) else round(value_ms, 4)


def _short(incumbent: Candidate, challenger: Candidate) -> str:
    if incumbent.way == challenger.way:
        return incumbent.placement.describe()
    if incumbent.variant == challenger.variant:
        return incumbent.describe()
    return f"{incumbent.variant} on {incumbent.describe()}"

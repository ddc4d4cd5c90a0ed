"""Who is measured at all: a prediction rules out what could not come near, if it was right about the incumbent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from edge_sdk.engines import LoadOptions, PlacementReport, Runner
from edge_sdk.engines.simulated import SimulatedClock as Clock
from edge_sdk.metrics import Histogram
from edge_sdk.planner import Candidate, Figures, Placement
from edge_sdk.planner.tournament import Tournament


class Timed(Runner):
    def __init__(self, clock: Clock, ms: float) -> None:
        self._clock, self._ms = clock, ms
        self.inputs = self.outputs = ()
        self.engine, self.model, self.options, self.queue = "e", "m", LoadOptions(), Histogram()

    def run(self, feeds: Mapping[str, Any], out: Mapping[str, Any] | None = None) -> dict[str, Any]:
        self._clock.sleep(self._ms / 1e3)
        return {}

    def placement(self) -> PlacementReport:
        return PlacementReport((), (), False)

    def close(self) -> None:
        pass


def candidate(variant: str, predicted_ms: float | None, threads: int | None = None) -> Candidate:
    """A candidate predicted to a fifth."""
    figures = None
    if predicted_ms is not None:
        figures = Figures(latency_ms=predicted_ms, low_ms=predicted_ms / 1.2, high_ms=predicted_ms * 1.2)
    return Candidate(variant=variant, engine="e", placement=Placement(threads=threads), predicted=figures)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("time.perf_counter", made)
    return made


def hold(
    clock: Clock, table: list[Candidate], ms: Mapping[str, float | Iterator[float]], **more: Any
) -> tuple[list[Candidate], set[str], Candidate]:
    """Runs a tournament; the table afterwards, what was loaded, and the winner. What a request takes may be another
    each time that a candidate is loaded."""
    loaded: set[str] = set()

    def load(wanted: Candidate) -> Runner:
        loaded.add(wanted.variant)
        takes_ms = ms[wanted.variant]
        return Timed(clock, takes_ms if isinstance(takes_ms, float) else next(takes_ms))

    def request(runner: Runner) -> Callable[[], object]:
        return lambda: runner.run({})

    arguments: dict[str, Any] = {"watts": lambda candidate: None, "budget_s": 10.0, **more}
    tournament = Tournament(table=table, load=load, request=request, **arguments)
    measured = tournament.run(clock())
    return table, loaded, table[measured.seat.place]


def test_what_is_predicted_to_be_far_off_is_not_loaded_and_says_so(clock: Clock) -> None:
    table, loaded, winner = hold(clock, [candidate("a", 1.0), candidate("b", 5.0)], {"a": 1.0, "b": 5.0})
    assert loaded == {"a"}
    assert winner.variant == "a"
    assert table[1].reason == "not measured: predicted to take 5.0 times the best one's latency"


def test_a_prediction_that_was_wrong_about_the_incumbent_rules_nobody_out(clock: Clock) -> None:
    _, loaded, winner = hold(clock, [candidate("a", 1.0), candidate("b", 5.0)], {"a": 10.0, "b": 5.0})
    assert loaded == {"a", "b"}
    assert winner.variant == "b"


def test_what_is_close_by_prediction_is_measured(clock: Clock) -> None:
    _, loaded, winner = hold(clock, [candidate("a", 1.0), candidate("b", 1.8)], {"a": 1.0, "b": 0.8})
    assert loaded == {"a", "b"}
    assert winner.variant == "b"


def test_placements_of_a_way_that_came_close_are_measured_and_others_tell_why_not(clock: Clock) -> None:
    rows = [candidate("a", None), candidate("a", None, 1), candidate("b", None), candidate("b", None, 1)]
    table, _, _ = hold(clock, rows, {"a": 1.0, "b": 2.0})
    assert table[1].measured is not None
    assert table[3].reason == "not measured: its default takes 2.00 times as much as the best"


@pytest.mark.parametrize(
    ("takes_ms", "winner"),
    [
        ([1.0, 0.7, 0.7], "b"),
        ([1.1, 0.7, 0.7], "b"),
        ([1.0, 0.7, 1.0], "a"),
        ([1.0, 1.0], "a"),
        ([1.2], "a"),
    ],
    ids=["slow for a moment", "slower for a moment", "fast for a moment", "a tie", "clearly slower"],
)
def test_what_came_close_is_measured_again_and_wins_where_it_does_so_twice(
    clock: Clock, takes_ms: list[float], winner: str
) -> None:
    left = iter(takes_ms)
    table, _, found = hold(clock, [candidate("a", None), candidate("b", None)], {"a": 1.0, "b": left})
    assert found.variant == winner
    assert list(left) == [], "it was loaded as often as that"
    assert table[1].measured is not None
    assert table[1].measured.latency_ms == takes_ms[-1]


@pytest.mark.parametrize(
    ("default_ms", "single_ms", "threads"),
    [
        ([1.0, 1.0], [0.9], 1),
        ([1.0, 0.9, 0.9], [0.9, 0.9], None),
        ([2.0, 0.9, 0.9], [0.9, 0.9], None),
    ],
    ids=["it wins again", "the default was slow for a moment", "and very slow"],
)
def test_a_placement_that_beats_the_default_has_to_do_so_twice(
    clock: Clock, default_ms: list[float], single_ms: list[float], threads: int | None
) -> None:
    takes = {None: iter(default_ms), 1: iter(single_ms)}

    def load(wanted: Candidate) -> Runner:
        return Timed(clock, next(takes[wanted.placement.threads], 0.9))

    tournament = Tournament(
        table=[candidate("a", None), candidate("a", None, 1)],
        load=load,
        request=lambda runner: lambda: runner.run({}),
        watts=lambda candidate: None,
        budget_s=10.0,
    )
    measured = tournament.run(clock())
    assert tournament.table[measured.seat.place].placement.threads == threads


def test_for_energy_the_power_of_a_candidate_counts(clock: Clock) -> None:
    watts = {"fast": 8.0, "frugal": 2.0}
    rows = [candidate("fast", None), candidate("frugal", None)]
    ms = {"fast": 1.0, "frugal": 2.0}
    _, _, winner = hold(clock, list(rows), ms, watts=lambda c: watts[c.variant], objective="energy")
    assert winner.variant == "frugal"
    assert winner.measured is not None
    assert winner.measured.energy_mj == pytest.approx(4.0)
    assert not winner.measured.energy_measured
    _, _, winner = hold(clock, list(rows), ms, watts=lambda c: watts[c.variant])
    assert winner.variant == "fast"


def test_a_sensor_counts_more_than_an_estimate(clock: Clock) -> None:
    rows = [candidate("a", None), candidate("b", None)]
    metered = iter([2.0, 9.0])
    _, _, winner = hold(
        clock,
        rows,
        {"a": 2.0, "b": 1.0},
        watts=lambda c: 1.0,
        meter=lambda request: next(metered),
        objective="energy",
    )
    assert winner.variant == "a"
    assert winner.measured is not None
    assert winner.measured.energy_measured


def test_what_keeps_the_promise_beats_what_does_not_whatever_it_costs(clock: Clock) -> None:
    watts = {"fast": 8.0, "frugal": 1.0}
    _, _, winner = hold(
        clock,
        [candidate("frugal", None), candidate("fast", None)],
        {"fast": 1.0, "frugal": 2.0},
        watts=lambda c: watts[c.variant],
        objective="energy",
        max_latency_ms=1.5,
    )
    assert winner.variant == "fast"

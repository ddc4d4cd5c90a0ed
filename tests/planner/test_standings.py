"""Duels form a tree; what never met compares along the path."""

from __future__ import annotations

import pytest

from edge_sdk.measuring import Comparison
from edge_sdk.planner.standings import Standings


def duel(*ratios: float) -> Comparison:
    return Comparison(1.0, ratios[0], ratios, 10)


def test_costs_multiply_along_the_path() -> None:
    """0 - 1 - 2: 1 beat 0 and then met 2."""
    standings = Standings(0)
    standings.record(1, 0, duel(0.5, 0.5, 0.5))
    standings.record(2, 1, duel(1.5, 1.5, 1.5))
    assert standings.relative(0, 1) == pytest.approx(2.0)
    assert standings.relative(2, 0) == pytest.approx(0.75)
    assert standings.relative(1, 1) == 1.0


def test_a_clear_winner_is_sure_and_a_tie_is_sure_to_cost_nothing() -> None:
    clear = Standings(0)
    clear.record(1, 0, duel(0.5, 0.51, 0.5, 0.49))
    assert clear.confidence(1, 0.04) > 0.99
    assert clear.confidence(0, 0.04) < 0.01
    tie = Standings(0)
    tie.record(1, 0, duel(*[1.0] * 12))
    assert tie.confidence(0, 0.04) > 0.9


def test_noise_lowers_the_confidence_and_a_longer_path_more() -> None:
    """0 - 1 - 2 with noisy duels: whether 2 loses to 0 is less sure than whether it loses to 1."""
    standings = Standings(0)
    standings.record(1, 0, duel(0.9, 1.1, 0.95, 1.05))
    standings.record(2, 1, duel(1.1, 1.3, 0.95, 1.2))
    assert standings.confidence(1, 0.0) < 0.8
    direct, longer = standings._variance_between(2, 1), standings._variance_between(2, 0)
    assert longer > direct > 0


def test_alone_there_is_no_doubt() -> None:
    assert Standings(3).confidence(3, 0.04) == 1.0


def test_who_came_close_to_a_candidate_lost_to_it_and_not_to_another() -> None:
    standings = Standings(0)
    standings.record(1, 0, duel(0.5, 0.5))
    standings.record(2, 1, duel(1.1, 1.1))
    standings.record(3, 1, duel(1.0, 1.0))
    standings.record(4, 1, duel(1.3, 1.3))
    assert standings.behind(1, 1.15) == (3, 2)
    assert standings.behind(0, 1.15) == (1,)
    assert standings.behind(3, 1.15) == ()


def test_who_beat_another_stands_somewhere_above_it() -> None:
    standings = Standings(0)
    standings.record(1, 0, duel(0.5, 0.5))
    standings.record(2, 1, duel(0.9, 0.9))
    standings.record(3, 2, duel(1.1, 1.1))
    assert standings.beat(2, 1) and standings.beat(2, 0)
    assert not standings.beat(2, 3) and not standings.beat(0, 2) and not standings.beat(2, 2)

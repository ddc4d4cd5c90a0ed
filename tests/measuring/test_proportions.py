"""Bounds on a true share or mean hold as often as they say."""

from __future__ import annotations

import numpy as np
import pytest

from edge_sdk.measuring.proportions import mean_at_most, share_at_least, share_at_most


@pytest.mark.parametrize(
    ("hits", "count", "expected"),
    # The rule of three for none; the others from published tables of Clopper-Pearson limits (two-sided 90 %).
    [(0, 100, 0.02951), (1, 20, 0.21611), (5, 10, 0.77756), (10, 10, 1.0)],
)
def test_shares_are_those_of_the_tables(hits: int, count: int, expected: float) -> None:
    assert share_at_most(hits, count, 0.05) == pytest.approx(expected, abs=1e-4)
    assert share_at_least(count - hits, count, 0.05) == pytest.approx(1 - expected, abs=1e-4)


def test_a_bound_is_passed_no_more_often_than_its_risk() -> None:
    chance = np.random.default_rng(0)
    drawn = chance.random((2000, 300)) < 0.02
    passed = sum(share_at_most(int(hits), 300, 0.1) < 0.02 for hits in drawn.sum(axis=1))
    assert passed <= 0.1 * 2000
    assert sum(mean_at_most(row, 0, 1, 0.1) < 0.02 for row in drawn[:300].astype(float)) <= 30


def test_bounds_on_means_close_in_as_samples_come() -> None:
    figures = np.tile([0.0, 0.0, 0.0, 0.1], 5000)
    few, many = mean_at_most(figures[:40], -1, 1, 0.05), mean_at_most(figures, -1, 1, 0.05)
    assert 0.025 < many < 0.03 < few
    assert mean_at_most(figures[:1], -1, 1, 0.05) == 1

"""What a few noisy ratios say about the true one."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.measuring.confidence import believe, student_cdf

ratios = st.lists(st.floats(0.01, 100), min_size=1, max_size=40)


@pytest.mark.parametrize(
    ("t", "freedom", "expected"),
    # Tables of Student's t: the quantile at 97.5 %, 95 % and 99.5 %.
    [
        (12.706, 1, 0.975),
        (4.303, 2, 0.975),
        (2.776, 4, 0.975),
        (2.228, 10, 0.975),
        (2.132, 4, 0.95),
        (3.169, 10, 0.995),
    ],
)
def test_the_distribution_is_that_of_the_tables(t: float, freedom: int, expected: float) -> None:
    assert student_cdf(t, freedom) == pytest.approx(expected, abs=1e-4)
    assert student_cdf(-t, freedom) == pytest.approx(1 - expected, abs=1e-4)
    assert student_cdf(0.0, freedom) == pytest.approx(0.5)


def test_one_pair_may_tell_a_factor_of_two_but_not_five_percent() -> None:
    assert believe([0.5]).below(1) > 0.99
    assert believe([0.95]).below(1) < 0.9


def test_pairs_that_agree_make_certain_and_pairs_that_scatter_do_not() -> None:
    agreeing, scattered = [0.94, 0.95, 0.96] * 3, [0.7, 0.95, 1.2] * 3
    assert believe(agreeing).below(1) > 0.99
    assert believe(scattered).below(1) < believe(agreeing).below(1)
    low, high = believe(agreeing).interval()
    assert 0.92 < low < 0.95 < high < 0.98


def test_a_block_that_met_other_work_does_not_decide() -> None:
    assert math.exp(believe([0.99, 1.0, 1.01, 1.0, 14.0]).centre) == pytest.approx(1.0, abs=0.02)


@given(ratios)
def test_it_does_not_matter_which_of_the_two_is_called_the_first(values: list[float]) -> None:
    belief, turned = believe(values), believe([1 / value for value in values])
    assert belief.below(1) == pytest.approx(1 - turned.below(1), abs=1e-6)
    low, high = belief.interval(0.9)
    assert low <= math.exp(belief.centre) <= high
    assert belief.below(high) - belief.below(low) == pytest.approx(0.9, abs=1e-3)

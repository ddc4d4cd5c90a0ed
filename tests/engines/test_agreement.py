"""How far two answers lie apart, relative to what is expected."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edge_sdk.engines.agreement import disagreement, relative_difference


@pytest.mark.parametrize(
    ("given", "expected", "apart"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([1.0, 3.0], [1.0, 2.0], 1.0),
        ([1.0, 2.0, 3.5], [1.0, 2.0, 5.0], 0.375),
        ([math.inf, 1.0], [math.inf, 1.0], 0.0),
        ([math.nan, 1.0], [math.nan, 1.0], 0.0),
        ([math.inf, 1.0, 2.5], [math.inf, 1.0, 3.0], 0.25),
        ([math.nan, 1.0], [0.0, 1.0], math.nan),
        ([math.inf, 1.0], [0.0, 1.0], math.inf),
        ([1.0, 1.0], [math.inf, 1.0], math.inf),
        ([], [], 0.0),
        (["a", "b"], ["a", "b"], 0.0),
        (["a", "b"], ["a", "c"], 1.0),
        ([7.0, 7.0], [7.0, 7.0], 0.0),
    ],
)
def test_the_difference_is_relative_to_the_spread(given: list[object], expected: list[object], apart: float) -> None:
    assert relative_difference(np.array(given), np.array(expected)) == pytest.approx(apart, nan_ok=True)


def test_what_is_missing_misshapen_or_apart_is_named() -> None:
    expected = {"y": np.array([0.0, 1.0])}
    assert disagreement({"y": np.array([0.0, 0.99]), "z": 1}, expected, 0.02) == ""
    assert disagreement({}, expected, 0.1) == "nothing for output 'y'; [2] expected"
    assert disagreement({"y": np.zeros(3)}, expected, 0.1) == "[3] for output 'y'; [2] expected"
    assert disagreement({"y": np.zeros(2)}, expected, 0.1) == "output 'y' is 1 of its spread apart, 0.1 allowed"
    assert disagreement({"y": np.array([math.nan, 1.0])}, expected, 0.1)

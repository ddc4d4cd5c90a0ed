"""From timed kernels back to the rates that made them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edge_sdk.planner.calibration_fit import fit_places, fit_rates, nonnegative, predicted_us, spread_of
from edge_sdk.planner.cost_work import Work

TRUE = {
    ("float32", "conv_1x1"): np.array([3.0, 2e-5, 1e-5, 2e-5, 0.0]),
    ("int8", "conv_1x1"): np.array([3.0, 5e-6, 1e-5, 2e-5, 0.0]),
    ("float32", "arithmetic"): np.array([1.0, 0.0, 4e-5, 4e-5, 0.0]),
}


def works(count: int = 40) -> list[Work]:
    """Kernels of all sorts of `TRUE`, of many sizes."""
    rng = np.random.default_rng(3)
    found = []
    for precision, sort in TRUE:
        for _ in range(count):
            moved_in, moved_out = 10 ** rng.uniform(3, 6, 2)
            macs = 10 ** rng.uniform(4, 8) if sort != "arithmetic" else 0.0
            found.append(Work(sort, precision, macs, moved_in, moved_out, 0.0))
    return found


def test_rates_are_found_again_from_exact_times() -> None:
    found = works()

    rates = fit_rates([((work,), float(TRUE[work.precision, work.sort] @ work.features)) for work in found])

    for key, expected in TRUE.items():
        assert rates[key] == pytest.approx(expected, rel=1e-3, abs=1e-8)


def test_a_few_kernels_that_behave_otherwise_do_not_bend_the_rest() -> None:
    found = works()
    times = predicted_us(TRUE, found)
    times[::15] *= 8

    rates = fit_rates([((work,), float(time)) for work, time in zip(found, times, strict=True)])

    ratios = predicted_us(rates, found) / predicted_us(TRUE, found)
    assert float(np.median(np.abs(np.log(ratios)))) < 0.1


def test_kernels_timed_together_share_their_time() -> None:
    chains = [work for work in works() if work.sort == "conv_1x1" and work.precision == "int8"]
    pairs = list(zip(chains[::2], chains[1::2], strict=True))

    rates = fit_rates([(pair, float(predicted_us(TRUE, pair).sum())) for pair in pairs])

    assert rates["int8", "conv_1x1"] == pytest.approx(TRUE["int8", "conv_1x1"], rel=1e-3, abs=1e-8)


def test_a_place_is_told_by_shares_of_classes_and_by_what_a_request_costs() -> None:
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(60):
        own = rng.permutation(np.array(works(), dtype=object))[: rng.integers(2, 12)]
        rows.append([(work, float(10 ** rng.uniform(1, 3))) for work in own])
    shares = {"products": 0.55, "products_int8": 0.6, "map": 0.9}
    by_class = {("float32", "conv_1x1"): "products", ("int8", "conv_1x1"): "products_int8"}

    totals = [
        20 + sum(time * shares[by_class.get((work.precision, work.sort), "map")] + 2 for work, time in row)
        for row in rows
    ]
    found, request_us = fit_places(rows, totals)

    assert request_us == pytest.approx(20, rel=0.2)
    for name, share in shares.items():
        assert found[name][0] == pytest.approx(share, rel=0.03)
        assert found[name][1] == pytest.approx(2, abs=1)


def test_the_spread_is_what_nine_of_ten_predictions_are_within() -> None:
    found = works()
    times = predicted_us(TRUE, found) * np.where(np.arange(len(found)) % 5 == 0, 1.3, 1.0)

    spread = spread_of(TRUE, [[(work, 0.0)] for work in found], times.tolist())

    assert spread == pytest.approx(0.3, abs=0.01)


numbers = st.floats(-10, 10, allow_nan=False, width=32)


@given(arrays(np.float64, (6, 4), elements=numbers), arrays(np.float64, 6, elements=numbers))
def test_nonnegative_least_squares_can_be_bettered_in_no_direction(matrix: np.ndarray, target: np.ndarray) -> None:
    found = nonnegative(matrix, target)

    assert (found >= 0).all()
    best = float(((matrix @ found - target) ** 2).sum())
    scale = 1 + float((target**2).sum())
    for column in range(4):
        norm = float(np.linalg.norm(matrix[:, column]))
        for step in (1e-2, -1e-2):
            moved = found.copy()
            moved[column] = max(0.0, moved[column] + step / max(norm, 1e-3))
            assert float(((matrix @ moved - target) ** 2).sum()) >= best - 1e-5 * scale

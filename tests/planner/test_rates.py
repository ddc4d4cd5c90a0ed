"""Rates: one flat table of numbers, read for any precision, sort, cluster and number of threads."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import replace

from edge_sdk.device import load_profile
from edge_sdk.planner.cost_work import Work
from edge_sdk.planner.rates import Place, Rates, rates_for
from edge_sdk.planner.rates_kept import keep_rates, kept_rates
from edge_sdk.schedule.placing import Placement
from edge_sdk.storage import cache_folder

BIG, LITTLE = Place(("big",), 1), Place(("little",), 1)
CLUSTERS = {"big": (4, 5, 6, 7), "little": (0, 1, 2, 3)}


def rates(**values: float) -> Rates:
    """Rates of one engine "e"; `__` stands for a dot."""
    table = {f"e.{name.replace('__', '.')}": value for name, value in values.items()}
    return Rates("calibrated", table, CLUSTERS, tuple(range(8)))


def conv(precision: str = "float32", macs: float = 2e6) -> Work:
    return Work("conv_1x1", precision, macs, 1e6, 1e6, 1e3)


def test_a_kernels_time_is_a_sum_of_shares() -> None:
    found = rates(kernel__float32__conv_1x1__us_per_call=5, kernel__float32__conv_1x1__us_per_mmac=10,
                  kernel__float32__conv_1x1__us_per_input_mb=3)  # fmt: skip

    assert found.kernels_us("e", [conv()]).tolist() == pytest.approx([5 + 2 * 10 + 1 * 3])


@pytest.mark.parametrize(
    ("precision", "expected"),
    [("int8", 1.0), ("int8_dynamic", 1.0), ("uint8", 1.0), ("int4", 7.0), ("float16", 7.0)],
)
def test_a_precision_that_was_not_met_takes_the_rates_of_the_nearest(precision: str, expected: float) -> None:
    found = rates(kernel__float32__conv_1x1__us_per_call=7, kernel__int8__conv_1x1__us_per_call=1)

    assert found.kernels_us("e", [conv(precision)]).tolist() == [expected]


def test_a_sort_that_was_not_met_takes_the_rates_of_one_like_it() -> None:
    found = rates(kernel__float32__conv__us_per_call=4, kernel__float32__any__us_per_call=2)

    assert found.kernels_us("e", [conv()]).tolist() == [4.0]
    assert found.kernels_us("e", [Work("mystery", "float32", 0, 1, 1, 0)]).tolist() == [2.0]


def test_n_threads_never_take_less_than_an_nth() -> None:
    """A calibration during which another process kept one thread waiting says otherwise."""
    found = rates(kernel__float32__conv__us_per_call=1, place__big__t1__products__share=1,
                  place__big__t4__products__share=0.02)  # fmt: skip

    assert found.placed("e", "products", Place(("big",), 4))[0] == pytest.approx(0.25)


def test_thread_counts_between_two_known_ones_are_interpolated() -> None:
    found = rates(kernel__float32__conv__us_per_call=1, place__big__t1__products__share=1,
                  place__big__t1__request_us=4, place__big__t4__products__share=0.36,
                  place__big__t4__request_us=10)  # fmt: skip

    share, _ = found.placed("e", "products", Place(("big",), 2))

    assert share == pytest.approx(0.6)
    assert found.request_us("e", Place(("big",), 3)) == pytest.approx(8)


def test_threads_beyond_the_known_follow_the_same_exponent() -> None:
    found = rates(kernel__float32__conv__us_per_call=1, place__big__t1__products__share=1,
                  place__big__t2__products__share=0.6)  # fmt: skip

    assert found.placed("e", "products", Place(("big",), 4))[0] == pytest.approx(0.36)


def test_threads_on_two_clusters_go_at_the_pace_of_the_slower() -> None:
    found = rates(kernel__float32__conv__us_per_call=1, place__big__t1__products__share=1,
                  place__big__t4__products__share=0.3, place__little__t1__products__share=3)  # fmt: skip

    alone = found.placed("e", "products", Place(("big",), 4))[0]
    both = found.placed("e", "products", Place(("big", "little"), 4))[0]

    assert both == pytest.approx(3 * alone)


@pytest.mark.parametrize(
    ("placement", "place"),
    [
        (None, Place(("big", "little"), 8)),
        (1, BIG),
        (4, Place(("big",), 4)),
        (6, Place(("big", "little"), 6)),
        (Placement(cpus=(4, 5), threads=2), Place(("big",), 2)),
        (Placement(cpus=(0, 1, 2)), Place(("little",), 3)),
        (Placement(cpus=(3, 4), threads=1), BIG),
    ],
)
def test_a_placement_is_so_many_threads_on_the_clusters_of_its_cpus(
    placement: Placement | int | None, place: Place
) -> None:
    assert rates().place_of(placement) == place


def test_another_engines_rates_do_not_serve_but_those_of_any_do() -> None:
    assert not rates(kernel__float32__conv__us_per_call=1).covers("other")
    assert Rates("derived", {"any.kernel.float32.conv.us_per_call": 1.0}).covers("other")


def test_calibrated_rates_come_before_the_profiles_and_these_before_derived_ones() -> None:
    board = load_profile("raspberry-pi-5").device()
    told = {"litert.kernel.float32.conv.us_per_call": 1.0}

    derived = rates_for(board)
    from_profile = rates_for(replace(board, rates=told))
    keep_rates("a board", {"litert.kernel.float32.conv.us_per_call": 2.0})
    calibrated = rates_for(replace(board, rates=told, fingerprint="a board"))

    assert derived is not None and from_profile is not None and calibrated is not None
    assert [found.source for found in (derived, from_profile, calibrated)] == ["derived", "profile", "calibrated"]
    assert from_profile.values == told


def test_a_device_of_which_no_core_is_known_has_no_rates() -> None:
    board = load_profile("raspberry-pi-5").device()

    assert rates_for(replace(board, clusters=(), fingerprint="")) is None


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"version": 0, "rates": {}}', b'{"version": 1, "rates": 5}', b"\xff"]
)
def test_kept_rates_that_cannot_be_read_or_are_of_another_version_are_as_good_as_none(content: bytes) -> None:
    (cache_folder("rates") / "a board.json").write_bytes(content)

    assert kept_rates("a board") is None


def test_kept_rates_come_back() -> None:
    keep_rates("a board", {"e.spread": 0.25})

    assert kept_rates("a board") == {"e.spread": 0.25}
    assert kept_rates("another") is None


def test_times_of_many_kernels_are_those_of_each() -> None:
    found = rates(kernel__float32__conv_1x1__us_per_mmac=1, kernel__int8__conv_1x1__us_per_mmac=0.25)
    works = [conv(), conv("int8"), conv(macs=4e6)]

    each = [float(found.kernels_us("e", [work])[0]) for work in works]

    assert np.allclose(found.kernels_us("e", works), each)

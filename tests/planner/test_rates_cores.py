"""Rates of boards that are not here, derived from what is known of their cores."""

from __future__ import annotations

import dataclasses
from types import MappingProxyType

import pytest
from msgspec.structs import replace

from edge_sdk.device import load_profile
from edge_sdk.planner.cost_work import Work, class_of
from edge_sdk.planner.rates import Rates
from edge_sdk.planner.rates_cores import derived_rates
from edge_sdk.schedule.placing import Placement

CONV = Work("conv_1x1", "float32", 1e8, 1e6, 1e6, 1e5)


def time_us(board: str, work: Work = CONV, placement: Placement | int = 1) -> float:
    device = load_profile(board).device()
    values = derived_rates(device)
    assert values is not None
    clusters = MappingProxyType({cluster.id: cluster.cpus for cluster in device.clusters})
    rates = Rates("derived", values, clusters, device.usable_cpus)
    share, extra_us = rates.placed("litert", class_of(work), rates.place_of(placement))
    return float(rates.kernels_us("litert", [work])[0]) * share + extra_us


def test_boards_stand_in_the_order_of_their_cores() -> None:
    times = [time_us(board) for board in ("raspberry-pi-5", "raspberry-pi-4", "raspberry-pi-3b-plus")]

    assert times == sorted(times)


def test_int8_pays_most_where_cores_have_dot_products() -> None:
    gain = {
        b: time_us(b) / time_us(b, dataclasses.replace(CONV, precision="int8"))
        for b in ("raspberry-pi-5", "raspberry-pi-4")
    }

    assert gain["raspberry-pi-5"] > gain["raspberry-pi-4"] > 1


@pytest.mark.parametrize("board", ["raspberry-pi-5", "rk3588"])
def test_more_threads_on_one_cluster_shorten_products(board: str) -> None:
    cpus = load_profile(board).device().clusters[0].cpus
    times = [time_us(board, placement=Placement(cpus=cpus, threads=n)) for n in range(1, len(cpus) + 1)]

    assert times == sorted(times, reverse=True)
    assert len(set(times)) == len(times)


def test_little_cores_are_slower_than_big_ones() -> None:
    clusters = load_profile("rk3588").device().clusters
    big, little = (time_us("rk3588", placement=Placement(cpus=c.cpus, threads=1)) for c in (clusters[0], clusters[-1]))

    assert big < little


def test_without_clocks_nothing_is_derived() -> None:
    device = load_profile("raspberry-pi-5").device()
    clusters = tuple(replace(cluster, max_mhz=None) for cluster in device.clusters)

    assert derived_rates(replace(device, clusters=clusters)) is None

"""Levels of power from a plan's table: the plan first, then what takes clearly less, the wanted rate given up last."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest

from edge_sdk.device.facts import Cluster, Device
from edge_sdk.engines.simulated import SimulatedEngine
from edge_sdk.planner import Candidate, Figures, Placement, Plan
from edge_sdk.planner.power_levels import PowerLevel, power_levels


def cluster(key: str, role: str, cpus: tuple[int, ...], max_mhz: int, core_watts: float) -> Cluster:
    alone = tuple((cpu,) for cpu in cpus)
    return Cluster(
        id=key, role=role, core=None, cpus=cpus, online=cpus, siblings=alone, max_mhz=max_mhz, core_watts=core_watts
    )


PHONE = Device(
    name="phone",
    arch="aarch64",
    bits=64,
    clusters=(cluster("0", "big", (2, 3), 2400, 2.0), cluster("1", "little", (0, 1), 1200, 0.25)),
    usable_cpus=(0, 1, 2, 3),
)
BIG = Placement(cpus=(2, 3), threads=2, label="big")
LITTLE = Placement(cpus=(0, 1), threads=2, label="little")


def row(placement: Placement, ms: float | None, variant: str = "fp32", **more: Any) -> Candidate:
    measured = None if ms is None else Figures(latency_ms=ms, runs=20)
    return Candidate(variant=variant, engine="simulated", placement=placement, measured=measured, **more)


def plan(*rows: Candidate, **more: Any) -> Plan:
    """The first row is chosen."""
    first = rows[0]
    return Plan(
        kind="local",
        variant=first.variant,
        engine=first.engine,
        accelerator="cpu",
        placement=first.placement,
        objective="latency",
        measured=first.measured,
        reason="",
        candidates=rows,
        **more,
    )


def levels(made: Plan, **wanted: Any) -> list[PowerLevel]:
    return list(power_levels(made, PHONE, {"simulated": SimulatedEngine()}, PHONE.usable_cpus, **wanted))


def told(found: list[PowerLevel]) -> list[tuple[str, float]]:
    return [(f"{level.candidate.variant} {level.candidate.placement.label}", level.pace_hz) for level in found]


def test_first_all_that_comes_then_the_rate_then_smaller_cores_then_fewer_requests() -> None:
    """20 ms on big cores, and 50 on little ones, which hold 15 Hz and not 30. They take 4.5 W and 1 W with memory."""
    found = levels(plan(row(BIG, 20.0), row(LITTLE, 50.0)), rate_hz=15, comes_hz=30)
    assert told(found) == [
        ("fp32 big", 30),
        ("fp32 big", 15),
        ("fp32 little", 15),
        ("fp32 little", 7.5),
        ("fp32 little", 3.75),
    ]
    assert [level.watts for level in found] == pytest.approx([2.7, 1.35, 0.75, 0.375, 0.1875])
    assert [level.level.rate_hz for level in found] == [30, 15, 15, 7.5, 3.75]


def test_what_does_not_hold_the_rate_is_for_the_time_when_nothing_else_helps() -> None:
    found = levels(plan(row(BIG, 20.0), row(LITTLE, 100.0)), rate_hz=15)
    assert told(found) == [("fp32 big", math.inf), ("fp32 big", 15), ("fp32 big", 7.5), ("fp32 big", 3.75)]


def test_what_takes_more_and_is_better_in_nothing_is_left_out() -> None:
    slow = row(Placement(threads=4), 30.0)
    assert all(level.candidate.placement != slow.placement for level in levels(plan(row(BIG, 20.0), slow), rate_hz=15))


def test_cores_of_less_power_that_take_more_for_a_request_are_no_level_where_nobody_says_how_often_they_come() -> None:
    """4.5 W for 20 ms, and 1 W for 95: requests that are paced anyway would take more."""
    assert levels(plan(row(BIG, 20.0), row(LITTLE, 50.0)))[1].candidate.placement == LITTLE
    assert levels(plan(row(BIG, 20.0), row(LITTLE, 95.0)))[1].candidate.placement == BIG


def test_a_lighter_variant_of_less_accuracy_is_a_level_where_it_takes_less() -> None:
    rows = (
        row(BIG, 40.0, accuracy=0.75),
        row(BIG, 20.0, "int8", accuracy=0.74),
        row(BIG, 10.0, "pruned", feasible=False),
    )
    found = levels(plan(*rows), rate_hz=15)
    assert told(found)[:3] == [("fp32 big", math.inf), ("fp32 big", 15), ("int8 big", 15)]
    assert "pruned" not in {level.candidate.variant for level in found}


def test_the_most_accurate_that_holds_the_rate_may_come_first() -> None:
    """What the plan chose for its speed is then a level below."""
    rows = (
        row(BIG, 20.0, "int8", accuracy=0.74),
        row(BIG, 40.0, accuracy=0.75),
        row(BIG, 90.0, "huge", accuracy=0.76),
    )
    assert told(levels(plan(*rows), rate_hz=15, most_accurate=True))[:3] == [
        ("fp32 big", math.inf),
        ("fp32 big", 15),
        ("int8 big", 15),
    ]
    assert {level.candidate.variant for level in levels(plan(*rows), rate_hz=15)} == {"int8"}


def test_what_takes_longer_than_a_request_may_is_no_level() -> None:
    found = levels(plan(row(BIG, 20.0), row(LITTLE, 50.0)), rate_hz=15, max_latency_ms=40)
    assert {level.candidate.placement for level in found} == {BIG}


def test_without_a_rate_the_last_levels_are_shares_of_what_comes() -> None:
    found = levels(plan(row(BIG, 20.0), row(LITTLE, 50.0)))
    assert [(level.candidate.placement.label, level.share) for level in found] == [
        ("big", 1.0),
        ("little", 1.0),
        ("little", 0.5),
        ("little", 0.25),
    ]


def test_where_only_the_rate_may_change_nothing_else_does() -> None:
    found = levels(plan(row(BIG, 20.0), row(LITTLE, 50.0)), rate_hz=15, other_ways=False)
    assert {level.candidate.placement for level in found} == {BIG}


def test_a_rate_that_nothing_holds_is_held_as_far_as_can_be() -> None:
    found = levels(plan(row(BIG, 80.0), row(LITTLE, 200.0)), rate_hz=15)
    assert told(found)[0] == ("fp32 big", math.inf)
    assert max(level.level.rate_hz for level in found) == pytest.approx(12.5)


def test_what_was_not_measured_is_worked_out_from_what_was() -> None:
    """Cores of half the clock take twice as long; with predictions their ratio counts."""
    by_cores = levels(plan(row(BIG, 20.0), row(LITTLE, None)), rate_hz=15)
    assert by_cores[2].candidate.placement == LITTLE
    assert by_cores[2].latency_ms == pytest.approx(40.0)
    rows = row(BIG, 20.0, predicted=Figures(latency_ms=10.0)), row(LITTLE, None, predicted=Figures(latency_ms=15.0))
    assert levels(plan(*rows), rate_hz=15)[2].latency_ms == pytest.approx(30.0)


def test_pairs_tell_better_than_figures_of_different_moments() -> None:
    rows = row(BIG, 20.0), row(LITTLE, 90.0, relative=2.0)
    assert levels(plan(*rows), rate_hz=15)[2].latency_ms == pytest.approx(40.0)


def test_energy_that_a_sensor_told_counts_before_any_estimate() -> None:
    metered = msgspec.structs.replace(
        row(BIG, 20.0), measured=Figures(latency_ms=20.0, energy_mj=200.0, energy_measured=True)
    )
    assert levels(plan(metered), rate_hz=15)[1].watts == pytest.approx(3.0)


def test_without_any_figure_only_the_rate_changes() -> None:
    found = levels(plan(row(BIG, None), row(LITTLE, None)), rate_hz=15)
    assert told(found) == [("fp32 big", math.inf), ("fp32 big", 15), ("fp32 big", 7.5), ("fp32 big", 3.75)]


def test_a_name_tells_variant_engine_cores_and_rate() -> None:
    found = levels(plan(row(BIG, 20.0), row(LITTLE, 50.0)), rate_hz=15, comes_hz=30)
    assert found[2].name == "fp32, simulated, 2 threads on little CPUs 0-1, 15 Hz"
    assert levels(plan(row(BIG, 20.0)))[1].name == "fp32, simulated, 2 threads on big CPUs 2-3, 50% of requests"

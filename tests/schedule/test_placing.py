"""Which CPUs a model may compute on: by role, by measured speed, one runner or several."""

from __future__ import annotations

import pytest

from edge_sdk.device.facts import Device
from edge_sdk.errors import InputError
from edge_sdk.schedule import Placement, lanes, placements
from edge_sdk.schedule.placing import cores_named
from tests.machines import ALIKE, BIG_LITTLE, THREE, cluster, device


def test_threads_never_outnumber_the_cpus_they_run_on() -> None:
    for machine in (ALIKE, BIG_LITTLE, THREE):
        for placement in placements(machine, machine.usable_cpus):
            assert placement.threads is not None
            assert placement.threads <= len(placement.cpus or machine.usable_cpus)


def test_where_cores_differ_each_role_is_a_placement() -> None:
    labels = {(p.label, p.cpus) for p in placements(BIG_LITTLE, BIG_LITTLE.usable_cpus)}
    assert labels == {("big", (4, 5, 6, 7)), ("all", None), ("little", (0, 1, 2, 3))}
    labels = {(p.label, p.cpus) for p in placements(THREE, THREE.usable_cpus)}
    assert labels == {
        ("big", (7,)),
        ("big and mid", (4, 5, 6, 7)),
        ("all", None),
        ("mid", (4, 5, 6)),
        ("little", (0, 1, 2, 3)),
    }
    assert {p.label for p in placements(THREE, THREE.usable_cpus, "efficiency")} == {"little"}


def test_few_threads_are_on_the_fastest_cores_and_not_wherever_the_kernel_puts_them() -> None:
    threads = {(p.label, p.threads) for p in placements(BIG_LITTLE, BIG_LITTLE.usable_cpus)}
    assert {count for label, count in threads if label == "big"} == {4, 2, 1}
    assert {count for label, count in threads if label == "all"} == {8}
    found = placements(ALIKE, ALIKE.usable_cpus, by_speed=((0, 3), (1,), (2,)))
    assert {p.threads for p in found if p.cpus is None} == {4}
    assert {p.threads for p in placements(ALIKE, ALIKE.usable_cpus)} == {4, 2, 1}, (
        "where they are alike it is all the same"
    )
    limited = device(*BIG_LITTLE.clusters, quota=2.0)
    assert {p.label for p in placements(limited, limited.usable_cpus)} == {"big", "little"}


def test_cpus_that_may_not_be_used_are_left_out_and_a_quota_bounds_the_threads() -> None:
    assert {p.cpus for p in placements(BIG_LITTLE, (0, 1, 4))} == {(4,), None, (0, 1)}
    limited = device(cluster("0", "big", 0, 1, 2, 3), quota=1.5)
    assert max(p.threads or 0 for p in placements(limited, limited.usable_cpus)) == 2


def test_a_placement_names_its_cpus_as_linux_does() -> None:
    assert Placement(cpus=(4, 5), threads=1, label="big").describe() == "1 thread on big CPUs 4-5"


def test_cores_that_are_alike_on_paper_are_told_apart_by_how_fast_they_were_measured() -> None:
    found = placements(ALIKE, ALIKE.usable_cpus, by_speed=((0, 3), (1,), (2,)))
    assert {(p.label, p.cpus) for p in found} == {("fast", (0, 3)), ("all", None), ("slow", (1, 2))}
    assert found[0].label == "fast"


def test_what_the_device_tells_of_its_cores_counts_before_what_was_measured() -> None:
    assert placements(BIG_LITTLE, BIG_LITTLE.usable_cpus, by_speed=((0,), (4, 5, 6, 7))) == placements(
        BIG_LITTLE, BIG_LITTLE.usable_cpus
    )


def test_there_is_a_lane_for_each_cluster_or_for_each_core() -> None:
    found = lanes(BIG_LITTLE, BIG_LITTLE.usable_cpus)
    assert [(p.label, p.lanes) for p in found] == [
        ("clusters", ((4, 5, 6, 7), (0, 1, 2, 3))),
        ("cores", tuple((cpu,) for cpu in (4, 5, 6, 7, 0, 1, 2, 3))),
    ]
    assert [p.lanes for p in lanes(ALIKE, ALIKE.usable_cpus)] == [((0,), (1,), (2,), (3,))]
    assert [p.lanes for p in lanes(ALIKE, (0, 1, 2), by_speed=((2,), (0, 1)))] == [((2,), (0, 1)), ((2,), (0,), (1,))]


def test_a_cpu_that_no_cluster_holds_has_its_lane_too() -> None:
    assert lanes(ALIKE, (2, 9))[0].lanes == ((2,), (9,))


def test_one_core_or_a_quota_leaves_nothing_to_share() -> None:
    assert lanes(ALIKE, (1,)) == ()
    assert lanes(device(cluster("0", "big", 0, 1), quota=1.0), (0, 1)) == ()


@pytest.mark.parametrize("machine", [ALIKE, BIG_LITTLE, THREE])
def test_lanes_share_no_core_and_leave_none_out(machine: Device) -> None:
    for placement in lanes(machine, machine.usable_cpus):
        cpus = [cpu for lane in placement.lanes for cpu in lane]
        assert sorted(cpus) == sorted(machine.usable_cpus)


def test_lanes_are_named_by_their_cpus() -> None:
    assert Placement(lanes=((0, 1, 2), (5,))).describe() == "a lane on each of CPUs 0-2 and 5"


def test_cores_are_named_by_role_or_by_number() -> None:
    usable = (0, 1, 4, 5)
    assert cores_named("big", BIG_LITTLE, usable) == (4, 5)
    assert cores_named("little", BIG_LITTLE, usable) == (0, 1)
    assert cores_named("all", BIG_LITTLE, usable) == usable
    assert cores_named("1,4-5", BIG_LITTLE, usable) == (1, 4, 5)


@pytest.mark.parametrize("name", ["mid", "6", "0-7", "", "fast", "-1"])
def test_cores_that_are_not_there_are_refused_with_those_that_are(name: str) -> None:
    with pytest.raises(InputError, match=r"expected one of all \(0-1,4-5\), big \(4-5\), little \(0-1\)"):
        cores_named(name, BIG_LITTLE, (0, 1, 4, 5))

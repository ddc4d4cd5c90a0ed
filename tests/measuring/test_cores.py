"""Cores are told apart by what they take for the same work, and only where that lasts."""

from __future__ import annotations

import itertools
import os

import pytest

from edge_sdk.device.affinity import usable_cpus
from edge_sdk.measuring import core_groups


def waits(_: float) -> None:
    pass


def test_cores_of_unequal_speed_are_grouped_the_fastest_first() -> None:
    took_s = {0: 2.0, 1: 1.0, 2: 1.1, 3: 2.1, 4: 6.0}
    assert core_groups((0, 1, 2, 3, 4), took_s.__getitem__, waits) == ((1, 2), (0, 3), (4,))


def test_small_differences_are_none() -> None:
    assert core_groups((0, 1, 2), {0: 1.0, 1: 1.2, 2: 1.4}.__getitem__, waits) == ((0, 1, 2),)


def test_the_shortest_of_a_few_times_counts() -> None:
    times = itertools.cycle([5.0, 1.0, 3.0])
    assert core_groups((0, 1), lambda cpu: next(times) if cpu else 1.0, waits) == ((0, 1),)


def test_what_comes_and_goes_is_no_reason() -> None:
    asked = itertools.count()

    def timed(cpu: int) -> float:
        return 3.0 if cpu == 1 and next(asked) < 6 else 1.0

    assert core_groups((0, 1), timed, waits) == ((0, 1),)


def test_a_core_that_cannot_be_used_is_not_told_apart() -> None:
    assert core_groups((0, 100_000)) == ((0, 100_000),)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
def test_every_core_is_in_one_group_and_the_caller_keeps_its_own() -> None:
    before = usable_cpus()
    groups = core_groups(before)
    assert sorted(cpu for group in groups for cpu in group) == sorted(before)
    assert usable_cpus() == before

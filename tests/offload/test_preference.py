"""Of several endpoints the one that takes least is asked, and one that was left is found again when it is well."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from edge_sdk.errors import EndpointUnreachable
from edge_sdk.offload import SplitRunner
from edge_sdk.wire.simulated import SimulatedEndpoint, SimulatedLink, SimulatedTimeline
from tests.offload.splits import IDENTITY, SPLIT, answer_of, feeds_of, simulated_split, tail


class Place:
    """An endpoint in simulated time.

    Attributes:
        compute_ms: may be changed at any time; so may `endpoint.simulated`, its link.
    """

    def __init__(self, timeline: SimulatedTimeline, name: str, delay_ms: float, compute_ms: float = 5.0) -> None:
        self._timeline, self.compute_ms = timeline, compute_ms
        self.endpoint = SimulatedEndpoint(
            {SPLIT.tail: self._compute},
            link=SimulatedLink(delay_ms=delay_ms, jitter_ms=0.2 * delay_ms),
            timeline=timeline,
            parameters={SPLIT.tail: IDENTITY.parameters()},
            name=name,
        )

    def _compute(self, feeds: Mapping[str, Any]) -> Mapping[str, Any]:
        self._timeline.sleep(self.compute_ms / 1e3)
        return tail(feeds)


class Device:
    """A split runner that asks at a steady rate."""

    def __init__(self, timeline: SimulatedTimeline, *places: Place, **options: Any) -> None:
        self.timeline = timeline
        self.runner, self.local = simulated_split(timeline, [p.endpoint for p in places], **options)
        self.durations_ms: list[float] = []

    def ask(self, seconds: float, every_s: float = 0.1) -> None:
        until_s = self.timeline() + seconds
        while (began_s := self.timeline()) < until_s:
            number = len(self.durations_ms)
            np.testing.assert_array_equal(self.runner.run(feeds_of(number))["y"], answer_of(number))
            self.durations_ms.append((self.timeline() - began_s) * 1e3)
            self.timeline.sleep(max(every_s - (self.timeline() - began_s), 0.0))

    @property
    def preferred(self) -> str:
        found = self.runner.preference.preferred
        return "" if found is None else found.name


@pytest.fixture
def timeline() -> SimulatedTimeline:
    return SimulatedTimeline()


@pytest.fixture
def near(timeline: SimulatedTimeline) -> Place:
    return Place(timeline, "near", 2.0)


@pytest.fixture
def far(timeline: SimulatedTimeline) -> Place:
    return Place(timeline, "far", 20.0)


def test_the_nearer_one_is_asked_and_the_farther_one_only_now_and_then(
    timeline: SimulatedTimeline, near: Place, far: Place
) -> None:
    device = Device(timeline, far, near)
    device.ask(60)
    assert device.preferred == "near"
    assert far.endpoint.requests <= 5
    assert max(device.durations_ms[4:]) < 12
    assert device.runner.preference.moved == 1


def test_not_only_the_way_counts_but_also_computing_there(timeline: SimulatedTimeline, near: Place, far: Place) -> None:
    near.compute_ms = 100.0
    device = Device(timeline, near, far, local_ms=500.0)
    device.ask(10)
    assert device.preferred == "far"


def test_of_two_alike_neither_takes_turns(timeline: SimulatedTimeline) -> None:
    device = Device(timeline, Place(timeline, "a", 10.0), Place(timeline, "b", 10.5))
    device.ask(120)
    assert device.runner.preference.moved <= 1


@pytest.mark.parametrize("local_ms", [1000.0, 15.0])
@pytest.mark.parametrize("how", ["computing", "link"])
def test_one_that_becomes_ten_times_slower_is_left_and_found_again(
    timeline: SimulatedTimeline, near: Place, far: Place, how: str, local_ms: float
) -> None:
    device = Device(timeline, near, far, local_ms=local_ms)
    device.ask(20)
    assert device.preferred == "near"
    if how == "computing":
        near.compute_ms *= 20
    else:
        near.endpoint.simulated = SimulatedLink(delay_ms=40)
    asked = len(device.durations_ms)
    device.ask(1.0)
    assert len(device.durations_ms) - asked <= 10
    assert device.preferred == "far"
    device.ask(40)
    assert device.preferred == "far"
    assert near.endpoint.requests < 250
    near.compute_ms, near.endpoint.simulated = 5.0, SimulatedLink(delay_ms=2)
    device.ask(30)
    assert device.preferred == "near"
    assert device.runner.preference.moved <= 3
    reasons = [move.reason for move in device.runner.preference.moves]
    assert all(" ms" in reason or "no answers" in reason for reason in reasons)


def test_one_that_falls_silent_is_left_and_found_again(timeline: SimulatedTimeline, near: Place, far: Place) -> None:
    device = Device(timeline, near, far, local_ms=200.0)
    device.ask(20)
    near.endpoint.simulated = SimulatedLink(delay_ms=2, outages=((timeline(), timeline() + 40),))
    asked = len(device.durations_ms)
    device.ask(1.0)
    assert device.preferred == "far"
    assert len(device.durations_ms) - asked <= 10
    device.ask(39)
    assert device.preferred == "far"
    assert max(device.durations_ms) < 300
    device.ask(30)
    assert device.preferred == "near"


def test_one_that_comes_and_goes_is_trusted_less_each_time(
    timeline: SimulatedTimeline, near: Place, far: Place
) -> None:
    device = Device(timeline, near, far, local_ms=1000.0)
    for _ in range(20):
        device.ask(5)
        near.compute_ms = 200.0
        device.ask(5)
        near.compute_ms = 5.0
    assert device.runner.preference.moved <= 16  # 20 times slow and well again are 40 changes


def test_failures_in_between_count_against_an_endpoint(timeline: SimulatedTimeline) -> None:
    flaky, steady = Place(timeline, "flaky", 8.0), Place(timeline, "steady", 12.0)
    flaky.endpoint._fail_at = dict.fromkeys(range(0, 10_000, 2), EndpointUnreachable("cut"))
    device = Device(timeline, flaky, steady)
    device.ask(60)
    assert device.preferred == "steady"


def test_with_one_endpoint_nothing_is_asked_beside(timeline: SimulatedTimeline, near: Place) -> None:
    device = Device(timeline, near)
    device.ask(60)
    assert near.endpoint.requests == len(device.durations_ms)
    assert device.runner.figures().beside == device.runner.figures().moved == 0


def test_a_copy_beside_is_one_of_its_own(timeline: SimulatedTimeline, near: Place, far: Place) -> None:
    """A caller may write to its feeds once it has its answer; the copy may still be on its way."""
    seen: list[Any] = []
    runner, _ = simulated_split(timeline, [near.endpoint, far.endpoint])
    asked = far.endpoint.infer

    def infer(model: str, feeds: Mapping[str, Any], **options: Any) -> Any:
        seen.append(feeds["h"])
        return asked(model, feeds, **options)

    far.endpoint.infer = infer  # type: ignore[method-assign]
    cuts: list[Any] = []
    runner._halves.compute_head = lambda feeds: cuts.append(feeds["x"] + 1) or {"h": cuts[-1]}  # type: ignore[func-returns-value]
    assert isinstance(runner, SplitRunner)
    runner.run(feeds_of(1))
    assert len(seen) == 1
    assert not np.shares_memory(seen[0], cuts[0])

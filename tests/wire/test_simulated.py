"""The simulated link and endpoint let time pass as a real one would, without waiting."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from edge_sdk.errors import DeadlineExceeded, EndpointRefused, EndpointResting, EndpointUnreachable
from edge_sdk.wire.deadline import Deadline
from edge_sdk.wire.simulated import SimulatedEndpoint, SimulatedLink, SimulatedTimeline

FEEDS = {"x": np.arange(1000, dtype=np.float32)}


def double(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    return {"y": feeds["x"] * 2}


def test_a_link_takes_its_delay_and_its_bandwidth() -> None:
    link = SimulatedLink(bandwidth_mbps=8, delay_ms=20)
    assert link.arrives_s(0.0, 100_000, random.Random(0)) == pytest.approx(0.020 + 0.1)


def test_lost_packets_cost_round_trips() -> None:
    times = [SimulatedLink(delay_ms=10, loss=0.5).arrives_s(0.0, 100_000, random.Random(n)) for n in range(20)]
    assert min(times) > 0.020
    assert len(set(times)) > 1


def test_an_outage_holds_up_what_is_on_its_way() -> None:
    link = SimulatedLink(delay_ms=100, outages=((1.0, 3.0), (5.0, math.inf)))
    assert link.arrives_s(0.0, 1, random.Random(0)) == pytest.approx(0.1)
    assert link.arrives_s(0.95, 1, random.Random(0)) == pytest.approx(3.05)
    assert link.arrives_s(2.0, 1, random.Random(0)) == pytest.approx(3.1)
    assert link.arrives_s(5.0, 1, random.Random(0)) == math.inf
    assert SimulatedLink(outages=((0.0, 2.0),)).arrives_s(0.0, 1, random.Random(0)) == 2.0


@pytest.mark.parametrize("wrong", [{"bandwidth_mbps": 0.0}, {"loss": 1.0}, {"delay_ms": -1.0}, {"loss": math.nan}])
def test_an_impossible_link_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="no link"):
        SimulatedLink(**wrong)  # type: ignore[arg-type]


def test_a_request_takes_the_time_of_both_ways_and_of_computing() -> None:
    timeline = SimulatedTimeline()

    def slow(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
        timeline.sleep(0.5)
        return double(feeds)

    endpoint = SimulatedEndpoint({"m": slow}, link=SimulatedLink(delay_ms=20), timeline=timeline)
    np.testing.assert_array_equal(endpoint.infer("m", FEEDS).outputs["y"], FEEDS["x"] * 2)
    assert timeline() == pytest.approx(0.54)


def test_a_deadline_ends_a_request_when_it_passes() -> None:
    timeline = SimulatedTimeline()
    endpoint = SimulatedEndpoint({"m": double}, link=SimulatedLink(delay_ms=500), timeline=timeline)
    with pytest.raises(DeadlineExceeded):
        endpoint.infer("m", FEEDS, deadline=Deadline.after(100, timeline))
    assert timeline() == pytest.approx(0.1)


def test_failures_open_its_breaker_and_time_closes_it() -> None:
    timeline = SimulatedTimeline()
    endpoint = SimulatedEndpoint(
        {"m": double}, timeline=timeline, fail_at=dict.fromkeys(range(3), EndpointUnreachable("cut"))
    )
    for _ in range(3):
        with pytest.raises(EndpointUnreachable):
            endpoint.infer("m", FEEDS)
    with pytest.raises(EndpointResting):
        endpoint.infer("m", FEEDS)
    timeline.sleep(5)
    assert endpoint.infer("m", FEEDS).outputs["y"].shape == (1000,)


def test_an_unknown_model_is_refused_as_a_server_would() -> None:
    with pytest.raises(EndpointRefused, match=r"'other'.*'m'") as caught:
        SimulatedEndpoint({"m": double}).infer("other", FEEDS)
    assert caught.value.status == 404


def test_works_overlap_in_simulated_time() -> None:
    timeline = SimulatedTimeline()
    slow = timeline.start(lambda: timeline.sleep(3.0))
    quick = timeline.start(lambda: timeline.sleep(1.0))
    assert timeline() == 0.0
    assert timeline.first([slow, quick], 0.5) is None
    assert timeline.first([slow, quick], None) is quick
    assert timeline() == 1.0
    assert timeline.first([slow], None) is slow
    assert timeline() == 3.0


def test_the_same_seed_gives_the_same_run() -> None:
    def run(seed: int) -> float:
        timeline = SimulatedTimeline()
        link = SimulatedLink(bandwidth_mbps=10, delay_ms=10, jitter_ms=20, loss=0.1, seed=seed)
        endpoint = SimulatedEndpoint({"m": double}, link=link, timeline=timeline)
        for _ in range(10):
            endpoint.infer("m", FEEDS)
        return timeline()

    assert run(1) == run(1) != run(2)

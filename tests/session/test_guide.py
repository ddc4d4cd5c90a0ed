"""What a session's ways cost now: links and endpoints as they are, corrected by what requests really took."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest

from edge_sdk.engines.base import Runner
from edge_sdk.errors import EndpointUnreachable
from edge_sdk.offloading.guide import LOCAL, LinkGuide, Pricing, key_of
from edge_sdk.planner.following import PATIENCE, Switch
from edge_sdk.planner.radio import radio_named
from edge_sdk.planner.remote import RemotePlace, RemoteWay
from edge_sdk.wire.link_estimate import LinkEstimate

EARLY = RemoteWay(
    kind="split",
    variant="v",
    cut="early",
    tensors=("a",),
    up_bytes=50_000,
    down_bytes=0,
    head_ms=2.0,
    tail_share=0.8,
    measured=True,
)
LATE = dataclasses.replace(EARLY, cut="late", up_bytes=2_000, head_ms=20.0, tail_share=0.1)
LATENCY = Pricing(objective="latency", max_latency_ms=None, watts=None, radio=radio_named("wifi"))


def place(mbps: float, rtt_ms: float = 5.0, name: str = "there", whole_ms: float = 5.0) -> RemotePlace:
    link = LinkEstimate(rtt_ms=rtt_ms, up_mbps=mbps, down_mbps=mbps, up_head_bytes=0, down_head_bytes=0)
    return RemotePlace(name, link, 0.0, {"v": whole_ms})


class World:
    """Links as a test sets them, and a guide that goes by them."""

    def __init__(
        self,
        first: str,
        local_ms: float | None = 30.0,
        pricing: Pricing = LATENCY,
        ways: Sequence[RemoteWay] = (EARLY, LATE),
    ) -> None:
        self.places: Sequence[RemotePlace] = [place(100.0)]
        self.slower = 1.0
        self.remote = True
        self.told: list[str] = []
        self.ways = {key_of(way): way for way in ways}
        self.guide = LinkGuide(
            lambda: self.ways,
            first,
            local_ms,
            lambda: self.places,
            pricing,
            lambda key: self.slower,
            lambda key: self.remote,
            self.load,
            self.tell,
        )

    def load(self, key: str) -> Runner:
        raise EndpointUnreachable("nothing is loaded here")

    def tell(self, key: str, switch: Switch[str] | None) -> None:
        self.told.append(key)

    def goes(self, times: int = PATIENCE) -> str | None:
        """What is gone after so many judgements, if another way."""
        for _ in range(times):
            if (key := self.guide.next_way(lambda key: True)) is not None:
                self.guide.switched(key)
                return key
        return None


def test_each_bandwidth_has_its_way() -> None:
    world = World(LOCAL)
    assert world.goes() == key_of(EARLY)
    world.places = [place(1.0)]
    assert world.goes() in (LOCAL, None) or world.told[-1] == LOCAL


def test_a_cut_of_few_bytes_takes_over_when_bandwidth_falls() -> None:
    world = World(key_of(EARLY), local_ms=100.0)
    world.places = [place(2.0)]
    assert world.goes() == key_of(LATE)


def test_a_way_is_judged_by_what_is_known_of_it_now() -> None:
    world = World(key_of(EARLY))
    assert world.goes() is None
    world.ways[key_of(LATE)] = dataclasses.replace(LATE, head_ms=0.1)
    assert world.goes() == key_of(LATE)


def test_what_was_never_measured_must_promise_more_before_it_is_prepared() -> None:
    # 15 ms of 17: worth a switch where it was measured, not where it is predicted.
    other = dataclasses.replace(EARLY, cut="other", head_ms=EARLY.head_ms + 2.2)
    known, predicted = World(key_of(other), ways=[EARLY, other]), dataclasses.replace(EARLY, measured=False)
    assert known.goes() == key_of(EARLY)
    assert World(key_of(other), ways=[predicted, other]).goes() is None


def test_when_no_endpoint_may_be_asked_all_stays_here() -> None:
    world = World(key_of(EARLY))
    world.places = []
    assert world.goes(1) == LOCAL


def test_a_way_that_takes_longer_than_predicted_is_left() -> None:
    world = World(key_of(EARLY), local_ms=25.0)
    assert world.goes() is None
    for _ in range(30):
        world.guide.took(key_of(EARLY), 60.0)
    assert world.goes() is not None


def test_what_was_answered_otherwise_says_nothing_of_the_way() -> None:
    world = World(key_of(EARLY), local_ms=25.0)
    world.remote = False
    for _ in range(30):
        world.guide.took(key_of(EARLY), 60.0)
    assert world.goes() is None


def test_a_request_that_shows_the_link_to_be_slow_is_no_fault_of_its_way() -> None:
    world = World(key_of(EARLY), local_ms=1000.0, ways=[EARLY])
    before = world.guide.costs()[key_of(EARLY)]
    world.places = [place(1.0)]  # as this very request taught it
    for _ in range(5):
        world.guide.took(key_of(EARLY), 2.0 + 5.0 + 50_000 * 8e-3 + 4.0)
    world.places = [place(100.0)]
    assert world.guide.costs()[key_of(EARLY)] == pytest.approx(before)


def test_what_one_way_over_a_link_meets_most_others_would_meet_too() -> None:
    other = dataclasses.replace(EARLY, cut="other", head_ms=EARLY.head_ms + 1.0)
    world = World(key_of(EARLY), local_ms=1000.0, ways=[EARLY, other])
    for _ in range(30):
        world.guide.took(key_of(EARLY), 1.3 * (2.0 + 5.0 + 50_000 * 8e-5 + 4.0))
        assert world.goes(1) is None
    for _ in range(60):  # but not all of it
        world.guide.took(key_of(EARLY), 3.0 * (2.0 + 5.0 + 50_000 * 8e-5 + 4.0))
    assert world.goes() == key_of(other)


def test_a_device_that_became_slow_sends_more_away() -> None:
    world = World(LOCAL, local_ms=12.0)
    world.places = [place(100.0, rtt_ms=12.0)]
    assert world.goes() is None
    for _ in range(30):
        world.guide.took(LOCAL, 60.0)
    assert world.goes() == key_of(EARLY)


def test_staying_is_judged_by_how_slow_heads_are_now() -> None:
    world = World(key_of(EARLY), local_ms=5.0)
    world.slower = 10.0
    assert world.goes() is None
    world.slower = 1.0
    assert world.goes() == LOCAL


def test_what_staying_took_is_not_forgotten_with_the_first_request_elsewhere() -> None:
    world = World(LOCAL, local_ms=15.0)
    for _ in range(30):
        world.guide.took(LOCAL, 45.0)
    assert world.goes() == key_of(EARLY)
    early_ms = 2.0 + 5.0 + 50_000 * 8e-5 + 4.0
    for _ in range(10):
        world.guide.took(key_of(EARLY), early_ms)
        assert world.goes() is None
    for _ in range(300):  # by then nothing tells that it would still take as long
        world.guide.took(key_of(EARLY), early_ms)
    assert world.guide.costs()[LOCAL] == pytest.approx(15.0, rel=0.05)


def test_the_better_of_two_endpoints_counts() -> None:
    world = World(LOCAL)
    world.places = [place(0.1, name="far"), place(100.0, name="near")]
    assert world.guide.costs()[key_of(EARLY)] == pytest.approx(2.0 + 5.0 + 50_000 * 8e-5 + 5.0 * 0.8)


def test_for_bytes_nothing_travels_unless_time_demands_it() -> None:
    world = World(key_of(EARLY), pricing=dataclasses.replace(LATENCY, objective="bytes"))
    assert world.goes() == LOCAL
    hurried = dataclasses.replace(LATENCY, objective="bytes", max_latency_ms=29.0)
    world = World(LOCAL, pricing=hurried)
    assert world.goes() == key_of(LATE)


def test_only_ways_that_are_able_are_thought_of() -> None:
    world = World(LOCAL)
    for _ in range(10):
        assert world.guide.next_way(lambda key: False) is None


def test_every_switch_is_told() -> None:
    world = World(LOCAL)
    world.goes()
    assert world.told == [key_of(EARLY)]

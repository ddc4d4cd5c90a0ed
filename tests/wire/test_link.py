"""A link is learnt from the requests that went over it."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.wire.link import Link
from edge_sdk.wire.recent import Recent


def drive(link: Link, rtt_ms: float, mbps: float, sizes: list[int], noise_ms: float = 0.0, seed: int = 1) -> None:
    chance = random.Random(seed)
    for size in sizes:
        link.record(size, rtt_ms + size * 8e-3 / mbps + noise_ms * chance.random())


SIZES = [1_000, 60_000, 10_000, 250_000] * 20


def test_nothing_is_known_before_the_first_answer() -> None:
    assert Link().estimate() is None
    assert Link().late_ms() is None


def test_requests_of_several_sizes_tell_round_trip_and_bandwidth_apart() -> None:
    link = Link()
    drive(link, rtt_ms=20, mbps=8, sizes=SIZES)
    estimate = link.estimate()
    assert estimate is not None
    assert estimate.rtt_ms == pytest.approx(20, rel=1e-6)
    assert estimate.bandwidth_mbps == pytest.approx(8, rel=1e-6)
    assert estimate.transfer_ms(1_000_000) == pytest.approx(1020, rel=1e-6)


def test_noise_moves_the_estimate_a_little_only() -> None:
    link = Link()
    drive(link, rtt_ms=20, mbps=8, sizes=SIZES * 2, noise_ms=4)
    estimate = link.estimate()
    assert estimate is not None and estimate.bandwidth_mbps is not None
    assert 18 < estimate.rtt_ms < 26
    assert 7 < estimate.bandwidth_mbps < 9


def test_requests_of_one_size_tell_their_own_time_and_no_bandwidth() -> None:
    link = Link()
    drive(link, rtt_ms=20, mbps=8, sizes=[10_000] * 40)
    estimate = link.estimate()
    assert estimate is not None
    assert estimate.bandwidth_mbps is None
    assert estimate.transfer_ms(10_000) == pytest.approx(30)
    assert estimate.transfer_ms(20_000) == pytest.approx(60)


def test_a_link_that_changes_is_learnt_anew() -> None:
    link = Link(memory=16)
    drive(link, rtt_ms=5, mbps=100, sizes=SIZES)
    drive(link, rtt_ms=200, mbps=1, sizes=SIZES * 3)
    estimate = link.estimate()
    assert estimate is not None
    assert estimate.rtt_ms == pytest.approx(200, rel=0.05)
    assert estimate.bandwidth_mbps == pytest.approx(1, rel=0.05)


def test_what_the_endpoint_computed_is_not_the_links_fault() -> None:
    link = Link()
    for size in SIZES:
        link.record(size, 70 + size * 1e-3, computing_ms=50)
    estimate = link.estimate()
    assert estimate is not None
    assert estimate.rtt_ms == pytest.approx(20)


def test_a_request_given_up_counts_where_it_already_took_longer_than_expected() -> None:
    link = Link()
    drive(link, rtt_ms=10, mbps=100, sizes=[1000] * 40)
    before = link.estimate()
    link.outlasted(1000, 1.0)
    assert link.estimate() == before
    for _ in range(40):
        link.outlasted(1000, 500.0)
    after = link.estimate()
    assert before is not None and after is not None
    assert after.transfer_ms(1000) > 10 * before.transfer_ms(1000)
    assert link.late_ms() == pytest.approx(10.08)


def test_failures_fade_as_answers_come() -> None:
    link = Link(memory=8)
    for _ in range(40):
        link.failed()
    drive(link, 10, 100, [1000])
    estimate = link.estimate()
    assert estimate is not None and estimate.failure_share > 0.8
    drive(link, 10, 100, [1000] * 40)
    estimate = link.estimate()
    assert estimate is not None and estimate.failure_share < 0.02


@given(st.lists(st.tuples(st.integers(0, 2**31), st.floats(0, 1e7)), min_size=1, max_size=60))
@settings(max_examples=100)
def test_whatever_was_recorded_the_estimate_is_a_possible_link(records: list[tuple[int, float]]) -> None:
    link = Link()
    for size, duration_ms in records:
        link.record(size, duration_ms)
    estimate = link.estimate()
    assert estimate is not None
    assert estimate.rtt_ms >= 0
    assert estimate.bandwidth_mbps is None or estimate.bandwidth_mbps > 0
    assert estimate.transfer_ms(10**6) >= 0


def test_percentiles_are_of_the_latest_only() -> None:
    recent = Recent(kept=20)
    assert recent.percentile_ms(0.95) is None
    for duration_ms in [1000.0] * 50 + [float(n) for n in range(1, 21)]:
        recent.record(duration_ms)
    assert len(recent) == 20
    assert recent.percentile_ms(0.95) == 19.0
    assert recent.percentile_ms(0.0) == 1.0
    assert recent.percentile_ms(1.0) == 20.0

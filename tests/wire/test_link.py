"""A link is learnt from the requests that went over it."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.wire.link import Link
from edge_sdk.wire.passage import Passage
from edge_sdk.wire.recent import Recent
from edge_sdk.wire.simulated import SimulatedTimeline


def drive(link: Link, rtt_ms: float, mbps: float, sizes: list[int], noise_ms: float = 0.0, seed: int = 1) -> None:
    chance = random.Random(seed)
    for size in sizes:
        link.record(untold(size, rtt_ms + size * 8e-3 / mbps + noise_ms * chance.random()))


def untold(size: int, duration_ms: float, **more: Any) -> Passage:
    """A request to an endpoint that does not tell its times."""
    return Passage(up_bytes=size, duration_ms=duration_ms, **more)


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
    assert estimate.up_mbps == pytest.approx(8, rel=1e-6)
    assert estimate.transfer_ms(1_000_000) == pytest.approx(1020, rel=1e-6)


def test_noise_moves_the_estimate_a_little_only() -> None:
    link = Link()
    drive(link, rtt_ms=20, mbps=8, sizes=SIZES * 2, noise_ms=4)
    estimate = link.estimate()
    assert estimate is not None and estimate.up_mbps is not None
    assert 18 < estimate.rtt_ms < 26
    assert 7 < estimate.up_mbps < 9


def test_requests_of_one_size_tell_their_own_time_and_no_bandwidth() -> None:
    link = Link()
    drive(link, rtt_ms=20, mbps=8, sizes=[10_000] * 40)
    estimate = link.estimate()
    assert estimate is not None
    assert estimate.up_mbps is None
    assert estimate.transfer_ms(10_000) == pytest.approx(30)
    assert estimate.transfer_ms(20_000) == pytest.approx(60)


def test_a_link_that_changes_is_learnt_anew() -> None:
    link = Link()
    drive(link, rtt_ms=5, mbps=100, sizes=SIZES)
    drive(link, rtt_ms=200, mbps=1, sizes=SIZES * 3)
    estimate = link.estimate()
    assert estimate is not None
    assert estimate.rtt_ms == pytest.approx(200, rel=0.05)
    assert estimate.up_mbps == pytest.approx(1, rel=0.05)


def test_what_the_endpoint_computed_is_not_the_links_fault() -> None:
    link = Link()
    for size in SIZES:
        link.record(untold(size, 70 + size * 1e-3, compute_ms=20, queue_ms=30))
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
    link = Link()
    for _ in range(160):
        link.failed()
    drive(link, 10, 100, [1000])
    estimate = link.estimate()
    assert estimate is not None and estimate.failure_share > 0.8
    drive(link, 10, 100, [1000] * 160)
    estimate = link.estimate()
    assert estimate is not None and estimate.failure_share < 0.02


@given(st.lists(st.tuples(st.integers(0, 2**31), st.floats(0, 1e7)), min_size=1, max_size=60))
@settings(max_examples=100)
def test_whatever_was_recorded_the_estimate_is_a_possible_link(records: list[tuple[int, float]]) -> None:
    link = Link()
    for size, duration_ms in records:
        link.record(untold(size, duration_ms))
    estimate = link.estimate()
    assert estimate is not None
    assert estimate.rtt_ms >= 0
    assert estimate.up_mbps is None or estimate.up_mbps > 0
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


class Shaped:
    """A link in simulated time, and the requests that an endpoint of ours answers over it.

    Attributes:
        up_mbps, down_mbps, delay_ms: what it is like; may be changed at any time.
    """

    def __init__(self, up_mbps: float, down_mbps: float, delay_ms: float, noise: float = 0.0) -> None:
        self.up_mbps, self.down_mbps, self.delay_ms, self._noise = up_mbps, down_mbps, delay_ms, noise
        self.timeline = SimulatedTimeline()
        self.link = Link(clock=self.timeline)
        self._chance = random.Random(3)

    def ask(self, up_bytes: int, down_bytes: int, computing_ms: float = 5.0) -> float:
        """One request; how long it took."""

        def noisy(ms: float) -> float:
            return ms * (1 + self._noise * self._chance.uniform(-1, 1)) + 0.1 * self._chance.random()

        up_all, down_all = up_bytes + 600, down_bytes + 500
        receive_ms = noisy(max(up_all - 1460, 0) * 8e-3 / self.up_mbps)
        answer_ms = noisy(max(down_all - 1460, 0) * 8e-3 / self.down_mbps)
        firsts_ms = min(up_all, 1460) * 8e-3 / self.up_mbps + min(down_all, 1460) * 8e-3 / self.down_mbps
        duration_ms = noisy(2 * self.delay_ms) + firsts_ms + receive_ms + answer_ms + computing_ms
        self.timeline.sleep(duration_ms / 1e3)
        self.link.record(
            Passage(
                up_bytes=up_all,
                down_bytes=down_all,
                up_head_bytes=600,
                down_head_bytes=500,
                duration_ms=duration_ms,
                receive_ms=receive_ms,
                receive_bytes=max(up_all - 1460, 0),
                compute_ms=computing_ms,
                answer_ms=answer_ms,
                answer_bytes=max(down_all - 1460, 0),
            )
        )
        return duration_ms


class TestAnEndpointThatTells:
    @pytest.mark.parametrize("mbps", [0.25, 1.0, 4.0, 20.0])
    @pytest.mark.parametrize("delay_ms", [1.0, 10.0, 100.0])
    @pytest.mark.parametrize("noise", [0.0, 0.1])
    def test_ten_requests_of_one_size_tell_bandwidth_each_way_and_round_trip(
        self, mbps: float, delay_ms: float, noise: float
    ) -> None:
        shaped = Shaped(mbps, 3 * mbps, delay_ms, noise)
        for _ in range(10):
            shaped.ask(25_000, 12_000)
        estimate = shaped.link.estimate()
        assert estimate is not None
        assert estimate.up_mbps == pytest.approx(mbps, rel=0.1)
        assert estimate.down_mbps == pytest.approx(3 * mbps, rel=0.1)
        packet_ms = 1460 * 8e-3 / mbps
        assert estimate.rtt_ms == pytest.approx(2 * delay_ms, rel=0.1, abs=0.6 + 0.05 * packet_ms)
        assert estimate.up_spread_mbps < 0.15 * mbps
        assert estimate.rtt_spread_ms < 0.15 * delay_ms + 0.3

    @pytest.mark.parametrize(("before", "after"), [(10.0, 1.0), (1.0, 10.0), (0.25, 50.0)])
    def test_a_step_of_bandwidth_is_followed_within_eight_requests(self, before: float, after: float) -> None:
        shaped = Shaped(before, before, 10.0, noise=0.1)
        for _ in range(50):
            shaped.ask(12_500, 4_000)
        shaped.up_mbps = shaped.down_mbps = after
        for _ in range(8):
            shaped.ask(12_500, 4_000)
        estimate = shaped.link.estimate()
        assert estimate is not None
        assert estimate.up_mbps == pytest.approx(after, rel=0.1)
        assert estimate.transfer_ms(100_000) == pytest.approx(20 + 100_600 * 8e-3 / after + 500 * 8e-3 / after, rel=0.1)

    @pytest.mark.parametrize(("before", "after"), [(10.0, 1.0), (1.0, 10.0)])
    def test_a_clear_step_counts_from_the_second_request_on(self, before: float, after: float) -> None:
        shaped = Shaped(before, before, 10.0)
        for _ in range(50):
            shaped.ask(25_000, 200)
        shaped.up_mbps = shaped.down_mbps = after
        asked_ms = [shaped.ask(25_000, 200) for _ in range(2)]
        estimate = shaped.link.estimate()
        assert estimate is not None
        assert estimate.transfer_ms(25_000) == pytest.approx(asked_ms[-1] - 5.0, rel=0.05)

    def test_a_downlink_that_nothing_new_tells_of_is_taken_to_be_as_the_uplink_became(self) -> None:
        shaped = Shaped(0.5, 0.5, 20.0)
        for _ in range(10):
            shaped.ask(12_500, 12_500)
        shaped.up_mbps = shaped.down_mbps = 10.0
        for _ in range(8):
            shaped.ask(60_000, 200)
        estimate = shaped.link.estimate()
        assert estimate is not None
        assert estimate.down_mbps is None
        assert estimate.transfer_ms(60_000, 12_500) == pytest.approx(40 + 73_600 * 8e-3 / 10, rel=0.1)

    def test_one_outlier_changes_little(self) -> None:
        shaped = Shaped(4.0, 4.0, 10.0)
        for _ in range(20):
            shaped.ask(12_500, 4_000)
        before = shaped.link.estimate()
        shaped.up_mbps = 0.1
        shaped.ask(12_500, 4_000)
        after = shaped.link.estimate()
        assert before is not None and after is not None
        assert after.transfer_ms(12_500) == pytest.approx(before.transfer_ms(12_500), rel=0.05)

    def test_one_slow_request_is_believed_once_those_before_it_were_right(self) -> None:
        shaped = Shaped(8.0, 8.0, 10.0)
        for _ in range(3):  # slow for a while, and well again, as in a moving car
            for mbps in (8.0, 1.0):
                shaped.up_mbps = mbps
                for _ in range(12):
                    shaped.ask(12_500, 200)
        shaped.up_mbps = 8.0
        for _ in range(12):
            shaped.ask(12_500, 200)
        assert shaped.link.late_means_changed
        shaped.up_mbps = 1.0
        slow_ms = shaped.ask(12_500, 200)
        estimate = shaped.link.estimate()
        assert estimate is not None
        assert estimate.transfer_ms(12_500) == pytest.approx(slow_ms, rel=0.1)

    def test_a_link_with_single_outliers_is_not_taken_for_one_that_changes(self) -> None:
        shaped = Shaped(8.0, 8.0, 10.0)
        for _ in range(20):
            for _ in range(6):
                shaped.up_mbps = 8.0
                shaped.ask(12_500, 200)
            before = shaped.link.estimate()
            shaped.up_mbps = 0.5
            shaped.ask(12_500, 200)
            after = shaped.link.estimate()
            assert before is not None and after is not None
            assert after.transfer_ms(12_500) == pytest.approx(before.transfer_ms(12_500), rel=0.2)
        assert not shaped.link.late_means_changed

    def test_computing_there_moves_neither_bandwidth_nor_round_trip(self) -> None:
        shaped = Shaped(4.0, 4.0, 10.0)
        for number in range(20):
            shaped.ask(12_500, 4_000, computing_ms=10.0 * number)
        estimate = shaped.link.estimate()
        assert estimate is not None
        assert estimate.rtt_ms == pytest.approx(20, abs=0.6)

    def test_small_requests_do_not_make_it_forget_the_bandwidth(self) -> None:
        shaped = Shaped(2.0, 2.0, 10.0)
        for _ in range(5):
            shaped.ask(50_000, 4_000)
        for _ in range(60):
            shaped.ask(100, 100)
        estimate = shaped.link.estimate()
        assert estimate is not None and estimate.up_mbps == pytest.approx(2.0, rel=0.05)


def test_a_step_is_followed_also_where_the_endpoint_does_not_tell() -> None:
    link = Link(clock=SimulatedTimeline())
    drive(link, rtt_ms=20, mbps=8, sizes=SIZES, noise_ms=1)
    drive(link, rtt_ms=20, mbps=1, sizes=SIZES[:8], noise_ms=1)
    estimate = link.estimate()
    assert estimate is not None
    assert estimate.transfer_ms(100_000) == pytest.approx(820, rel=0.1)


def test_late_is_as_late_as_a_request_of_this_size_is() -> None:
    link = Link(clock=SimulatedTimeline())
    drive(link, rtt_ms=20, mbps=8, sizes=SIZES)
    assert link.late_ms() == pytest.approx(270)
    assert link.late_ms(up_bytes=10_000) == pytest.approx(30, abs=1)
    assert link.late_ms(up_bytes=1_000_000) == pytest.approx(1020, abs=1)


def test_packets_that_were_sent_again_are_the_loss() -> None:
    link = Link()
    assert link.estimate() is None
    for _ in range(10):
        link.record(untold(1000, 10, packets=20, resent=1))
    estimate = link.estimate()
    assert estimate is not None and estimate.loss_share == pytest.approx(0.05)


def test_a_probe_teaches_the_link_and_is_no_history_of_requests() -> None:
    timeline = SimulatedTimeline()
    link = Link(clock=timeline)
    assert link.idle_s() == float("inf")
    for _ in range(20):
        link.record(untold(0, 40.0), usual=False)
    timeline.sleep(3)
    estimate = link.estimate()
    assert estimate is not None and estimate.rtt_ms == 40.0
    assert link.late_ms() is None
    assert link.idle_s() == 3.0

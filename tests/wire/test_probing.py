"""Links are probed only while nothing goes over them, and with few bytes."""

from __future__ import annotations

import random

import numpy as np
import pytest

from edge_sdk.errors import DeadlineExceeded, EndpointResting
from edge_sdk.wire.link import CHANGED_SHARE
from edge_sdk.wire.probing import LONGEST_IDLE_S, MOST_BYTES, Prober, first_look
from edge_sdk.wire.simulated import SimulatedEndpoint, SimulatedLink, SimulatedTimeline

FEEDS = {"x": np.zeros(1000, np.float32)}


def endpoint_of(
    timeline: SimulatedTimeline, link: SimulatedLink | None = None, tells: bool = True
) -> SimulatedEndpoint:
    return SimulatedEndpoint({"m": lambda feeds: {"y": feeds["x"]}}, link=link, timeline=timeline, tells=tells)


def probes_of(endpoint: SimulatedEndpoint) -> list[int]:
    """How many bytes each probe from now on sends; a look at the link begins with none."""
    sent: list[int] = []
    probe = endpoint.probe

    def counted(up_bytes: int = 0, down_bytes: int = 0, **options: object) -> bool:
        sent.append(up_bytes)
        return probe(up_bytes, down_bytes, **options)  # type: ignore[arg-type]

    endpoint.probe = counted  # type: ignore[method-assign]
    return sent


class TestTheFirstLook:
    @pytest.mark.parametrize("delay_ms", [1.0, 10.0, 50.0])
    @pytest.mark.parametrize("mbps", [0.5, 1.0, 10.0, 100.0])
    def test_tells_the_link_in_well_below_a_second(self, mbps: float, delay_ms: float) -> None:
        timeline = SimulatedTimeline()
        endpoint = endpoint_of(timeline, SimulatedLink(bandwidth_mbps=mbps, down_mbps=2 * mbps, delay_ms=delay_ms))
        first_look(endpoint, timeline)
        assert timeline() < 0.7
        estimate = endpoint.link.estimate()
        assert estimate is not None
        assert estimate.up_mbps == pytest.approx(mbps, rel=0.05)
        assert estimate.down_mbps == pytest.approx(2 * mbps, rel=0.05)
        assert estimate.rtt_ms == pytest.approx(2 * delay_ms, rel=0.05, abs=0.1)

    @pytest.mark.parametrize("hiccup", [1, 2, 3])
    @pytest.mark.parametrize("mbps", [4.0, 30.0])
    def test_does_not_believe_one_probe_that_met_a_hiccup(self, mbps: float, hiccup: int) -> None:
        timeline = SimulatedTimeline()
        link = SimulatedLink(bandwidth_mbps=mbps, down_mbps=mbps, delay_ms=10)
        endpoint, probes = endpoint_of(timeline, link), 0
        stalled = SimulatedLink(bandwidth_mbps=mbps / 8, down_mbps=mbps / 8, delay_ms=10)
        probe = endpoint.probe

        def now_and_then(*sizes: int, **options: object) -> bool:
            nonlocal probes
            endpoint.simulated = stalled if probes == hiccup else link
            probes += 1
            return probe(*sizes, **options)  # type: ignore[arg-type]

        endpoint.probe = now_and_then  # type: ignore[method-assign]
        first_look(endpoint, timeline)
        estimate = endpoint.link.estimate()
        assert estimate is not None
        assert estimate.up_mbps == pytest.approx(mbps, rel=0.1)
        assert timeline() < 1.2, "the hiccup itself takes half a second"

    def test_of_an_endpoint_of_others_tells_the_round_trip(self) -> None:
        timeline = SimulatedTimeline()
        endpoint = endpoint_of(timeline, SimulatedLink(bandwidth_mbps=1, delay_ms=20), tells=False)
        first_look(endpoint, timeline)
        estimate = endpoint.link.estimate()
        assert estimate is not None
        assert estimate.up_mbps is None
        assert estimate.rtt_ms == pytest.approx(45, rel=0.05)  # with the bytes of HTTP
        assert endpoint.probes == 2

    def test_of_one_that_does_not_answer_ends(self) -> None:
        timeline = SimulatedTimeline()
        endpoint = endpoint_of(timeline, SimulatedLink(outages=((0.0, float("inf")),)))
        with pytest.raises(DeadlineExceeded):
            first_look(endpoint, timeline)


class TestAProber:
    def run(self, prober: Prober, timeline: SimulatedTimeline, seconds: float) -> None:
        until_s = timeline() + seconds
        while timeline() < until_s:
            timeline.sleep(prober.turn())

    def test_a_link_that_carries_requests_is_not_probed(self) -> None:
        timeline = SimulatedTimeline()
        endpoint = endpoint_of(timeline)
        prober = Prober([endpoint], clock=timeline)
        for _ in range(100):
            endpoint.infer("m", FEEDS)
            timeline.sleep(1.0)
            prober.turn()
        assert endpoint.probes == 0

    def test_pauses_grow_while_nobody_asks(self) -> None:
        timeline = SimulatedTimeline()
        endpoint = endpoint_of(timeline)
        prober, sent = Prober([endpoint], clock=timeline), probes_of(endpoint)
        self.run(prober, timeline, 3600)
        assert sent.count(0) < 30
        before = sent.count(0)
        self.run(prober, timeline, 2 * LONGEST_IDLE_S)
        assert 1 <= sent.count(0) - before <= 3

    def test_once_somebody_asks_again_nobody_waits_for_the_end_of_a_long_pause(self) -> None:
        timeline = SimulatedTimeline()
        endpoint = endpoint_of(timeline)
        prober = Prober([endpoint], idle_s=2.0, clock=timeline)
        self.run(prober, timeline, 3600)
        before = endpoint.probes
        timeline.sleep(2.0)
        prober.turn(busy=True)
        assert endpoint.probes > before
        for _ in range(4):
            before = endpoint.probes
            prober.turn(busy=True)
            assert endpoint.probes == before, "not more often than every two seconds"
            timeline.sleep(2.0)
            prober.turn(busy=True)
            assert endpoint.probes > before

    def test_of_two_endpoints_the_one_that_is_not_asked_is_kept_known(self) -> None:
        timeline = SimulatedTimeline()
        asked, idle = endpoint_of(timeline), endpoint_of(timeline, SimulatedLink(bandwidth_mbps=10, delay_ms=10))
        prober, sent = Prober([asked, idle], clock=timeline), probes_of(idle)
        for _ in range(300):
            asked.infer("m", FEEDS)
            timeline.sleep(1.0)
            prober.turn()
        assert asked.probes == 0
        assert 8 <= sent.count(0) <= 40
        idle.simulated = SimulatedLink(bandwidth_mbps=1, delay_ms=10)
        for _ in range(60):
            asked.infer("m", FEEDS)
            timeline.sleep(1.0)
            prober.turn()
        estimate = idle.link.estimate()
        assert estimate is not None and estimate.up_mbps == pytest.approx(1, rel=0.1)

    def test_a_link_that_became_far_better_is_known_after_one_turn(self) -> None:
        timeline = SimulatedTimeline()
        endpoint = endpoint_of(timeline, SimulatedLink(bandwidth_mbps=0.5, delay_ms=20))
        prober = Prober([endpoint], idle_s=2.0, clock=timeline)
        prober.turn()
        timeline.sleep(5.0)
        endpoint.simulated = SimulatedLink(bandwidth_mbps=20, delay_ms=20)
        sent = probes_of(endpoint)
        prober.turn()
        assert sent == [0, 3 << 10, 12 << 10, 48 << 10]
        estimate = endpoint.link.estimate()
        assert estimate is not None and estimate.up_mbps == pytest.approx(20, rel=0.1)

    @pytest.mark.parametrize("delay_ms", [1.0, 20.0, 80.0])
    @pytest.mark.parametrize("seed", range(8))
    def test_while_nothing_is_asked_the_link_is_followed_wherever_it_goes(self, delay_ms: float, seed: int) -> None:
        timeline, chance = SimulatedTimeline(), random.Random(seed)
        endpoint = endpoint_of(timeline, SimulatedLink(bandwidth_mbps=4, delay_ms=delay_ms))
        prober = Prober([endpoint], idle_s=2.0, most_bytes=32 << 10, clock=timeline)
        prober.turn(busy=True)
        for _ in range(12):
            mbps = chance.choice([0.1, 0.2, 0.5, 1.0, 3.0, 8.0, 20.0])
            endpoint.simulated = SimulatedLink(bandwidth_mbps=mbps, delay_ms=delay_ms)
            for _ in range(5):
                timeline.sleep(2.0)
                prober.turn(busy=True)
            estimate = endpoint.link.estimate()
            assert estimate is not None and endpoint.breaker.state == "closed"
            # What a request of 30 KB takes there, with HTTP and JSON around it.
            taken_ms = 2 * delay_ms + 31_500 * 8e-3 / mbps
            assert estimate.transfer_ms(30_000) == pytest.approx(taken_ms, rel=CHANGED_SHARE)

    def test_bytes_are_bounded(self) -> None:
        timeline = SimulatedTimeline()
        endpoint = endpoint_of(timeline, SimulatedLink(bandwidth_mbps=1000, delay_ms=1))
        prober = Prober([endpoint], clock=timeline)
        prober.turn()
        sent = probes_of(endpoint)
        self.run(prober, timeline, 600)
        assert sent and max(sent) <= MOST_BYTES

    def test_an_endpoint_that_is_away_is_no_error(self) -> None:
        timeline = SimulatedTimeline()
        endpoint = endpoint_of(timeline, SimulatedLink(outages=((0.0, 100.0),)))
        prober = Prober([endpoint], clock=timeline)
        self.run(prober, timeline, 90)
        self.run(prober, timeline, 600)
        assert endpoint.link.estimate() is not None

    def test_a_breaker_that_is_open_holds_probes_back_too(self) -> None:
        timeline = SimulatedTimeline()
        endpoint = endpoint_of(timeline)
        for _ in range(3):
            ticket = endpoint.breaker.admit()
            assert ticket is not None
            endpoint.breaker.failed(ticket)
        with pytest.raises(EndpointResting):
            endpoint.probe()
        assert endpoint.probes == 0

    def test_it_runs_in_a_thread_of_its_own_until_it_is_closed(self) -> None:
        endpoint = SimulatedEndpoint({})
        prober = Prober([endpoint], idle_s=30.0)
        prober.start()
        prober.start()
        thread = prober._thread
        assert thread is not None
        prober.close()
        thread.join(30)
        assert not thread.is_alive()

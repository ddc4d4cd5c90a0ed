"""A split model answers from the endpoint while that is good, and from the local tail whenever it is not."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.breaker import Breaker
from edge_sdk.engines.base import PlacementReport, Runner
from edge_sdk.errors import (
    EndpointRefused,
    EndpointUnreachable,
    EngineError,
    InputError,
    InvalidAnswer,
    SessionClosed,
)
from edge_sdk.offload import LocalTail, SplitRunner
from edge_sdk.offload.hedge import MARGIN_MS, MARGIN_SHARE, MOST_SPARED
from edge_sdk.tensors import TensorSpec
from edge_sdk.wire.endpoint import Endpoint
from edge_sdk.wire.simulated import SimulatedEndpoint, SimulatedLink, SimulatedTimeline
from tests.offload.splits import IDENTITY, SPLIT, Timed, answer_of, feeds_of, head, simulated_split, tail


def endpoint_of(timeline: SimulatedTimeline, model: Any = tail, **options: Any) -> SimulatedEndpoint:
    options.setdefault("parameters", {SPLIT.tail: IDENTITY.parameters()})
    return SimulatedEndpoint({SPLIT.tail: model}, timeline=timeline, **options)


def slow_at_will(timeline: SimulatedTimeline) -> tuple[dict[str, float], SimulatedEndpoint]:
    """What its tail takes beside nothing, under "ms", and an endpoint 5 ms away that takes it."""
    slow = {"ms": 0.0}

    def sometimes_slow(feeds: Any) -> Any:
        timeline.sleep(slow["ms"] / 1e3)
        return tail(feeds)

    return slow, endpoint_of(timeline, sometimes_slow, link=SimulatedLink(delay_ms=5))


def ask(runner: SplitRunner, count: int, first: int = 0) -> None:
    for number in range(first, first + count):
        np.testing.assert_array_equal(runner.run(feeds_of(number))["y"], answer_of(number))


class TestWhileTheEndpointIsWell:
    def test_it_answers_and_the_local_tail_is_not_even_loaded(self) -> None:
        timeline = SimulatedTimeline()
        runner, local = simulated_split(timeline, [endpoint_of(timeline)])
        ask(runner, 20)
        assert runner.figures().remote == 20
        assert not runner.local.loaded
        assert local.calls == []

    def test_answers_belong_to_the_caller(self) -> None:
        timeline = SimulatedTimeline()
        runner, _ = simulated_split(timeline, [endpoint_of(timeline)])
        first = runner.run(feeds_of(1))["y"]
        first += 1
        np.testing.assert_array_equal(runner.run(feeds_of(1))["y"], answer_of(1))

    def test_strings_come_as_the_engines_here_give_them(self) -> None:
        timeline = SimulatedTimeline()
        words = np.array([["ä", "b"]], object)
        travelled = np.array([["ä".encode(), b"b"]], object)
        spec = dataclasses.replace(
            SPLIT, outputs=(TensorSpec("y", "string", (1, 2)),), gives=(TensorSpec("y", "string", (1, 2)),)
        )
        endpoint = endpoint_of(timeline, lambda feeds: {"y": travelled}, fail_at={1: EndpointUnreachable("cut")})
        runner = SplitRunner(spec, head, LocalTail(lambda: lambda feeds: {"y": words}), [endpoint], timeline=timeline)
        for _ in range(2):
            np.testing.assert_array_equal(runner.run(feeds_of(1))["y"], words)
        assert (runner.figures().remote, runner.figures().local) == (1, 1)

    def test_out_is_written_into(self) -> None:
        timeline = SimulatedTimeline()
        runner, _ = simulated_split(timeline, [endpoint_of(timeline)])
        target = np.zeros((1, 4), np.float32)
        assert runner.run(feeds_of(5), out={"y": target})["y"] is target
        np.testing.assert_array_equal(target, answer_of(5))

    def test_the_nearer_of_two_endpoints_is_asked_once_both_are_known(self) -> None:
        timeline = SimulatedTimeline()
        far = endpoint_of(timeline, link=SimulatedLink(delay_ms=40))
        near = endpoint_of(timeline, link=SimulatedLink(delay_ms=2))
        runner, _ = simulated_split(timeline, [far, near])
        ask(runner, 20)
        assert far.requests <= 2
        assert near.requests >= 18


class TestWhenItFails:
    @pytest.mark.parametrize(
        "error", [EndpointUnreachable("cut"), EndpointRefused("bug", 500), InvalidAnswer("garbage")]
    )
    def test_the_request_is_answered_here(self, error: Exception) -> None:
        timeline = SimulatedTimeline()
        endpoint = endpoint_of(timeline, fail_at={3: error})
        runner, _ = simulated_split(timeline, [endpoint])
        ask(runner, 10)
        figures = runner.figures()
        assert (figures.requests, figures.remote, figures.local) == (10, 9, 1)
        assert figures.failure == str(error)

    def test_another_endpoint_is_asked_first(self) -> None:
        timeline = SimulatedTimeline()
        broken = endpoint_of(timeline, fail_at=dict.fromkeys(range(100), EndpointUnreachable("cut")))
        runner, local = simulated_split(timeline, [broken, endpoint_of(timeline)])
        ask(runner, 20)
        assert runner.figures().remote == 20
        assert local.calls == []

    def test_one_that_keeps_failing_is_left_alone_and_used_again_when_it_is_back(self) -> None:
        timeline = SimulatedTimeline()
        endpoint = endpoint_of(timeline, fail_at=dict.fromkeys(range(3), EndpointUnreachable("cut")))
        runner, _ = simulated_split(timeline, [endpoint], local_ms=1.0)
        ask(runner, 10)
        assert endpoint.requests == 3
        assert runner.figures().resting == 7
        timeline.sleep(60)
        ask(runner, 10)
        assert runner.figures().remote == 10

    @pytest.mark.parametrize("status", [400, 401, 404])
    def test_one_that_refuses_this_tail_is_left_alone_for_seconds_and_no_other_model_suffers(self, status: int) -> None:
        timeline = SimulatedTimeline()
        endpoint = endpoint_of(timeline, fail_at=dict.fromkeys(range(3), EndpointRefused("no such model", status)))
        runner, _ = simulated_split(timeline, [endpoint])
        ask(runner, 10)
        assert (endpoint.requests, runner.figures().resting) == (3, 7)
        assert endpoint.breaker.state == "closed"
        assert runner.figures().failure == "no such model"
        timeline.sleep(8)
        ask(runner, 10)
        assert runner.figures().remote == 10

    @pytest.mark.parametrize(
        "parameters",
        [{}, {"edge_bundle": "sha256:old", "edge_cut": "c0ffee", "edge_codec": "none"}, {"edge_bundle": "sha256:1234"}],
    )
    def test_a_tail_of_another_bundle_or_of_none_is_refused(self, parameters: dict[str, str]) -> None:
        timeline = SimulatedTimeline()

        def yesterdays(feeds: Any) -> Any:
            raise AssertionError("it was run")

        endpoint = endpoint_of(timeline, yesterdays, parameters={SPLIT.tail: parameters})
        runner, _ = simulated_split(timeline, [endpoint])
        ask(runner, 10)
        assert runner.figures().local == 10
        assert "edge_" in runner.figures().failure

    @pytest.mark.parametrize(
        "wrong",
        [
            {},
            {"z": np.zeros((1, 4), np.float32)},
            {"y": np.zeros((1, 5), np.float32)},
            {"y": np.zeros((4,), np.float32)},
            {"y": np.zeros((1, 4), np.float64)},
            {"y": np.full((1, 4), math.nan, np.float32)},
        ],
        ids=["none", "name", "size", "rank", "dtype", "nan"],
    )
    def test_an_answer_that_the_tail_cannot_have_given_is_not_believed(self, wrong: dict[str, Any]) -> None:
        timeline = SimulatedTimeline()
        runner, _ = simulated_split(timeline, [endpoint_of(timeline, lambda feeds: wrong)])
        ask(runner, 10)
        assert runner.figures().local == 10

    def test_without_any_endpoint_all_is_computed_here(self) -> None:
        runner, _ = simulated_split(SimulatedTimeline(), [])
        ask(runner, 5)
        assert runner.figures().local == 5


class TestDeadlines:
    def test_the_local_tail_begins_in_time_where_the_endpoint_is_silent(self) -> None:
        timeline = SimulatedTimeline()
        endpoint = endpoint_of(timeline, link=SimulatedLink(outages=((0.0, math.inf),)))
        runner, local = simulated_split(timeline, [endpoint], local_ms=30, head_ms=10, deadline_ms=100)
        ask(runner, 1)
        assert timeline() <= 0.100
        assert local.calls[0] >= 0.050, "the endpoint was given as long as the local tail allows"
        assert runner.figures().late == 0

    def test_a_deadline_that_leaves_no_time_to_wait_starts_both_at_once(self) -> None:
        timeline = SimulatedTimeline()
        endpoint = endpoint_of(timeline, link=SimulatedLink(delay_ms=5))
        runner, local = simulated_split(timeline, [endpoint], local_ms=30, deadline_ms=30)
        ask(runner, 1)
        assert local.calls == [0.0]
        assert timeline() == pytest.approx(0.010), "and the first answer counts"

    def test_a_local_tail_of_unknown_cost_begins_at_once(self) -> None:
        timeline = SimulatedTimeline()
        began: list[float] = []

        def slow_tail(feeds: Any) -> Any:
            began.append(timeline())
            timeline.sleep(0.08)
            return tail(feeds)

        silent = endpoint_of(timeline, link=SimulatedLink(outages=((0.0, math.inf),)))
        local = LocalTail(lambda: slow_tail, timeline=timeline)
        runner = SplitRunner(SPLIT, head, local, [silent], deadline_ms=100, timeline=timeline)
        ask(runner, 1)
        assert began == [0.0]
        assert runner.figures().late == 0

    def test_what_cannot_be_in_time_is_answered_late_and_counted(self) -> None:
        timeline = SimulatedTimeline()
        silent = endpoint_of(timeline, link=SimulatedLink(outages=((0.0, math.inf),)))
        runner, _ = simulated_split(timeline, [silent], local_ms=200, deadline_ms=100)
        ask(runner, 1)
        assert runner.figures().late == 1

    @given(
        delay_ms=st.floats(0, 300),
        mbps=st.floats(0.01, 1000),
        loss=st.floats(0, 0.3),
        outage_s=st.floats(0, 5),
        deadline_ms=st.floats(40, 400),
        head_ms=st.floats(0, 5),
        seed=st.integers(0, 99),
    )
    @settings(max_examples=60)
    def test_over_any_link_every_answer_is_right_and_in_time_if_the_device_alone_could_be(
        self, delay_ms: float, mbps: float, loss: float, outage_s: float, deadline_ms: float, head_ms: float, seed: int
    ) -> None:
        timeline = SimulatedTimeline()
        link = SimulatedLink(
            bandwidth_mbps=mbps, delay_ms=delay_ms, jitter_ms=delay_ms, loss=loss, seed=seed,
            outages=((1.0, 1.0 + outage_s),),
        )  # fmt: skip
        endpoint = endpoint_of(timeline, link=link)
        runner, _ = simulated_split(timeline, [endpoint], local_ms=25, head_ms=head_ms, deadline_ms=deadline_ms)
        for number in range(30):
            began_s = timeline()
            ask(runner, 1, number)
            assert timeline() - began_s <= deadline_ms / 1e3 + 1e-9
            timeline.sleep(0.05)
        figures = runner.figures()
        assert (figures.requests, figures.late, figures.remote + figures.local) == (30, 0, 30)


class TestHedging:
    @pytest.mark.parametrize(("local_ms", "patience_ms"), [(8.0, 10.0), (30.0, 10.0 + 10.0)])
    def test_when_the_endpoint_is_later_than_usual_the_local_tail_overtakes_it(
        self, local_ms: float, patience_ms: float
    ) -> None:
        timeline = SimulatedTimeline()
        slow, endpoint = slow_at_will(timeline)
        runner, local = simulated_split(timeline, [endpoint], local_ms=local_ms)
        ask(runner, 20)
        assert local.calls == []
        slow["ms"] = 5000.0
        began_s = timeline()
        ask(runner, 1)
        assert timeline() - began_s == pytest.approx((patience_ms + local_ms) / 1e3)
        assert runner.figures().hedged == 1

    def test_a_local_tail_that_takes_longer_than_an_answer_does_not_begin_for_a_little_jitter(self) -> None:
        timeline = SimulatedTimeline()
        slow, endpoint = slow_at_will(timeline)
        runner, local = simulated_split(timeline, [endpoint], local_ms=30)
        for number in range(100):
            slow["ms"] = 15.0 if number % 25 == 24 else 10.0
            ask(runner, 1)
        assert (local.calls, runner.figures().hedged) == ([], 0)

    def test_an_endpoint_that_is_late_again_and_again_has_as_long_again_as_the_local_tail_takes(self) -> None:
        timeline = SimulatedTimeline()
        slow, endpoint = slow_at_will(timeline)
        runner, local = simulated_split(timeline, [endpoint], local_ms=30)
        ask(runner, 20)
        for _ in range(12):
            slow["ms"] += 4.0
            ask(runner, 1)
        figures = runner.figures()
        assert (figures.requests, figures.remote + figures.local) == (32, 32)
        assert 1 <= figures.hedged <= MOST_SPARED + 1, "else it would do all work twice"
        assert len(local.calls) <= MOST_SPARED + 1

    def test_another_endpoint_may_begin_beside_as_often_as_it_helps(self) -> None:
        timeline = SimulatedTimeline()
        well, silent = SimulatedLink(delay_ms=5), SimulatedLink(outages=((0.0, math.inf),))
        both = [endpoint_of(timeline, link=well, breaker=Breaker(failures=10**9)) for _ in range(2)]
        runner, local = simulated_split(timeline, list(both), local_ms=60_000)
        for endpoint in both:
            for number in range(10):
                endpoint.infer(SPLIT.tail, head(feeds_of(number)), outputs=["y"])
        for turn in range(4):
            both[turn % 2].simulated, both[1 - turn % 2].simulated = silent, well
            for _ in range(10):
                began_s = timeline()
                ask(runner, 1)
                assert timeline() - began_s < 0.1
        assert local.calls == []

    def test_with_an_unknown_link_the_first_patience_counts(self) -> None:
        timeline = SimulatedTimeline()
        silent = endpoint_of(timeline, link=SimulatedLink(outages=((0.0, math.inf),)))
        runner, local = simulated_split(timeline, [silent], first_patience_ms=200)
        ask(runner, 1)
        assert local.calls == [pytest.approx(0.200)]

    def test_a_broken_local_tail_does_not_lose_what_the_endpoint_answers(self) -> None:
        timeline = SimulatedTimeline()

        def broken(feeds: Any) -> Any:
            raise EngineError("out of order")

        endpoint = endpoint_of(timeline, link=SimulatedLink(delay_ms=500))
        local = LocalTail(lambda: broken, expected_ms=1.0, timeline=timeline)
        runner = SplitRunner(SPLIT, head, local, [endpoint], first_patience_ms=10, timeline=timeline)
        ask(runner, 3)
        assert runner.figures().remote == 3

    def test_if_both_fail_the_local_reason_is_told(self) -> None:
        timeline = SimulatedTimeline()

        def broken(feeds: Any) -> Any:
            raise EngineError("out of order")

        endpoint = endpoint_of(timeline, fail_at={0: EndpointUnreachable("cut")})
        runner = SplitRunner(SPLIT, head, LocalTail(lambda: broken), [endpoint], timeline=timeline)
        with pytest.raises(EngineError, match="out of order"):
            runner.run(feeds_of(1))


class Variable:
    """A tail that takes as long as it is told, in simulated milliseconds."""

    def __init__(self, timeline: SimulatedTimeline, ms: float) -> None:
        self.timeline, self.ms = timeline, ms

    def __call__(self, feeds: Any) -> Any:
        self.timeline.sleep(self.ms / 1e3)
        return tail(feeds)


class TestSeveralEndpoints:
    """A near endpoint that falls silent, and another one."""

    def make(
        self, other_ms: float, local_ms: float = 30.0, deadline_ms: float | None = None
    ) -> tuple[SplitRunner, Timed, list[SimulatedEndpoint], SimulatedTimeline]:
        timeline = SimulatedTimeline()
        models = Variable(timeline, 5.0), Variable(timeline, other_ms)
        endpoints = [endpoint_of(timeline, model) for model in models]
        runner, local = simulated_split(timeline, list(endpoints), local_ms=local_ms, deadline_ms=deadline_ms)
        ask(runner, 20)
        assert endpoints[1].requests == 1, "it was asked once, to know it"
        models[0].ms = 10_000.0
        return runner, local, endpoints, timeline

    def test_one_that_is_usually_faster_than_the_local_tail_is_asked_before_it(self) -> None:
        runner, local, endpoints, timeline = self.make(other_ms=10.0)
        began_s = timeline()
        ask(runner, 1)
        assert timeline() - began_s == pytest.approx(0.005 + 0.010), "patience with the first, then the other's answer"
        assert local.calls == [] and endpoints[1].requests == 2
        assert (runner.figures().remote, runner.figures().hedged) == (21, 1)

    def test_one_that_is_slower_than_the_local_tail_is_not(self) -> None:
        runner, local, endpoints, timeline = self.make(other_ms=40.0)
        began_s = timeline()
        ask(runner, 1)
        assert timeline() - began_s == pytest.approx(0.005 + 0.005 + 0.030), "as long again as is usual, then local"
        assert len(local.calls) == 1 and endpoints[1].requests == 1

    def test_when_both_are_silent_the_local_tail_still_begins_in_time(self) -> None:
        runner, local, endpoints, timeline = self.make(other_ms=10.0, deadline_ms=60)
        endpoints[1].models[SPLIT.tail] = Variable(timeline, 10_000.0)
        began_s = timeline()
        ask(runner, 1)
        assert endpoints[1].requests == 2
        in_time_s = 0.060 - (0.030 * MARGIN_SHARE + MARGIN_MS / 1e3)
        assert timeline() - began_s == pytest.approx(in_time_s), "as long again as is usual would be too late"
        assert len(local.calls) == 1 and runner.figures().late == 0

    def test_one_that_gave_up_by_itself_is_followed_by_the_other(self) -> None:
        timeline = SimulatedTimeline()
        silent = endpoint_of(timeline, link=SimulatedLink(outages=((0.0, math.inf),)), timeout_s=0.1)
        runner, local = simulated_split(timeline, [silent, endpoint_of(timeline)])
        ask(runner, 1)
        assert runner.figures().remote == 1 and local.calls == []

    def test_where_the_local_tail_is_broken_the_other_answers_while_the_first_is_silent(self) -> None:
        timeline = SimulatedTimeline()

        def broken(feeds: Any) -> Any:
            raise EngineError("out of order")

        silent = endpoint_of(timeline, link=SimulatedLink(outages=((0.0, math.inf),)))
        far = endpoint_of(timeline, Variable(timeline, 2_000.0))
        local = LocalTail(lambda: broken, expected_ms=1.0, timeline=timeline)
        runner = SplitRunner(SPLIT, head, local, [silent, far], first_patience_ms=10, timeline=timeline)
        ask(runner, 1)
        assert timeline() == pytest.approx(0.010 + 2.0)
        assert runner.figures().remote == 1

    @given(
        delays_ms=st.lists(st.floats(0, 200), min_size=2, max_size=4),
        loss=st.floats(0, 0.3),
        outage_s=st.floats(0, 5),
        deadline_ms=st.floats(40, 400),
        seed=st.integers(0, 99),
    )
    @settings(max_examples=40)
    def test_over_any_links_every_answer_is_right_and_in_time_if_the_device_alone_could_be(
        self, delays_ms: list[float], loss: float, outage_s: float, deadline_ms: float, seed: int
    ) -> None:
        timeline = SimulatedTimeline()
        links = [
            SimulatedLink(delay_ms=ms, jitter_ms=ms, loss=loss, seed=seed + n, outages=((0.5 * n, 0.5 * n + outage_s),))
            for n, ms in enumerate(delays_ms)
        ]
        endpoints: list[Endpoint] = [endpoint_of(timeline, link=link) for link in links]
        runner, _ = simulated_split(timeline, endpoints, local_ms=25, deadline_ms=deadline_ms)
        for number in range(30):
            began_s = timeline()
            ask(runner, 1, number)
            assert timeline() - began_s <= deadline_ms / 1e3 + 1e-9
            timeline.sleep(0.05)
        figures = runner.figures()
        assert (figures.requests, figures.late, figures.remote + figures.local) == (30, 0, 30)


class TestStreams:
    def frames(self, runner: SplitRunner, depth: int) -> list[Any]:
        return list(runner.run_stream((feeds_of(n) for n in range(20)), depth=depth))

    def make(self, timeline: SimulatedTimeline) -> SplitRunner:
        endpoint: Endpoint = endpoint_of(timeline, link=SimulatedLink(delay_ms=20))
        return simulated_split(timeline, [endpoint], head_ms=40)[0]

    def test_the_head_of_the_next_frame_runs_while_one_travels(self) -> None:
        timeline = SimulatedTimeline()
        outputs = self.frames(self.make(timeline), depth=2)
        for number, given_ in enumerate(outputs):
            np.testing.assert_array_equal(given_["y"], answer_of(number))
        assert timeline() == pytest.approx(20 * 0.040 + 0.040), "all travelling but the last is hidden"

    def test_depth_one_does_one_after_the_other(self) -> None:
        timeline = SimulatedTimeline()
        assert len(self.frames(self.make(timeline), depth=1)) == 20
        assert timeline() == pytest.approx(20 * 0.080)

    def test_a_reader_may_go_away_at_any_moment(self) -> None:
        timeline = SimulatedTimeline()
        runner = self.make(timeline)
        stream = runner.run_stream(feeds_of(n) for n in range(20))
        next(iter(stream))
        stream.close()
        ask(runner, 3)


class TestMistakes:
    def test_a_head_that_does_not_give_what_the_tail_needs_is_named(self) -> None:
        runner = SplitRunner(SPLIT, lambda feeds: {"other": feeds["x"]}, LocalTail(lambda: tail), [])
        with pytest.raises(EngineError, match="'h'"):
            runner.run(feeds_of(1))

    def test_after_closing_a_request_is_refused(self) -> None:
        runner = SplitRunner(SPLIT, head, LocalTail(lambda: tail), [])
        runner.close()
        runner.close()
        with pytest.raises(SessionClosed):
            runner.run(feeds_of(1))


class TestPacking:
    """Runners of one split that pack what travels each in its way."""

    class Head(Runner):
        """Tells whether it was closed."""

        inputs, closed = SPLIT.inputs, 0

        def run(self, feeds: Any, out: Any = None) -> Any:
            return head(feeds)

        def placement(self) -> PlacementReport:
            return PlacementReport((), (), verified=False)

        def close(self) -> None:
            self.closed += 1

    def both(self) -> tuple[SplitRunner, SplitRunner, TestPacking.Head, list[int]]:
        """Two runners, the head that they share, and a mark for each time the local tail was loaded."""
        timeline, loaded = SimulatedTimeline(), list[int]()
        part = self.Head()
        local = LocalTail(lambda: loaded.append(1) or tail)  # type: ignore[func-returns-value, arg-type]
        endpoint = endpoint_of(timeline, fail_at=dict.fromkeys(range(2), EndpointUnreachable("cut")))
        raw = SplitRunner(SPLIT, part, local, [endpoint], timeline=timeline)
        return raw, raw.repacked({}, "deflate", 500.0), part, loaded

    def test_they_share_head_and_local_tail_and_count_each_their_own(self) -> None:
        raw, packed, _, loaded = self.both()
        ask(raw, 1)
        ask(packed, 2)
        assert loaded == [1], "both were answered here once"
        assert [one.figures().requests for one in (raw, packed)] == [1, 2]
        assert packed.split.content_coding == "deflate" and raw.split.content_coding == ""
        assert len(raw.head_times) == len(packed.head_times) == 3

    def test_the_last_one_frees_them(self) -> None:
        raw, packed, part, _ = self.both()
        raw.close()
        raw.close()
        assert part.closed == 0
        with pytest.raises(SessionClosed):
            raw.run(feeds_of(1))
        ask(packed, 3)
        packed.close()
        assert part.closed == 1
        with pytest.raises(SessionClosed, match="before another runner"):
            packed.repacked({}, "", 500.0)

    def test_a_coding_that_does_not_exist_takes_nothing(self) -> None:
        raw, packed, part, _ = self.both()
        with pytest.raises(InputError, match="bmp"):
            raw.repacked({"h": "bmp"}, "", 500.0)
        raw.close()
        packed.close()
        assert part.closed == 1


class TestTheLocalTail:
    def test_one_slow_call_of_a_few_is_not_what_it_needs(self) -> None:
        timeline = SimulatedTimeline()
        slow = Variable(timeline, 30.0)
        local = LocalTail(lambda: slow, timeline=timeline)
        assert local.needs_ms() is None
        for ms in (30.0, 200.0, 30.0, 30.0):
            slow.ms = ms
            local({"h": np.zeros((1, 4), np.float32)})
        assert local.needs_ms() == pytest.approx(30.0)
        for _ in range(3):
            slow.ms = 90.0
            local({"h": np.zeros((1, 4), np.float32)})
        assert local.needs_ms() == pytest.approx(90.0)

"""Whatever happens to endpoint and link, with real processes: no request is lost, no answer is wrong."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from edge_sdk.breaker import Breaker
from edge_sdk.offload import LocalTail, SplitFigures, SplitRunner
from edge_sdk.offload.asking import MOST_AWAY
from edge_sdk.wire.http import HttpEndpoint
from edge_sdk.wire.limits import Limits
from edge_sdk.wire.retry import Retry
from tests.offload.splits import MOST_GROWTH_MB, SETTLED, SPLIT, answer_of, feeds_of, head, resident_mb, tail
from tests.wire.endpoint_process import EndpointProcess, endpoint_process
from tests.wire.fault_proxy import FaultProxy

# The long runs are those that the design asks for; the short ones show the same on every change.
COUNTS = [60, pytest.param(2000, marks=pytest.mark.slow)]
PATIENT = 60_000.0
"""Milliseconds: on a machine that is busy with other things too, no failure is taken for lateness."""


@pytest.fixture(scope="module")
def process() -> Iterator[EndpointProcess]:
    with endpoint_process() as running:
        yield running


@pytest.fixture
def server(process: EndpointProcess) -> EndpointProcess:
    process.mode("well")
    return process


@pytest.fixture
def proxy(server: EndpointProcess) -> Iterator[FaultProxy]:
    between = FaultProxy(server.port)
    yield between
    between.close()


@contextmanager
def split_over(
    url: str, deadline_ms: float | None = None, breaker: Breaker | None = None, patience_ms: float = 50.0
) -> Iterator[SplitRunner]:
    """A runner whose breaker hardly ever opens, so that every request meets the fault."""
    endpoint = HttpEndpoint(
        url,
        retry=Retry(attempts=2, first_pause_s=0.001),
        breaker=breaker or Breaker(failures=10**9),
        limits=Limits(max_body_bytes=1 << 20),
        timeout_s=5.0,
    )
    runner = SplitRunner(
        SPLIT,
        head,
        LocalTail(lambda: tail, expected_ms=1.0),
        [endpoint],
        deadline_ms=deadline_ms,
        first_patience_ms=patience_ms,
    )
    yield runner
    runner.close()
    endpoint.close()


def ask(runner: SplitRunner, count: int, meanwhile: Callable[[int], object] = lambda number: None) -> SplitFigures:
    """So many requests, each with its own right answer; in a long run memory stays what it was after the first 200."""
    for number in range(count):
        if number == SETTLED:
            before_mb = resident_mb()
        meanwhile(number)
        np.testing.assert_array_equal(runner.run(feeds_of(number))["y"], answer_of(number))
    figures = runner.figures()
    assert figures.requests == count
    assert figures.remote + figures.local == count
    if count > SETTLED:
        assert resident_mb() <= before_mb + MOST_GROWTH_MB
    return figures


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize(
    "mode",
    ["500", "busy", "hangup", "garbage", "html", "short", "huge", "bomb", "shapes", "names", "nan", "reloaded"],
)
def test_an_endpoint_that_answers_wrongly(server: EndpointProcess, mode: str, count: int) -> None:
    server.mode(mode)
    with split_over(server.url, patience_ms=PATIENT) as runner:
        figures = ask(runner, count)
    assert figures.remote == 0
    assert server.seen()["count"] >= count


@pytest.mark.parametrize("count", COUNTS)
def test_a_breaker_spares_an_endpoint_that_keeps_failing(server: EndpointProcess, count: int) -> None:
    server.mode("500")
    with split_over(server.url, breaker=Breaker(failures=3, rest_s=600.0), patience_ms=PATIENT) as runner:
        figures = ask(runner, count)
    assert figures.local == count
    assert figures.resting == count - 3
    assert server.seen()["count"] == 3


@pytest.mark.parametrize("count", COUNTS)
def test_an_endpoint_that_does_something_else_each_time(server: EndpointProcess, count: int) -> None:
    server.mode("mixed")
    with split_over(server.url) as runner:
        figures = ask(runner, count)
    assert figures.remote > 0
    assert figures.local > 0


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("mode", ["stall", "drip"])
def test_an_endpoint_that_never_answers(server: EndpointProcess, mode: str, count: int) -> None:
    server.mode(mode)
    with split_over(server.url, deadline_ms=20) as runner:
        figures = ask(runner, count)
    assert figures.remote == 0


@pytest.mark.parametrize("count", COUNTS)
def test_an_endpoint_that_falls_silent_and_comes_back(server: EndpointProcess, count: int) -> None:
    def change(number: int) -> None:
        if number % (count // 3) == count // 6:
            server.mode("stall" if number < count // 2 else "well")

    with split_over(server.url) as runner:
        figures = ask(runner, count, change)
    assert figures.remote > 0
    assert figures.hedged > 0


def test_an_endpoint_that_is_overtaken_again_and_again_is_left_alone(server: EndpointProcess) -> None:
    with split_over(server.url, breaker=Breaker(failures=3, rest_s=600.0)) as runner:
        ask(runner, 20)
        server.mode("stall")
        for number in range(40):
            np.testing.assert_array_equal(runner.run(feeds_of(number))["y"], answer_of(number))
        figures = runner.figures()
        # A request that was given up tells so a moment later, in its own thread.
        assert figures.hedged >= 3
        assert runner.endpoints[0].breaker.state == "open"
        assert figures.resting > 0


@pytest.mark.parametrize("count", COUNTS)
def test_of_two_endpoints_the_other_answers_when_the_nearer_one_falls_silent(count: int) -> None:
    with endpoint_process() as one, endpoint_process() as other:
        endpoints = [HttpEndpoint(process.url, breaker=Breaker(failures=10**9)) for process in (one, other)]
        local = LocalTail(lambda: tail, expected_ms=PATIENT)
        runner = SplitRunner(SPLIT, head, local, endpoints, first_patience_ms=PATIENT)
        for endpoint in endpoints:  # until it is known when it is late
            while endpoint.link.late_ms() is None:
                endpoint.infer(SPLIT.tail, head(feeds_of(0)), outputs=["y"])
        for silent, well in ((one, other), (other, one)):
            well.mode("well")
            silent.mode("stall")
            for number in range(count // 2):
                np.testing.assert_array_equal(runner.run(feeds_of(number))["y"], answer_of(number))
            assert well.seen()["count"] > 0
        figures = runner.figures()
        assert figures.remote > 0 and figures.hedged > 0, figures
        runner.close()
        for endpoint in endpoints:
            endpoint.close()


@pytest.mark.parametrize("count", COUNTS)
def test_yesterdays_tail(server: EndpointProcess, count: int) -> None:
    server.mode("yesterday")
    with split_over(server.url) as runner:
        figures = ask(runner, count)
    assert figures.remote == 0
    assert "sha256:old" in figures.failure
    assert server.seen()["count"] == 0, "not one tensor was sent"


@pytest.mark.parametrize("count", COUNTS)
def test_an_endpoint_killed_with_requests_on_their_way_and_started_again(count: int) -> None:
    with endpoint_process() as first, split_over(first.url) as runner:
        first.mode("stall")
        with ThreadPoolExecutor(4) as threads:
            early = [threads.submit(runner.run, feeds_of(number)) for number in range(4)]
            while first.seen()["count"] == 0:
                pass
            first.kill()
            for number, future in enumerate(early):
                np.testing.assert_array_equal(future.result()["y"], answer_of(number))
        for number in range(count):
            np.testing.assert_array_equal(runner.run(feeds_of(number))["y"], answer_of(number))
        assert runner.figures().remote == 0
        with endpoint_process(first.port):
            number = 0
            while runner.figures().remote < count:  # it is found again by itself
                np.testing.assert_array_equal(runner.run(feeds_of(number))["y"], answer_of(number))
                number += 1


@pytest.mark.parametrize("count", COUNTS)
def test_a_link_that_is_cut_again_and_again(proxy: FaultProxy, count: int) -> None:
    def cut_and_mend(number: int) -> None:
        if number % 20 == 10:
            proxy.cut()
        elif number % 20 == 15:
            proxy.restore()

    with split_over(proxy.url) as runner:
        figures = ask(runner, count, cut_and_mend)
    assert figures.remote > 0
    assert figures.local > 0


@pytest.mark.parametrize("count", COUNTS)
def test_a_link_cut_at_any_moment_by_another_hand(proxy: FaultProxy, count: int) -> None:
    done = threading.Event()

    def saboteur() -> None:
        while not done.wait(0.003):
            proxy.cut()
            proxy.restore()

    thread = threading.Thread(target=saboteur)
    thread.start()
    try:
        with split_over(proxy.url) as runner:
            ask(runner, count)
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize("count", COUNTS)
def test_a_link_that_becomes_a_hundred_times_slower(proxy: FaultProxy, count: int) -> None:
    def slow_down(number: int) -> None:
        if number == count // 3:
            proxy.pause_s = 0.1

    with split_over(proxy.url) as runner:
        figures = ask(runner, count, slow_down)
    assert figures.remote > 0
    assert figures.hedged > 0


def test_a_way_that_takes_longer_to_set_up_than_any_request_may_take_is_set_up_all_the_same(proxy: FaultProxy) -> None:
    proxy.pause_s = 0.05  # connecting and verifying take 0.1 s and more
    with split_over(proxy.url, deadline_ms=10) as runner:
        number = 0
        while not runner.endpoints[0]._connections._idle:  # type: ignore[attr-defined]
            np.testing.assert_array_equal(runner.run(feeds_of(number))["y"], answer_of(number))
            number += 1
        assert runner.figures().remote == 0


@pytest.mark.parametrize("count", COUNTS)
def test_a_link_that_loses_one_packet_in_ten(proxy: FaultProxy, count: int) -> None:
    proxy.lost_share = 0.1
    with split_over(proxy.url) as runner:
        figures = ask(runner, count)
    assert figures.remote > 0


@pytest.mark.parametrize("count", COUNTS)
def test_a_link_that_really_loses_one_packet_in_ten(proxy: FaultProxy, count: int) -> None:
    proxy.drop_packets(0.1)
    with split_over(proxy.url, patience_ms=250) as runner:
        figures = ask(runner, count)
    assert figures.remote > 0


@pytest.mark.parametrize("count", COUNTS)
def test_a_deadline_shorter_than_the_link(proxy: FaultProxy, count: int) -> None:
    proxy.pause_s = 0.05
    with split_over(proxy.url, deadline_ms=10) as runner:
        figures = ask(runner, count)
    assert figures.remote == 0


@pytest.mark.parametrize("count", COUNTS)
def test_streams_keep_their_order_while_the_link_is_cut(proxy: FaultProxy, count: int) -> None:
    def frames() -> Iterator[dict[str, np.ndarray]]:  # type: ignore[type-arg]
        for number in range(count):
            if number % 20 == 10:
                proxy.cut()
            elif number % 20 == 15:
                proxy.restore()
            yield feeds_of(number)

    with split_over(proxy.url) as runner:
        for number, outputs in enumerate(runner.run_stream(frames(), depth=4)):
            np.testing.assert_array_equal(outputs["y"], answer_of(number))
        assert runner.figures().requests == count


def test_on_a_stream_the_head_of_the_next_frame_runs_while_one_is_at_the_endpoint(server: EndpointProcess) -> None:
    server.mode("gate")
    heads: list[int] = []

    def watched_head(feeds: dict[str, Any]) -> dict[str, Any]:
        if len(heads) == 1:  # the second frame: the first one arrived there, and only now is it answered
            while server.seen()["count"] == 0:
                pass
            server.mode("well")
        heads.append(len(heads))
        return head(feeds)

    ended = threading.Event()

    def slower_tail(cut: Mapping[str, Any]) -> Mapping[str, Any]:
        assert ended.wait(60), "on a busy machine it may begin, and must not overtake the endpoint"
        return tail(cut)

    endpoint = HttpEndpoint(server.url)
    runner = SplitRunner(SPLIT, watched_head, LocalTail(lambda: slower_tail), [endpoint], first_patience_ms=PATIENT)
    for number, outputs in enumerate(runner.run_stream(map(feeds_of, range(20)), depth=2)):
        np.testing.assert_array_equal(outputs["y"], answer_of(number))
    assert runner.figures().remote == 20
    ended.set()
    runner.close()
    endpoint.close()


@pytest.mark.parametrize("count", COUNTS)
def test_a_stream_goes_on_in_order_when_the_endpoint_dies_with_frames_on_their_way(count: int) -> None:
    with endpoint_process() as doomed, split_over(doomed.url) as runner:

        def frames() -> Iterator[dict[str, Any]]:
            for number in range(count):
                if number == count // 2:
                    doomed.mode("gate")
                elif number == count // 2 + 2:  # two frames were sent off since, which it does not answer
                    doomed.kill()
                yield feeds_of(number)

        while not runner.figures().remote:  # a process that has just started is slow
            runner.run(feeds_of(0))
        before = runner.figures().requests
        answered = 0
        for number, outputs in enumerate(runner.run_stream(frames(), depth=4)):
            np.testing.assert_array_equal(outputs["y"], answer_of(number))
            answered += 1
        figures = runner.figures()
    assert (answered, figures.requests) == (count, before + count)
    assert figures.local >= count // 2


@pytest.mark.parametrize("count", COUNTS)
def test_many_threads_each_get_their_own_answer_from_an_endpoint_that_misbehaves(
    server: EndpointProcess, count: int
) -> None:
    server.mode("mixed")
    with split_over(server.url) as runner, ThreadPoolExecutor(8) as threads:
        for number, outputs in enumerate(threads.map(lambda n: runner.run(feeds_of(n)), range(count))):
            np.testing.assert_array_equal(outputs["y"], answer_of(number))


def test_a_link_that_is_dead_from_the_start_holds_few_threads(proxy: FaultProxy) -> None:
    proxy.stall()
    before = threading.active_count()
    most = 0
    with split_over(proxy.url, deadline_ms=5) as runner:
        for number in range(60):
            runner.run(feeds_of(number))
            most = max(most, sum(t.name == "edge-sdk-wire" for t in threading.enumerate()))
        assert runner.figures().local == 60
    # Besides those that wait for the endpoint: the local tails', and idle ones of tests before.
    assert most <= before + MOST_AWAY + 4


@pytest.mark.slow
def test_nothing_piles_up_while_an_endpoint_is_silent(server: EndpointProcess) -> None:
    server.mode("stall")
    with split_over(server.url, deadline_ms=5) as runner:
        ask(runner, 200)
        before = (threading.active_count(), len(os.listdir("/proc/self/fd")))
        for number in range(2000):
            runner.run(feeds_of(number))
        after = (threading.active_count(), len(os.listdir("/proc/self/fd")))
    assert all(now <= then + MOST_AWAY for now, then in zip(after, before, strict=True)), (before, after)

"""Requests of several callers at once."""

from __future__ import annotations

import threading
from collections.abc import Callable

import msgspec

from edge_sdk.measuring.blocks import BLOCK_S, SETTLE_S, Block, Request
from edge_sdk.measuring.clocks import REAL_TIME, Clock
from edge_sdk.measuring.latencies import Latencies, summarise
from edge_sdk.measuring.streams import MAX_KEPT

__all__ = ["Throughput", "concurrent", "concurrent_block"]

EACH = 3
"""So many requests each caller of a block should make: the last ones meet fewer others."""


class Throughput(msgspec.Struct, frozen=True, kw_only=True):
    """Requests of several callers at once.

    Attributes:
        concurrency: how many callers.
        per_s: answers a second of all of them.
        latencies: as each caller saw them.
    """

    concurrency: int
    per_s: float
    latencies: Latencies


def concurrent(
    make_request: Callable[[], Request], concurrency: int, seconds: float, clock: Clock = REAL_TIME
) -> Throughput:
    """Requests of `concurrency` threads at once.

    Args:
        make_request: makes the request of one caller; called once for each, before any runs.
        concurrency: how many callers, at least one.
        seconds: how long; each caller runs at least one request.
        clock: what times them.

    Raises:
        BaseException: the first error that a caller met; the others stop.
    """
    callers = [_Caller(make_request(), clock) for _ in range(concurrency)]
    start = threading.Barrier(concurrency + 1)
    stop = threading.Event()
    threads = [threading.Thread(target=caller.work, args=(start, stop), daemon=True) for caller in callers]
    for thread in threads:
        thread.start()
    start.wait()
    began = clock()
    stop.wait(seconds)
    stop.set()
    for thread in threads:
        thread.join()
    for caller in callers:
        if caller.failure is not None:
            raise caller.failure
    # Each caller's last answer came a little later or earlier: its own rate is that of its own time.
    per_s = sum(len(caller.times) / max(caller.ended - began, 1e-9) for caller in callers)
    return Throughput(
        concurrency=concurrency,
        per_s=round(per_s, 3),
        latencies=summarise([latency for caller in callers for latency in caller.times]),
    )


def concurrent_block(
    request: Request, concurrency: int, block_s: float = 2 * BLOCK_S, clock: Clock = REAL_TIME
) -> Block:
    """Blocks of requests of several callers at once; the one figure of each is the time from answer to answer.

    Args:
        request: runs one request, in any thread.
        concurrency: how many callers.
        block_s: how long requests are counted, at least three of each caller.
        clock: what times them.
    """

    def block() -> list[float]:
        settled = concurrent(lambda: request, concurrency, SETTLE_S, clock)
        seconds = max(block_s, EACH * concurrency / settled.per_s)
        return [1e3 / concurrent(lambda: request, concurrency, seconds, clock).per_s]

    return block


class _Caller:
    """One thread that asks again as soon as it is answered."""

    def __init__(self, request: Request, clock: Clock) -> None:
        self.request, self.clock = request, clock
        self.times: list[float] = []
        self.ended = 0.0
        self.failure: BaseException | None = None

    def work(self, start: threading.Barrier, stop: threading.Event) -> None:
        request, clock, times = self.request, self.clock, self.times
        start.wait()
        try:
            before = clock()
            while True:
                request()
                now = clock()
                times.append((now - before) * 1e3)
                if stop.is_set() or len(times) >= MAX_KEPT:
                    break
                before = now
            self.ended = now
        except BaseException as error:  # noqa: BLE001 - raised again where the caller of `concurrent` sees it
            self.failure = error
            stop.set()

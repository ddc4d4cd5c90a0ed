"""Blocks: the stretches of requests that measuring is made of.

A block begins with requests that do not count. Another model's idle workers spin for a while and take this one's cores,
and caches hold what the other one used; both are over after the settling time.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from edge_sdk.measuring.clocks import REAL_TIME, Clock

__all__ = ["BLOCK_S", "SETTLE_S", "Block", "Request", "back_to_back", "paced_block"]

Request = Callable[[], object]
Block = Callable[[], list[float]]
"""Runs one block of requests and gives the latencies of those that count, in milliseconds."""

SETTLE_S = 0.008
BLOCK_S = 0.02
MIN_RUNS = 3
MIN_PACED_RUNS = 4
LONG_MS = 60.0
"""A request this long fills a block by itself, and caches hold little for it that it does not load again anyway."""
MAX_RUNS = 20_000
"""Of one stretch: as many of the shortest requests as fit, and an end where simulated time stands still."""


def back_to_back(
    request: Request, settle_s: float = SETTLE_S, block_s: float = BLOCK_S, clock: Clock = REAL_TIME
) -> Block:
    """Blocks of requests that follow each other at once.

    Args:
        request: runs one request.
        settle_s: how long requests are run and not counted, at least one; before long requests it is waited instead.
        block_s: how long requests are counted, at least three, or one where it is long.
        clock: what times them.
    """
    known_ms = 0.0

    def block() -> list[float]:
        nonlocal known_ms
        start = clock()
        if known_ms > LONG_MS:
            clock.sleep(settle_s)
        else:
            until = start + settle_s
            for _ in range(MAX_RUNS):
                request()
                now = clock()
                known_ms = (now - start) * 1e3
                if now >= until:
                    break
                start = now
        times: list[float] = []
        least = 1 if known_ms > LONG_MS else MIN_RUNS
        start = clock()
        end = start + block_s
        while True:
            request()
            now = clock()
            times.append((now - start) * 1e3)
            if (len(times) >= least and now >= end) or len(times) >= MAX_RUNS:
                known_ms = min(times)
                return times
            start = now

    return block


def paced_block(request: Request, rate_hz: float, block_s: float = BLOCK_S, clock: Clock = REAL_TIME) -> Block:
    """Blocks of requests that come as a camera's frames do.

    Args:
        request: runs one request.
        rate_hz: requests a second; where a request takes longer than that allows, the next follows at once.
        block_s: how long requests are counted, at least four.
        clock: what times and paces them.
    """
    counted = max(MIN_PACED_RUNS, math.ceil(block_s * rate_hz))

    def block() -> list[float]:
        times: list[float] = []
        due = clock()
        for _ in range(counted + 1):
            clock.sleep(due - clock())
            start = clock()
            request()
            now = clock()
            times.append((now - start) * 1e3)
            due = max(due + 1 / rate_hz, now)
        return times[1:]

    return block

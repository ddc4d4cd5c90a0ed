"""Requests back to back, and paced as a camera would."""

from __future__ import annotations

import math
from dataclasses import dataclass

import msgspec

from edge_sdk.measuring.blocks import Request
from edge_sdk.measuring.clocks import REAL_TIME, Clock
from edge_sdk.measuring.latencies import Latencies, summarise

__all__ = ["MAX_KEPT", "Pace", "Paced", "paced", "steady", "warm_up"]

MAX_KEPT = 1_000_000
"""Latencies kept of one stretch: 8 MB; requests that short are the same over and over."""


class Paced(msgspec.Struct, frozen=True, kw_only=True):
    """Requests that came at a fixed rate.

    Attributes:
        rate_hz: frames a second that came.
        answered_hz: requests a second that were answered.
        missed: frames that passed while the request before them was still computing.
        latencies: from the start of a request to its answer.
    """

    rate_hz: float
    answered_hz: float
    missed: int
    latencies: Latencies


@dataclass(slots=True)
class Pace:
    """When the next frame comes, and how many passed unseen.

    Attributes:
        started: when the first frame came, by `clock`.
        frame: number of the next frame.
        missed: frames that were skipped.
    """

    clock: Clock
    rate_hz: float
    started: float
    frame: int = 0
    missed: int = 0

    def wait(self) -> None:
        """Waits for the next frame."""
        self.clock.sleep(self.started + self.frame / self.rate_hz - self.clock())
        self.frame += 1

    def skip_to(self, now: float) -> None:
        """Frames that came before `now` are gone: a camera does not wait."""
        due = math.ceil((now - self.started) * self.rate_hz - 1e-9)
        if due > self.frame:
            self.missed += due - self.frame
            self.frame = due


def warm_up(request: Request, seconds: float = 0.5, least: int = 3, clock: Clock = REAL_TIME) -> int:
    """Runs requests that do not count, so that caches are filled, workers started and clocks raised.

    Args:
        request: runs one request.
        seconds: how long, and at least `least` runs where they fit into ten times as long.

    Returns:
        How many were run, at least one.
    """
    began = clock()
    runs = 0
    while True:
        request()
        runs += 1
        elapsed = clock() - began
        if elapsed >= 10 * seconds or (elapsed >= seconds and runs >= least) or runs >= MAX_KEPT:
            return runs


def steady(request: Request, seconds: float, least: int = 3, clock: Clock = REAL_TIME) -> list[float]:
    """Latencies in milliseconds of requests that follow each other at once for `seconds`, at least `least` of them."""
    times: list[float] = []
    start = clock()
    end = start + seconds
    while True:
        request()
        now = clock()
        times.append((now - start) * 1e3)
        if (now >= end and len(times) >= least) or len(times) >= MAX_KEPT:
            return times
        start = now


def paced(request: Request, rate_hz: float, seconds: float, clock: Clock = REAL_TIME) -> Paced:
    """Requests paced as a camera would: one a frame, and frames that come meanwhile are missed.

    Between frames the machine idles: clocks fall, workers fall asleep and caches go to others, so that a paced request
    may take twice as long as one of many back to back.

    Args:
        request: runs one request.
        rate_hz: frames a second.
        seconds: how long; at least two frames.
        clock: what times and paces them.
    """
    pace = Pace(clock, rate_hz, clock())
    end = pace.started + seconds
    times: list[float] = []
    while True:
        pace.wait()
        start = clock()
        request()
        now = clock()
        times.append((now - start) * 1e3)
        pace.skip_to(now)
        if (pace.started + pace.frame / rate_hz >= end and len(times) >= 2) or len(times) >= MAX_KEPT:
            # Until the next frame would have come, so that a rate which is kept reads as itself.
            elapsed = pace.frame / rate_hz
            break
    return Paced(
        rate_hz=rate_hz,
        answered_hz=round(len(times) / elapsed, 3),
        missed=pace.missed,
        latencies=summarise(times),
    )

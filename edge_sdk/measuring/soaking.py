"""Requests for minutes on end: does the machine get hot and slow, does anything pile up?"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from edge_sdk.measuring.blocks import Request
from edge_sdk.measuring.clocks import REAL_TIME, Clock
from edge_sdk.measuring.streams import Pace
from edge_sdk.metrics import Histogram

__all__ = ["Soak", "SoakWindow", "soak"]


class SoakWindow(msgspec.Struct, frozen=True, kw_only=True):
    """One stretch of a long run; it began `at_s` seconds after the start. Percentiles are right to 1 %."""

    at_s: float
    seconds: float
    runs: int
    median_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float


class Soak(msgspec.Struct, frozen=True, kw_only=True):
    """A long run, first minute against last.

    Attributes:
        minutes: how long it ran.
        first, last: the first and the last minute (halves of a run of less than two minutes).
        ratio: median of the last over the first.
        windows: everything between, in order.
    """

    minutes: float
    first: SoakWindow
    last: SoakWindow
    ratio: float
    windows: tuple[SoakWindow, ...]


def soak(
    request: Request,
    minutes: float,
    rate_hz: float | None = None,
    window_s: float = 60.0,
    on_window: Callable[[SoakWindow], object] = lambda window: None,
    clock: Clock = REAL_TIME,
) -> Soak:
    """Runs requests for a long time; memory stays bounded however long it is.

    Args:
        request: runs one request.
        minutes: how long, above 0.
        rate_hz: frames a second; None for back to back.
        window_s: length of a stretch with figures of its own; halved until there are two.
        on_window: called after each with its figures, for progress.
        clock: what times and paces them.
    """
    total_s = minutes * 60
    # Whole windows only: a short rest at the end would be a poor last minute.
    count = max(2, round(total_s / window_s))
    length_s = total_s / count
    pace = None if rate_hz is None else Pace(clock, rate_hz, clock())
    began = clock()
    windows: list[SoakWindow] = []
    for number in range(count):
        windows.append(_window(request, began, (number + 1) * length_s, pace, clock))
        on_window(windows[-1])
    first, last = windows[0], windows[-1]
    return Soak(
        minutes=round((clock() - began) / 60, 3),
        first=first,
        last=last,
        ratio=round(last.median_ms / max(first.median_ms, 1e-6), 4),
        windows=tuple(windows),
    )


def _window(request: Request, began: float, until_s: float, pace: Pace | None, clock: Clock) -> SoakWindow:
    histogram = Histogram()
    opened = start = clock()
    while True:
        if pace is not None:
            pace.wait()
            start = clock()
        request()
        now = clock()
        histogram.record((now - start) * 1e3)
        if pace is not None:
            pace.skip_to(now)
        if now - began >= until_s:
            break
        start = now
    figures = histogram.summary()
    assert figures.p50_ms is not None and figures.p90_ms is not None
    assert figures.p99_ms is not None and figures.max_ms is not None
    return SoakWindow(
        at_s=round(opened - began, 3),
        seconds=round(now - opened, 3),
        runs=figures.count,
        median_ms=figures.p50_ms,
        p90_ms=figures.p90_ms,
        p99_ms=figures.p99_ms,
        max_ms=figures.max_ms,
    )

"""Measuring one candidate against another, on a noisy machine, within a budget.

Both are loaded, never more than two at a time, and take turns in blocks (A B, B A, …). An engine's idle workers spin
for a while and take the other's cores, so every block begins with runs that are thrown away until these have settled.
What counts is the ratio of the medians within each pair of blocks: drift of the machine falls out of it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Comparison", "compare", "median_ms"]

Request = Callable[[], object]

SETTLE_S = 0.008
BLOCK_S = 0.02
MIN_BLOCK_RUNS = 3
MAX_PAIRS = 9
MIN_PAIRS = 3


@dataclass(frozen=True, slots=True)
class Comparison:
    """What comparing two requests gave.

    Attributes:
        first_ms, second_ms: medians over all counted runs.
        ratios: second over first, one per pair of blocks.
        runs: counted runs of each.
    """

    first_ms: float
    second_ms: float
    ratios: tuple[float, ...]
    runs: int

    @property
    def ratio(self) -> float:
        """Median of `ratios`: below 1 the second is the faster."""
        return statistics.median(self.ratios)

    def second_wins(self, margin: float) -> bool:
        """Whether the second is faster by `margin` (0.03 is 3 %) in the median, and in two thirds of the pairs."""
        if len(self.ratios) < 2:
            return False
        below = sum(ratio < 1 - margin / 2 for ratio in self.ratios)
        return self.ratio < 1 - margin and below * 3 >= len(self.ratios) * 2


def _block(request: Request, settle_s: float, block_s: float, deadline: float) -> list[float]:
    clock = time.perf_counter
    until = clock() + settle_s
    request()
    while clock() < until:
        request()
    times: list[float] = []
    start = clock()
    end = min(start + block_s, deadline)
    while True:
        request()
        now = clock()
        times.append((now - start) * 1e3)
        if len(times) >= MIN_BLOCK_RUNS and now >= end:
            return times
        start = now


def median_ms(request: Request, budget_s: float) -> tuple[float, int]:
    """Median latency of a request alone, in milliseconds, and over how many runs."""
    deadline = time.perf_counter() + budget_s
    times = _block(request, min(SETTLE_S, budget_s / 2), budget_s / 2, deadline)
    return statistics.median(times), len(times)


def compare(first: Request, second: Request, budget_s: float, margin: float = 0.03) -> Comparison | None:
    """Compares two requests in alternating blocks until the difference is clear or the budget is spent.

    Args:
        first, second: each runs one request.
        budget_s: when to stop; at least one pair of blocks is run when one fits.
        margin: the difference that matters.

    Returns:
        None where not even one pair of blocks fitted into the budget.
    """
    deadline = time.perf_counter() + budget_s
    all_first: list[float] = []
    all_second: list[float] = []
    ratios: list[float] = []
    while len(ratios) < MAX_PAIRS:
        began = time.perf_counter()
        swap = len(ratios) % 2 == 1
        one = _block(second if swap else first, SETTLE_S, BLOCK_S, deadline)
        two = _block(first if swap else second, SETTLE_S, BLOCK_S, deadline)
        of_first, of_second = (two, one) if swap else (one, two)
        all_first += of_first
        all_second += of_second
        ratios.append(statistics.median(of_second) / statistics.median(of_first))
        now = time.perf_counter()
        if now + (now - began) > deadline or _clear(ratios, margin):
            break
    if not ratios:
        return None
    return Comparison(
        statistics.median(all_first), statistics.median(all_second), tuple(ratios), min(len(all_first), len(all_second))
    )


def _clear(ratios: list[float], margin: float) -> bool:
    """Whether more pairs would hardly change the verdict."""
    if len(ratios) < MIN_PAIRS:
        return False
    slowest, fastest = max(ratios), min(ratios)
    return fastest > 1 or slowest < 1 - 3 * margin

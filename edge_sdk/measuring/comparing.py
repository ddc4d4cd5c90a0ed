"""Measuring one candidate against another, on a noisy machine, with as few runs as their difference needs.

Both are loaded, never more than two at a time, and take turns in blocks (A B, B A, …). What counts is the ratio of the
medians within each pair of blocks: drift of the machine falls out of it. After every pair, what all ratios say together
decides whether another pair would change the verdict.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from edge_sdk.measuring.blocks import BLOCK_S, SETTLE_S, Block, Request, back_to_back
from edge_sdk.measuring.clocks import REAL_TIME, Clock
from edge_sdk.measuring.confidence import Belief, believe
from edge_sdk.measuring.latencies import median, percentile

__all__ = ["MAX_PAIRS", "Comparison", "compare", "compare_blocks", "median_ms"]

MAX_PAIRS = 12
MIN_PAIRS = 2
CLEAR = 0.975
"""The verdict stands when it is this likely to be right."""
CLEAR_ENOUGH = 0.95
"""Or when the true ratio is this likely to lie within half a margin: then either verdict costs next to nothing."""
SHORTEST_MS = 1e-6
"""Stands for a time of nothing, which only a simulated clock gives."""
LIKELY = 0.9
"""The second wins only when it is this likely to be the faster at all."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What comparing two requests gave.

    Attributes:
        first_ms, second_ms: medians over all counted runs.
        ratios: second over first, one per pair of blocks.
        runs: counted runs of each (of the one with fewer).
        margin: the difference that mattered.
        first_p95_ms, second_p95_ms: what 95 of 100 counted runs stayed below.
    """

    first_ms: float
    second_ms: float
    ratios: tuple[float, ...]
    runs: int
    margin: float = 0.03
    first_p95_ms: float = math.nan
    second_p95_ms: float = math.nan

    @property
    def ratio(self) -> float:
        """Median of `ratios`: below 1 the second is the faster."""
        return median(self.ratios)

    @property
    def belief(self) -> Belief:
        """Where the true ratio lies."""
        return believe(self.ratios)

    @property
    def confidence(self) -> float:
        """Probability that the verdict by `margin` is right: that the second, where it wins, is no slower than the
        first, and where it does not, that it is not faster by `margin`."""
        belief = self.belief
        return belief.below(1) if self.second_wins(self.margin) else 1 - belief.below(1 - self.margin)

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """The ratios between which the true one lies with probability `level`."""
        return self.belief.interval(level)

    def second_wins(self, margin: float) -> bool:
        """Whether the second is faster by `margin` (0.03 is 3 %) in the median of at least two pairs, and likely to be
        faster at all."""
        return len(self.ratios) >= MIN_PAIRS and self.ratio < 1 - margin and self.belief.below(1) >= LIKELY


def median_ms(request: Request, budget_s: float) -> tuple[float, int]:
    """Median latency of a request alone, in milliseconds, and over how many runs. Half the budget settles the machine,
    at most as long as that needs."""
    times = back_to_back(request, min(SETTLE_S, budget_s / 2), budget_s / 2)()
    return median(times), len(times)


def compare(
    first: Request,
    second: Request,
    budget_s: float,
    margin: float = 0.03,
    max_pairs: int = MAX_PAIRS,
    clock: Clock = REAL_TIME,
) -> Comparison | None:
    """Compares two requests run back to back, until the difference is clear or the budget is spent.

    Args:
        first, second: each runs one request.
        budget_s: when to stop.
        margin: the difference that matters: one within it needs no further pair.
        max_pairs: of blocks.
        clock: what times them.

    Returns:
        None where not even one pair of blocks fitted into the budget.
    """
    blocks = (back_to_back(first, SETTLE_S, BLOCK_S, clock), back_to_back(second, SETTLE_S, BLOCK_S, clock))
    return compare_blocks(*blocks, budget_s, margin, max_pairs, clock)


def compare_blocks(
    first: Block,
    second: Block,
    budget_s: float,
    margin: float = 0.03,
    max_pairs: int = MAX_PAIRS,
    clock: Clock = REAL_TIME,
    within: float | None = None,
) -> Comparison | None:
    """Compares what two sides measure in turn, wherever they run: in this process, or in one each.

    Args:
        first, second: each runs one block and gives its latencies.
        budget_s, margin, max_pairs, clock: see `compare`.
        within: go on until the ratio itself is known to this share (0.01: to 1 %, with 95 % probability), instead of
            until the verdict is clear.
    """
    deadline = clock() + budget_s
    of_first: list[float] = []
    of_second: list[float] = []
    ratios: list[float] = []
    while len(ratios) < max_pairs:
        began = clock()
        swap = len(ratios) % 2 == 1
        one = (second if swap else first)()
        if not ratios and clock() + (clock() - began) > deadline:
            return None
        two = (first if swap else second)()
        if swap:
            one, two = two, one
        of_first += one
        of_second += two
        ratios.append(max(median(two), SHORTEST_MS) / max(median(one), SHORTEST_MS))
        now = clock()
        if now + (now - began) > deadline or (_clear(ratios, margin) if within is None else _known(ratios, within)):
            break
    if not ratios:
        return None
    return Comparison(
        median(of_first),
        median(of_second),
        tuple(ratios),
        min(len(of_first), len(of_second)),
        margin,
        percentile(sorted(of_first), 0.95),
        percentile(sorted(of_second), 0.95),
    )


def _clear(ratios: list[float], margin: float) -> bool:
    """Whether more pairs would hardly change the verdict."""
    if len(ratios) < MIN_PAIRS:
        return False
    belief = believe(ratios)
    wins = belief.below(1 - margin)
    if max(wins, 1 - wins) >= CLEAR:
        return True
    return _known(ratios, margin / 2)


def _known(ratios: list[float], share: float) -> bool:
    """Whether the true ratio likely lies within `share` of its estimate."""
    belief = believe(ratios)
    centre = math.exp(belief.centre)
    sure = belief.below(centre * (1 + share)) - belief.below(centre * (1 - share))
    return len(ratios) >= MIN_PAIRS and sure >= CLEAR_ENOUGH

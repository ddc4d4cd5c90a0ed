"""Which of two ways is better, and the smallest number of something that is enough."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from edge_sdk.compress.guard import Guard, Verdict
from edge_sdk.compress.picking import Picked

__all__ = ["better", "fewest", "quick_guard"]

_SAMPLES_TO_CHOOSE = 500
"""Enough to tell two ways apart; what is chosen is judged on all."""


def fewest(most: int, passes: Callable[[int], bool]) -> int | None:
    """The smallest count from 1 to `most` that passes, found by doubling and then halving; None where `most` fails too.

    Args:
        most: the largest count to try.
        passes: whether a count is enough; one above a passing count is taken to pass too.
    """
    failed, count = 0, 1
    if most < 1:
        return None
    while not passes(count):
        if count == most:
            return None
        failed, count = count, min(2 * count, most)
    while count - failed > 1:
        middle = (failed + count) // 2
        if passes(middle):
            count = middle
        else:
            failed = middle
    return count


def better(one: Verdict, other: Verdict) -> bool:
    """Whether a verdict is better: less drop (a gain is chance and counts as none), then less error."""

    def rank(verdict: Verdict) -> tuple[float, float]:
        drop = float("inf") if verdict.drop is None else max(verdict.drop, 0.0)
        return drop, verdict.mean_error

    first, second = rank(one), rank(other)
    return first[0] < second[0] or (first[0] == second[0] and not first[1] >= second[1])


def quick_guard(guard: Guard) -> Guard:
    """A guard over some of the samples, evenly over all, for choosing among ways; the same one where there are few."""
    data = guard.data
    count = len(data.feeds)
    if count <= _SAMPLES_TO_CHOOSE:
        return guard
    places = [place * count // _SAMPLES_TO_CHOOSE for place in range(_SAMPLES_TO_CHOOSE)]
    labels = None if data.labels is None else [data.labels[place] for place in places]
    some = replace(data, feeds=Picked(data.feeds, places), labels=labels)
    return Guard(guard.source, some, guard.max_drop, guard.metric)

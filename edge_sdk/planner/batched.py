"""Requests of several callers computed together, where the model allows it and it was measured to pay."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from edge_sdk.engines.base import Runner
from edge_sdk.engines.samples import made_up_feeds
from edge_sdk.engines.wrapping import WrappingRunner
from edge_sdk.errors import EdgeError, InputValueError
from edge_sdk.measuring import compare_blocks, concurrent_block
from edge_sdk.measuring.blocks import BLOCK_S
from edge_sdk.schedule.batches import Batches
from edge_sdk.schedule.joining import joined, may_batch

__all__ = ["BatchedRunner", "Batching", "batched"]

PAYS = 0.05
"""So much more throughput, or requests are computed one by one."""
LEAST_BUDGET_S = 2.0
DELAYS_A_BLOCK = 4
"""Blocks are so much longer: the last callers of each wait in vain for those that have ended."""
TIMED = 3


@dataclass(frozen=True, slots=True)
class Batching:
    """What the caller allows.

    Attributes:
        max_batch: rows that are computed together at most, 2 or more.
        max_delay_ms: so long a request waits for others at most.
        due_ms: from a request to its answer: none waits for others, or is computed with so many, that it is late.

    Raises:
        InputValueError: a figure makes no sense.
    """

    max_batch: int
    max_delay_ms: float = 0.0
    due_ms: float = math.inf

    def __post_init__(self) -> None:
        if isinstance(self.max_batch, bool) or not isinstance(self.max_batch, int) or self.max_batch < 2:
            raise InputValueError(f"max_batch is {self.max_batch!r}; expected a whole number, 2 or more")
        if not 0 <= self.max_delay_ms < 1e6:
            raise InputValueError(f"max_delay_ms is {self.max_delay_ms!r}; expected milliseconds, 0 or more")


class BatchedRunner(WrappingRunner):
    """A runner whose requests are computed together when several threads ask at once.

    Args:
        inner: computes any number of rows; closed with this one.
        batching: how many, and how long they may wait.
    """

    def __init__(self, inner: Runner, batching: Batching) -> None:
        super().__init__(inner)
        self._max_batch = batching.max_batch
        self.batches = Batches(inner.run, batching.max_batch, batching.max_delay_ms, batching.due_ms)

    def run(self, feeds: Mapping[str, Any], out: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """See `Runner.run`; with `out` it is computed alone."""
        return self.inner.run(feeds, out) if out else self.batches.run(feeds)

    @property
    def at_once(self) -> int:  # type: ignore[override]
        """See `Runner`."""
        return max(self._max_batch, self.inner.at_once)


def batched(runner: Runner, batching: Batching, budget_s: float) -> Runner:
    """The runner, or one that computes requests together where that answers more of them.

    Args:
        runner: loaded.
        batching: what the caller allows.
        budget_s: for measuring; with 0 nothing is, and requests are computed together where the model allows it.
    """
    told = "requests are computed one by one: "
    if any(spec.shape and isinstance(spec.shape[0], int) for spec in runner.inputs):
        return _noted(runner, told + "the model's first axis has a fixed length; export it with an open one")
    if not may_batch(runner.inputs, runner.outputs, runner.run):
        return _noted(runner, told + "the rows of the model's first axis are not independent of each other")
    if budget_s == 0:
        note = f"up to {batching.max_batch} requests are computed together (not measured)"
        return _noted(BatchedRunner(runner, batching), note)
    feeds = made_up_feeds(runner.inputs, runner.optional_inputs)
    callers = _in_time(runner, feeds, batching)
    if callers < 2:
        return _noted(
            runner, f"{told}a batch would take more than half of the {batching.due_ms:g} ms a request may take"
        )
    together = BatchedRunner(runner, replace(batching, max_batch=callers))
    block_s = 2 * BLOCK_S + DELAYS_A_BLOCK * batching.max_delay_ms / 1e3
    asks = [lambda run=run: run(feeds) for run in (runner.run, together.run)]
    blocks = [concurrent_block(ask, callers, block_s) for ask in asks]
    try:
        found = compare_blocks(blocks[0], blocks[1], max(budget_s, LEAST_BUDGET_S), PAYS)
    except EdgeError as error:
        return _noted(runner, told + str(error))
    if found is None or not found.second_wins(PAYS):
        times = (
            "it was not measured in time" if found is None else f"together they take {found.ratio:.2f} times as long"
        )
        return _noted(runner, told + times)
    times = f"{1 / found.ratio:.1f} times as many answers of as many callers"
    return _noted(together, f"up to {callers} requests are computed together: {times}")


def _in_time(runner: Runner, feeds: Mapping[str, Any], batching: Batching) -> int:
    """So many rows at most that the batch that computes when a request comes and its own end before it is due."""
    rows = batching.max_batch
    while rows > 1 and math.isfinite(batching.due_ms):
        many = joined([feeds] * rows)
        times_ms = []
        for _ in range(TIMED):
            began_s = time.perf_counter()
            runner.run(many)
            times_ms.append((time.perf_counter() - began_s) * 1e3)
        if 2 * sorted(times_ms)[TIMED // 2] <= batching.due_ms:
            break
        rows //= 2
    return rows


def _noted(runner: Runner, note: str) -> Runner:
    runner.notes = (*runner.notes, note)
    return runner

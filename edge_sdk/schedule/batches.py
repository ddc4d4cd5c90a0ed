"""Requests that come at once are computed together: one call of the model for several callers, in a caller's thread.

Whoever finds nobody computing computes what waits, its own request first; meanwhile others gather for the next batch.
So nobody waits for a batch to fill while the model is idle, unless there were others a moment ago: then the one who
computes waits until as many have come as were in flight, but never longer than `max_delay_ms` from when the oldest of
them came. Hence, where no more rows come than one batch holds, a request is answered within `max_delay_ms` and its own
batch; only where the batch that computes when it comes takes longer than `max_delay_ms`, within these two batches.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from edge_sdk.errors import EdgeError
from edge_sdk.schedule.joining import Form, form_of, joined, of_rows
from edge_sdk.tensors import Array

__all__ = ["Batches"]

Run = Callable[[Mapping[str, Any]], dict[str, Array]]


class _Call:
    """One request, and how its caller is woken."""

    __slots__ = ("came_s", "end", "failure", "feeds", "form", "leads", "outputs", "rows", "start", "woken")

    def __init__(self, feeds: Mapping[str, Any], form: Form, rows: int, came_s: float) -> None:
        self.feeds, self.form, self.rows, self.came_s = feeds, form, rows, came_s
        self.woken = threading.Lock()
        self.woken.acquire()
        self.leads = False
        self.outputs: dict[str, Array] | None = None
        self.failure: BaseException | None = None
        self.start = self.end = 0

    def answer(self) -> dict[str, Array]:
        if self.failure is not None:
            raise self.failure
        assert self.outputs is not None
        if self.end == 0:
            return self.outputs
        # A view would keep the rows of all alive, and let one caller change what others see.
        return {name: array[self.start : self.end].copy() for name, array in self.outputs.items()}


class Batches:
    """Joins the requests of many threads; each gets its own rows of the answer back.

    Args:
        run: computes feeds of any number of rows, in the calling thread.
        max_batch: rows that are computed together at most.
        max_delay_ms: so long a request waits for others at most, the batch that computes when it comes among it.
        due_ms: from a request to its answer: none waits for others so long that it would be late.

    Attributes:
        batches, requests: how many there were.
    """

    def __init__(self, run: Run, max_batch: int, max_delay_ms: float = 0.0, due_ms: float = float("inf")) -> None:
        self._run, self._max_batch, self._delay_s, self._due_s = run, max_batch, max_delay_ms / 1e3, due_ms / 1e3
        self._changed = threading.Lock()
        self._waiting: deque[_Call] = deque()
        self._rows = 0
        self._led = False
        self._in_flight = self._expected = 1
        self._gathering: threading.Lock | None = None
        self._batch_s = 0.0
        self.batches = self.requests = 0

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Array]:
        """Answers one request, together with others that wait.

        Raises:
            EdgeError: as `run` does; where it fails for several together each is computed alone, so that one request
                that cannot be answered costs the others nothing.
        """
        found = form_of(feeds)
        if found is None or found[1] > self._max_batch:
            return self._run(feeds)
        call = _Call(feeds, *found, time.perf_counter())
        with self._changed:
            self._waiting.append(call)
            self._rows += call.rows
            if not self._led:
                self._led = call.leads = True
            elif self._gathering is not None and self._rows >= self._expected:
                self._gathering.release()
                self._gathering = None
        if not call.leads:
            try:
                call.woken.acquire()
            except BaseException:  # Ctrl-C: others may count on this caller to lead
                threading.Thread(target=self._stand_in, args=(call,), name="edge-sdk-batch", daemon=True).start()
                raise
        if call.leads:
            self._lead(call)
        return call.answer()

    @property
    def waiting(self) -> int:
        """Requests that wait for the batch that is computed."""
        with self._changed:
            return len(self._waiting)

    def _stand_in(self, call: _Call) -> None:
        call.woken.acquire()
        if call.leads:
            self._lead(call)

    def _lead(self, call: _Call) -> None:
        """Computes what waits, the calling thread's own request among it, and leaves the lead to the next one."""
        batch: list[_Call] = []
        try:
            if self._delay_s:
                self._gather()
            with self._changed:
                batch = self._next()
            began_s = time.perf_counter()
            self._compute(batch)
            self._batch_s = max(time.perf_counter() - began_s, 0.9 * self._batch_s)
        except BaseException as error:
            for other in batch:
                other.failure = error
            raise
        finally:
            with self._changed:
                self._gathering = None
                if not batch:  # interrupted before: its own request waits no more
                    self._waiting.remove(call)
                    self._rows -= call.rows
                in_flight = min(sum(other.rows for other in batch) + self._rows, self._max_batch)
                # The larger of two: a caller that the kernel holds up for once is still there.
                self._expected, self._in_flight = max(in_flight, self._in_flight), in_flight
                self._led = bool(self._waiting)
                if self._led:
                    leader = self._waiting[0]
                    leader.leads = True
                    leader.woken.release()
            for other in batch[1:]:
                other.woken.release()

    def _gather(self) -> None:
        """Waits until as many rows wait as were in flight of late, or the oldest waited long enough."""
        with self._changed:
            if self._rows >= self._expected:
                return
            patience_s = min(self._delay_s, self._due_s - self._batch_s)
            left_s = self._waiting[0].came_s + patience_s - time.perf_counter()
            if left_s <= 0:
                return
            gathering = self._gathering = threading.Lock()
            gathering.acquire()
        gathering.acquire(timeout=left_s)
        with self._changed:
            self._gathering = None

    def _next(self) -> list[_Call]:
        """The oldest, and those of its form that fit beside it."""
        batch = [self._waiting.popleft()]
        rows, left = batch[0].rows, []
        while self._waiting:
            call = self._waiting.popleft()
            if call.form == batch[0].form and rows + call.rows <= self._max_batch:
                batch.append(call)
                rows += call.rows
            else:
                left.append(call)
        self._waiting.extend(left)
        self._rows -= rows
        self.batches += 1
        self.requests += len(batch)
        return batch

    def _compute(self, batch: list[_Call]) -> None:
        if len(batch) > 1:
            try:
                outputs: dict[str, Array] | None = self._run(joined([call.feeds for call in batch]))
            except EdgeError:
                outputs = None  # one of them cannot be answered: which one shows when each is computed alone
            if outputs is not None and of_rows(outputs, sum(call.rows for call in batch)):
                at = 0
                for call in batch:
                    call.outputs, call.start, call.end = outputs, at, at + call.rows
                    at = call.end
                return
        for call in batch:
            try:
                call.outputs = self._run(call.feeds)
            except BaseException as error:  # noqa: BLE001 - its caller's to see
                call.failure = error

"""Requests that come at once are computed together: one call of the model for several callers, in a caller's thread.

Whoever finds nobody computing computes what waits, its own request first; meanwhile others gather for the next batch.
So nobody waits for a batch to fill while the model is idle, unless the batches of late held several requests: then the
one who computes waits for up to `max_delay_ms` for more.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from edge_sdk.errors import EdgeError, InputValueError
from edge_sdk.schedule.joining import Form, form_of, joined, parted
from edge_sdk.tensors import Array

__all__ = ["Batches"]

Run = Callable[[Mapping[str, Any]], dict[str, Array]]


class _Call:
    """One request, and how its caller is woken."""

    __slots__ = ("feeds", "form", "leads", "outputs", "rows", "woken")

    def __init__(self, feeds: Mapping[str, Any], form: Form, rows: int) -> None:
        self.feeds, self.form, self.rows = feeds, form, rows
        self.woken = threading.Lock()
        self.woken.acquire()
        self.leads = False
        self.outputs: dict[str, Array] | BaseException | None = None

    def answer(self) -> dict[str, Array]:
        if isinstance(self.outputs, BaseException):
            raise self.outputs
        assert self.outputs is not None
        return self.outputs


class Batches:
    """Joins the requests of many threads; each gets its own rows of the answer back.

    Args:
        run: computes feeds of any number of rows, in the calling thread.
        max_batch: rows that are computed together at most.
        max_delay_ms: so long a request waits for others at most, beyond the batch that is being computed.
        clock: seconds.

    Raises:
        InputValueError: `max_batch` or `max_delay_ms` makes no sense.

    Attributes:
        batches, requests: how many there were.
    """

    def __init__(
        self, run: Run, max_batch: int, max_delay_ms: float = 0.0, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        if max_batch < 1:
            raise InputValueError(f"max_batch is {max_batch}; expected 1 or more")
        if not 0 <= max_delay_ms < 1e6:
            raise InputValueError(f"max_delay_ms is {max_delay_ms}; expected milliseconds, 0 or more")
        self._run, self._max_batch, self._delay_s, self._clock = run, max_batch, max_delay_ms / 1e3, clock
        self._changed = threading.Condition(threading.Lock())
        self._waiting: deque[_Call] = deque()
        self._led = False
        self._latest = 1
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
        call = _Call(feeds, *found)
        with self._changed:
            self._waiting.append(call)
            if self._led:
                self._changed.notify()  # one that waits for more looks how many there are
            else:
                self._led = call.leads = True
        if not call.leads:
            call.woken.acquire()
            if not call.leads:
                return call.answer()
        self._lead()
        return call.answer()

    @property
    def waiting(self) -> int:
        """Requests that wait for the batch that is computed."""
        with self._changed:
            return len(self._waiting)

    def _lead(self) -> None:
        """Computes what waits, the calling thread's own request among it, and leaves the lead to the next one."""
        batch: list[_Call] = []
        try:
            with self._changed:
                if self._delay_s and self._latest > 1:
                    self._changed.wait_for(lambda: self._rows() >= self._max_batch, self._delay_s)
                batch = self._next()
            self._compute(batch)
        except BaseException as error:
            for call in batch:
                call.outputs = error if call.outputs is None else call.outputs
            raise
        finally:
            with self._changed:
                self._led = bool(self._waiting)
                if self._led:
                    leader = self._waiting[0]
                    leader.leads = True
                    leader.woken.release()
            for call in batch[1:]:
                call.woken.release()

    def _rows(self) -> int:
        return sum(call.rows for call in self._waiting)

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
        self._latest = len(batch)
        self.batches += 1
        self.requests += len(batch)
        return batch

    def _compute(self, batch: list[_Call]) -> None:
        if len(batch) > 1:
            try:
                outputs = self._run(joined([call.feeds for call in batch]))
                answers = parted(outputs, [call.rows for call in batch])
            except EdgeError:
                answers = None  # one of them cannot be answered: which one shows when each is computed alone
            if answers is not None:
                for call, answer in zip(batch, answers, strict=True):
                    # A view would keep the rows of all alive, and let one caller change what others see.
                    call.outputs = {name: array.copy() for name, array in answer.items()}
                return
        for call in batch:
            try:
                call.outputs = self._run(call.feeds)
            except BaseException as error:  # noqa: BLE001 - its caller's to see
                call.outputs = error

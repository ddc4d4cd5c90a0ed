"""One model in several lanes: a runner on each group of CPUs, among which independent requests are shared out.

A request that computes on cores of unequal speed is as slow as the slowest of them. Requests that need not wait for
each other are better off on one group of cores each: none waits for another one's threads.
"""

from __future__ import annotations

import math
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any

from edge_sdk.device.affinity import running_on
from edge_sdk.engines.base import PlacementReport, Runner
from edge_sdk.errors import SessionClosed
from edge_sdk.metrics import Histogram
from edge_sdk.planner.overlapping import Overlapping, Request, own_thread
from edge_sdk.schedule.turns import LaneFigures, Turns

__all__ = ["LanesRunner"]

MOST_FOR_ONE = 4
"""So many requests are begun or wait for one lane at most, however much faster it is than the slowest."""
NEXT = 1
"""So many more each lane has, for the time that it takes its caller to bring another one."""


class LanesRunner(Overlapping):
    """Several runners of one model; a request computes on that which answers it first. As many callers as there are
    lanes are answered at once, further ones wait.

    Args:
        runners: at least one, all of one file; closed with this one, whatever becomes of it.
        service_ms: what a request takes on each, where that is known.

    Attributes:
        cpus: of each lane.

    Raises:
        DeviceError: the CPUs of a runner cannot be used.
    """

    def __init__(self, runners: Sequence[Runner], service_ms: Sequence[float | None] | None = None) -> None:
        first = runners[0]
        self.engine, self.model, self.options = first.engine, first.model, first.options
        self.inputs, self.outputs, self.optional_inputs = first.inputs, first.outputs, first.optional_inputs
        self.notes = (*first.notes, f"{len(runners)} lanes")
        self.queue, self.keeps_state = Histogram(), first.keeps_state
        self.cpus = tuple(runner.options.cpus or () for runner in runners)
        self._runners = tuple(runners)
        self._turns: Turns[Request] = Turns(service_ms or [None] * len(runners))
        self._closing, self._closed = threading.Lock(), False
        self._threads: list[threading.Thread] = []
        with ExitStack() as begun:
            begun.callback(self.close)
            for number, runner in enumerate(runners):
                ready: Future[None] = Future()
                thread = threading.Thread(
                    target=_work,
                    args=(number, runner, self._turns, self.queue, ready),
                    daemon=True,
                    name=f"lane-{number + 1}",
                )
                self._threads.append(thread)
                thread.start()
                ready.result()
            begun.pop_all()
        self._end = weakref.finalize(self, self._turns.close)
        self._end.atexit = False  # then runners free themselves, and nothing waits for a thread

    def begin(self, feeds: Mapping[str, Any], out: Mapping[str, Any] | None = None) -> Future[dict[str, Any]]:
        """See `Overlapping.begin`."""
        request = Request(feeds, out)
        self._turns.put(request)
        return request.answer

    @property
    def at_once(self) -> int:  # type: ignore[override]
        """Callers that keep every lane busy: a slow one has requests only while more wait than fast ones end first, and
        a lane that ends one finds the next one there."""
        known = [lane.service_ms for lane in self._turns.figures()]
        slowest_ms = max((ms for ms in known if ms is not None), default=0.0)
        if slowest_ms == 0.0 or None in known:
            return 2 * len(known)
        return sum(min(math.ceil(slowest_ms / max(ms or 0.0, 1e-6)), MOST_FOR_ONE) + NEXT for ms in known)

    def lanes(self) -> tuple[LaneFigures, ...]:
        """How each went so far."""
        return self._turns.figures()

    def request_ms(self) -> float:
        """What a request takes in the slowest lane, as known now."""
        return max((lane.service_ms or 0.0) for lane in self._turns.figures())

    def placement(self) -> PlacementReport:
        """See `Runner.placement`; the lanes' own threads are among the workers, since callers do not compute. Nodes as
        the first lane has them, as all do."""
        reports = [runner.placement() for runner in self._runners]
        threads = [own_thread(thread) + report.threads for thread, report in zip(self._threads, reports, strict=True)]
        return PlacementReport(
            threads=tuple(thread for each in threads for thread in each),
            nodes=reports[0].nodes,
            verified=all(report.verified for report in reports),
        )

    def close(self) -> None:
        """See `Runner.close`. Waits for requests that are computed; those that wait for their turn are refused."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            for request in self._turns.close():
                if request.answer.set_running_or_notify_cancel():
                    why = f"{self.model}: the runner was closed before the call had its turn"
                    request.answer.set_exception(SessionClosed(why))
            for thread in self._threads:
                if thread.ident is not None and thread is not threading.current_thread():
                    thread.join()
            for runner in self._runners:
                runner.close()


def _work(number: int, runner: Runner, turns: Turns[Request], queue: Histogram, ready: Future[None]) -> None:
    """A lane's thread: computes one request after the other, on its own CPUs."""
    try:
        with running_on(runner.options.cpus):
            ready.set_result(None)
            while (request := turns.take(number)) is not None:
                _answer(number, request, runner, turns, queue)
                del request  # not kept until the next one comes
    except BaseException as error:
        if ready.done():
            raise
        ready.set_exception(error)


def _answer(number: int, request: Request, runner: Runner, turns: Turns[Request], queue: Histogram) -> None:
    answer = request.answer
    if not answer.set_running_or_notify_cancel():
        turns.dropped(number)
        return
    queue.record((time.perf_counter() - request.came_s) * 1e3)
    try:
        values = runner.run(request.values, request.out or None)
    except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
        turns.ended(number, failed=True)
        answer.set_exception(error)
        del request, answer  # the error holds this frame
    else:
        turns.ended(number)
        answer.set_result(values)

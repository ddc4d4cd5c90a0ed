"""One of several sessions that share a device: its requests wait here until it is their turn."""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from edge_sdk.errors import InputValueError, RequestDropped, SessionClosed
from edge_sdk.metrics import Histogram, Summary
from edge_sdk.residence import Residence
from edge_sdk.schedule.admission import Demand
from edge_sdk.schedule.degrading import Degrading
from edge_sdk.schedule.pending import Pending
from edge_sdk.schedule.ready import Waiting
from edge_sdk.schedule.sharing import SharedCores

if TYPE_CHECKING:
    from edge_sdk.admitting import Way
    from edge_sdk.session import Session
    from edge_sdk.tensors import Array, Feeds, TensorSpec

__all__ = ["Promise", "Scheduled", "ScheduledFigures"]

_log = logging.getLogger(__name__)

KEPT_STEPS = 100
"""Changes of the variant that are told; older ones are forgotten."""


@dataclass(frozen=True, slots=True)
class Promise:
    """What a session was promised.

    Attributes:
        priority: higher goes first.
        rate_hz: requests a second.
        deadline_ms: from a request to its answer.
    """

    priority: int
    rate_hz: float | None
    deadline_ms: float | None

    def __post_init__(self) -> None:
        for name in ("rate_hz", "deadline_ms"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise InputValueError(f"{name} is {value!r}; expected a number above 0")

    @property
    def made(self) -> bool:
        """Whether there is one."""
        return self.rate_hz is not None or self.deadline_ms is not None

    @property
    def due_ms(self) -> float:
        """From a request to its answer; infinity where nothing is promised."""
        if self.deadline_ms is not None:
            return self.deadline_ms
        return math.inf if self.rate_hz is None else 1e3 / self.rate_hz

    def demand(self, name: str) -> Demand:
        """What keeping it takes, for requests that take nothing."""
        period_ms = self.due_ms if self.rate_hz is None else 1e3 / self.rate_hz
        return Demand(name, 0.0, period_ms, self.due_ms, priority=self.priority)


class ScheduledFigures(msgspec.Struct, frozen=True, kw_only=True):
    """How one session went so far.

    Attributes:
        answered, failed, dropped: requests; dropped ones had no room to wait.
        missed: answered after their deadline.
        variant: that answers now.
        variants: requests that each has answered.
        reason: why it runs so.
        steps: why another variant took over, the latest last.
        loads, loaded_ahead: how often its model was loaded, and how often of these before it was asked.
        followed_by: session whose model is expected after this one's, with the share of cases; "" where none is.
        within: share of all requests that were answered in time; None before the first.
        queue, service: durations of waiting for its turn, and of computing.
    """

    name: str
    priority: int
    answered: int
    failed: int
    dropped: int
    missed: int
    variant: str
    variants: dict[str, int]
    reason: str
    steps: tuple[str, ...]
    loads: int
    loaded_ahead: int
    followed_by: str
    within: float | None
    queue: Summary
    service: Summary


@dataclass(slots=True, eq=False)
class _Request:
    feeds: Feeds
    came_s: float
    deadline_s: float
    answer: Future[dict[str, Array]]


class Scheduled:
    """A session that shares its device with others; made by `Scheduler.load`. A context manager that closes it."""

    def __init__(
        self,
        name: str,
        promise: Promise,
        ways: tuple[Way, ...],
        when_full: str,
        ahead: int,
        shared: SharedCores[Scheduled],
        residence: Residence,
        start: int = 0,
        fits: Callable[[Way], bool] = lambda way: True,
    ) -> None:
        self.name, self.promise, self._residence = name, promise, residence
        self._ways, self._way = ways, ways[start]
        self.promised = promise.made
        services_ms = [0.0 if way.demand is None else way.demand.service_ms for way in ways]
        self._degrading = Degrading(services_ms, promise.due_ms, start, lambda level: fits(ways[level]), shared.clock)
        self._crowded = 0
        self._steps: deque[str] = deque(maxlen=KEPT_STEPS)
        self._answers = {way.variant: 0 for way in ways}
        self.closed = False
        self._shared, self._clock = shared, shared.clock
        self._pending: Pending[_Request] = Pending(ahead, when_full, shared.changed)
        self._queue, self._service = Histogram(), Histogram()
        self._answered = self._failed = self._dropped = self._missed = 0
        self._current: _Request | None = None
        self._thread: threading.Thread | None = None

    @property
    def demand(self) -> Demand | None:
        """What keeping the promise takes as it runs now; None where there is none."""
        return self._way.demand

    @property
    def cores(self) -> int:
        """See `Contender`."""
        return 1 if self._way.demand is None else self._way.demand.cores

    @property
    def cpus(self) -> frozenset[int]:
        """See `Contender`."""
        return frozenset() if self._way.demand is None else self._way.demand.cpus

    def start(self, prepare: Callable[[], None] | None) -> None:
        """Begins to answer, in a thread of its own.

        Args:
            prepare: called in that thread first.
        """

        def work() -> None:
            if prepare is not None:
                prepare()
            while self._shared.take(self):
                self._answer()

        self._thread = threading.Thread(target=work, name=f"edge-sdk-{self.name}", daemon=True)
        self._thread.start()

    def first_waiting(self) -> Waiting[str] | None:
        """The oldest request that waits."""
        request = self._pending.first()
        if request is None:
            return None
        return Waiting(self.name, self.promise.priority, request.deadline_s, request.came_s)

    def begin(self) -> None:
        """See `Contender.begin`."""
        self._current = self._pending.take()

    def submit(self, feeds: Feeds) -> Future[dict[str, Array]]:
        """Has a request computed when it is its turn; `cancel` of what is returned takes it back until then.

        Raises:
            SessionClosed: the session was closed.
        """
        came_s = self._clock()
        request = _Request(feeds, came_s, came_s + self.promise.due_ms / 1e3, Future())
        with self._shared.changed:
            if self.closed:
                raise SessionClosed(f"{self.name}: the session is closed; load the model again")
            dropped = self._pending.add(request, lambda: self.closed)
            self._crowded += dropped is not None
            self._shared.changed.notify_all()
        if dropped is not None:
            self._drop(dropped)
        request.answer.add_done_callback(lambda answer: self._taken_back(request) if answer.cancelled() else None)
        return request.answer

    def _taken_back(self, request: _Request) -> None:
        with self._shared.changed:
            self._pending.remove(request)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What must be fed, in the model's order; it is loaded for that if need be."""
        with self.using() as session:
            return session.inputs

    def using(self) -> AbstractContextManager[Session]:
        """The session itself, loaded, and kept so within: for its plan and report."""
        return self._residence.using(self._way.key)

    def preload(self) -> None:
        """Loads the model beside what runs, where it was unloaded: the next request then does not wait for that."""
        self._residence.preload(self._way.key)

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """As `Session.run`, when it is its turn.

        Raises:
            RequestDropped: there was no room to wait.
        """
        return self.submit(feeds).result()

    def stream(self, frames: Iterable[Feeds]) -> Iterator[dict[str, Array]]:
        """Answers in the order of the frames, without those that were dropped.

        Args:
            frames: taken as they come, in a thread of its own; may be endless.
        """
        answers: deque[Future[dict[str, Array]] | None] = deque()
        came = threading.Condition()
        failure: list[BaseException] = []
        over = threading.Event()

        def feed() -> None:
            try:
                for feeds in frames:
                    if over.is_set():
                        break
                    answer = self.submit(feeds)
                    with came:
                        answers.append(answer)
                        came.notify_all()
            except BaseException as error:  # noqa: BLE001 - raised again where the answers are taken
                failure.append(error)
            with came:
                answers.append(None)
                came.notify_all()

        threading.Thread(target=feed, name=f"edge-sdk-frames-{self.name}", daemon=True).start()
        try:
            while True:
                with came:
                    came.wait_for(lambda: bool(answers))
                    answer = answers.popleft()
                if answer is None:
                    break
                with suppress(RequestDropped):
                    yield answer.result()
            if failure:
                raise failure[0]
        finally:
            over.set()

    def _answer(self) -> None:
        """Computes the request that has the cores."""
        request = self._current
        assert request is not None
        try:
            if not request.answer.set_running_or_notify_cancel():
                return
            began_s = self._clock()
            self._queue.record((began_s - request.came_s) * 1e3)
            try:
                with self._residence.using(self._way.key) as session:
                    outputs = session.run(request.feeds)
            except BaseException as error:  # noqa: BLE001 - the caller's to see
                self._failed += 1
                request.answer.set_exception(error)
                return
            ended_s = self._clock()
            self._service.record((ended_s - began_s) * 1e3)
            late = ended_s > request.deadline_s
            self._answered += 1
            self._answers[self._way.variant] += 1
            self._missed += late
            request.answer.set_result(outputs)
            if len(self._ways) > 1:
                self._follow(late)
        finally:
            self._current = None
            self._shared.give_back(self)

    def _follow(self, late: bool) -> None:
        """The next request has the variant that suits how the last ones went."""
        with self._shared.changed:
            crowded, self._crowded = self._crowded, 0
            step = self._degrading.see(late)
            for _ in range(crowded):
                step = step or self._degrading.see(True)
            if step is None:
                return
            old, self._way = self._way, self._ways[self._degrading.level]
        told = f"{self._way.variant} instead of {old.variant}: {step}"
        self._steps.append(told)
        _log.info("%s: %s", self.name, told)

    def _drop(self, request: _Request) -> None:
        self._dropped += 1
        if request.answer.set_running_or_notify_cancel():
            why = "the session was closed" if self.closed else "no room to wait"
            request.answer.set_exception(RequestDropped(f"{self.name}: {why}: the request was given up"))

    def resident_mb(self) -> float:
        """What its model takes now, with all variants that stay loaded, in MiB."""
        resident = self._residence.resident()
        return sum(resident.get(way.key, 0.0) for way in self._ways)

    def figures(self) -> ScheduledFigures:
        """How it went so far."""
        asked = self._answered + self._failed + self._dropped
        loads, ahead = self._residence.loads(self._way.key)
        return ScheduledFigures(
            name=self.name,
            priority=self.promise.priority,
            answered=self._answered,
            failed=self._failed,
            dropped=self._dropped,
            missed=self._missed,
            variant=self._way.variant,
            variants=dict(self._answers),
            reason=self._way.reason,
            steps=tuple(self._steps),
            loads=loads,
            loaded_ahead=ahead,
            followed_by=self._residence.follower(self._way.key),
            within=(self._answered - self._missed) / asked if asked else None,
            queue=self._queue.summary(),
            service=self._service.summary(),
        )

    def times(self) -> dict[str, Histogram]:
        """Durations of "queue" (waiting for its turn) and "service" (computing), to be read in full."""
        return {"queue": self._queue, "service": self._service}

    @property
    def waiting(self) -> int:
        """Requests that wait for their turn."""
        return len(self._pending)

    def loaded(self) -> Session | None:
        """The session itself where it is in memory now: to be looked at, since it may be unloaded at any moment."""
        return self._residence.loaded(self._way.key)

    def close(self) -> None:
        """Ends the request that computes, gives up those that wait, and frees the model. Idempotent."""
        with self._shared.changed:
            self.closed = True
            waiting = self._pending.clear()
            self._shared.changed.notify_all()
        for request in waiting:
            self._drop(request)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        self._shared.leave(self)
        for way in self._ways:
            self._residence.remove(way.key)

    def __enter__(self) -> Scheduled:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

"""Time, and work that goes on meanwhile: the machine's own, or the simulated twin in `edge_sdk.wire.simulated`."""

from __future__ import annotations

import os
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Collection
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, TypeVar

__all__ = ["REAL_TIMELINE", "RealTimeline", "Timeline"]

Result = TypeVar("Result")

IDLE_S = 10.0
"""How long a thread without work stays: requests come in bursts, and a new thread costs as much as a fast answer."""


class Timeline(ABC):
    """The seam through which everything that waits goes, so that tests of it need not wait."""

    @abstractmethod
    def __call__(self) -> float:
        """Seconds since some moment; never goes back."""

    @abstractmethod
    def start(self, work: Callable[[], Result]) -> Future[Result]:
        """Begins `work` beside the caller."""

    @abstractmethod
    def first(self, pending: Collection[Future[Any]], timeout_s: float | None) -> Future[Any] | None:
        """Waits until one of `pending` has ended, well or badly, or until `timeout_s` seconds are over.

        Returns:
            The first one in the order of `pending` that has ended; None where none has in time.
        """


class RealTimeline(Timeline):
    """The machine's own time, and threads.

    There are as many threads as works in progress, because one that waits for a silent endpoint must not hold up
    another. They are daemons: an endpoint that never answers must not hold up the end of the process either.
    """

    def __init__(self) -> None:
        self._idle: deque[_Worker] = deque()
        self._process = os.getpid()

    def __call__(self) -> float:
        """Seconds by the monotonic clock."""
        return time.monotonic()

    def start(self, work: Callable[[], Result]) -> Future[Result]:
        """Begins `work` in an idle thread, or a new one."""
        future: Future[Result] = Future()
        if self._process != os.getpid():  # threads do not survive a fork
            self._process, self._idle = os.getpid(), deque()
        while True:
            try:
                worker = self._idle.pop()
            except IndexError:
                _Worker(self._idle).take(work, future)
                return future
            if worker.take(work, future):
                return future

    def first(self, pending: Collection[Future[Any]], timeout_s: float | None) -> Future[Any] | None:
        """See `Timeline.first`."""
        if timeout_s is None or timeout_s > 0:
            wait(pending, timeout_s, FIRST_COMPLETED)
        return next((future for future in pending if future.done()), None)


class _Worker:
    """A thread that does one work after another and goes when it has had none for `IDLE_S`."""

    def __init__(self, idle: deque[_Worker]) -> None:
        self._idle = idle
        self._condition = threading.Condition()
        self._work: tuple[Callable[[], Any], Future[Any]] | None = None
        self._gone = False
        self._thread = threading.Thread(target=self._run, name="edge-sdk-wire", daemon=True)

    def take(self, work: Callable[[], Any], future: Future[Any]) -> bool:
        """Hands it a work; false where it has just gone."""
        with self._condition:
            if self._gone:
                return False
            self._work = (work, future)
            self._condition.notify()
        if self._thread.ident is None:
            self._thread.start()
        return True

    def _run(self) -> None:
        while True:
            with self._condition:
                if self._work is None and not self._condition.wait_for(lambda: self._work is not None, IDLE_S):
                    self._gone = True
                    break
                assert self._work is not None
                (work, future), self._work = self._work, None
            result, error = None, None
            try:
                result = work()
            except BaseException as raised:  # noqa: BLE001 - it belongs to whoever asks for the result
                error = raised
            # Idle before the result is out: who waits for it finds this thread, and starts no second one.
            self._idle.append(self)
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)
            del work, future, result, error  # an idle thread must not keep tensors alive
        try:
            self._idle.remove(self)
        except ValueError:
            pass  # `start` took it out and will find it gone


REAL_TIMELINE = RealTimeline()

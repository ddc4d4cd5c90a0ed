"""Runners that answer several requests at the same time: answers come more often than one request takes.

Callers wait in their own threads; threads of the runner compute, each pinned for good where it belongs, so that its
weights stay in its cores' caches and nobody's thread wanders from core to core with every request.
"""

from __future__ import annotations

import threading
import time
from abc import abstractmethod
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from edge_sdk.device.affinity import thread_cpus
from edge_sdk.engines.base import Runner, ThreadPlacement

__all__ = ["Overlapping", "Request", "overlapping", "own_thread"]


class Overlapping(Runner):
    """A runner of one model that is several: lanes beside each other, or stages one behind the other."""

    @abstractmethod
    def begin(self, feeds: Mapping[str, Any], out: Mapping[str, Any] | None = None) -> Future[dict[str, Any]]:
        """As `run`, without waiting for the answer. Until a thread has begun with it, it can be cancelled.

        Raises:
            SessionClosed: the runner was closed.
        """

    def run(self, feeds: Mapping[str, Any], out: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """See `Runner.run`. Callers beyond those that keep it busy wait in line, which `queue` records."""
        return self.begin(feeds, out).result()

    @abstractmethod
    def request_ms(self) -> float:
        """What one request takes at most, as known now; 0 before the first."""


class Request:
    """One request on its way through threads of a runner.

    Attributes:
        values: feeds, and what was computed.
        out: arrays that outputs are to be written to.
        answer: what its caller waits for.
        came_s: when it was made.
    """

    __slots__ = ("answer", "came_s", "out", "values")

    def __init__(self, feeds: Mapping[str, Any], out: Mapping[str, Any] | None) -> None:
        self.values, self.out = dict(feeds), out or {}
        self.answer: Future[dict[str, Any]] = Future()
        self.came_s = time.perf_counter()


def overlapping(runner: Runner) -> Overlapping | None:
    """The runner, or one that it wraps, where that answers several requests at the same time."""
    inner: Runner | None = runner
    while inner is not None and not isinstance(inner, Overlapping):
        inner = inner.inner
    return inner


def own_thread(thread: threading.Thread | None) -> tuple[ThreadPlacement, ...]:
    """Where a thread may run, as the kernel says; nothing where it has ended."""
    own = thread.native_id if thread is not None and thread.is_alive() else None
    return () if own is None else (ThreadPlacement(own, thread_cpus(own)),)

"""The local tail: the way back that is always there, loaded when it is first needed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from edge_sdk.engines.base import Runner
from edge_sdk.errors import SessionClosed
from edge_sdk.wire.recent import Recent
from edge_sdk.wire.timeline import REAL_TIMELINE, Timeline

__all__ = ["Compute", "LocalTail", "computing"]

KEPT, ENOUGH = 32, 20
"""Latest calls that are remembered, and how many tell what nineteen of twenty take."""

Compute = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""Named arrays in, named arrays out; any number of threads may call at once."""


def computing(part: Runner | Compute) -> Compute:
    """A runner, or anything that computes, as something to call; a runner is fed only the inputs that it has."""
    if not isinstance(part, Runner):
        return part
    run, names = part.run, frozenset(spec.name for spec in part.inputs)
    return lambda feeds: run({name: array for name, array in feeds.items() if name in names})


class LocalTail:
    """Runs the tail here. Any number of threads may call at once; the first one loads it.

    Args:
        load: gives the loaded tail: a `Runner` (closed with this) or any callable.
        expected_ms: what a call takes, where that is known before the first one.
        expected_load_ms: what loading takes, where that is known.
        timeline: what durations go by.
    """

    def __init__(
        self,
        load: Callable[[], Runner | Compute],
        *,
        expected_ms: float | None = None,
        expected_load_ms: float = 0.0,
        timeline: Timeline = REAL_TIMELINE,
    ) -> None:
        self._load = load
        self._expected_ms, self._expected_load_ms = expected_ms, expected_load_ms
        self._timeline = timeline
        self._alone = Recent(KEPT)  # what calls take, as if each were the only one
        self._at_once = Recent(KEPT)  # how many went on meanwhile
        self._loading = threading.Lock()
        self._part: Runner | Compute | None = None
        self._compute: Compute | None = None
        self._idle = threading.Condition()
        self._running = 0
        self._closed = False

    @property
    def loaded(self) -> bool:
        """Whether it was needed so far."""
        return self._compute is not None

    def needs_ms(self) -> float | None:
        """How long a call that begins now takes at most, in 19 of 20 cases; None while nothing tells."""
        # The slowest of a few is an accident, and so are a few calls at once: whoever goes by these begins each call
        # too early, beside what slows it, and never learns better.
        known_ms = self._alone.percentile_ms(0.95 if len(self._alone) >= ENOUGH else 0.75)
        known_ms = self._expected_ms if known_ms is None else known_ms * (self._at_once.percentile_ms(0.5) or 1.0)
        if known_ms is None or self.loaded:
            return known_ms
        return known_ms + self._expected_load_ms

    def prepare(self, feeds: Mapping[str, Any]) -> None:
        """Loads it, and learns what a call takes while nothing else goes on: where answers have to be in time, the
        first one that is needed must not begin at once for want of that.

        Raises:
            SessionClosed, EdgeError: as for a call.
        """
        self(feeds)
        self._alone.clear()  # the first call prepares what the others find
        self(feeds)

    def __call__(self, feeds: Mapping[str, Any]) -> Mapping[str, Any]:
        """Runs it, loading it first where that was not done.

        Raises:
            SessionClosed: it was closed.
            EdgeError: it cannot be loaded, or fails.
        """
        with self._idle:
            if self._closed:
                raise SessionClosed("the local tail was closed before the call")
            self._running += 1
            at_once = self._running
        try:
            compute = self._loaded()
            began_s = self._timeline()
            outputs = compute(feeds)
            took_ms = (self._timeline() - began_s) * 1e3
            mean = (at_once + self._running) / 2  # they share the processor
            self._alone.record(took_ms / mean)
            self._at_once.record(mean)
            return outputs
        finally:
            with self._idle:
                self._running -= 1
                self._idle.notify_all()

    def close(self) -> None:
        """Waits for the calls in progress and frees it. Idempotent."""
        with self._idle:
            self._closed = True
            self._idle.wait_for(lambda: self._running == 0)
            part, self._part, self._compute = self._part, None, None
        if isinstance(part, Runner):
            part.close()

    def _loaded(self) -> Compute:
        compute = self._compute
        if compute is None:
            with self._loading:
                compute = self._compute
                if compute is None:
                    self._part = self._load()
                    self._load = _loaded_already  # what it was loaded from need not stay
                    compute = self._compute = computing(self._part)
        return compute


def _loaded_already() -> Runner | Compute:
    raise SessionClosed("the local tail was closed")

"""A model that may run several ways, and goes the one that is best now; the next is ready before it is switched to.

Requests in progress end on the way they began. A way that is not prepared yet is made beside them, in a thread of its
own: no request waits for a switch.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from time import monotonic, perf_counter
from typing import Any, Protocol

from edge_sdk.engines.base import LoadOptions, PlacementReport, Runner
from edge_sdk.errors import EdgeError
from edge_sdk.metrics import Histogram

__all__ = ["AdaptiveRunner", "Guide"]

_log = logging.getLogger(__name__)

JUDGED_EVERY_S = 0.02
"""Requests that follow faster are not judged one by one: nothing changes as fast."""
MOST_PREPARED = 4
REFUSED_FOR_S = 30.0
"""How long a way that could not be prepared is left alone."""


class Guide(Protocol):
    """Knows what each way costs now, and can prepare one."""

    def took(self, key: str, latency_ms: float) -> None:
        """A request that went this way took so long."""

    def next_way(self, able: Callable[[str], bool]) -> str | None:
        """The way to go from now on where that is another than the present one; None while that stays.

        Args:
            able: whether a way may be thought of at all.
        """

    def prepare(self, key: str) -> Runner:
        """Loads what a way needs, and has the endpoint ready.

        Raises:
            EdgeError: it cannot be gone.
        """

    def switched(self, key: str) -> None:
        """The runner goes this way from now on."""

    def close(self) -> None:
        """Nobody asks any more. Idempotent."""


class _Going:
    """One prepared way. `lease` has an entry for each request that goes it."""

    __slots__ = ("key", "lease", "runner", "used_s")

    def __init__(self, key: str, runner: Runner) -> None:
        self.key, self.runner = key, runner
        self.lease: list[None] = []
        self.used_s = monotonic()


class AdaptiveRunner(Runner):
    """Runs a model by whichever prepared way its guide names. All ways have the same inputs and outputs.

    Args:
        first: key of the way to begin with.
        prepared: runners by key; closed with this one. `first` is among them.
        kept: keys that always stay prepared, such as the local way.
        guide: says when to go another way.
        judged_every_s: it is not asked more often.

    Attributes:
        plan_now: gives the plan as it is after the latest switch; None where nobody keeps one.
    """

    engine = "adaptive"

    def __init__(
        self,
        first: str,
        prepared: Mapping[str, Runner],
        kept: frozenset[str],
        guide: Guide,
        judged_every_s: float = JUDGED_EVERY_S,
    ) -> None:
        self._ways = {key: _Going(key, runner) for key, runner in prepared.items()}
        self._now = self._ways[first]
        self._kept, self._guide = kept, guide
        self.plan_now: Callable[[], Any] | None = None
        runner = self._now.runner
        self.model, self.inputs, self.outputs = runner.model, runner.inputs, runner.outputs
        self.optional_inputs = runner.optional_inputs
        self.options, self.queue = LoadOptions(), Histogram()
        self._judging = threading.Lock()
        self._judged_s, self._judged_every_s = 0.0, judged_every_s
        self._preparing: threading.Thread | None = None
        self._refused: dict[str, float] = {}
        self._counting = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._closed = False

    @property
    def key(self) -> str:
        """Of the way that requests go now."""
        return self._now.key

    @property
    def prepared(self) -> Mapping[str, Runner]:
        """All that could be gone at once, by key."""
        return {key: way.runner for key, way in self._ways.copy().items()}

    def counts(self) -> Mapping[str, int]:
        """Requests answered so far, by the way they went."""
        with self._counting:
            return dict(self._counts)

    def run(self, feeds: Mapping[str, Any], out: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """See `Runner.run`."""
        way = self._now
        way.lease.append(None)
        while way is not self._now:  # it may have been put away before it was held
            way.lease.pop()
            way = self._now
            way.lease.append(None)
        alone, began_s = self._preparing is None, perf_counter()
        try:
            outputs = way.runner.run(feeds, out)
        finally:
            way.lease.pop()
        with self._counting:
            self._counts[way.key] += 1
        if alone and self._preparing is None:  # what is prepared beside slows requests: that says nothing of their way
            self._guide.took(way.key, (perf_counter() - began_s) * 1e3)
        self.judge()
        return outputs

    def judge(self) -> None:
        """Goes another way from now on if it is time to. Called after each request, and by whoever hears of the link
        otherwise; never waits."""
        if monotonic() - self._judged_s < self._judged_every_s or not self._judging.acquire(blocking=False):
            return
        try:
            self._judged_s = monotonic()
            key = self._guide.next_way(self._may_go)
            if key is None or self._closed:
                return
            if key in self._ways:
                self._go(self._ways[key])
            elif self._preparing is None:
                self._preparing = threading.Thread(
                    target=self._prepare, args=(key,), name="edge-sdk-prepare", daemon=True
                )
                self._preparing.start()
        finally:
            self._judging.release()

    def _may_go(self, key: str) -> bool:
        return self._refused.get(key, 0.0) <= monotonic()

    def _go(self, way: _Going) -> None:
        self._now.used_s = monotonic()
        self._now = way
        self._guide.switched(way.key)

    def _prepare(self, key: str) -> None:
        try:
            runner = self._guide.prepare(key)
        except EdgeError as error:
            _log.info("%s: %s could not be prepared: %s", self.model, key, error)
            self._refused[key] = monotonic() + REFUSED_FOR_S
        else:
            with self._judging:
                if self._closed:
                    runner.close()
                else:
                    self._ways[key] = _Going(key, runner)
                    self._put_away()
        finally:
            self._preparing = None

    def _put_away(self) -> None:
        """Closes what was gone longest ago where too many are prepared, and no request goes it."""
        idle = [way for key, way in self._ways.items() if key not in self._kept and way is not self._now]
        idle.sort(key=lambda way: way.used_s)
        for way in idle[:-1]:
            if len(self._ways) <= MOST_PREPARED:
                return
            del self._ways[way.key]
            if way.lease:  # a request that began before the switch still goes it
                self._ways[way.key] = way
                continue
            way.runner.close()

    def reset_state(self) -> None:
        """See `Runner.reset_state`."""
        for way in self._ways.copy().values():
            way.runner.reset_state()

    def placement(self) -> PlacementReport:
        """Where the part on this device computes now."""
        return self._now.runner.placement()

    def close(self) -> None:
        """Frees all ways. Idempotent. No request may be in flight."""
        self._closed = True
        self._guide.close()
        preparing = self._preparing
        if preparing is not None and preparing is not threading.current_thread():
            preparing.join()
        with self._judging:
            ways, self._ways = self._ways, {}
        # Those that stay to the end last: what others still finish may go on there.
        for way in sorted(ways.values(), key=lambda way: way.key in self._kept):
            way.runner.close()

"""What each way of a session costs now, from its links, its endpoints and its own answers: the guide of its runner."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from edge_sdk.engines.base import Runner
from edge_sdk.offload.adaptive import AdaptiveRunner
from edge_sdk.offloading.watching import Watching
from edge_sdk.planner.following import Follower, Switch
from edge_sdk.planner.radio import Radio
from edge_sdk.planner.remote import RemotePlace, RemoteWay, cost_of, parts_ms, way_energy_mj

__all__ = ["LOCAL", "LinkGuide", "Pricing", "key_of"]

_log = logging.getLogger(__name__)

LOCAL = "local"
LAST_RESORT = 1e18
"""Staying where the caller would rather not: dearer than all else, and better than no answer."""
FADE = 0.2
"""Weight of the latest request in what is remembered of a way."""
FORGOTTEN = 0.02
"""By how much each request goes back what is remembered of all other ways."""
SHARED = 0.7
"""How much of what a request over a link took beyond its prediction is put down to what all such ways have in common,
the link and the device of this minute: else the others would look better for not being gone."""
UNMEASURED = 1.2
"""A way that was never prepared is taken to cost so many times what is predicted: preparing it slows requests for a
while, and may show that it is no better."""
FARTHEST_OFF = 3.0
"""A prediction is corrected by no more than this: beyond it, it is the link that is not known yet."""


def key_of(way: RemoteWay) -> str:
    """A way as a guide names it."""
    return "/".join(way.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pricing:
    """What to minimise, and what figures besides latency come from.

    Attributes:
        objective: "latency", "energy" or "bytes".
        max_latency_ms: what a request may take; None for any.
        watts: what the device draws while it computes; None where unknown.
        radio: that the link goes over.
    """

    objective: str
    max_latency_ms: float | None
    watts: float | None
    radio: Radio

    def local(self, latency_ms: float) -> float:
        """Cost of a request that stays here."""
        energy_mj = None if self.watts is None else self.watts * latency_ms
        return cost_of(self.objective, latency_ms, energy_mj, 0.0, self.max_latency_ms)

    def remote(self, way: RemoteWay, place: RemotePlace, latency_ms: float) -> float:
        """Cost of a request that goes a way to a place, and is expected to take `latency_ms`."""
        energy_mj = None if self.watts is None else way_energy_mj(way, place, self.watts, self.radio)
        size_bytes = way.up_bytes + way.down_bytes
        return cost_of(self.objective, latency_ms, energy_mj, size_bytes, self.max_latency_ms)


class LinkGuide:
    """Follows links and endpoints for one session; see `edge_sdk.offload.adaptive.Guide`.

    Args:
        ways: gives by key those that are ever best and whichever are prepared, as is known of them now.
        first: key of the way that is gone at first.
        local_ms: what a request takes that stays here, as planned; None where none may.
        places: the endpoints that may be asked, as they are now.
        pricing: what counts.
        slowdown: how much slower the device is now than when a way was measured, as its heads show: 1.0 for no slower.
        remote: whether an endpoint answered the latest request of this thread; what others took says nothing of a way.
        load: prepares a way; `ways` gives it as it was measured from then on.
        tell: hears of each switch: key, cost and what it was instead of.
    """

    def __init__(
        self,
        ways: Callable[[], Mapping[str, RemoteWay]],
        first: str,
        local_ms: float | None,
        places: Callable[[], Sequence[RemotePlace]],
        pricing: Pricing,
        slowdown: Callable[[str], float],
        remote: Callable[[str], bool],
        load: Callable[[str], Runner],
        tell: Callable[[str, Switch[str] | None], None],
    ) -> None:
        self._ways, self._local_ms, self._places, self._pricing = ways, local_ms, places, pricing
        self._slowdown, self._remote = slowdown, remote
        self._load, self._tell = load, tell
        self._follower: Follower[str] = Follower(first)
        self._lock = threading.Lock()
        self._off: dict[str, float] = {}
        self._off_remote = 1.0
        self._seen: Sequence[RemotePlace] = ()
        self._due: Switch[str] | None = None
        self._watching: Watching | None = None

    def costs(self) -> dict[str, float]:
        """Of every way that can be gone now."""
        slower, off = self._slower(), self._off.copy()
        local_ms = self._local_ms
        found = {LOCAL: LAST_RESORT}
        if local_ms is not None:
            found[LOCAL] = self._pricing.local(local_ms * off.get(LOCAL, slower))
        self._seen, ways = self._places(), self._ways()
        for place in self._seen:
            for key, way in ways.items():
                latency_ms = _slowed_ms(way, place, slower) * self._off_remote * off.get(key, 1.0)
                cost = self._pricing.remote(way, place, latency_ms * (1.0 if way.measured else UNMEASURED))
                if math.isfinite(cost) and cost < found.get(key, math.inf):
                    found[key] = cost
        return found

    def _slower(self) -> float:
        """How much slower the device is than when ways were measured: by requests that stay, or the heads of others."""
        current = self._follower.current
        return self._off.get(LOCAL, 1.0) if current == LOCAL else self._slowdown(current)

    def _predicted_ms(self, key: str, slower: float) -> float:
        """Latency of a way, not corrected by what it took so far."""
        if key == LOCAL:
            return self._local_ms or 0.0
        way = self._ways()[key]
        return min((_slowed_ms(way, place, slower) for place in self._seen), default=math.inf)

    def took(self, key: str, latency_ms: float) -> None:
        """See `Guide.took`."""
        if key != LOCAL:
            if not self._remote(key):
                return
            self._seen = self._places()  # what the link was like is told by this very request
        slower = self._slower()
        predicted_ms = self._predicted_ms(key, slower)
        if not 0 < predicted_ms < math.inf:
            return
        ratio = min(max(latency_ms / predicted_ms, 1 / FARTHEST_OFF), FARTHEST_OFF)
        with self._lock:
            # What was seen of a way holds for a while: forgotten at once, the session would go to and fro.
            for other in self._off.keys() - {key}:
                usual = slower if other == LOCAL else 1.0
                self._off[other] += (usual - self._off[other]) * FORGOTTEN
            if key == LOCAL:
                self._off_remote += (1.0 - self._off_remote) * FORGOTTEN
                self._off[key] = self._off.get(key, 1.0) * (1 - FADE) + ratio * FADE
                return
            own = self._off.get(key, 1.0)
            beyond = ratio / (self._off_remote * own)
            self._off_remote *= beyond ** (FADE * SHARED)
            self._off[key] = own * beyond ** (FADE * (1 - SHARED))

    def watch(self, runner: AdaptiveRunner, refresh: Callable[[bool], None]) -> None:
        """Has the links looked after, and the choice with them, while no request does; until `close`.

        Args:
            runner: judged after each look.
            refresh: looks after the links; told whether requests went on since the last time.
        """
        before = 0

        def look() -> None:
            nonlocal before
            count = sum(runner.counts().values())
            refresh(count != before)
            before = count
            runner.judge()

        self._watching = Watching(look)
        self._watching.start()

    def close(self) -> None:
        """See `Guide.close`."""
        if self._watching is not None:
            self._watching.stop()

    def next_way(self, able: Callable[[str], bool]) -> str | None:
        """See `Guide.next_way`."""
        with self._lock:
            costs = {key: cost for key, cost in self.costs().items() if able(key) or key == self._follower.current}
            self._due = self._follower.judge(costs)
            return None if self._due is None else self._due.key

    def prepare(self, key: str) -> Runner:
        """See `Guide.prepare`."""
        return self._load(key)

    def switched(self, key: str) -> None:
        """See `Guide.switched`."""
        self._follower.switched(key)
        self._tell(key, self._due)


def _slowed_ms(way: RemoteWay, place: RemotePlace, slower: float) -> float:
    head_ms, link_ms, endpoint_ms = parts_ms(way, place)
    return head_ms * slower + link_ms + endpoint_ms

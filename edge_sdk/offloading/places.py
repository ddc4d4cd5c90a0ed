"""The endpoints of a session as they are now: links from their traffic, speeds as they tell them."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from edge_sdk.errors import EdgeError, EndpointRefused
from edge_sdk.offloading.trial import asking_empty_ms
from edge_sdk.planner.remote import RemotePlace, RemoteWay
from edge_sdk.wire.deadline import Deadline
from edge_sdk.wire.endpoint import Endpoint
from edge_sdk.wire.probing import Prober, first_look

if TYPE_CHECKING:
    from edge_sdk.offloading.asked import Offload
    from edge_sdk.wire.link_estimate import LinkEstimate

__all__ = ["Places"]

_log = logging.getLogger(__name__)

IDLE_S, MOST_BYTES = 2.0, 32 << 10
"""While requests stay here, links are probed so often, with so much: a better one is found soon, for 2 % of it."""
HEAR_S = 2.0


class Places:
    """What is known of several endpoints. Any number of threads may ask.

    Args:
        offload: endpoints, and a link that is stated instead of theirs.
        whole: name of the whole model there.
        variant: whose work is the whole model's: until a tail is known, it is taken to do its part of it.
        local_ms: what the whole takes on this device.
        asking_ms: tells what a request takes on this device beside its head and packing, as requests lately showed;
            None before any did. Not given where it is another device that will ask.

    Attributes:
        failures: by name of an endpoint why it could not be asked last time.
    """

    def __init__(
        self,
        offload: Offload,
        whole: str,
        variant: str,
        local_ms: float,
        asking_ms: Callable[[], float | None] | None = None,
    ) -> None:
        self._endpoints, self._stated, self._whole, self._variant = offload.endpoints, offload.link, whole, variant
        self._assumed_ms, self._speed = local_ms / offload.speed, offload.speed
        self._tails: dict[str, tuple[str, str, str]] = {}
        self._told: set[tuple[Endpoint, str]] = set()
        self._absent: set[tuple[Endpoint, str]] = set()
        self._prober = Prober(
            () if offload.link is not None else offload.endpoints, idle_s=IDLE_S, most_bytes=MOST_BYTES
        )
        self.failures: dict[str, str] = {}
        self._asking_ms, self._asking_empty_ms = asking_ms, dict[Endpoint, float]()

    def look(self, timeout_s: float) -> None:
        """Has each endpoint's link probed where nothing is known of it, sees what asking takes at least, and asks how
        fast the whole model runs there.

        What cannot be reached in time is no place until it can; `failures` says why.
        """

        def ask(endpoint: Endpoint) -> None:
            deadline = Deadline.after(timeout_s * 1e3)
            if self._stated is None and endpoint.link.estimate() is None:
                first_look(endpoint)
            if self._stated is None and self._asking_ms is not None:
                self._asking_empty_ms[endpoint] = asking_empty_ms(endpoint)
            self._hear(endpoint, self._whole, deadline)

        self._each(ask)

    def refresh(self, busy: bool) -> None:
        """Probes links that nothing went over for a while, and asks endpoints whose speed is not known.

        Args:
            busy: whether requests go on, so that it pays to know.
        """
        self._prober.turn(busy)
        for endpoint in self._endpoints:
            if endpoint.link.estimate() is None:
                continue
            for model in (self._whole, *self._tails):
                if (endpoint, model) not in self._told and endpoint.load.estimate(model) is None:
                    self._tried(endpoint, model)

    def _tried(self, endpoint: Endpoint, model: str) -> None:
        try:
            self._hear(endpoint, model, Deadline.after(HEAR_S * 1e3))
        except EdgeError as error:
            _log.info("%s: %s", endpoint.name, error)

    def learn(self, way: RemoteWay, tail: str, timeout_s: float) -> None:
        """Has the endpoints make a way's tail, where they do that on demand, and asks how fast it runs there."""
        self._each(lambda endpoint: self._hear(endpoint, tail, Deadline.after(timeout_s * 1e3)))
        self._tails[tail] = way.tail_key

    def now(self) -> list[RemotePlace]:
        """Those that may be asked and whose link is known."""
        found = []
        if not self._endpoints and self._stated is not None:
            return [RemotePlace("", self._stated, 0.0, {self._variant: self._assumed_ms}, speed=self._speed)]
        for endpoint in self._endpoints:
            link = self._stated or endpoint.link.estimate()
            if link is None or not endpoint.breaker.admits() or (endpoint, self._whole) in self._absent:
                continue
            found.append(self._as_now(endpoint, link))
        return found

    def all_strangers(self) -> bool:
        """Whether the endpoints that answer have the whole model and tell nothing of how long it takes there, so that
        only requests will show. From then on what they take is part of the figures of their links."""
        told = [one for one in self._endpoints if (one, self._whole) in self._told]
        return bool(told) and all(map(self._is_stranger, told))

    def set_aside(self, why: str) -> None:
        """Strangers are no places any more."""
        for endpoint in filter(self._is_stranger, self._endpoints):
            self._absent.add((endpoint, self._whole))
            self.failures[endpoint.name] = f"{endpoint.name}: model {self._whole!r}: {why}"

    def _is_stranger(self, endpoint: Endpoint) -> bool:
        return (endpoint, self._whole) in self._told and not endpoint.load.tells

    def _as_now(self, endpoint: Endpoint, link: LinkEstimate) -> RemotePlace:
        whole = endpoint.load.estimate(self._whole)  # None for a stranger that was never asked: it is not gone to
        tails_ms: dict[tuple[str, str, str], float] = {}
        queues_ms = [] if whole is None else [whole.queue_ms]
        for tail, key in self._tails.copy().items():
            known = endpoint.load.estimate(tail)
            if (endpoint, tail) in self._absent:
                tails_ms[key] = math.inf
            elif known is not None:
                tails_ms[key] = known.compute_ms
                queues_ms.append(known.queue_ms)
        return RemotePlace(
            endpoint.name,
            link,
            min(queues_ms, default=0.0),
            {} if whole is None else {self._variant: whole.compute_ms},
            tails_ms,
            asking_ms=self._asking_now_ms(endpoint),
        )

    def _asking_now_ms(self, endpoint: Endpoint) -> float:
        known_ms = None if self._asking_ms is None else self._asking_ms()
        return self._asking_empty_ms.get(endpoint, 0.0) if known_ms is None else known_ms

    def _hear(self, endpoint: Endpoint, model: str, deadline: Deadline) -> None:
        try:
            endpoint.load.told(model, endpoint.metadata(model, deadline=deadline).parameters)
        except EndpointRefused as error:
            if error.status == 404:
                self._absent.add((endpoint, model))
            raise
        self._absent.discard((endpoint, model))
        self._told.add((endpoint, model))

    def _each(self, ask: Callable[[Endpoint], None]) -> None:
        def tried(endpoint: Endpoint) -> None:
            try:
                ask(endpoint)
            except EdgeError as error:
                _log.info("%s: %s", endpoint.name, error)
                self.failures[endpoint.name] = str(error)
            else:
                self.failures.pop(endpoint.name, None)

        with ThreadPoolExecutor(max(len(self._endpoints), 1), "edge-sdk-look") as pool:
            list(pool.map(tried, self._endpoints))

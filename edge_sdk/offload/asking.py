"""The ways that one request may go, in which order, and how long each has before the next begins.

    nearest endpoint ── failed ──────────────────────────▶ next endpoint ── … ──▶ local tail
                     └─ late, the next is usually faster
                        than the local tail ─────────────▶ next endpoint beside it ── late ──▶ local tail beside both
                     └─ late otherwise ──────────────────▶ local tail beside it ── failed ──▶ next endpoint

The deadline cuts every patience so short that the local tail can still begin in time.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from edge_sdk.offload.hedge import Way, patience_ms
from edge_sdk.wire.deadline import Deadline
from edge_sdk.wire.endpoint import Endpoint
from edge_sdk.wire.overdue import Transfer

__all__ = ["MOST_AWAY", "Asking", "Transfers", "expected_ms"]

Outputs = Mapping[str, Any]

MOST_AWAY = 16
"""Requests at endpoints at once: more of them, overtaken or not, wait for something that does not answer."""


class Transfers:
    """All that one request has at endpoints, which may be given up from any thread.

    Attributes:
        given_up: whether it was: then nothing more is sent.
    """

    def __init__(self) -> None:
        self.given_up = False
        self._lock = threading.Lock()
        self._all: list[Transfer] = []

    def add(self) -> Transfer:
        """One more; given up at once where the others were."""
        transfer = Transfer()
        with self._lock:
            self._all.append(transfer)
            given_up = self.given_up
        if given_up:
            transfer.give_up()
        return transfer

    def give_up(self) -> None:
        """Ends them. Idempotent."""
        with self._lock:
            self.given_up = True
            every = tuple(self._all)
        for transfer in every:
            transfer.give_up()


class Asking:
    """One request; `next_way` is what `hedged` asks for.

    Args:
        endpoints: that may be asked, the preferred one first.
        tail: its name there.
        size_bytes: of what travels.
        ask: asks one, through a transfer that may be given up.
        local: computes the tail here.
        local_ms: what that takes; None while unknown.
        deadline: of the request.
        first_patience_ms: of an endpoint whose link is unknown.
        transfers: of this request.
        away: of all requests that are at endpoints now.
        spare: whether the local tail may begin as soon as an endpoint is later than usual, where it takes no longer
            than that or late answers have mostly not come on this link; else the endpoint has as long again as is
            usual, or as the local tail takes if that is less, unless the deadline is nearer.

    Attributes:
        due_s: when the latest endpoint becomes late, by the deadline's clock.
        local_begun: whether the local tail was.
    """

    def __init__(
        self,
        endpoints: Iterable[Endpoint],
        tail: str,
        size_bytes: int,
        ask: Callable[[Endpoint, Transfer], Outputs],
        local: Callable[[], Outputs],
        local_ms: float | None,
        deadline: Deadline,
        first_patience_ms: float,
        transfers: Transfers,
        away: set[Transfer],
        spare: bool = True,
    ) -> None:
        self._waiting, self._tail, self._size_bytes = deque(endpoints), tail, size_bytes
        self._ask, self._local, self._local_ms = ask, local, local_ms
        self._deadline, self._first_patience_ms = deadline, first_patience_ms
        self._transfers, self._away = transfers, away
        self._spare = spare
        self._begun = self.local_begun = False
        self.due_s = -math.inf

    def next_way(self, busy: bool) -> Way[Outputs] | None:
        """The way to begin now; None once there is no other.

        Args:
            busy: whether an endpoint is still on its way to an answer: then it is late.
        """
        endpoint = self._next_endpoint(busy)
        if endpoint is not None:
            patience_s = math.inf if self.local_begun else self._patience_ms(endpoint, busy) / 1e3
            self._begun = True
            return self._remote(endpoint, patience_s)
        if self.local_begun:
            return None
        self.local_begun = True
        return Way(self._local, _nothing, math.inf, remote=False)

    def _next_endpoint(self, busy: bool) -> Endpoint | None:
        if not self._waiting or self._transfers.given_up or len(self._away) >= MOST_AWAY:
            return None
        endpoint = self._waiting[0]
        if self._begun and not self.local_begun and not self._worth_asking(endpoint, busy):
            return None
        return self._waiting.popleft()

    def _worth_asking(self, endpoint: Endpoint, busy: bool) -> bool:
        """Whether one more endpoint is asked before the local tail begins: one that is unknown is no help for a request
        that is late already."""
        if self._cut_short_ms(self._first_patience_ms) <= 0:
            return False
        usual_ms = expected_ms(endpoint, self._tail, self._size_bytes)
        return not busy or (usual_ms is not None and self._local_ms is not None and usual_ms < self._local_ms)

    def _patience_ms(self, endpoint: Endpoint, busy: bool) -> float:
        usual_ms = endpoint.link.late_ms(up_bytes=self._size_bytes)
        if usual_ms is None and busy:
            usual_ms = expected_ms(endpoint, self._tail, self._size_bytes)
        if usual_ms is not None and not (self._waiting and self._worth_asking(self._waiting[0], True)):
            local_ms = self._local_ms or 0.0
            # One of twenty is later than usual and comes all the same. A local tail that takes longer than the answer
            # would hardly overtake it, and has the processor that the next requests' heads need. Not so on a link where
            # a late one has mostly meant that the link had changed.
            hopeless = endpoint.link.late_means_changed
            if (local_ms > usual_ms and not hopeless) or not self._spare:
                usual_ms += min(local_ms, usual_ms)
        return self._cut_short_ms(usual_ms)

    def _cut_short_ms(self, usual_ms: float | None) -> float:
        return patience_ms(usual_ms, self._first_patience_ms, self._local_ms, self._deadline.left_s() * 1e3)

    def _remote(self, endpoint: Endpoint, patience_s: float) -> Way[Outputs]:
        transfer = self._transfers.add()
        self._away.add(transfer)
        self.due_s = self._deadline.clock() + patience_s

        def run() -> Outputs:
            try:
                return self._ask(endpoint, transfer)
            finally:
                self._away.discard(transfer)

        return Way(run, transfer.give_up, patience_s, remote=True)


def expected_ms(endpoint: Endpoint, tail: str, size_bytes: int) -> float | None:
    """What a request to an endpoint takes now: the way, queueing and computing; None before its first answer.

    Args:
        endpoint: to ask.
        tail: its name there.
        size_bytes: of what travels there.
    """
    link, load = endpoint.link.estimate(), endpoint.load.estimate(tail)
    if link is None or load is None:
        return None
    return link.transfer_ms(size_bytes, load.down_bytes) + load.queue_ms + load.compute_ms


def _nothing() -> None:
    pass

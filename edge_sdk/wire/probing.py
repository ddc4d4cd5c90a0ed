"""Probes of links that nothing went over for a while: few bytes, and fewer the longer nobody asks.

Requests teach a link all there is to know, so it is only probed while there are none: once at the start, so that the
first request is not sent blindly, and now and then later.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from edge_sdk.errors import DeadlineExceeded, EndpointError
from edge_sdk.wire.deadline import Deadline
from edge_sdk.wire.endpoint import Endpoint

__all__ = ["Prober", "first_look"]

log = logging.getLogger(__name__)

FIRST_BYTES, MOST_FIRST_BYTES, TIMES = 4 << 10, 256 << 10, 4
"""Each way. So many times as many are sent next, until they take long enough to tell the bandwidth."""
TELLING_MS = 40.0
"""Beyond the round trip."""
MOST_TELLING, AGREE = 4, 1.25
"""So many probes that tell at most are made of a link that nothing is known of, until two in a row are as close."""
FIRST_LOOK_MS = 600.0
"""After so long no larger probe is begun, and after twice that none that confirms another."""
PROBE_TIMEOUT_MS, KNOWN_TIMEOUT_MS = 5000.0, 900.0
"""A known link on which a probe takes longer has become worse: that is learnt, and no fault of the endpoint."""
LEAST_BYTES, MOST_BYTES = 3 << 10, 128 << 10
IDLE_S, LONGEST_IDLE_S = 10.0, 300.0


def first_look(endpoint: Endpoint, clock: Callable[[], float] = time.monotonic) -> None:
    """Learns what the link to an endpoint is like: the round trip, then bandwidth by as few bytes as tell it, until two
    probes agree: one alone may have met a hiccup of either machine.

    Raises:
        DeadlineExceeded, EndpointError: it gave no answer.
    """
    _look(endpoint, FIRST_BYTES, MOST_FIRST_BYTES, PROBE_TIMEOUT_MS, clock, MOST_TELLING)


def _look(
    endpoint: Endpoint,
    first_bytes: int,
    most_bytes: int,
    timeout_ms: float,
    clock: Callable[[], float],
    most_telling: int = 1,
) -> None:
    began_s = clock()
    _, rtt_ms = _probed(endpoint, 0, PROBE_TIMEOUT_MS, clock)
    known = endpoint.link.estimate()
    rtt_ms = rtt_ms if known is None else min(rtt_ms, known.rtt_ms)  # it may have opened the connection
    count, told_ms = first_bytes, list[float]()
    while (clock() - began_s) * 1e3 < (2 * FIRST_LOOK_MS if told_ms else FIRST_LOOK_MS):
        carried, took_ms = _probed(endpoint, count, timeout_ms, clock)
        if not carried:
            return
        if took_ms - rtt_ms < TELLING_MS and count < most_bytes:
            count, told_ms = min(count * TIMES, most_bytes), []
            continue
        agree = bool(told_ms) and took_ms <= told_ms[-1] * AGREE and told_ms[-1] <= took_ms * AGREE
        told_ms.append(took_ms)
        if agree or len(told_ms) >= most_telling:
            return


def _probed(endpoint: Endpoint, count: int, timeout_ms: float, clock: Callable[[], float]) -> tuple[bool, float]:
    """Sends `count` bytes each way; whether the endpoint answers such a probe, and how long it took."""
    began_s = clock()
    carried = endpoint.probe(count, count, deadline=Deadline.after(timeout_ms, clock))
    return carried, (clock() - began_s) * 1e3


class Prober:
    """Keeps the links of several endpoints known while nothing goes over them.

    A link is probed once nothing came over it for `idle_s`. While none of them carries requests, pauses double up to
    five minutes: a device that waits for an event must not spend its energy on probes.

    Args:
        endpoints: whose links are kept known.
        idle_s: how long nothing goes over a link before it is probed.
        most_bytes: of one probe, each way.
        clock: seconds.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        *,
        idle_s: float = IDLE_S,
        most_bytes: int = MOST_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._endpoints, self._clock = tuple(endpoints), clock
        self._idle_s, self._most_bytes = idle_s, most_bytes
        self._pause_s = idle_s
        self._requests = 0
        self._next_s = dict.fromkeys(self._endpoints, 0.0)
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begins, with a first look at each endpoint that is not known yet, in a thread of its own. Idempotent."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="edge-sdk-probe", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Begins no other probe. Idempotent."""
        self._ended.set()

    def turn(self, busy: bool = False) -> float:
        """Probes what is due, one after the other.

        Args:
            busy: whether requests go on that might go over these links: then pauses do not grow.

        Returns:
            Seconds until something may be due again.
        """
        requests = sum(known.requests for e in self._endpoints if (known := e.link.estimate()) is not None)
        if busy or requests != self._requests:
            if self._pause_s > 2 * self._idle_s:  # nobody asked for long: what is known of links is old now
                self._next_s = dict.fromkeys(self._endpoints, 0.0)
            self._requests, self._pause_s = requests, self._idle_s
        probed = False
        for endpoint in self._endpoints:
            if endpoint.link.idle_s() >= self._idle_s and self._clock() >= self._next_s[endpoint]:
                probed = True
                self._probe(endpoint)
        if probed:
            self._pause_s = min(self._pause_s * 2, LONGEST_IDLE_S)
        return self._idle_s

    def _probe(self, endpoint: Endpoint) -> None:
        try:
            known = endpoint.link.estimate()
            if known is None:
                first_look(endpoint, self._clock)
            else:
                # As many bytes as take long enough over the link as it was; more where it has become better.
                mbps = min(known.up_mbps or 0.0, known.down_mbps or 0.0)
                count = int(min(max(mbps * 125 * TELLING_MS, LEAST_BYTES), self._most_bytes))
                _look(endpoint, count, self._most_bytes, KNOWN_TIMEOUT_MS, self._clock)
        except (EndpointError, DeadlineExceeded) as error:
            log.info("%s: no answer to a probe: %s", endpoint.name, error)
        self._next_s[endpoint] = self._clock() + self._pause_s

    def _run(self) -> None:
        wait_s = 0.0
        while not self._ended.wait(wait_s):
            wait_s = self.turn()

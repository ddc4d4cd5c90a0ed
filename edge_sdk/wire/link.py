"""What the link to one endpoint is like now, learnt from the requests themselves: no probes, no extra bytes.

A request takes `rtt + bytes * 8 / bandwidth`, apart from what the endpoint computed. Both unknowns come from a line
fitted to (bytes, milliseconds) by least squares, where older requests weigh exponentially less. Requests that are all
of one size cannot tell the two apart: then only the time of such a request is known, and bandwidth is None.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from edge_sdk.wire.recent import Recent

__all__ = ["Link", "LinkEstimate"]

SPREAD = 0.05
"""Sizes must differ by this share of their mean, as a standard deviation, before a slope is believed."""
ENOUGH = 8
"""Requests before the history counts as one: the 95th percentile of fewer is but the largest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkEstimate:
    """A link as it is now.

    Attributes:
        rtt_ms: what a request takes apart from its bytes and from computing at the endpoint.
        bandwidth_mbps: megabits a second, both directions together; None where sizes did not differ enough to tell.
        mean_bytes: mean size of the requests that this comes from, answers included.
        requests: how many were measured in all.
        failure_share: share of the latest requests that got no answer, 0 to 1.
    """

    rtt_ms: float
    bandwidth_mbps: float | None
    mean_bytes: float
    requests: int
    failure_share: float

    def transfer_ms(self, size_bytes: int) -> float:
        """Predicted time of a request with so many bytes in both directions together, without computing."""
        if self.bandwidth_mbps is None:
            # Nothing is known about more bytes than were ever sent, so these are taken to cost in proportion.
            return self.rtt_ms * max(1.0, size_bytes / max(self.mean_bytes, 1.0))
        return self.rtt_ms + size_bytes * 8e-3 / self.bandwidth_mbps


class Link:
    """Estimates one link. Any number of threads may record.

    Args:
        memory: over how many requests the weight of one falls to 1/e.
        kept: how many durations the percentiles are of.
    """

    def __init__(self, memory: int = 32, kept: int = 128) -> None:
        self._fade = 1.0 - 1.0 / max(memory, 2)
        self._lock = threading.Lock()
        self._weight = self._x = self._y = self._xx = self._xy = 0.0
        self._requests = 0
        self._failure_share = 0.0
        self._whole = Recent(kept)

    def record(self, size_bytes: int, duration_ms: float, computing_ms: float = 0.0) -> None:
        """Adds an answered request.

        Args:
            size_bytes: sent and received together.
            duration_ms: from the first byte sent to the last one received.
            computing_ms: what the endpoint says it computed; 0 where it does not say.
        """
        self._whole.record(duration_ms)
        with self._lock:
            self._add(float(size_bytes), max(duration_ms - max(computing_ms, 0.0), 0.0))
            self._requests += 1
            self._failure_share *= self._fade

    def failed(self) -> None:
        """Adds a request that got no answer."""
        with self._lock:
            self._failure_share = self._failure_share * self._fade + (1 - self._fade)

    def outlasted(self, size_bytes: int, duration_ms: float) -> None:
        """Adds a request that was given up after `duration_ms`: it would have taken longer still, so it counts only
        where the estimate says less, and never as one of the history that `late_ms` is of."""
        estimate = self.estimate()
        if estimate is not None and estimate.transfer_ms(size_bytes) < duration_ms:
            with self._lock:
                fade = self._fade
                x = float(size_bytes)
                self._weight, self._x, self._y = (
                    self._weight * fade + 1,
                    self._x * fade + x,
                    self._y * fade + duration_ms,
                )
                self._xx, self._xy = self._xx * fade + x * x, self._xy * fade + x * duration_ms

    def _add(self, x: float, y: float) -> None:
        fade = self._fade
        self._weight = self._weight * fade + 1
        self._x = self._x * fade + x
        self._y = self._y * fade + y
        self._xx = self._xx * fade + x * x
        self._xy = self._xy * fade + x * y

    def late_ms(self, share: float = 0.95) -> float | None:
        """How long `share` of the latest answers took at most; None while there are too few to tell."""
        return self._whole.percentile_ms(share) if len(self._whole) >= ENOUGH else None

    def estimate(self) -> LinkEstimate | None:
        """The link as it is now; None before the first answer."""
        with self._lock:
            if self._weight == 0:
                return None
            mean_x, mean_y = self._x / self._weight, self._y / self._weight
            variance = max(self._xx / self._weight - mean_x * mean_x, 0.0)
            covariance = self._xy / self._weight - mean_x * mean_y
            requests, failure_share = self._requests, self._failure_share
        bandwidth_mbps, rtt_ms = None, mean_y
        if variance**0.5 > SPREAD * mean_x and covariance > 0:
            ms_per_byte = covariance / variance
            if mean_y - ms_per_byte * mean_x < 0:
                ms_per_byte = mean_y / mean_x  # no request takes less than nothing: all of it is the bytes
            bandwidth_mbps = 8e-3 / ms_per_byte
            rtt_ms = max(mean_y - ms_per_byte * mean_x, 0.0)
        return LinkEstimate(
            rtt_ms=rtt_ms,
            bandwidth_mbps=bandwidth_mbps,
            mean_bytes=mean_x,
            requests=requests,
            failure_share=failure_share,
        )

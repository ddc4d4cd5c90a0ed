"""What the link to one endpoint is like now, learnt from the requests themselves.

An exchange takes `rtt + up_bytes * 8 / up_bandwidth + down_bytes * 8 / down_bandwidth`, apart from what the endpoint
queued and computed. Bandwidth to the endpoint comes from how long it received a request, as it tells; bandwidth from it
from how long its answer came in here. Where it does not tell, a line is fitted to bytes and milliseconds; requests that
are all of one size then cannot tell round trip and bandwidth apart, and only the time of such a request is known.

All figures are middles of the latest measurements, older ones weighing less. Three requests in a row that all took far
longer than expected, or all far less, say that the link has changed: what was before is forgotten. Two do where they
are far off, and one where such have mostly been right on this link (`alarms`).
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from edge_sdk.wire.alarms import Alarms
from edge_sdk.wire.faded import KEPT, Middle, weights
from edge_sdk.wire.link_estimate import DOWN_HEAD_BYTES, UP_HEAD_BYTES, LinkEstimate
from edge_sdk.wire.passage import Passage
from edge_sdk.wire.recent import Recent

__all__ = ["Link"]

LEAST_BYTES = 1024
"""Fewer bytes say nothing about bandwidth: they come in one packet, or their time is that of a thread that wakes."""
TELLING_BYTES = 1 << 16
"""From so many on, more bytes weigh no more."""
SPREAD = 0.05
"""Sizes must differ by this share of their mean, as a standard deviation, before a slope is believed."""
CERTAIN = 2.0
"""A slope must be so many of its standard errors above 0."""
ENOUGH = 8
"""Requests before the history counts as one: the 95th percentile of fewer is but the largest."""
CHANGED_SHARE, CHANGED_SPREADS, CHANGED_AFTER = 0.3, 3.0, 3
"""So much off what was expected, so many times in a row: the link is another one."""
TWICE_AS_CLEAR, CLEARLY = 2.0, 2
"""A request that took so many times as long, or as short, counts as so many."""
SAME_BYTES = 1024
"""Requests whose sizes differ by less take as long as each other."""
STEADY_AFTER, ESTIMATED_EVERY = 12, 4
"""After so many requests, and while nothing is far off, the estimate is made anew with every fourth only."""
SLOWEST_MS_PER_BYTE = 8e3
FASTEST_MS_PER_BYTE = 8e-9
_REQUEST_MEMORY = 1.0 - 1.0 / 32


@dataclass(frozen=True, slots=True)
class _Piece:
    """Bytes that one machine saw coming in so many milliseconds."""

    at_s: float
    size_bytes: int
    ms: float


@dataclass(frozen=True, slots=True)
class _Rest:
    """What is left of an exchange without queueing, computing, and the pieces that were seen coming.

    Attributes:
        up_bytes, down_bytes: those whose time is in `ms`.
    """

    at_s: float
    ms: float
    up_bytes: int
    down_bytes: int


class Link:
    """Estimates one link. Any number of threads may record.

    Args:
        kept: how many durations the percentiles are of.
        clock: seconds, as `time.monotonic` gives them.
    """

    def __init__(self, kept: int = 128, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._up: deque[_Piece] = deque(maxlen=KEPT)
        self._down: deque[_Piece] = deque(maxlen=KEPT)
        self._rests: deque[_Rest] = deque(maxlen=KEPT)
        self._off = 0  # how far off requests in a row were: above 0 too slow, below too fast
        self._streak_s, self._streak_bytes = 0.0, 0  # when the first of these was, and of how many bytes
        self._alarms = Alarms()
        self._requests = 0
        self._failure_share = self._packets = self._resent = 0.0
        self._up_head, self._down_head = float(UP_HEAD_BYTES), float(DOWN_HEAD_BYTES)
        self._mean_bytes = 0.0
        self._latest_s = -math.inf
        self._kept: LinkEstimate | None = None
        self._since = 0  # requests since `_kept` was made
        self._whole = Recent(kept)
        self._sizes: deque[int] = deque(maxlen=kept)

    def record(self, passage: Passage, *, usual: bool = True) -> None:
        """Adds an answered request.

        Args:
            passage: what it showed.
            usual: whether it is one of those that `late_ms` is of; a probe is none.
        """
        now_s = self._clock()
        with self._lock:
            if usual:
                self._whole.record(passage.duration_ms)
                self._sizes.append(passage.up_bytes - passage.up_head_bytes)
                first = self._requests == 0
                share = 1.0 if first else 0.2
                self._up_head += share * (passage.up_head_bytes - self._up_head)
                self._down_head += share * (passage.down_head_bytes - self._down_head)
                self._mean_bytes += share * (passage.content_bytes - self._mean_bytes)
                self._requests += 1
            self._add(passage, now_s)
            self._failure_share *= _REQUEST_MEMORY
            self._packets = self._packets * _REQUEST_MEMORY + passage.packets
            self._resent = self._resent * _REQUEST_MEMORY + passage.resent
            self._latest_s = now_s
            self._since += 1
            if self._off or not usual or self._requests < STEADY_AFTER or self._since >= ESTIMATED_EVERY:
                self._kept = None

    def failed(self) -> None:
        """Adds a request that got no answer."""
        with self._lock:
            self._failure_share = self._failure_share * _REQUEST_MEMORY + (1 - _REQUEST_MEMORY)
            self._kept = None

    def outlasted(self, size_bytes: int, duration_ms: float) -> None:
        """Adds a request that was given up after `duration_ms`: it would have taken longer still, so it counts only
        where the estimate says less, and never as one of the history that `late_ms` is of. More bytes than a packet
        holds are taken to be what took so long."""
        estimate = self.estimate()
        if estimate is None or estimate.transfer_ms(size_bytes) >= duration_ms:
            return
        with self._lock:
            now_s = self._clock()
            changed = self._has_changed(duration_ms, size_bytes, 0, now_s)
            if size_bytes >= LEAST_BYTES and duration_ms > estimate.rtt_ms:
                # At least so long: what is measured later must soon outweigh it.
                ms_per_byte = (duration_ms - estimate.rtt_ms) / size_bytes
                self._up.append(_Piece(now_s, LEAST_BYTES, LEAST_BYTES * ms_per_byte))
                self._rests.append(_Rest(now_s, estimate.rtt_ms, 0, 0))
            else:
                self._rests.append(_Rest(now_s, duration_ms, size_bytes, 0))
            if changed:
                self._forget(self._streak_s)
            self._kept = None

    def late_ms(self, share: float = 0.95, up_bytes: int | None = None) -> float | None:
        """How long `share` of the latest answers took at most; None while there are too few to tell.

        Args:
            share: 0 to 1.
            up_bytes: of the tensors sent. Requests of another size then count as if they had been of this one.
        """
        if len(self._whole) < ENOUGH:
            return None
        with self._lock:
            sizes = tuple(self._sizes)
        if up_bytes is None or all(abs(size - up_bytes) < SAME_BYTES for size in sizes):
            return self._whole.percentile_ms(share)
        estimate = self.estimate()
        assert estimate is not None, "requests were recorded"
        this_ms = estimate.transfer_ms(up_bytes)
        asif = Recent(len(sizes))
        for size, duration_ms in zip(sizes, self._whole.latest(), strict=False):
            asif.record(max(duration_ms + this_ms - estimate.transfer_ms(size), 0.0))
        return asif.percentile_ms(share)

    @property
    def late_means_changed(self) -> bool:
        """Whether a single request that takes far too long has mostly meant, on this link, that the next would too."""
        with self._lock:
            return self._alarms.believed

    def idle_s(self) -> float:
        """Seconds since the last answer; infinity before the first."""
        return self._clock() - self._latest_s

    def estimate(self) -> LinkEstimate | None:
        """The link as it is now; None before the first answer."""
        with self._lock:
            if self._kept is None and self._rests:
                self._kept = self._estimated()
            return self._kept

    def _add(self, passage: Passage, now_s: float) -> None:
        rest_ms = passage.duration_ms - passage.queue_ms - passage.compute_ms
        up_bytes, down_bytes = passage.up_bytes, passage.down_bytes
        sizes = up_bytes - passage.up_head_bytes, down_bytes - passage.down_head_bytes
        changed = bool(self._rests) and self._has_changed(max(rest_ms, 0.0), *sizes, now_s)
        if passage.receive_ms is not None and passage.receive_bytes >= LEAST_BYTES:
            self._up.append(_Piece(now_s, passage.receive_bytes, passage.receive_ms))
        if passage.receive_ms is not None:
            rest_ms, up_bytes = rest_ms - passage.receive_ms, up_bytes - passage.receive_bytes
        if passage.answer_bytes >= LEAST_BYTES:
            self._down.append(_Piece(now_s, passage.answer_bytes, passage.answer_ms))
            rest_ms, down_bytes = rest_ms - passage.answer_ms, down_bytes - passage.answer_bytes
        self._rests.append(_Rest(now_s, max(rest_ms, 0.0), max(up_bytes, 0), max(down_bytes, 0)))
        if changed:
            self._forget(self._streak_s)

    def _has_changed(self, taken_ms: float, up_bytes: int, down_bytes: int, now_s: float) -> bool:
        """Whether the latest exchanges, one after the other, say that the link is another than it was; bytes are those
        of tensors."""
        before = self._kept = self._kept or self._estimated()
        expected_ms = before.transfer_ms(up_bytes, down_bytes)
        off, size_bytes = 0, up_bytes + down_bytes
        if abs(taken_ms - expected_ms) > max(CHANGED_SHARE * expected_ms, CHANGED_SPREADS * before.rtt_spread_ms, 1.0):
            off = 1 if taken_ms > expected_ms else -1
            if not 1 / TWICE_AS_CLEAR < taken_ms / max(expected_ms, 1e-9) < TWICE_AS_CLEAR:
                off *= CLEARLY
        alarm = off >= CLEARLY and self._off <= 0
        if off or size_bytes >= self._streak_bytes / 2:  # one of few bytes does not deny that there is less bandwidth
            self._alarms.judge(off, now_s)
            if off * self._off > 0:
                self._off += off
            else:
                self._off, self._streak_s, self._streak_bytes = off, now_s, size_bytes if off else 0
        changed = abs(self._off) >= CHANGED_AFTER or (alarm and self._alarms.believed)
        if alarm:
            self._alarms.raised(now_s, heeded=changed)
        if changed:
            self._off = 0
        return changed

    def _forget(self, until_s: float) -> None:
        """Forgets what was before; of the bandwidths only where something newer tells of one."""
        if any(piece.at_s >= until_s for piece in (*self._up, *self._down)):
            _drop(self._up, until_s)
            _drop(self._down, until_s)
        _drop(self._rests, until_s)
        self._kept = None

    def _estimated(self) -> LinkEstimate:
        now_s = self._clock()
        self._since = 0
        up, down = _ms_per_byte(self._up, now_s), _ms_per_byte(self._down, now_s)
        weighed = weights((rest.at_s for rest in self._rests), now_s)
        up = up or _slope(self._rests, weighed)
        down_ms = down[0] if down is not None else up[0] if up is not None else 0.0
        up_ms = up[0] if up is not None else down_ms
        values = [max(rest.ms - rest.up_bytes * up_ms - rest.down_bytes * down_ms, 0.0) for rest in self._rests]
        rtt = Middle.of(zip(values, weighed, strict=True))
        return LinkEstimate(
            rtt_ms=rtt.value,
            rtt_spread_ms=(rtt.high - rtt.low) / 2,
            up_mbps=None if up is None else 8e-3 / up[0],
            up_spread_mbps=0.0 if up is None else up[1],
            down_mbps=None if down is None else 8e-3 / down[0],
            down_spread_mbps=0.0 if down is None else down[1],
            loss_share=min(self._resent / self._packets, 1.0) if self._packets else 0.0,
            failure_share=self._failure_share,
            requests=self._requests,
            mean_bytes=self._mean_bytes,
            up_head_bytes=round(self._up_head),
            down_head_bytes=round(self._down_head),
        )


def _drop(known: deque[_Piece] | deque[_Rest], until_s: float) -> None:
    while known and known[0].at_s < until_s:
        known.popleft()


def _ms_per_byte(pieces: deque[_Piece], now_s: float) -> tuple[float, float] | None:
    """Milliseconds a byte, and the spread in megabits a second; None where no piece tells."""
    if not pieces:
        return None
    weighed = weights((piece.at_s for piece in pieces), now_s)
    middle = Middle.of(
        (
            min(max(piece.ms / piece.size_bytes, FASTEST_MS_PER_BYTE), SLOWEST_MS_PER_BYTE),
            w * min(piece.size_bytes, TELLING_BYTES),
        )
        for piece, w in zip(pieces, weighed, strict=True)
    )
    return middle.value, (8e-3 / middle.low - 8e-3 / middle.high) / 2


def _slope(rests: Iterable[_Rest], weighed: list[float]) -> tuple[float, float] | None:
    """As `_ms_per_byte`, from how long exchanges of different sizes took; None where they do not tell."""
    xs, ys = [r.up_bytes + r.down_bytes for r in rests], [r.ms for r in rests]
    total = sum(weighed)
    mean_x = sum(w * x for w, x in zip(weighed, xs, strict=True)) / total
    mean_y = sum(w * y for w, y in zip(weighed, ys, strict=True)) / total
    xx = sum(w * (x - mean_x) ** 2 for w, x in zip(weighed, xs, strict=True)) / total
    xy = sum(w * (x - mean_x) * (y - mean_y) for w, x, y in zip(weighed, xs, ys, strict=True)) / total
    if len(xs) < 3 or xx**0.5 <= SPREAD * mean_x or xy <= 0:
        return None
    slope = xy / xx
    yy = sum(w * (y - mean_y) ** 2 for w, y in zip(weighed, ys, strict=True)) / total
    effective = total**2 / sum(w * w for w in weighed)
    error = (max(yy - slope * xy, 0.0) / xx / max(effective - 2, 1.0)) ** 0.5
    if slope < CERTAIN * error:
        return None
    if mean_y < slope * mean_x:
        slope = mean_y / mean_x  # no request takes less than nothing: all of it is the bytes
    slope = min(max(slope, FASTEST_MS_PER_BYTE), SLOWEST_MS_PER_BYTE)
    return slope, 8e-3 / slope * min(error / slope, 1.0)

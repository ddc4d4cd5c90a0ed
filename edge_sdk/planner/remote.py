"""Ways to run with a part of the model at an endpoint: what each costs, and which is best over a link as it is now.

A request takes what computes and encodes here, the way there and back, and queue and computing there:

    latency = head + asking + rtt + up_bytes / up + down_bytes / down + queue + compute

Only the link changes from second to second, and for a given endpoint each way is a straight line over the milliseconds
that a byte takes. So of the many cuts of a model only those few on the lower envelope of the lines are ever best, at
any bandwidth (`ever_best`), and choosing among them takes microseconds (`parts_ms`).

Source: Kang et al., "Neurosurgeon", ASPLOS 2017, for the partition by predicted latency of layers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from edge_sdk.planner.radio import Radio
from edge_sdk.wire.link_estimate import LinkEstimate

__all__ = [
    "Bounds",
    "RemotePlace",
    "RemoteWay",
    "barred_remote",
    "cost_of",
    "ever_best",
    "parts_ms",
    "way_energy_mj",
]

_SPEEDS = (0.25, 1.0, 4.0)
"""An endpoint may be busier or freer than now by so much: ways that are best then are kept too."""
_MISSED = 1e15
_BYTE_BEFORE_MS = 1e6
"""A byte less is worth more than any latency."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteWay:
    """A head here and its tail there, whatever link and endpoint are like.

    Attributes:
        kind: "split", or "offload" where no op runs here.
        variant: which model file is cut.
        cut: id of the cut.
        tensors: what travels.
        sends_input: whether an input of the model is among them.
        codec, coding: how they travel, see `Remote`.
        up_bytes, down_bytes: bodies of request and answer.
        head_ms: what computes and encodes here.
        tail_share: part of the whole's work that the tail does, from 0 to 1.
        decode_share: what decoding at the endpoint takes, as a part of the whole's work.
        accuracy: of answers that came this way; None where nobody measured it.
        leakage: see `Remote`.
        measured: whether head and bytes were measured on this device.
        barred: why it may not be chosen; "" where it may.
    """

    kind: str
    variant: str
    cut: str
    tensors: tuple[str, ...]
    sends_input: bool = False
    codec: str = "none"
    coding: str = "none"
    up_bytes: int
    down_bytes: int
    head_ms: float
    tail_share: float
    decode_share: float = 0.0
    accuracy: float | None = None
    leakage: float | None = None
    measured: bool = False
    barred: str = ""

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What tells it from other ways."""
        return self.variant, self.cut, self.codec, self.coding

    @property
    def tail_key(self) -> tuple[str, str, str]:
        """What tells its tail from others: how bytes are packed is no matter of the tail."""
        return self.variant, self.cut, self.codec


@dataclass(frozen=True, slots=True)
class RemotePlace:
    """An endpoint and the way there, as they are now.

    Attributes:
        endpoint: its name; "" for one that is only described.
        link: the way there.
        queue_ms: what a request waits there before it is computed.
        whole_ms: by variant, what the whole model computes there.
        tails_ms: by `RemoteWay.tail_key`, what that tail computes there, where it is known.
        speed: of one that is only described: how many times as fast as the device it is taken to be.
        asking_ms: what a request to it takes on the device beside its head: the protocol, and threads that wake.
    """

    endpoint: str
    link: LinkEstimate
    queue_ms: float = 0.0
    whole_ms: Mapping[str, float] = field(default_factory=dict)
    tails_ms: Mapping[tuple[str, str, str], float] = field(default_factory=dict)
    speed: float | None = None
    asking_ms: float = 0.0

    def compute_ms(self, way: RemoteWay) -> float:
        """What the tail of `way` computes there; infinite where nothing tells."""
        whole_ms = self.whole_ms.get(way.variant, math.inf)
        told_ms = self.tails_ms.get(way.tail_key)
        if told_ms is None:
            return whole_ms * (way.tail_share + way.decode_share)
        return told_ms + (whole_ms * way.decode_share if way.decode_share and whole_ms < math.inf else 0.0)


def parts_ms(way: RemoteWay, place: RemotePlace) -> tuple[float, float, float]:
    """What a request takes on the device, on the link and at the endpoint."""
    link_ms = place.link.transfer_ms(way.up_bytes, way.down_bytes)
    return way.head_ms + place.asking_ms, link_ms, place.queue_ms + place.compute_ms(way)


def way_energy_mj(way: RemoteWay, place: RemotePlace, watts: float, radio: Radio) -> float:
    """Energy that a request takes from the device, in millijoules: its head, its radio, and waiting for the answer."""
    head_ms, link_ms, endpoint_ms = parts_ms(way, place)
    return head_ms * watts + radio.energy_mj(way.up_bytes, way.down_bytes, link_ms + endpoint_ms)


def ever_best(ways: Iterable[RemoteWay], places: Sequence[RemotePlace]) -> tuple[RemoteWay, ...]:
    """Those that are best at some bandwidth, for some of the endpoints, as fast as now or slower or faster.

    Args:
        ways: any number; barred ones are left out.
        places: endpoints with what they tell of their speed; the bandwidth of their links does not count.
    """
    able = [way for way in ways if not way.barred]
    found: dict[tuple[str, str, str, str], RemoteWay] = {}
    for place in places:
        for speed in _SPEEDS:
            lines = [(way.head_ms + place.compute_ms(way) * speed, way.up_bytes + way.down_bytes) for way in able]
            for at in _lower_envelope(lines):
                found[able[at].key] = able[at]
    return tuple(sorted(found.values(), key=lambda way: (way.up_bytes, way.key)))


def _lower_envelope(lines: Sequence[tuple[float, float]]) -> list[int]:
    """Places of the lines constant + slope · x that are lowest for some x ≥ 0, the steepest first."""
    order = sorted((at for at, line in enumerate(lines) if math.isfinite(line[0])), key=lambda at: lines[at])
    # By constant, then slope: at x = 0 the first is lowest, and only flatter ones can come below it later.
    hull: list[int] = []
    for at in order:
        constant, slope = lines[at]
        if hull and slope >= lines[hull[-1]][1]:
            continue
        while len(hull) >= 2 and _crossing(lines[hull[-2]], (constant, slope)) <= _crossing(
            lines[hull[-2]], lines[hull[-1]]
        ):
            hull.pop()
        hull.append(at)
    return hull


def _crossing(first: tuple[float, float], second: tuple[float, float]) -> float:
    """From which x on the flatter of two lines is lower."""
    return (second[0] - first[0]) / (first[1] - second[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What may leave the device.

    Attributes:
        kinds: of plans that may be chosen: "local", "split", "offload", "cascade".
        keep_input_local: no input of the model may travel, nor what it can be read from as it is.
        max_bytes: that one request may send; None for any.
        max_leakage: share of the input's variance that what travels may give away to a linear decoder; None for any.
        min_accuracy: of answers; None for any.
    """

    kinds: frozenset[str]
    keep_input_local: bool = False
    max_bytes: int | None = None
    max_leakage: float | None = None
    min_accuracy: float | None = None


def barred_remote(way: RemoteWay, bounds: Bounds) -> str:
    """What stands against a way; "" where nothing does."""
    if way.kind not in bounds.kinds:
        return f"{way.kind} is not asked for"
    if bounds.keep_input_local and way.sends_input:
        return "the input must stay on the device" + (
            "" if way.kind == "offload" else ", and can be read from this cut"
        )
    if bounds.max_bytes is not None and way.up_bytes > bounds.max_bytes:
        return f"sends {way.up_bytes:,} bytes, more than max_bytes={bounds.max_bytes:,}"
    if bounds.max_leakage is not None:
        if way.leakage is None:
            return f"nobody measured what it gives away, and max_leakage={bounds.max_leakage:g} must hold"
        if way.leakage > bounds.max_leakage:
            return f"gives away {way.leakage:.0%} of the input, more than max_leakage={bounds.max_leakage:g}"
    if bounds.min_accuracy is not None and way.accuracy is not None and way.accuracy < bounds.min_accuracy:
        return f"accuracy {way.accuracy:.4g} is below min_accuracy={bounds.min_accuracy:g}"
    return way.barred


def cost_of(
    objective: str, latency_ms: float, energy_mj: float | None, size_bytes: float, max_latency_ms: float | None = None
) -> float:
    """One figure to minimise; whatever misses `max_latency_ms` comes behind all that keeps it, the fastest first."""
    if not math.isfinite(latency_ms):
        return math.inf
    if max_latency_ms is not None and latency_ms > max_latency_ms:
        return _MISSED + latency_ms
    if objective == "energy":
        return latency_ms if energy_mj is None else energy_mj
    if objective == "bytes":
        return size_bytes * _BYTE_BEFORE_MS + latency_ms
    return latency_ms

"""Latency of each candidate of a plan at any bandwidth, and who is best where.

A request takes what its head and its endpoint compute, round trips, and the time of its bytes:

    latency = fixed + turns · rtt + slope / bandwidth

so each candidate is a straight line over 1 / bandwidth, a local one a flat line, and those that are ever best are the
lower envelope of these lines. All of it follows from the plan's table and the link it was made for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edge_sdk.errors import InputError
from edge_sdk.planner.plans import Candidate, Plan, Remote
from edge_sdk.wire.link_estimate import DOWN_HEAD_BYTES, UP_HEAD_BYTES

__all__ = ["AssumedLink", "Curve", "Stretch", "assumed_links", "chosen_at", "curves_of", "envelope"]

_MS_PER_BYTE = 8e-3
"""At one megabit a second."""
_MOST_TURNS_LOSSY = 4.0


@dataclass(frozen=True, slots=True)
class AssumedLink:
    """The link that a plan was made for.

    Attributes:
        rtt_ms: round trip.
        up_mbps, down_mbps: megabits a second from and to the device.
        loss_share: of packets, 0 to 1.

    Raises:
        InputError: a figure is out of its range.
    """

    rtt_ms: float
    up_mbps: float
    down_mbps: float
    loss_share: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.rtt_ms) and self.rtt_ms >= 0):
            raise InputError(f"rtt_ms is {self.rtt_ms!r}; expected milliseconds, 0 or more")
        for name in ("up_mbps", "down_mbps"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"{name} is {value!r}; expected megabits a second, more than 0")
        if not 0 <= self.loss_share < 1:
            raise InputError(f"loss_share is {self.loss_share!r}; expected a share from 0 to below 1 (0.01 for 1 %)")


@dataclass(frozen=True, slots=True)
class Curve:
    """A candidate's latency over bandwidth.

    Attributes:
        at: place of the candidate in `Plan.candidates`.
        fixed_ms: whatever the link: computing here and there, encoding, queueing.
        turns: round trips that a request pays for.
        slope: milliseconds times megabits a second that its bytes take; 0 for what stays on the device.
    """

    at: int
    fixed_ms: float
    turns: float = 0.0
    slope: float = 0.0

    def base_ms(self, rtt_ms: float) -> float:
        """What a request takes without the time of its bytes."""
        return self.fixed_ms + self.turns * rtt_ms

    def latency_ms(self, up_mbps: float, rtt_ms: float) -> float:
        """What a request takes over such a link; down follows up in the proportion of the assumed link."""
        return self.base_ms(rtt_ms) + self.slope / up_mbps


@dataclass(frozen=True, slots=True)
class Stretch:
    """Bandwidths at which one curve is the lowest."""

    curve: Curve
    from_mbps: float
    to_mbps: float


def assumed_links(plan: Plan) -> dict[str, AssumedLink]:
    """The links that a plan was made for, by endpoint; without those whose bandwidth nothing tells."""
    found = {}
    for one in plan.links:
        up_mbps, down_mbps = one.up_mbps or one.down_mbps, one.down_mbps or one.up_mbps
        if up_mbps and down_mbps:
            found[one.endpoint] = AssumedLink(one.rtt_ms, up_mbps, down_mbps, one.loss_share)
    return found


def chosen_at(plan: Plan) -> int | None:
    """Place of the chosen candidate in the plan's table; None where it is not in there."""
    for at, candidate in enumerate(plan.candidates):
        way = (plan.variant, plan.engine, plan.accelerator)
        parts = (candidate.kind, candidate.way, candidate.placement, candidate.remote, candidate.cascade)
        if parts == (plan.kind, way, plan.placement, plan.remote, plan.cascade):
            return at
    return None


def curves_of(plan: Plan, link: AssumedLink, links: Mapping[str, AssumedLink] | None = None) -> tuple[Curve, ...]:
    """Curves of all feasible candidates that have figures. At `link` each takes what the table says.

    Where some of what runs on the device was measured, what was only predicted there is left out, for the two are
    not to be compared.

    Args:
        plan: a plan over a link.
        link: it was made for.
        links: by endpoint; the plan's own where None. When bandwidth and round trip of `link` change, theirs change
            in proportion.
    """
    measured_here = any(c.kind == "local" and c.feasible and c.measured is not None for c in plan.candidates)
    first = next((at for at, c in enumerate(plan.candidates) if c.kind == "local" and c.relative == 1.0), None)
    found = []
    links = assumed_links(plan) if links is None else links
    for at, candidate in enumerate(plan.candidates):
        if not candidate.feasible:
            continue
        if candidate.remote is not None:
            theirs = links.get(candidate.remote.endpoint, link)
            curve = _remote_curve(at, candidate, candidate.remote, link, theirs)
        else:
            if candidate.kind == "local" and measured_here and candidate.measured is None:
                continue
            curve = Curve(at, _local_ms(plan, candidate, None if first is None else plan.candidates[first]))
        if all(math.isfinite(figure) for figure in (curve.fixed_ms, curve.turns, curve.slope)):
            found.append(curve)
    return tuple(found)


def envelope(
    curves: Sequence[Curve], rtt_ms: float, least_mbps: float, most_mbps: float, first: int | None = None
) -> tuple[Stretch, ...]:
    """Who is lowest from the least bandwidth to the most.

    Args:
        curves: any number.
        rtt_ms: round trip.
        least_mbps, most_mbps: range of bandwidth.
        first: place of the candidate that stands for all that are as good as it.
    """
    lines = sorted(curves, key=lambda curve: (curve.base_ms(rtt_ms), curve.slope, curve.at != first, curve.at))
    # Over 1 / bandwidth: lowest at 0 is the first, and further on only flatter lines can come below.
    hull: list[tuple[Curve, float]] = []
    for line in lines:
        if hull and line.slope >= hull[-1][0].slope:
            continue
        while hull and (start := _crossing(hull[-1][0], line, rtt_ms)) <= hull[-1][1]:
            hull.pop()
        hull.append((line, start if hull else 0.0))
    stretches = []
    for place, (curve, start) in enumerate(hull):
        end = hull[place + 1][1] if place + 1 < len(hull) else math.inf
        low = max(least_mbps, 0.0 if end == math.inf else 1 / end)
        high = min(most_mbps, math.inf if start == 0 else 1 / start)
        if low < high:
            stretches.append(Stretch(curve, low, high))
    return tuple(reversed(stretches))


def _crossing(steeper: Curve, flatter: Curve, rtt_ms: float) -> float:
    """1 / bandwidth from which on the flatter line is lower."""
    return (flatter.base_ms(rtt_ms) - steeper.base_ms(rtt_ms)) / (steeper.slope - flatter.slope)


def _local_ms(plan: Plan, candidate: Candidate, first: Candidate | None) -> float:
    """Its figure. What was measured in pairs with the first stands to it as it did in the pairs, and what was not
    clearly better there is not drawn as better either."""
    figures = candidate.figures
    if figures is None:
        return math.inf
    paired = candidate.measured is not None and candidate.relative is not None and plan.objective == "latency"
    if paired and first is not None and first.measured is not None:
        return first.measured.latency_ms * max(candidate.relative or 1.0, 1.0)
    return figures.latency_ms


def _remote_curve(at: int, candidate: Candidate, remote: Remote, link: AssumedLink, theirs: AssumedLink) -> Curve:
    up, down = remote.up_bytes + UP_HEAD_BYTES, remote.down_bytes + DOWN_HEAD_BYTES
    bytes_ms = _MS_PER_BYTE * (up / theirs.up_mbps + down / theirs.down_mbps)
    # What the way takes beyond its bytes: a round trip, more where lost packets are sent again.
    beyond_ms = remote.link_ms - bytes_ms
    most = _MOST_TURNS_LOSSY if theirs.loss_share else 1.0
    turns = min(max(beyond_ms / theirs.rtt_ms, 0.0), most) if theirs.rtt_ms else 1.0
    beyond_ms -= turns * theirs.rtt_ms
    there_ms = remote.endpoint_ms + beyond_ms
    # Of a cascade only a share of the requests goes this way, after the small variant answered.
    share, small_ms = (1.0, 0.0) if candidate.cascade is None else (candidate.cascade.share, candidate.cascade.small_ms)
    told_ms = small_ms + share * (remote.head_ms + remote.link_ms + remote.endpoint_ms)
    more_ms = 0.0 if candidate.figures is None else candidate.figures.latency_ms - told_ms
    if link.rtt_ms:
        turns *= theirs.rtt_ms / link.rtt_ms
    else:
        there_ms += turns * theirs.rtt_ms
    return Curve(
        at,
        fixed_ms=max(small_ms + share * (remote.head_ms + there_ms) + more_ms, 0.0),
        turns=share * turns,
        slope=share * bytes_ms * link.up_mbps,
    )

"""The rows that ways over a link have in a plan's table, and the plan that has them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from edge_sdk.planner.plans import Candidate, Figures, LinkFigures, Plan, Remote
from edge_sdk.planner.radio import Radio
from edge_sdk.planner.remote import Bounds, RemotePlace, RemoteWay, barred_remote, parts_ms, way_energy_mj

__all__ = ["SPREAD", "remote_candidate", "with_remote"]

SPREAD = 0.15
"""How far off a prediction over a link may be, as a share, nine times out of ten."""


def remote_candidate(
    way: RemoteWay, place: RemotePlace, plan: Plan, bounds: Bounds, watts: float | None, radio: Radio
) -> Candidate:
    """A way to one endpoint as a row of the table.

    Args:
        way: which.
        place: where, as it is now.
        plan: of the variant on this device: whose engine and placement run the head.
        bounds: what may leave the device.
        watts: that the device draws while it computes; None where unknown.
        radio: that the link goes over.
    """
    head_ms, link_ms, endpoint_ms = parts_ms(way, place)
    latency_ms = head_ms + link_ms + endpoint_ms
    against = barred_remote(way, bounds)
    if not against and latency_ms == float("inf"):
        against = "the endpoint does not tell how fast it is, and nothing else does"
    energy_mj = None if watts is None else way_energy_mj(way, place, watts, radio)
    known = latency_ms < float("inf")
    return Candidate(
        kind=way.kind,
        variant=way.variant,
        engine=plan.engine,
        accelerator=plan.accelerator,
        placement=plan.placement,
        accuracy=way.accuracy,
        feasible=not against,
        predicted=Figures(
            latency_ms=round(latency_ms, 4),
            low_ms=round(latency_ms / (1 + SPREAD), 4),
            high_ms=round(latency_ms * (1 + SPREAD), 4),
            energy_mj=None if energy_mj is None else round(energy_mj, 4),
        )
        if known
        else None,
        remote=Remote(
            endpoint=place.endpoint,
            cut=way.cut,
            tensors=way.tensors,
            codec=way.codec,
            coding=way.coding,
            up_bytes=way.up_bytes,
            down_bytes=way.down_bytes,
            head_ms=round(head_ms, 4),
            link_ms=round(link_ms, 4),
            endpoint_ms=round(endpoint_ms, 4) if known else 0.0,
            leakage=way.leakage,
            measured=way.measured,
        ),
        reason=against,
    )


def with_remote(
    plan: Plan,
    rows: Sequence[Candidate],
    chosen: Candidate,
    reason: str,
    places: Sequence[RemotePlace],
    bounds: Bounds,
) -> Plan:
    """A local plan with the rows over the link added to its table, and whichever was chosen of all.

    Args:
        plan: of what runs on this device alone.
        rows: over the link.
        chosen: one of `plan.candidates` or of `rows`.
        reason: one line.
        places: that it was made for.
        bounds: what may leave the device, and which kinds were asked for.
    """
    local = [*plan.candidates]
    if "local" not in bounds.kinds:
        local = [row if row is chosen else _not_asked(row) for row in local]
    limit, figures = plan.holds.get("max_latency_ms"), chosen.figures
    misses = {*plan.misses} - {"max_latency_ms"}
    if limit is not None and figures is not None and figures.latency_ms > limit:
        misses.add("max_latency_ms")
        reason += f"; {figures.latency_ms:.3g} ms misses max_latency_ms={limit:g}"
    return msgspec.structs.replace(
        plan,
        kind=chosen.kind,
        variant=chosen.variant,
        engine=chosen.engine,
        accelerator=chosen.accelerator,
        placement=chosen.placement,
        accuracy=chosen.accuracy,
        predicted=chosen.predicted,
        measured=chosen.measured,
        remote=chosen.remote,
        links=tuple(_figures(place) for place in places),
        misses=tuple(sorted(misses)),
        reason=reason,
        candidates=(*local, *rows),
        holds={**plan.holds, **_held(bounds)},
    )


def _not_asked(row: Candidate) -> Candidate:
    return msgspec.structs.replace(row, feasible=False, reason=row.reason if not row.feasible else "not asked for")


def _held(bounds: Bounds) -> dict[str, float]:
    named = {"max_bytes": bounds.max_bytes, "max_leakage": bounds.max_leakage}
    held = {name: float(value) for name, value in named.items() if value is not None}
    return held | ({"keep_input_local": 1.0} if bounds.keep_input_local else {})


def _figures(place: RemotePlace) -> LinkFigures:
    link = place.link
    return LinkFigures(
        endpoint=place.endpoint,
        up_mbps=_rounded(link.up_mbps),
        down_mbps=_rounded(link.down_mbps),
        rtt_ms=round(link.rtt_ms, 3),
        loss_share=round(link.loss_share, 5),
        stated=not link.measured,
        speed=place.speed,
    )


def _rounded(mbps: float | None) -> float | None:
    return None if mbps is None else round(mbps, 4)

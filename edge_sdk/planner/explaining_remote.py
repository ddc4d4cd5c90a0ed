"""A plan over a link in words: what staying, splitting and offloading would each take, and what stands against them."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from edge_sdk.planner.plans import Candidate, Plan

__all__ = ["explain_remote", "local_of"]

_NAMES = re.compile(r"\S*\d\S*|none\+\w+|\bfp16\b")
_KINDS = {"split": "a split", "offload": "the whole model elsewhere", "cascade": "a cascade"}


def local_of(plan: Plan) -> Plan:
    """The plan as it was made for the device alone."""
    rows = tuple(row for row in plan.candidates if row.kind == "local")
    if plan.kind == "local":
        return msgspec.structs.replace(plan, candidates=rows)
    alone = msgspec.structs.replace(
        plan, kind="local", candidates=rows, remote=None, cascade=None, predicted=None, measured=None
    )
    own = alone.chosen
    return msgspec.structs.replace(alone, predicted=own.predicted, measured=own.measured)


def explain_remote(plan: Plan) -> list[str]:
    """Lines about the ways over the link; none where the plan has no link."""
    rows = [candidate for candidate in plan.candidates if candidate.remote is not None]
    lines = [_link(plan)] if plan.links else []
    for kind, name in _KINDS.items():
        own = [row for row in rows if row.kind == kind]
        if own:
            lines.append(_best_of(name, own, plan))
    lines += _against(rows)
    lines += _privacy(plan, rows)
    return lines


def _link(plan: Plan) -> str:
    told = []
    for link in plan.links:
        where = link.endpoint or "an endpoint that was only described"
        if link.speed is not None:
            where += f", taken to be {link.speed:g} times as fast as the device"
        rate = "bandwidth unknown" if link.up_mbps is None else f"{link.up_mbps:.3g} Mbit/s up"
        down = "" if link.down_mbps is None else f", {link.down_mbps:.3g} down"
        loss = f", {link.loss_share:.2%} lost" if link.loss_share else ""
        told.append(
            f"{where}: {rate}{down}, {link.rtt_ms:.3g} ms round trip{loss} ({'stated' if link.stated else 'measured'})"
        )
    return f"Planned for {'; '.join(told)}."


def _best_of(name: str, rows: Sequence[Candidate], plan: Plan) -> str:
    able = [row for row in rows if row.feasible and row.predicted is not None]
    if not able:
        return f"{name[0].upper()}{name[1:]}: none may be chosen."
    best = min(able, key=lambda row: row.predicted.latency_ms if row.predicted is not None else float("inf"))
    remote, figures = best.remote, best.predicted
    assert remote is not None and figures is not None
    chosen = " (chosen)" if best is plan.chosen else ""
    if best.cascade is not None:
        return f"Best for {name}{chosen}: {figures.latency_ms:.3g} ms on average; {best.describe()}."
    made = "measured here" if remote.measured else "predicted"
    return (
        f"Best for {name}{chosen}: {figures.latency_ms:.3g} ms = {remote.head_ms:.3g} on the device ({made}) +"
        f" {remote.link_ms:.3g} on the link + {remote.endpoint_ms:.3g} at the endpoint; {remote.describe()}."
    )


def _against(rows: Sequence[Candidate]) -> list[str]:
    """What stands against rows: reasons that differ in names and figures only make one line."""
    alike: dict[str, list[str]] = {}
    for row in rows:
        if not row.feasible and row.reason:
            alike.setdefault(_NAMES.sub("#", row.reason), []).append(row.reason)
    lines = []
    for reasons in sorted(alike.values(), key=len, reverse=True):
        example = "" if len(set(reasons)) == 1 else "for example "
        ways = "1 way" if len(reasons) == 1 else f"{len(reasons)} ways"
        lines.append(f"Ruled out: {ways} over the link: {example}{reasons[0]}.")
    return lines


def _privacy(plan: Plan, rows: Sequence[Candidate]) -> list[str]:
    if not any("must stay on the device" in row.reason for row in rows):
        return []
    lines = ["The input stays on the device. What travels instead was computed from it, and tells something of it."]
    remote = plan.remote
    if remote is None:
        return lines
    if remote.leakage is None:
        lines.append("How much was not measured: build the bundle with --cuts.")
    else:
        lines.append(
            f"A linear decoder rebuilds {remote.leakage:.0%} of the input's variance from it; one that is not linear"
            " may rebuild more."
        )
    return lines

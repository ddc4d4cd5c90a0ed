"""The candidates of a plan over a link as rows of a table, with names, and what stands out among them in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edge_sdk.planner.link_curves import Curve, Stretch
from edge_sdk.planner.link_plot import three_digits
from edge_sdk.planner.plans import Candidate, Plan, Remote

__all__ = ["KINDS", "Row", "about_choice", "leaks", "rank", "rows_of", "stays_local", "where_a_split_pays"]

KINDS = ("local", "split", "offload", "cascade")
NAME_LETTERS = 22
CLEARLY = 0.97
WHOLE_INPUT, RAW = "the whole input", "raw"


@dataclass(frozen=True, slots=True)
class Row:
    """One candidate.

    Attributes:
        at: its place in `Plan.candidates`.
        candidate: itself.
        name: short, for plots and lists.
        place: what tells it from others of its kind.
        travels_as: codec and coding; "" where nothing travels.
        curve: its latency over bandwidth; None where it is ruled out or without figures.
        latency_ms: at the assumed link.
        chosen: whether the plan is this one.
    """

    at: int
    candidate: Candidate
    name: str
    place: str
    travels_as: str
    curve: Curve | None
    latency_ms: float | None
    chosen: bool

    @property
    def up_bytes(self) -> int:
        """What one request sends; the mean where only some go up."""
        remote = self.candidate.remote
        return 0 if remote is None else round(self.share * remote.up_bytes)

    @property
    def both_bytes(self) -> int:
        """What one request sends and receives, likewise."""
        remote = self.candidate.remote
        return 0 if remote is None else round(self.share * (remote.up_bytes + remote.down_bytes))

    @property
    def share(self) -> float:
        """Part of the requests that go where the candidate's `remote` says."""
        return 1.0 if self.candidate.cascade is None else self.candidate.cascade.share

    @property
    def energy_mj(self) -> float | None:
        """Of one request, on the device."""
        energy_mj = None if self.candidate.figures is None else self.candidate.figures.energy_mj
        return energy_mj if energy_mj is not None and math.isfinite(energy_mj) else None

    @property
    def figures_are(self) -> str:
        """Where its latency comes from."""
        if self.candidate.measured is not None:
            return "measured"
        return "" if self.candidate.predicted is None else "predicted"

    @property
    def energy_measured(self) -> bool:
        """Whether that was measured."""
        return self.candidate.figures is not None and self.candidate.figures.energy_measured


def rows_of(plan: Plan, curves: Sequence[Curve], chosen: int | None, up_mbps: float, rtt_ms: float) -> list[Row]:
    """A row for each candidate, in the plan's order."""
    by_place = {curve.at: curve for curve in curves}
    several_variants = len({c.variant for c in plan.candidates}) > 1
    several_endpoints = len({c.remote.endpoint for c in plan.candidates if c.remote is not None}) > 1
    rows = []
    for at, candidate in enumerate(plan.candidates):
        curve = by_place.get(at)
        figures = candidate.figures
        latency_ms = curve.latency_ms(up_mbps, rtt_ms) if curve else None if figures is None else figures.latency_ms
        variant = f"{candidate.variant}, " if several_variants and candidate.cascade is None else ""
        endpoint = candidate.remote.endpoint if candidate.remote is not None and several_endpoints else ""
        place = variant + _place(candidate) + (f", {_short(endpoint)}" if endpoint else "")
        travels_as = "" if candidate.remote is None else _coded(candidate.remote)
        name = _name(candidate, place, travels_as)
        rows.append(Row(at, candidate, name, place, travels_as, curve, latency_ms, at == chosen))
    return rows


def rank(rows: Sequence[Row], plan: Plan) -> list[Row]:
    """Rows with a curve, best first by the plan's objective; what misses a latency to hold comes behind."""
    limit = plan.holds.get("max_latency_ms")

    def cost(row: Row) -> tuple[bool, float, float, bool]:
        latency_ms = row.latency_ms or 0.0
        missed = limit is not None and latency_ms > limit
        first = latency_ms
        if plan.objective == "bytes":
            first = row.both_bytes
        elif plan.objective == "energy" and row.energy_mj is not None:
            first = row.energy_mj
        return missed, latency_ms if missed else first, latency_ms, not row.chosen

    return sorted((row for row in rows if row.curve is not None), key=cost)


def about_choice(rows: Sequence[Row], stretches: Sequence[Stretch], chosen: int | None, rtt_ms: float) -> list[str]:
    """Sentences on the chosen candidate: where it stays the fastest, and what would be faster here all the same.

    Args:
        rows: all of them.
        stretches: the envelope.
        chosen: place of the chosen one; None where it is not in the table.
        rtt_ms: round trip that the stretches are for.
    """
    if chosen is None or (latency_ms := rows[chosen].latency_ms) is None:
        return []
    mine = next((stretch for stretch in stretches if stretch.curve.at == chosen), None)
    if mine is not None and len(stretches) > 1:
        span = f"{three_digits(mine.from_mbps)} to {three_digits(mine.to_mbps)} Mbit/s"
        return [f"At a round trip of {three_digits(rtt_ms)} ms the choice is the fastest from {span}."]
    able = [row for row in rows if row.curve is not None and row.latency_ms is not None]
    fastest = min(able, key=lambda row: row.latency_ms or 0.0, default=None)
    if fastest is None or fastest.latency_ms is None or fastest.latency_ms > CLEARLY * latency_ms:
        return []
    return [
        f"Faster at this link would be {fastest.name}: {three_digits(fastest.latency_ms)} ms, "
        f"where the choice takes {three_digits(latency_ms)} ms."
    ]


def where_a_split_pays(stretches: Sequence[Stretch], kinds: Sequence[str]) -> str:
    """One sentence.

    Args:
        stretches: of the envelope, by rising bandwidth.
        kinds: of the candidate of each.
    """
    runs: list[tuple[str, float, float]] = []
    for stretch, kind in zip(stretches, kinds, strict=True):
        if runs and runs[-1][0] == kind:
            runs[-1] = (kind, runs[-1][1], stretch.to_mbps)
        else:
            runs.append((kind, stretch.from_mbps, stretch.to_mbps))
    if not runs:
        return "No candidate has figures, so nothing can be drawn."
    least, most = runs[0][1], runs[-1][2]
    if len(runs) == 1:
        span = f"{three_digits(least)} to {three_digits(most)} Mbit/s"
        always = f"{_KIND_WORDS[runs[0][0]].capitalize()} is the fastest at any bandwidth from {span}"
        return always + ("." if runs[0][0] == "split" else ": a split does not pay.")
    told = []
    for kind, low, high in runs:
        if low == least:
            told.append(f"{_KIND_WORDS[kind]} is the fastest below {three_digits(high)} Mbit/s")
        elif high == most:
            told.append(f"{_KIND_WORDS[kind]} above {three_digits(low)}")
        else:
            told.append(f"{_KIND_WORDS[kind]} from {three_digits(low)} to {three_digits(high)}")
    sentence = ", ".join(told)
    sentence = sentence[0].upper() + sentence[1:]
    return sentence + ("." if any(kind == "split" for kind, _, _ in runs) else ": a split does not pay.")


def stays_local(plan: Plan) -> bool:
    """Whether the plan was made so that inputs stay on the device."""
    return bool(plan.holds.get("keep_input_local")) or any(
        not c.feasible and "input must stay" in c.reason for c in plan.candidates
    )


def leaks(rows: Sequence[Row]) -> list[Row]:
    """One row for each cut with a leakage figure, the least first."""
    found: dict[tuple[str, str], Row] = {}
    for row in rows:
        remote = row.candidate.remote
        if remote is not None and remote.leakage is not None:
            key = row.candidate.variant, remote.cut
            if key not in found or row.chosen:
                found[key] = row
    return sorted(found.values(), key=lambda row: _leakage(row.candidate))


_KIND_WORDS = {
    "local": "staying on the device",
    "split": "a split",
    "offload": "sending the whole input",
    "cascade": "a cascade",
}


def _leakage(candidate: Candidate) -> float:
    return 0.0 if candidate.remote is None else candidate.remote.leakage or 0.0


def _place(candidate: Candidate) -> str:
    """What tells it from others of its kind, without how it travels."""
    remote, parts = candidate.remote, candidate.cascade
    if parts is not None:
        return f"{_short(parts.small)}, {parts.share:.0%} to {_short(parts.big)}"
    if remote is None:
        threads = candidate.placement.threads
        accelerator = "" if candidate.accelerator == "cpu" else f" on {candidate.accelerator}"
        count = "" if threads is None else f", {threads} thread{'s' * (threads != 1)}"
        placed = "" if candidate.placement.cpus is None else f" on {candidate.placement.label}"
        return f"{candidate.engine}{accelerator}{count}{placed}"
    if candidate.kind == "offload":
        return WHOLE_INPUT
    if not remote.tensors:
        return remote.cut
    more = "" if len(remote.tensors) == 1 else f" +{len(remote.tensors) - 1}"
    return _short(remote.tensors[0]) + more


def _name(candidate: Candidate, place: str, travels_as: str) -> str:
    if candidate.remote is None or candidate.cascade is not None:
        return f"{candidate.kind}: {place}" + (f" as {travels_as}" if candidate.remote is not None else "")
    at = place.replace(WHOLE_INPUT, "").strip(", ") if candidate.kind == "offload" else f"at {place}"
    return f"{candidate.kind} {at}".strip() + (f" as {travels_as}" if travels_as != RAW else f", {RAW}")


def _coded(remote: Remote) -> str:
    parts = [part for part in (remote.codec, remote.coding) if part != "none"]
    return "+".join(parts) or RAW


def _short(name: str) -> str:
    if len(name) <= NAME_LETTERS:
        return name
    return f"{name[: NAME_LETTERS // 2 - 1]}…{name[-(NAME_LETTERS // 2) :]}"

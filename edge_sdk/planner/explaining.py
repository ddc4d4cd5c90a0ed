"""A plan in words: why the winner won, what came next, what was ruled out, and what would change the choice."""

from __future__ import annotations

from collections.abc import Sequence

from edge_sdk.planner.explaining_remote import explain_remote, local_of
from edge_sdk.planner.plans import Candidate, Figures, Plan
from edge_sdk.planner.reasons import what

__all__ = ["explain"]

TIE = 1.03


def explain(plan: Plan) -> tuple[str, ...]:
    """Lines for a person. Made from the plan alone, so that a kept or sent one can be explained too."""
    if plan.links:
        return (f"{plan.reason}.", *explain_remote(plan), "On the device alone:", *_explain_local(local_of(plan)))
    return _explain_local(plan)


def _explain_local(plan: Plan) -> tuple[str, ...]:
    several = len({candidate.variant for candidate in plan.candidates}) > 1
    chosen = plan.chosen
    lines = [_verdict(plan, chosen, several)]
    if rival := _rival(plan, chosen):
        lines.append(_against(plan, rival, several))
    lines += _other_variants(plan, chosen)
    lines += _ruled_out(plan)
    lines += _what_would_change(plan, chosen, several)
    lines += _how_sure(plan, chosen)
    return tuple(lines)


def _cost(plan: Plan, figures: Figures) -> float:
    if plan.objective == "energy" and figures.energy_mj is not None:
        return figures.energy_mj
    return figures.latency_ms


def _costs(plan: Plan, candidates: Sequence[Candidate]) -> list[tuple[float, Candidate]]:
    """Candidates with what they cost over the chosen one; what was measured and what was predicted are never mixed."""
    found = []
    for candidate in candidates:
        if plan.measured is not None:
            if candidate.relative is not None:
                found.append((candidate.relative, candidate))
        elif candidate.predicted is not None and plan.predicted is not None:
            found.append((_cost(plan, candidate.predicted) / _cost(plan, plan.predicted), candidate))
    return sorted(found, key=lambda pair: pair[0])


def _rival(plan: Plan, chosen: Candidate) -> Candidate | None:
    others = [c for c in plan.candidates if c.feasible and c is not chosen]
    ranked = _costs(plan, others)
    return ranked[0][1] if ranked else None


def _figure(plan: Plan, candidate: Candidate) -> str:
    figures = candidate.measured if plan.measured is not None else candidate.predicted
    if figures is None:
        return "without a figure"
    told = f"{figures.latency_ms:.3g} ms"
    if plan.objective == "energy" and figures.energy_mj is not None:
        told += f", {figures.energy_mj:.3g} mJ ({'measured' if figures.energy_measured else 'an estimate'})"
    return told


def _verdict(plan: Plan, chosen: Candidate, several: bool) -> str:
    kind = "measured" if plan.measured is not None else "predicted" if plan.predicted is not None else "not measured"
    line = f"{what(chosen, several)} was chosen for {plan.objective}: {_figure(plan, chosen)} {kind}"
    if plan.accuracy is not None:
        line += f", accuracy {plan.accuracy:.4g}"
    for miss in plan.misses:
        line += f"; {miss}={plan.holds[miss]:g} is not kept"
    return line + "."


def _against(plan: Plan, rival: Candidate, several: bool) -> str:
    times, _ = _costs(plan, [rival])[0]
    name = f"{what(rival, several)} ({_figure(plan, rival)})"
    if times < 1:
        if plan.holds.get("max_latency_ms") is not None and plan.objective != "latency":
            return f"{name} costs less and does not keep the constraints."
        return f"{name} looked as good and was not clearly better in pairs: noise decides below a few percent."
    if times <= TIE:
        return f"{name} is as good within what can be told apart."
    return f"Next came {name}: {times:.2f} times as much."


def _other_variants(plan: Plan, chosen: Candidate) -> list[str]:
    lines = []
    for variant in dict.fromkeys(c.variant for c in plan.candidates if c.variant != chosen.variant):
        ways = [c for c in plan.candidates if c.variant == variant and c.feasible]
        ranked = _costs(plan, ways)
        if not ranked:
            why = next((c.reason for c in ways if c.reason), "")
            if ways and why:
                lines.append(f"Variant {variant}: {why}.")
            continue
        times, best = ranked[0]
        accuracy = "" if best.accuracy is None else f", accuracy {best.accuracy:.4g}"
        lines.append(f"Variant {variant}: {times:.2f} times as much at its best{accuracy}.")
    return lines


def _ruled_out(plan: Plan) -> list[str]:
    reasons: dict[str, list[str]] = {}
    for candidate in plan.candidates:
        if not candidate.feasible:
            where = f" on {candidate.accelerator}" if candidate.accelerator != "cpu" else ""
            engine = f" with {candidate.engine}{where}" if candidate.engine else ""
            names = reasons.setdefault(candidate.reason, [])
            if (name := f"{candidate.variant}{engine}") not in names:
                names.append(name)
    return [f"Ruled out: {', '.join(names)}: {reason}." for reason, names in reasons.items()]


def _what_would_change(plan: Plan, chosen: Candidate, several: bool) -> list[str]:
    lines = []
    floor = plan.holds.get("min_accuracy")
    if floor is not None and (barred := _nearest_below(plan, floor)) is not None:
        expected = ""
        if barred.predicted is not None and plan.predicted is not None:
            expected = (
                f", predicted to take {_cost(plan, barred.predicted) / _cost(plan, plan.predicted):.2f} times as much"
            )
        lines.append(f"A min_accuracy of {barred.accuracy:.4g} or less would let {barred.variant} in{expected}.")
    if "rate_hz" not in plan.holds and plan.measured is not None and _threads_differ(plan):
        lines.append("Requests paced as a camera makes them may rank the thread counts differently: state --rate.")
    unmeasured = [c for c in plan.candidates if c.feasible and c.measured is None and "budget" in c.reason]
    if unmeasured:
        lines.append(
            f"{len(unmeasured)} candidates were not measured for want of time: a larger budget may find better."
        )
    if chosen.accuracy is None and several:
        lines.append("No variant has a figure for accuracy: build the bundle with --evaluate to hold one.")
    if not lines:
        lines.append("Other engine versions, frequency limits or CPUs would: the plan is made anew when they change.")
    return lines


def _nearest_below(plan: Plan, floor: float) -> Candidate | None:
    below = [c for c in plan.candidates if c.accuracy is not None and c.accuracy < floor]
    return max(below, key=lambda c: c.accuracy or 0.0, default=None)


def _threads_differ(plan: Plan) -> bool:
    return len({c.placement.threads for c in plan.candidates if c.measured is not None}) > 1


def _how_sure(plan: Plan, chosen: Candidate) -> list[str]:
    if plan.measured is None:
        figures = plan.predicted
        if figures is None or figures.low_ms is None or figures.high_ms is None:
            return []
        return [f"The prediction expects between {figures.low_ms:.3g} and {figures.high_ms:.3g} ms; run it to know."]
    count = sum(c.measured is not None for c in plan.candidates)
    line = f"{count} candidates were measured in pairs"
    if plan.confidence is not None:
        line += f"; the choice is right with a confidence of {plan.confidence:.0%}"
    if chosen.predicted is not None and chosen.measured is not None:
        line += f"; {chosen.predicted.latency_ms:.3g} ms had been predicted"
    return [line + "."]

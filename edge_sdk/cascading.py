"""A cascade in the place of a big variant, where the bundle holds one that keeps the accuracy and takes less time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from edge_sdk.engines.base import Runner
from edge_sdk.errors import EdgeError
from edge_sdk.offloading.timing import timed_ms
from edge_sdk.planner.plans import Candidate, Escalation, Figures, Plan

if TYPE_CHECKING:
    from edge_sdk.bundle import Cascade
    from edge_sdk.planner import Variant

__all__ = ["cascaded"]

_log = logging.getLogger(__name__)

WORTH = 0.95
"""A cascade must take this part of the big one's time at most, on average."""


def cascaded(
    name: str,
    big: Runner,
    plan: Plan,
    variants: Sequence[Variant],
    load: Callable[[Variant], Runner],
    min_accuracy: float | None,
) -> tuple[Runner, Plan]:
    """Puts the best cascade of the chosen variant before it, where one pays; otherwise what was given.

    Early exits are left to whoever splits the model there: a variant whose exit answers is no runner of its own here.

    Args:
        name: of the model, for messages.
        big: runs the variant that `plan` names, here or with endpoints; the cascade's runner closes it.
        plan: with figures of `big`.
        variants: all of the model.
        load: loads a small variant as the session would.
        min_accuracy: what answers must reach; None for any.
    """
    by_name = {variant.name: variant for variant in variants}
    # The small ones are timed now, so what they are compared with is too; not over a link, whose requests cost bytes.
    if plan.kind == "local" or plan.figures is None:
        big_ms = timed_ms(big)
    else:
        big_ms = plan.figures.latency_ms
    rows: list[Candidate] = []
    best: tuple[float, Runner, Cascade, Candidate] | None = None
    for cascade in by_name[plan.variant].cascades:
        if cascade.exit or cascade.small not in by_name:
            continue
        try:
            small = load(by_name[cascade.small])
        except EdgeError as error:
            _log.info("%s: cascade with %s: %s", name, cascade.small, error)
            continue
        row = _row(cascade, plan, timed_ms(small), big_ms, min_accuracy)
        rows.append(row)
        mean_ms = row.predicted.latency_ms if row.feasible and row.predicted is not None else float("inf")
        if mean_ms < (big_ms * WORTH if best is None else best[0]):
            if best is not None:
                best[1].close()
            best = mean_ms, small, cascade, row
        else:
            small.close()
    table = msgspec.structs.replace(plan, candidates=(*plan.candidates, *rows))
    return (big, table) if best is None else _opened(best[1], big, best[2], best[3], table)


def _row(cascade: Cascade, plan: Plan, small_ms: float, big_ms: float, min_accuracy: float | None) -> Candidate:
    mean_ms = small_ms + cascade.escalated_share * big_ms
    accuracy = None if cascade.metric == "agreement" else cascade.accuracy
    against = ""
    if min_accuracy is not None and (accuracy is None or accuracy < min_accuracy):
        told = "nobody measured its accuracy" if accuracy is None else f"its accuracy {accuracy:.4g} is below"
        against = f"{told}, and min_accuracy={min_accuracy:g} must hold"
    elif mean_ms > big_ms * WORTH:
        against = f"does not pay: {mean_ms:.3g} ms on average, {big_ms:.3g} ms without"
    return Candidate(
        kind="cascade",
        variant=cascade.big,
        engine=plan.engine,
        accelerator=plan.accelerator,
        placement=plan.placement,
        accuracy=accuracy,
        feasible=not against,
        predicted=Figures(latency_ms=round(mean_ms, 4)),
        remote=plan.remote,
        cascade=Escalation(
            small=cascade.small,
            big=cascade.big,
            score=cascade.score,
            threshold=cascade.threshold,
            share=cascade.escalated_share,
            small_ms=round(small_ms, 4),
            big_ms=round(big_ms, 4),
            big_kind=plan.kind,
        ),
        reason=against,
    )


def _opened(small: Runner, big: Runner, cascade: Cascade, row: Candidate, plan: Plan) -> tuple[Runner, Plan]:
    from edge_sdk.offload.cascade import CascadeRunner
    from edge_sdk.offload.gate import gate_of

    assert row.predicted is not None and row.cascade is not None
    reason = (
        f"{row.describe()}: {row.predicted.latency_ms:.3g} ms on average against {row.cascade.big_ms:.3g} ms without,"
        f" accuracy {cascade.accuracy:.4g} on held-out data; the big one: {plan.reason}"
    )
    made = msgspec.structs.replace(
        plan,
        kind="cascade",
        cascade=row.cascade,
        accuracy=row.accuracy,
        predicted=row.predicted,
        measured=None,
        reason=reason,
    )
    return CascadeRunner(small, big, gate_of(cascade)), made

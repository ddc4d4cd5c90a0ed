"""From answers of a small and a big model to the gate between them: the threshold that holds a stated accuracy."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
import numpy as np

from edge_sdk.bundle import Cascade
from edge_sdk.errors import CompressionError, InputValueError
from edge_sdk.measuring.proportions import mean_at_most, share_at_least, share_at_most
from edge_sdk.offload.gate import SCORES, confidences, form_of, rows_of
from edge_sdk.tensors import Array

__all__ = ["Answers", "calibrated", "is_held_out"]

_STEPS = 128


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What a small and a big model said to the same samples.

    Attributes:
        scores: by sample the small one's class scores as real numbers; one row or several.
        small, big: float64 (n,), how right each was on a sample, 0 to 1: with classes 0 or 1. Without labels `big` is 1
            and `small` whether it said the same.
        held_out: bool (n,): samples that the choice must not see; see `is_held_out`.

    Raises:
        InputValueError: they are not as many of each, or figures are not from 0 to 1.
    """

    scores: Sequence[Array]
    small: Array
    big: Array
    held_out: Array

    def __post_init__(self) -> None:
        counts = {len(self.scores), len(self.small), len(self.big), len(self.held_out)}
        if len(counts) > 1 or not len(self.scores):
            raise InputValueError(
                f"answers to {', '.join(map(str, sorted(counts)))} samples; expected one of each a sample"
            )
        for figures in (self.small, self.big):
            if not ((figures >= 0) & (figures <= 1)).all():
                raise InputValueError("a sample was answered by less than 0 or more than 1; expected a share of right")


def is_held_out(feeds: Mapping[str, Any]) -> bool:
    """Whether a sample is one of those that are held out: every third one by its hash.

    The same sample is on the same side wherever it stands, and copies of it are too.
    """
    digest = hashlib.sha256()
    for name in sorted(feeds):
        array = np.ascontiguousarray(feeds[name])
        digest.update(f"{name} {array.dtype} {array.shape} ".encode())
        digest.update(repr(array.tolist()).encode() if array.dtype == object else array.tobytes())
    return digest.digest()[0] % 3 == 0


def calibrated(
    answers: Answers,
    *,
    output: str,
    small: str = "small",
    big: str = "big",
    metric: str = "top-1",
    data: str = "",
    max_drop: float = 0.01,
    risk: float = 0.05,
    scores: Sequence[str] = SCORES,
    latencies_ms: tuple[float, float] | None = None,
) -> Cascade:
    """The score and threshold that send the fewest requests to the big model while the accuracy holds.

    For each score the threshold comes down from the strictest, as long as an upper bound on the true drop is within
    `max_drop`, and stops at the first that is not: such a sequence of tests needs no correction for their number
    (Angelopoulos et al., "Learn then Test", 2021, section 4). The bound on classes is that of Clopper and Pearson, on
    other figures the empirical Bernstein bound; the risk is shared by the scores. The winner is then judged on samples
    that the choice did not see.

    Args:
        answers: of both.
        output: the output that holds the class scores.
        small, big: names of the two.
        metric, data: what the figures are of, for the record.
        max_drop: how much less than the big one's the accuracy may be.
        risk: probability that the true drop is larger.
        scores: among which to choose; see `Gate`.
        latencies_ms: of a request to the small one and to the big one, to tell whether it pays; None where unknown.

    Raises:
        CompressionError: no threshold holds the bound (too few samples, or a small model that is wrong where it is
            sure), it does not hold on held-out samples, or it does not pay. The message says which, with figures.
        InputValueError: an argument is none that can be.
    """
    if not (0 < max_drop < 1 and 0 < risk < 1):
        raise InputValueError(f"max_drop is {max_drop!r} and risk {risk!r}; expected shares above 0 and below 1")
    where = f"cascade of {small} and {big}"
    seen, unseen = ~answers.held_out, answers.held_out
    if not seen.any() or not unseen.any():
        raise CompressionError(
            f"{where}: {len(seen)} samples cannot be divided into some to choose by and some held out"
        )
    rows, firsts = _joined(answers.scores, where)
    form = form_of(rows)
    usable = [score for score in scores if score != "energy" or form == "logits"]
    sure = {name: np.minimum.reduceat(confidences(rows, name, form), firsts) for name in usable}
    lost = answers.big - answers.small
    steps = {name: _lowest(sure[name][seen], lost[seen], max_drop, risk / len(usable)) for name in usable}
    best = max(usable, key=lambda name: steps[name].answered)
    if not steps[best].answered:
        raise CompressionError(f"{where}: {_why_none(lost[seen], max_drop, risk / len(usable))}")
    stands = sure[best] >= steps[best].threshold
    together = np.where(stands, answers.small, answers.big)
    made = Cascade(
        small=small,
        big=big,
        output=output,
        score=best,
        form=form,
        threshold=steps[best].threshold,
        metric=metric,
        max_drop=max_drop,
        risk=risk,
        accuracy=float(together[unseen].mean()),
        small_accuracy=float(answers.small[unseen].mean()),
        big_accuracy=float(answers.big[unseen].mean()),
        escalated_share=float(1 - stands[unseen].mean()),
        samples=int(seen.sum()),
        held_out=int(unseen.sum()),
        data=data,
    )
    return _worth_it(made, latencies_ms, where)


def _joined(scores: Sequence[Array], where: str) -> tuple[Array, Array]:
    """The rows of all samples one below the other, and where each sample begins."""
    each = [rows_of(array) for array in scores]
    if len({rows.shape[1] for rows in each}) > 1 or not all(rows.size for rows in each):
        raise CompressionError(f"{where}: the number of classes is not the same for all samples; expected class scores")
    return np.concatenate(each), np.cumsum([0, *(len(rows) for rows in each[:-1])])


class _Step(NamedTuple):
    """The last threshold that held, and how many samples are answered with it."""

    threshold: float
    answered: int


def _lowest(sure: Array, lost: Array, max_drop: float, risk: float) -> _Step:
    """The lowest threshold down to which the bound holds everywhere.

    Args:
        sure: score by sample.
        lost: how much worse than the big one the small one is on each, -1 to 1.
    """
    order = np.argsort(-sure, kind="stable")
    ranked, losses = sure[order], lost[order]
    held = _Step(float("inf"), 0)
    for answered in _steps(ranked):
        drop = np.concatenate([losses[:answered], np.zeros(len(losses) - answered)])
        if not _at_most(drop, risk) <= max_drop:
            break
        below = ranked[answered] if answered < len(ranked) else ranked[-1]
        # Halfway to the next sample: another engine's rounding then changes no sample's side.
        middle = (ranked[answered - 1] + below) / 2
        held = _Step(float(middle if np.isfinite(middle) else ranked[answered - 1]), answered)
    return held


def _steps(ranked: Array) -> Iterator[int]:
    """How many of the surest samples are answered, fewest first: at most `_STEPS` counts, none between equal scores."""
    count = int(np.isfinite(ranked).sum())
    ends = [place for place in range(1, count + 1) if place == count or ranked[place - 1] != ranked[place]]
    stride = -(-len(ends) // _STEPS)
    yield from ends[stride - 1 :: stride]


def _at_most(drop: Array, risk: float) -> float:
    """Upper bound on the true mean of the drop."""
    harm, gain = int((drop > 0).sum()), int((drop < 0).sum())
    if not np.isin(drop, (-1, 0, 1)).all():
        return mean_at_most(drop, -1, 1, risk)
    if not gain:
        return share_at_most(harm, drop.size, risk)
    return share_at_most(harm, drop.size, risk / 2) - share_at_least(gain, drop.size, risk / 2)


def _why_none(lost: Array, max_drop: float, risk: float) -> str:
    least = int(np.ceil(np.log(risk) / np.log1p(-max_drop)))
    if lost.size < least:
        return (
            f"{lost.size} samples to choose by cannot show that a drop is within {max_drop:g}; give {least * 3 // 2}"
            " samples or more, or a larger max_drop"
        )
    return (
        f"even where the small one is surest it is wrong too often for a drop within {max_drop:g} (it loses"
        f" {float(lost.mean()):.3f} alone, {lost.size} samples)"
    )


def _worth_it(made: Cascade, latencies_ms: tuple[float, float] | None, where: str) -> Cascade:
    """The cascade with its latency, if it holds on the samples that the choice did not see and is faster."""
    drop = made.big_accuracy - made.accuracy
    if drop > made.max_drop + 1e-12:
        raise CompressionError(
            f"{where}: on {made.held_out} held-out samples it is {drop:.3f} below the big one, more than"
            f" {made.max_drop:g}; give more samples to choose by"
        )
    if latencies_ms is None:
        return made
    small_ms, big_ms = latencies_ms
    ratio = (small_ms + made.escalated_share * big_ms) / big_ms
    if not ratio < 1:
        raise CompressionError(
            f"{where}: does not pay: {small_ms:.3g} ms for each request and {big_ms:.3g} ms more for"
            f" {made.escalated_share:.0%} of them are no less than {big_ms:.3g} ms"
        )
    return msgspec.structs.replace(made, latency_ratio=ratio)

"""How sure a model is of its answer, told from its class scores alone, and the bound from which the answer stands."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_sdk.errors import EngineError, InputValueError
from edge_sdk.tensors import Array, TensorSpec, dequantize

if TYPE_CHECKING:
    from edge_sdk.bundle import Cascade

__all__ = ["FORMS", "SCORES", "EarlyExit", "Gate", "confidences", "form_of", "gate_of", "rows_of"]

SCORES = ("probability", "margin", "entropy", "energy")
FORMS = ("logits", "probabilities")
_SUM_SLACK = 0.02
_QUANTUM = 1 / 256
"""The coarsest step in which probabilities are stored; half of it may be missing from, or too much in, each class."""


@dataclass(frozen=True, slots=True)
class Gate:
    """Lets an answer stand if every row of its class scores is sure enough.

    Attributes:
        score: "probability" (of the best class), "margin" (between the best two), "entropy" (of all, negated),
            "energy" (log of the sum of exponentials of logits; Liu et al., "Energy-based Out-of-distribution
            Detection", 2020). Larger is surer.
        threshold: the least score that is sure; NaN never is.
        output: the output that holds the class scores.
        form: "logits" or "probabilities": what that output holds.

    Raises:
        InputValueError: there is no such score or form, they do not fit each other, or the threshold is NaN.
    """

    score: str
    threshold: float
    output: str
    form: str = "logits"

    def __post_init__(self) -> None:
        _check(self.score, self.form)
        if math.isnan(self.threshold):
            raise InputValueError("the threshold of the gate is NaN; expected a number")

    def sure(self, outputs: Mapping[str, Any], specs: Mapping[str, TensorSpec] = MappingProxyType({})) -> bool:
        """Whether all rows are sure.

        Args:
            outputs: of the model, as it stores them.
            specs: of its outputs, for those that store real numbers as integers.

        Raises:
            EngineError: there is no such output, or it holds no numbers.
        """
        if self.output not in outputs:
            raise EngineError(f"the gate looks at output {self.output!r}; the model gives {', '.join(outputs)}")
        array, spec = np.asarray(outputs[self.output]), specs.get(self.output)
        if array.dtype.kind not in "fiub":
            raise EngineError(f"the gate looks at output {self.output!r}, which holds {array.dtype}; expected numbers")
        if spec is not None:
            array = dequantize(array, spec)
        if array.size > 1 and array.size == max(array.shape) and (array.ndim < 2 or array.shape[0] == 1):
            return bool(_of_one(array.reshape(-1).astype(np.float64), self.score, self.form) >= self.threshold)
        return bool((confidences(array, self.score, self.form) >= self.threshold).all())


@dataclass(frozen=True, slots=True)
class EarlyExit:
    """An output of a multi-exit model that the head already gives, and that stands for outputs of the tail if sure.

    Attributes:
        gate: looks at the exit.
        stands_for: by output of the tail, the output of the head that is given in its place.
    """

    gate: Gate
    stands_for: Mapping[str, str] = field(default_factory=dict)

    def check(self, outputs: Sequence[TensorSpec], tail: Sequence[TensorSpec]) -> None:
        """Checks that an exit can stand for all the tail gives.

        Args:
            outputs: of the whole model.
            tail: those of them that the tail gives.

        Raises:
            InputValueError: an output of the tail has no exit, the exit is none of the head, or of another form.
        """
        known, behind = {spec.name: spec for spec in outputs}, {spec.name for spec in tail}
        for name in (*self.stands_for.values(), self.gate.output):
            if name not in known or name in behind:
                head = ", ".join(repr(n) for n in known if n not in behind) or "none"
                raise InputValueError(f"exit {name!r} is no output of the head; it gives {head}; cut behind the exit")
        for spec in tail:
            early = known.get(self.stands_for.get(spec.name, ""))
            if early is None:
                raise InputValueError(f"no exit stands for output {spec.name!r} of the tail; name one in stands_for")
            if (early.dtype, early.shape) != (spec.dtype, spec.shape):
                raise InputValueError(
                    f"exit {early.name!r} is {early.dtype} {early.shape} and cannot stand for {spec.name!r},"
                    f" {spec.dtype} {spec.shape}"
                )

    def answer(self, computed: Mapping[str, Any], specs: Mapping[str, TensorSpec]) -> dict[str, Any] | None:
        """The tail's outputs from the head's, where the exit is sure; None where the tail must be asked."""
        if not self.gate.sure(computed, specs):
            return None
        # Copies: the exit itself is an output too, and each array belongs to the caller alone.
        return {name: np.array(computed[early]) for name, early in self.stands_for.items()}


def gate_of(cascade: Cascade) -> Gate:
    """The gate of a cascade that was kept in a bundle; it looks at the exit where there is one.

    Raises:
        InputValueError: the manifest tells of a score or form that is not known here.
    """
    return Gate(cascade.score, cascade.threshold, cascade.exit or cascade.output, cascade.form)


def confidences(array: Array, score: str, form: str) -> Array:
    """One score a row, larger being surer; -infinity where the row holds NaN.

    Args:
        array: class scores as real numbers: one row, rows of classes along the last axis, or one row for each entry of
            the first axis where all other axes but one have size 1. A single class is one against its absence.
        score: one of `SCORES`.
        form: one of `FORMS`.

    Raises:
        InputValueError: no such score or form, or they do not fit each other.
    """
    _check(score, form)
    rows = rows_of(array)
    if rows.shape[0] == 0:
        return np.zeros(0)
    if rows.shape[1] == 1:
        rows = np.concatenate([rows, np.zeros_like(rows) if form == "logits" else 1 - rows], axis=1)
    with np.errstate(all="ignore"):
        shares = rows if form == "probabilities" else _shares(rows)
        found = _energy(rows) if score == "energy" else _of_shares(shares, score)
    return np.where(np.isnan(rows).any(axis=1) | np.isnan(found), -np.inf, found)


def form_of(rows: Array) -> str:
    """Whether rows of class scores (n, classes) are logits or probabilities: these lie from 0 to 1 and add up to 1.

    Rows of a single class are probabilities where all lie from 0 to 1.
    """
    rows = rows_of(rows)
    if not rows.size or not np.isfinite(rows).all() or rows.min() < 0 or rows.max() > 1:
        return "logits"
    if rows.shape[1] == 1:
        return "probabilities"
    # Stored in steps of 1/256 the small ones become 0, and hundreds of them are missing from the sum.
    slack = _SUM_SLACK + rows.shape[1] * _QUANTUM / 2 * (len(np.unique(rows)) <= 257)
    return "probabilities" if np.abs(rows.sum(axis=1) - 1).max() <= slack else "logits"


def _of_one(row: Array, score: str, form: str) -> float:
    """`confidences` of a single row, in a tenth of the time; NaN for what is never sure."""
    if form == "probabilities":
        if score == "probability":
            return float(row.max())
        if score == "margin" and not np.isnan(row.max()):
            best = np.partition(row, -2)
            return float(best[-1] - best[-2])
        return float(confidences(row, score, form)[0])
    most = float(row.max())
    if not math.isfinite(most):
        return float(confidences(row, score, form)[0])
    powers = np.exp(row - most)
    total = float(powers.sum())
    if score == "energy":
        return most + math.log(total)
    if score == "probability":
        return 1 / total
    if score == "margin":
        return float(1 - np.partition(powers, -2)[-2]) / total
    shares = powers[powers > 0] / total
    return float(shares @ np.log(shares))


def _check(score: str, form: str) -> None:
    if score not in SCORES:
        raise InputValueError(f"there is no score {score!r}; expected one of {', '.join(SCORES)}")
    if form not in FORMS:
        raise InputValueError(f"class scores cannot be {form!r}; expected one of {', '.join(FORMS)}")
    if score == "energy" and form != "logits":
        raise InputValueError("the energy is a score of logits, and the model gives probabilities; take another score")


def rows_of(array: Array) -> Array:
    """Class scores as float64 (rows, classes), from what shape they are in; see `confidences`."""
    real = np.asarray(array, np.float64)
    if real.ndim < 2:
        return real.reshape(1, -1)
    inner = real.shape[1:]
    if math.prod(inner) == max(inner):  # [batch, classes], and [batch, classes, 1, 1] of a fully convolutional network
        return real.reshape(real.shape[0], -1)
    return real.reshape(-1, real.shape[-1])


def _shares(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _energy(logits: Array) -> Array:
    most = logits.max(axis=1)
    return np.asarray(most + np.log(np.exp(logits - most[:, None]).sum(axis=1)))


def _of_shares(shares: Array, score: str) -> Array:
    if score == "probability":
        return np.asarray(shares.max(axis=1))
    if score == "margin":
        best = np.partition(shares, -2, axis=1)
        return np.asarray(best[:, -1] - best[:, -2])
    terms = np.where(shares > 0, shares * np.log(np.where(shares > 0, shares, 1)), 0)
    # What rounding took from the sum is unknown, so it counts as spread over all classes: a row of zeros is not sure.
    rest = np.clip(1 - shares.sum(axis=1), 0, 1)
    spread = rest * np.log(np.where(rest > 0, rest, 1) / shares.shape[1])
    return np.asarray(terms.sum(axis=1) + np.where(rest > 0, spread, 0))

"""Int8 of an ONNX model, the way chosen by result: calibration method, equalisation, layers left in float."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_sdk.compress.data import Data
from edge_sdk.compress.guard import Guard, Verdict
from edge_sdk.compress.onnx_calibration import METHODS, activation_ranges
from edge_sdk.compress.onnx_equalise import equalise
from edge_sdk.compress.onnx_files import save
from edge_sdk.compress.onnx_int8 import quantisable, static_int8, stem_layers
from edge_sdk.compress.onnx_sensitivity import local_errors
from edge_sdk.compress.onnx_weights import SMALLEST_SHARE, weight_share
from edge_sdk.compress.picking import spread
from edge_sdk.compress.searching import better, fewest, quick_guard
from edge_sdk.errors import CompressionError

__all__ = ["Int8Trial", "best_static_int8", "mixed_int8"]

_log = logging.getLogger(__name__)

_EQUALISING_SAMPLES = 64
_SENSITIVITY_SAMPLES = 16
_MOST_FLOAT = 0.75
"""A model of which more layers than this share would stay in float is the source again."""


@dataclass(frozen=True, slots=True)
class Int8Trial:
    """One way to int8 that was judged.

    Attributes:
        model: the float `ModelProto` it was made of (equalised or not).
        ranges: of its activations.
        quantised: the int8 `ModelProto`.
        recipe: how.
        verdict: what the guard said.
    """

    model: Any
    ranges: Any
    quantised: Any
    recipe: dict[str, str]
    verdict: Verdict


def best_static_int8(model: Any, data: Data, guard: Guard, folder: Path) -> Int8Trial:
    """The best of several ways to static int8.

    As it is and with channels equalised, then the better of the two with the other calibration methods.

    Args:
        model: a prepared `ModelProto`.
        data: calibration data.
        guard: the judge.
        folder: for files on the way.

    Raises:
        CompressionError: no way works.
    """
    share = weight_share(model, quantisable(model))
    if share < SMALLEST_SHARE:
        raise CompressionError(
            f"only {share:.0%} of its weights are in convolutions and matrix products: int8 would gain nothing"
        )
    quick = quick_guard(guard)
    trials = [_trial(model, METHODS[0], {}, data, quick, folder)]
    balanced, pairs = equalise(model, spread(data.feeds, _EQUALISING_SAMPLES))
    if pairs:
        trials.append(_trial(balanced, METHODS[0], {"equalised": f"{pairs} pairs of layers"}, data, quick, folder))
    base = best_of(trials)
    how = {key: value for key, value in base.recipe.items() if key == "equalised"}
    for method in METHODS[1:]:
        try:
            trials.append(_trial(base.model, method, how, data, quick, folder))
        except CompressionError as error:
            _log.debug("%s calibration was left out: %s", method, error)
    best = best_of(trials)
    tried = "; ".join(f"{_way(trial)}: {trial.verdict.mean_error:.3g}" for trial in trials)
    verdict = best.verdict if quick is guard else _judged(best.quantised, guard, folder)
    return Int8Trial(best.model, best.ranges, best.quantised, {**best.recipe, "mean errors": tried}, verdict)


def mixed_int8(start: Int8Trial, data: Data, guard: Guard, folder: Path) -> Int8Trial:
    """Int8 with the fewest layers left in float that the guard passes.

    Two orders are tried: those first that add most error by themselves, and from the input on, since errors made early
    grow on their way. The one that needs fewer layers is kept.

    Raises:
        CompressionError: int8 throughout is within the bound already, or too many layers would have to stay in float.
    """
    if start.verdict.passed:
        raise CompressionError(f"int8 throughout is within the bound already: {start.verdict.why}")
    errors = local_errors(start.model, start.quantised, spread(data.feeds, _SENSITIVITY_SAMPLES))
    by_place = [node.name for node in start.model.graph.node if node.name in errors]
    stem = stem_layers(start.model)
    most = limit = int(len(errors) * _MOST_FLOAT)
    best: Int8Trial | None = None
    last = start.verdict
    for why, ordered in (("those that add most error", list(errors)), ("from the input on", by_place)):
        tried: dict[int, Int8Trial] = {}

        def passes(count: int, ordered: list[str] = ordered, why: str = why, tried: Any = tried) -> bool:
            left = [*stem, *ordered[:count]]
            quantised = static_int8(start.model, start.ranges, left)
            recipe = {**start.recipe, "float layers": ", ".join(left), "chosen": why}
            tried[count] = Int8Trial(start.model, start.ranges, quantised, recipe, _judged(quantised, guard, folder))
            return bool(tried[count].verdict.passed)

        count = fewest(limit, passes)
        if count is not None:
            best, limit = tried[count], count - 1
        elif limit in tried:
            last = tried[limit].verdict
    if best is None:
        raise CompressionError(f"even with {most} of {len(errors)} layers left in float int8 fails: {last.why}")
    return best


def best_of(trials: Sequence[Int8Trial]) -> Int8Trial:
    """The trial with the best verdict."""
    best = trials[0]
    for trial in trials[1:]:
        if better(trial.verdict, best.verdict):
            best = trial
    return best


def _trial(model: Any, method: str, how: dict[str, str], data: Data, guard: Guard, folder: Path) -> Int8Trial:
    ranges = activation_ranges(model, method, data.feeds)
    stem = stem_layers(model)
    quantised = static_int8(model, ranges, stem)
    recipe = {
        "method": "onnxruntime.quantization static QDQ",
        "weights": "int8 per channel",
        "activations": "uint8 per tensor",
        "calibration": f"{method} on {data.name}",
        **how,
    }
    if stem:
        recipe["float layers"] = ", ".join(stem)
    return Int8Trial(model, ranges, quantised, recipe, _judged(quantised, guard, folder))


def _judged(quantised: Any, guard: Guard, folder: Path) -> Verdict:
    file = folder / "trial.onnx"
    save(quantised, file)
    return guard.judge(file)


def _way(trial: Int8Trial) -> str:
    method = trial.recipe["calibration"].partition(" ")[0]
    return f"{method}, equalised" if "equalised" in trial.recipe else method

"""One word for the numbers a model computes with, derived from its weights and its quantising ops."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["name_precision"]

# Signed and unsigned quantised weights go by one name; index and shape types say nothing about precision.
_LABELS = {"uint8": "int8", "uint4": "int4", "uint2": "int2", "uint16": "int16"}
_NOT_WEIGHTS = {"int32", "int64", "uint32", "uint64", "bool", "string", "unknown", "resource", "variant"}
_MINOR_SHARE = 0.05
"""Weights of a type that make up less than this are not worth a name."""


def name_precision(
    weights: Mapping[str, int], activations: str, input_dtypes: tuple[str, ...], evidence: str
) -> tuple[str, str]:
    """Names the precision.

    Args:
        weights: number of weights by dtype as stored; "int4" where they are packed into bytes.
        activations: how integer weights meet what flows: "static" (quantised when the model was built), "dynamic"
            (quantised while running) or "float" (the weights are turned back to float).
        input_dtypes: of the model's inputs, which tell where there are no weights.
        evidence: what `activations` was seen from.

    Returns:
        The precision and one line with the reason, see `ModelInfo`.
    """
    counted: dict[str, int] = {}
    for dtype, number in weights.items():
        if dtype not in _NOT_WEIGHTS and number > 0:
            label = _LABELS.get(dtype, dtype)
            counted[label] = counted.get(label, 0) + number
    total = sum(counted.values())
    if not total:
        dtypes = [_LABELS.get(d, d) for d in input_dtypes if d not in _NOT_WEIGHTS] or list(input_dtypes)
        return (dtypes[0], f"no weights; first input is {dtypes[0]}") if dtypes else ("", "no weights and no inputs")
    shares = sorted(((number / total, label) for label, number in counted.items()), reverse=True)
    named = [(share, label) for share, label in shares if share >= _MINOR_SHARE]
    precision = named[0][1] if len(named) == 1 else "mixed " + " + ".join(label for _, label in named)
    reason = ", ".join(f"{_percent(share)} of the weights are {label}" for share, label in named)
    if any(label.startswith("int") for _, label in named):
        precision += {"static": "", "dynamic": " (dynamic)", "float": " (weights only)"}[activations]
        reason += f"; {evidence}"
    return precision, reason


def _percent(share: float) -> str:
    return "all" if share > 0.9995 else f"{share:.0%}"

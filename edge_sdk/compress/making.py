"""What variants there are, and what one that was made looks like."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edge_sdk.errors import CompressionError

__all__ = ["KINDS", "Kind", "Made", "kind_of", "share_of"]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of variant.

    Attributes:
        name: what commands and bundles call it; "N" in it stands for a whole number of percent.
        precision: what the arithmetic of its layers is done in; "" where it stays what it was.
        formats: of which sources it can be made.
        needs_data: whether calibration data must be given.
        usual: whether a build makes it unasked.
        about: one line for people.
    """

    name: str
    precision: str
    formats: frozenset[str]
    needs_data: bool
    usual: bool
    about: str


@dataclass(frozen=True, slots=True)
class Made:
    """A variant that was made.

    Attributes:
        name: its kind, or several joined by "+" in the order they were applied.
        file: where it lies; external data of an ONNX file lie beside it.
        format: "onnx" or "tflite".
        precision: "float32", "float16", "int8", …
        recipe: how it was made, for people and for making it again.
        notes: what a person should know.
    """

    name: str
    file: Path
    format: str
    precision: str
    recipe: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


_BOTH, _ONNX = frozenset({"onnx", "tflite"}), frozenset({"onnx"})

KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("source", "", _BOTH, False, False, "the file as it is, where it is quantised already"),
        Kind("fp32", "", _BOTH, False, True, "the source, cleaned up: the same results"),
        Kind("fp16", "float16", _BOTH, False, True, "half the size; faster where there are float16 kernels"),
        Kind("int8-dynamic", "int8 (dynamic)", _BOTH, False, True, "int8 weights, activations quantised at each call"),
        Kind("int8-static", "int8", _BOTH, True, True, "int8 weights and activations, ranges from calibration data"),
        Kind(
            "int8-mixed", "mixed float32 + int8", _BOTH, True, True, "int8 with the layers that hurt most left in float"
        ),
        Kind("int4-weights", "int4 (weights only)", _BOTH, False, True, "weights of matrix products in 4 bits"),
        Kind("pruned-N", "", _ONNX, True, True, "N % of the channels of each layer taken out"),
        Kind("low-rank", "", _ONNX, True, True, "wide matrix products in two narrow factors"),
        Kind("sparse-N", "", _ONNX, False, False, "N % of the weights zero; only where that measures faster"),
    )
}
"""In the order in which a build makes them."""

_MOST_PERCENT = 95
_BINARY = frozenset({"binary", "bnn", "int1", "int1-weights", "int2", "int2-weights", "ternary", "xnor"})


def kind_of(part: str) -> Kind:
    """The kind a name belongs to ("pruned-50" is "pruned-N").

    Raises:
        CompressionError: there is none.
    """
    if part in _BINARY:
        raise CompressionError(
            f"{part!r} is not made: no engine here has kernels for weights of one or two bits, so they would be"
            " unpacked to more bits before each product, and only networks trained with them keep their accuracy"
        )
    kind = KINDS.get(part) or KINDS.get(re.sub(r"-\d+$", "-N", part))
    if kind is None or part == kind.name != part.replace("-N", ""):
        raise CompressionError(f"there is no variant {part!r}; there are {', '.join(KINDS)}")
    if kind.name.endswith("-N"):
        share_of(part)
    return kind


def share_of(part: str) -> float:
    """The share in a name like "pruned-50".

    Raises:
        CompressionError: it is none from 1 to 95 percent.
    """
    digits = part.rpartition("-")[2]
    percent = int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 4 else 0
    if not 1 <= percent <= _MOST_PERCENT:
        raise CompressionError(f"{part}: expected a whole number of percent from 1 to {_MOST_PERCENT} behind the dash")
    return percent / 100

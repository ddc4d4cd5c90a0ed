"""Sizes for the dimensions that a model file leaves open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edge_sdk.errors import InputNameError, InputShapeError
from edge_sdk.tensors import TensorSpec

__all__ = ["OPEN_SIZES", "assumed_sizes", "check_sizes", "open_dimensions"]

OPEN_SIZES = (1, 64, 512)
"""What open dimensions are taken to be where nobody says: the first that gives every tensor a shape."""
_BATCH_NAMES = frozenset({"batch", "batch_size", "n", "b", "bs"})


def open_dimensions(inputs: Sequence[TensorSpec]) -> dict[str, bool]:
    """The open dimensions, each with whether it counts samples (a batch).

    A dimension goes by its name, or by "input[axis]" where it has none.
    """
    found: dict[str, bool] = {}
    for spec in inputs:
        for axis, dimension in enumerate(spec.shape or ()):
            if dimension is None:
                found[f"{spec.name}[{axis}]"] = axis == 0
            elif isinstance(dimension, str):
                found[dimension] = dimension.lower() in _BATCH_NAMES
    return found


def check_sizes(sizes: Mapping[str, int], inputs: Sequence[TensorSpec], where: str) -> None:
    """Checks what the caller fixed.

    Raises:
        InputNameError: there is no such open dimension.
        InputShapeError: a size is not a whole number above 0.
    """
    known = open_dimensions(inputs)
    for name, size in sizes.items():
        if name not in known:
            expected = ", ".join(map(repr, known)) or "none: all are fixed in the file"
            raise InputNameError(f"{where}: there is no open dimension {name!r}; open dimensions: {expected}")
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise InputShapeError(f"{where}: size {size!r} of dimension {name!r}; expected a whole number above 0")


def assumed_sizes(inputs: Sequence[TensorSpec], sizes: Mapping[str, int], open_size: int) -> dict[str, int]:
    """A size for every open dimension: the caller's, else 1 for batches and `open_size` for the others."""
    return {name: sizes.get(name, 1 if batch else open_size) for name, batch in open_dimensions(inputs).items()}

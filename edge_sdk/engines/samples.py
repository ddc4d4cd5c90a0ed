"""Made-up inputs that fit a model: for trials, warm-up and measuring, where nobody gave real ones."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from edge_sdk.tensors import TensorSpec

__all__ = ["made_up_feeds"]


OPEN_SIZES = (1, 64, 512)
"""Sizes to try for open dimensions: some models refuse a sequence or window of length 1."""
_BATCH_NAMES = frozenset({"batch", "batch_size", "n", "b", "bs"})


def made_up_feeds(
    inputs: Sequence[TensorSpec], leave_out: Collection[str] = (), open_size: int = OPEN_SIZES[0]
) -> dict[str, Any]:
    """One array per input: noise between 0 and 1 for real numbers, zeros for whole ones (they may be indices or
    lengths), empty strings. The same arrays on every call.

    Args:
        inputs: what the model takes.
        leave_out: names of inputs that need not be fed.
        open_size: size of open dimensions; those called "batch" or the like, and the first where it has no name, get 1.
    """
    generator = np.random.default_rng(0)
    feeds: dict[str, Any] = {}
    for spec in inputs:
        if spec.name in leave_out:
            continue
        shape = tuple(_size(dimension, place, open_size) for place, dimension in enumerate(spec.shape or ()))
        dtype = spec.numpy_dtype
        value: Any
        if spec.dtype == "string":
            value = np.full(shape, "", dtype=object)
        elif dtype is not None and dtype.kind == "f":
            value = generator.random(shape, dtype=np.float32).astype(dtype)
        elif spec.quantization is not None and dtype is not None:
            value = generator.integers(0, 127, shape).astype(dtype)
        else:
            value = np.zeros(shape, dtype=dtype if dtype is not None else np.float32)
        feeds[spec.name] = [value] if spec.kind == "sequence" else value
    return feeds


def _size(dimension: int | str | None, place: int, open_size: int) -> int:
    if isinstance(dimension, int):
        return dimension
    if dimension is None:
        return 1 if place == 0 else open_size
    return 1 if dimension.lower() in _BATCH_NAMES else open_size

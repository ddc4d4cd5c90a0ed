"""Whether requests to a model may be computed together, and how they are joined and parted again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edge_sdk.errors import EdgeError
from edge_sdk.tensors import Array, TensorSpec

__all__ = ["Form", "form_of", "joined", "may_batch", "of_rows", "parted"]

Run = Callable[[dict[str, Any]], Mapping[str, Any]]
Form = tuple[tuple[str, str, tuple[int, ...]], ...]


def may_batch(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], run: Run) -> bool:
    """Whether the model treats the rows of its first axis apart from each other.

    That this axis is open does not say so: it may be time, or the model may normalise over it. So two requests are
    computed alone and together, and must come out alike.
    """
    specs = (*inputs, *outputs)
    if not inputs or any(s.kind != "tensor" or not s.shape or isinstance(s.shape[0], int) for s in specs):
        return False
    if any(s.numpy_dtype is None or s.numpy_dtype.kind not in "fiub" for s in inputs):
        return False
    generator = np.random.default_rng(0)
    requests = [{spec.name: _noise(generator, spec) for spec in inputs} for _ in range(3)]
    try:
        alone = [run(feeds) for feeds in requests]
        rows = [1] * len(requests)
        together = parted(run(joined(requests)), rows)
    except EdgeError:
        return False
    return together is not None and all(
        _alike(one[name], part[name]) for one, part in zip(alone, together, strict=True) for name in one
    )


def _noise(generator: np.random.Generator, spec: TensorSpec) -> Array:
    shape = (1, *(d if isinstance(d, int) else 1 for d in (spec.shape or ())[1:]))
    dtype = spec.numpy_dtype
    assert dtype is not None
    if dtype.kind == "f":
        return generator.standard_normal(shape).astype(dtype)
    # Whole numbers may be indices, of which 0 and 1 are there most likely.
    return generator.integers(0, 128 if spec.quantization is not None else 2, shape).astype(dtype)


def _alike(one: Array, other: Array) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if one.dtype.kind != "f":
        return bool(np.array_equal(one, other))
    most = float(np.abs(one.astype(np.float64)).max(initial=0.0))
    return bool(np.allclose(one, other, rtol=1e-4, atol=1e-5 * max(most, 1e-6), equal_nan=True))


def form_of(feeds: Mapping[str, Array]) -> tuple[Form, int] | None:
    """What requests must share to be joined, and the rows of this one; None where its inputs differ in rows."""
    rows = {array.shape[0] if array.ndim else -1 for array in feeds.values()}
    if len(rows) != 1 or (count := rows.pop()) < 1:
        return None
    return tuple(sorted((name, array.dtype.str, array.shape[1:]) for name, array in feeds.items())), count


def joined(requests: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """Requests of one form as one."""
    return {name: np.concatenate([feeds[name] for feeds in requests]) for name in requests[0]}


def of_rows(outputs: Mapping[str, Array], rows: int) -> bool:
    """Whether each output has so many."""
    return all(isinstance(a, np.ndarray) and a.ndim > 0 and a.shape[0] == rows for a in outputs.values())


def parted(outputs: Mapping[str, Array], rows: Sequence[int]) -> list[dict[str, Array]] | None:
    """The answers of requests that were joined; None where the model gave another number of rows."""
    if not of_rows(outputs, sum(rows)):
        return None
    parts, at = [], 0
    for count in rows:
        parts.append({name: array[at : at + count] for name, array in outputs.items()})
        at += count
    return parts

"""Checks how a sparse TFLite tensor is stored: engines expand it while loading and follow its indices unchecked.

Source: schema.fbs, SparsityParameters (the TACO format): per level of the traversal either a dense size, or compressed
rows as segments and indices.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edge_sdk.formats.flatbuffer import Table

__all__ = ["check_sparsity"]

_DENSE = 0


def check_sparsity(sparsity: Table, shape: tuple[int, ...], stored_elements: int | None) -> str | None:
    """What is wrong with a sparse tensor, or None.

    Args:
        sparsity: its SparsityParameters.
        shape: of the tensor when expanded.
        stored_elements: how many elements its buffer holds; None where the type has no fixed size.
    """
    order = sparsity.numbers("traversal_order").tolist()
    blocks = sparsity.numbers("block_map").tolist()
    levels = sparsity.tables("dim_metadata")
    if sorted(order) != list(range(len(shape) + len(blocks))) or len(levels) != len(order):
        return f"is traversed in the order {order[:8]} with {len(levels)} levels"
    if any(not 0 <= dimension < len(shape) for dimension in blocks) or len(set(blocks)) != len(blocks):
        return f"has blocks along dimensions {blocks[:8]}"
    sizes = _sizes(order, blocks, levels, shape)
    if sizes is None:
        return "has blocks that do not divide its shape"
    stored = 1
    for dimension, level in zip(order, levels, strict=True):
        if level.integer("format") == _DENSE:
            if level.integer("dense_size") != sizes[dimension]:
                entries = level.integer("dense_size")
                return f"has {entries} entries along dimension {dimension}, expected {sizes[dimension]}"
            stored *= sizes[dimension]
            continue
        segments, indices = _vector(level, "array_segments"), _vector(level, "array_indices")
        if not _compressed(segments, indices, stored, sizes[dimension]):
            return f"has segments or indices out of range along dimension {dimension}"
        stored = indices.size
    if stored_elements is not None and stored != stored_elements:
        return f"stores {stored_elements} elements, expected {stored}"
    return None


def _sizes(order: list[int], blocks: list[int], levels: list[Table], shape: tuple[int, ...]) -> list[int] | None:
    """Size of each dimension and, behind those, of each block; a dimension with blocks counts in blocks."""
    sizes = list(shape) + [0] * len(blocks)
    for dimension, level in zip(order, levels, strict=True):
        if dimension >= len(shape):
            sizes[dimension] = level.integer("dense_size")
    for number, dimension in enumerate(blocks):
        block = sizes[len(shape) + number]
        if block <= 0 or sizes[dimension] % block:
            return None
        sizes[dimension] //= block
    return sizes


def _vector(level: Table, name: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    table = level.table(name)
    return np.empty(0, np.int64) if table is None else table.numbers("values").astype(np.int64)


def _compressed(
    segments: np.ndarray[Any, np.dtype[np.int64]], indices: np.ndarray[Any, np.dtype[np.int64]], rows: int, size: int
) -> bool:
    """Whether segments cut the indices into so many rows, each index below `size`."""
    if segments.size != rows + 1 or segments[0] != 0 or segments[-1] != indices.size or (np.diff(segments) < 0).any():
        return False
    return not indices.size or (int(indices.min()) >= 0 and int(indices.max()) < size)

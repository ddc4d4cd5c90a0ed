"""Low-rank factors: a wide matrix product becomes two narrow ones where its weights say little more.

The factors minimise the error of the layer's output on calibration data, not that of its weights (the whitening of
Wang et al., "SVD-LLM", 2024).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_sdk.compress.onnx_graphs import attribute, copied, initializers, tapped
from edge_sdk.compress.onnx_prepare import inferred
from edge_sdk.compress.onnx_running import run_samples
from edge_sdk.compress.tools import needed
from edge_sdk.tensors import Array

__all__ = ["Factored", "factor", "factorable", "with_rank"]

_MULTIPLE = 8
_WORTH = 0.8
"""Two products pay where they multiply less than this share of what the one does."""
_PLACES = 64
_TINY = float(np.finfo(np.float32).tiny)
_ROWS_ENOUGH = 20
"""Rows a feature after which the samples are believed."""


@dataclass(frozen=True, slots=True)
class Factored:
    """A layer's weights in factors, strongest direction first.

    Attributes:
        node: name of the layer.
        left: float64[inputs, n].
        right: float64[n, outputs].
        lost: share of the output's power that is lost with the first r directions kept: float64[n + 1].
    """

    node: str
    left: Array
    right: Array
    lost: Array

    def rank(self, most_lost: float) -> int:
        """The smallest useful rank that loses no more."""
        enough = int(np.argmax(self.lost <= most_lost))
        return max(_MULTIPLE, -(-enough // _MULTIPLE) * _MULTIPLE)

    def pays(self, rank: int) -> bool:
        """Whether two products with this rank cost clearly less than the one."""
        inputs, outputs = len(self.left), self.right.shape[1]
        return bool(rank * (inputs + outputs) <= _WORTH * inputs * outputs)


def factorable(model: Any) -> list[Any]:
    """Gemm, MatMul and 1×1 convolutions with constant weights of their own."""
    weights = initializers(model)
    reads: dict[str, int] = {}
    for node in model.graph.node:
        for name in node.input:
            reads[name] = reads.get(name, 0) + 1
    found = []
    for node in model.graph.node:
        weight = weights.get(node.input[1]) if len(node.input) > 1 else None
        if weight is None or reads[weight.name] != 1:
            continue
        dims = list(weight.dims)
        if node.op_type == "Conv":
            fits = len(dims) > 2 and all(size == 1 for size in dims[2:]) and attribute(node, "group", 1) == 1
        elif node.op_type == "Gemm":
            plain = attribute(node, "alpha", 1.0) == 1.0 and not attribute(node, "transA", 0)
            fits = plain and len(dims) == 2
        else:
            fits = node.op_type == "MatMul" and len(dims) == 2
        if fits and min(dims[:2]) > _MULTIPLE:
            found.append(node)
    return found


def factor(model: Any, samples: Sequence[Mapping[str, Array]]) -> list[Factored]:
    """The factors of every layer that has any.

    Args:
        model: a prepared `ModelProto`; not changed.
        samples: calibration data.
    """
    numpy_helper = needed("onnx").numpy_helper
    weights = initializers(model)
    nodes = factorable(model)
    if not nodes:
        return []
    names = list(dict.fromkeys(node.input[0] for node in nodes))
    kinds = {node.input[0]: node.op_type for node in nodes}
    grams: dict[str, Array] = {}
    seen: dict[str, int] = {}
    for number, answer in enumerate(run_samples(tapped(model, names), samples)):
        for name, value in answer.items():
            rows = _rows(value, kinds[name], number)
            grams[name] = grams.get(name, np.zeros((rows.shape[1], rows.shape[1]))) + rows.T @ rows
            seen[name] = seen.get(name, 0) + len(rows)
    grams = {name: _shrunk(gram, seen[name]) for name, gram in grams.items()}
    return [
        _factors(node, _matrix(node, numpy_helper.to_array(weights[node.input[1]])), grams[node.input[0]])
        for node in nodes
    ]


def with_rank(model: Any, factored: Sequence[Factored], most_lost: float) -> tuple[Any, dict[str, int]]:
    """The model with layers factored where that pays, and the rank of each.

    Args:
        model: a prepared `ModelProto`; not changed.
        factored: of `factor`.
        most_lost: share of the power of each layer's output that may be lost.
    """
    copy = copied(model)
    nodes = {node.name: node for node in copy.graph.node}
    ranks: dict[str, int] = {}
    replaced: dict[str, list[Any]] = {}
    for layer in factored:
        rank = layer.rank(most_lost)
        if rank <= min(layer.left.shape[1], len(layer.right)) and layer.pays(rank):
            replaced[layer.node] = _two(copy, nodes[layer.node], layer.left[:, :rank], layer.right[:rank])
            ranks[layer.node] = rank
    kept = [part for node in copy.graph.node for part in replaced.get(node.name, [node])]
    parts = [type(node).FromString(node.SerializeToString()) for node in kept]
    del copy.graph.node[:]
    copy.graph.node.extend(parts)
    read = {name for node in copy.graph.node for name in node.input}
    weights = [weight for weight in copy.graph.initializer if weight.name in read or not ranks]
    del copy.graph.initializer[:]
    copy.graph.initializer.extend(weights)
    return inferred(copy), ranks


def _rows(value: Array, kind: str, seed: int) -> Array:
    """The layer's input as rows of features: float64[rows, features]."""
    features_last = np.moveaxis(value, 1, -1) if kind == "Conv" else value
    rows = features_last.reshape(-1, features_last.shape[-1])
    if len(rows) > _PLACES:
        rows = rows[np.random.default_rng(seed).choice(len(rows), _PLACES, replace=False)]
    return rows.astype(np.float64)


def _matrix(node: Any, weight: Array) -> Array:
    """The layer's weights as [inputs, outputs]."""
    if node.op_type == "Conv":
        return weight.reshape(weight.shape[:2]).T.astype(np.float64)
    transposed = node.op_type == "Gemm" and attribute(node, "transB", 0)
    return (weight.T if transposed else weight).astype(np.float64)


def _shrunk(gram: Array, rows: int) -> Array:
    """The second moments drawn towards equal power in all directions, the more so the fewer rows there were: a
    direction that few samples never took may be taken by others."""
    features = len(gram)
    towards = min(1.0, features / (_ROWS_ENOUGH * max(rows, 1)))
    equal = max(float(np.trace(gram)) / features, _TINY)
    return np.asarray((1 - towards) * gram + towards * equal * np.eye(features))


def _factors(node: Any, matrix: Array, gram: Array) -> Factored:
    values, vectors = np.linalg.eigh(gram)
    floor = max(float(values.max()), _TINY) * 1e-9
    root = vectors * np.sqrt(np.maximum(values, floor))
    left, strengths, right = np.linalg.svd(root.T @ matrix, full_matrices=False)
    power = np.square(strengths)
    lost = 1 - np.concatenate([[0.0], np.cumsum(power)]) / (power.sum() or 1.0)
    lost[-1] = 0.0
    unwhitened = (vectors / np.sqrt(np.maximum(values, floor))) @ left
    return Factored(node.name, unwhitened * np.sqrt(strengths), np.sqrt(strengths)[:, None] * right, lost)


def _two(model: Any, node: Any, left: Array, right: Array) -> list[Any]:
    """The two layers in place of one."""
    onnx = needed("onnx")
    names = [f"{node.input[1]}/{side}" for side in ("left", "right")]
    arrays = [left, right]
    if node.op_type == "Conv":
        ones = (1,) * (len(next(w for w in model.graph.initializer if w.name == node.input[1]).dims) - 2)
        arrays = [array.T.reshape(*array.T.shape, *ones) for array in arrays]
    for name, array in zip(names, arrays, strict=True):
        held = np.ascontiguousarray(array, dtype=np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(held, name))
    between = f"{node.output[0]}/narrow"
    first = copied(node)
    first.name = f"{node.name}/left"
    first.input[:] = [node.input[0], names[0]]
    first.output[:] = [between]
    second = copied(node)
    second.input[:] = [between, names[1], *node.input[2:]]
    if node.op_type == "Gemm":
        for part in (first, second):
            kept = [entry for entry in part.attribute if entry.name != "transB"]
            del part.attribute[:]
            part.attribute.extend(kept)
    if node.op_type == "Conv":
        # Strides and padding are done once, by the first.
        kept = [entry for entry in node.attribute if entry.name in ("kernel_shape", "group")]
        del second.attribute[:]
        second.attribute.extend(kept)
    return [first, second]

"""Repairing a pruned model without training: each layer's weights are solved anew so that its output comes closest
to what it was, given the channels that are left (after He et al., "Channel Pruning for Accelerating Very Deep
Neural Networks", 2017).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_sdk.compress.onnx_graphs import attribute, copied, initializers, tapped
from edge_sdk.compress.onnx_pruning import Pruned
from edge_sdk.compress.onnx_rows import LayerRows
from edge_sdk.compress.onnx_running import run_samples
from edge_sdk.compress.onnx_units import Reader
from edge_sdk.compress.picking import spread
from edge_sdk.compress.tools import needed
from edge_sdk.tensors import Array

__all__ = ["reconstruct"]

_FEWEST_ROWS, _MOST_ROWS = 4096, 16384
_PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)
"""How strongly weights are held at what they were, relative to the mean power of a feature: the best on data not
solved for."""
_HELD_OUT = 4
"""One sample in so many is not solved for."""


def reconstruct(pruned: Pruned, source: Any, samples: Sequence[Mapping[str, Array]]) -> tuple[Any, int]:
    """The pruned model with its layers solved anew, in the order they run, and how many were.

    Args:
        pruned: of `prune`.
        source: the model before pruning.
        samples: calibration data.

    Raises:
        CompressionError: a model fails on the samples.
    """
    model = copied(pruned.model)
    weights = initializers(model)
    solved = 0
    for reader in pruned.channels.readers:
        if _solvable(reader, weights):
            solved += _solve(reader, pruned, source, model, weights, samples)
    return model, solved


def _solvable(reader: Reader, weights: Mapping[str, Any]) -> bool:
    node = reader.node
    if node.op_type == "Conv":
        return len(weights[reader.weight].dims) in (3, 4)
    plain = attribute(node, "alpha", 1.0) == 1.0 and attribute(node, "beta", 1.0) == 1.0
    return bool(node.op_type == "MatMul" or (node.op_type == "Gemm" and plain))


@dataclass(slots=True)
class _Normal:
    """Normal equations of a least-squares problem: [features, features] and [features, outputs]."""

    gram: Array
    right: Array
    power: float = 0.0

    def add(self, inputs: Array, outputs: Array) -> None:
        self.gram += inputs.T @ inputs
        self.right += inputs.T @ outputs
        self.power += float(np.square(outputs).sum())

    def error(self, found: Array) -> float:
        """Squared error of a solution."""
        return float(np.einsum("fo,fg,go->", found, self.gram, found) - 2 * (found * self.right).sum() + self.power)

    def solved(self, start: Array, penalty: float) -> Array:
        """Least squares, held at `start`."""
        hold = penalty * float(np.trace(self.gram)) / len(self.gram) + 1e-12
        return np.asarray(np.linalg.solve(self.gram + hold * np.eye(len(self.gram)), self.right + hold * start))


def _solve(
    reader: Reader,
    pruned: Pruned,
    source: Any,
    model: Any,
    weights: Mapping[str, Any],
    samples: Sequence[Mapping[str, Array]],
) -> bool:
    """Solves one layer; whether it was changed."""
    numpy_helper = needed("onnx").numpy_helper
    node = reader.node
    kernel = numpy_helper.to_array(weights[reader.weight]).astype(np.float64)
    bias_name = node.input[2] if len(node.input) > 2 else ""
    rows = LayerRows(node, kernel.shape)
    start = rows.flat(kernel)
    if bias_name:
        bias = numpy_helper.to_array(weights[bias_name]).astype(np.float64).reshape(1, -1)
        start = np.concatenate([start, bias])
    learnt, held_out = (_Normal(np.zeros((len(start), len(start))), np.zeros_like(start)) for _ in range(2))
    staying = pruned.mask(reader.made)
    chosen = _enough(samples, rows)
    given = run_samples(tapped(model, [node.input[0]]), chosen)
    wanted = run_samples(tapped(source, [node.output[0]]), chosen)
    for number, (one, other) in enumerate(zip(given, wanted, strict=True)):
        inputs, outputs = rows.of(one[node.input[0]], other[node.output[0]], seed=number)
        if bias_name:
            inputs = np.concatenate([inputs, np.ones((len(inputs), 1))], axis=1)
        (held_out if number % _HELD_OUT == _HELD_OUT - 1 else learnt).add(inputs, outputs[:, staying])
    if not np.isfinite(learnt.gram).all() or np.trace(learnt.gram) <= 0:
        return False
    judge = held_out if held_out.power else learnt
    best = min(_PENALTIES, key=lambda penalty: judge.error(learnt.solved(start, penalty)))
    found = _Normal(learnt.gram + held_out.gram, learnt.right + held_out.right).solved(start, best)
    if not np.isfinite(found).all() or judge.error(found) >= judge.error(start):
        return False
    _store(weights, reader.weight, rows.unflat(found[: rows.features]))
    if bias_name:
        _store(weights, bias_name, found[-1].reshape(tuple(weights[bias_name].dims)))
    return True


def _enough(samples: Sequence[Mapping[str, Array]], rows: LayerRows) -> Sequence[Mapping[str, Array]]:
    """As many samples as give several rows a feature, evenly over all."""
    wanted = min(max(4 * rows.features, _FEWEST_ROWS), _MOST_ROWS)
    return spread(samples, max(32, -(-wanted // rows.most_per_sample)))


def _store(weights: Mapping[str, Any], name: str, array: Array) -> None:
    numpy_helper = needed("onnx").numpy_helper
    weights[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array, dtype=np.float32), name))

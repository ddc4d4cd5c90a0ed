"""Structured pruning: whole channels go, so the model is really smaller and any engine runs it faster."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_sdk.compress.onnx_channels import trace
from edge_sdk.compress.onnx_graphs import copied, initializers, tapped
from edge_sdk.compress.onnx_prepare import inferred
from edge_sdk.compress.onnx_running import run_samples
from edge_sdk.compress.onnx_units import Channels
from edge_sdk.compress.tools import needed
from edge_sdk.errors import CompressionError
from edge_sdk.tensors import Array

__all__ = ["CRITERIA", "Pruned", "prune"]

CRITERIA = ("weight", "activation")
"""weight: the size of the filters that make a channel (Li et al., "Pruning Filters for Efficient ConvNets", 2017).
activation: the power a channel brings into the layers that read it, on calibration data."""
_MULTIPLE = 8
"""Kernels work on this many channels at once: a count in between is no faster."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """A model with fewer channels.

    Attributes:
        model: the `ModelProto`.
        channels: what hangs together, in the model before.
        kept: roots that stay.
        before, after: number of channels that convolutions and matrix products make.
    """

    model: Any
    channels: Channels
    kept: frozenset[int]
    before: int
    after: int

    def mask(self, units: Array) -> Array:
        """Which of these units stay: bool[size]."""
        return np.array([int(root) in self.kept for root in self.channels.roots(units)], dtype=bool)


def prune(model: Any, share: float, criterion: str, samples: Sequence[Mapping[str, Array]]) -> Pruned:
    """Takes a share of the channels out of every layer that may lose any.

    Args:
        model: a prepared `ModelProto`; not changed.
        share: of the channels of each layer, 0 to 1.
        criterion: one of `CRITERIA`.
        samples: calibration data, for "activation".

    Raises:
        CompressionError: no layer may lose a channel.
    """
    channels = trace(model)
    free = channels.free()
    scores = _by_weight(model, channels) if criterion == "weight" else _by_activation(model, channels, samples)
    going: set[int] = set()
    for cluster in _clusters(channels, free):
        stay = _rounded(len(cluster) * (1 - share), len(cluster))
        ranked = sorted(cluster, key=lambda root: (-scores.get(root, 0.0), root))
        going |= set(ranked[stay:])
    if not going:
        raise CompressionError("no layer may lose a channel: outputs, or ops that no rule covers, hold all of them")
    every = {channels.root(unit) for unit in range(len(channels.parents))}
    kept = frozenset(every - going)
    made = [producer.units for producer in channels.producers]
    pruned = Pruned(_applied(model, channels, kept), channels, kept, sum(map(len, made)), 0)
    after = sum(int(pruned.mask(units).sum()) for units in made)
    return Pruned(pruned.model, channels, kept, pruned.before, after)


def _clusters(channels: Channels, free: set[int]) -> list[list[int]]:
    """Free roots by the set of layers that make them: each set loses its own share, so that no layer is emptied."""
    by_root: dict[int, list[int]] = {}
    for number, producer in enumerate(channels.producers):
        for root in channels.roots(producer.units):
            if int(root) in free:
                by_root.setdefault(int(root), []).append(number)
    clusters: dict[tuple[int, ...], list[int]] = {}
    for root, makers in by_root.items():
        clusters.setdefault(tuple(sorted(set(makers))), []).append(root)
    return list(clusters.values())


def _rounded(wanted: float, most: int) -> int:
    """The number of channels to keep: a whole multiple where there are enough, and never none."""
    if most >= 2 * _MULTIPLE:
        return min(most, max(_MULTIPLE, round(wanted / _MULTIPLE) * _MULTIPLE))
    return min(most, max(1, math.ceil(wanted)))


def _by_weight(model: Any, channels: Channels) -> dict[int, float]:
    """Norm of the filters that make each root, relative to the layer's mean."""
    numpy_helper = needed("onnx").numpy_helper
    weights = initializers(model)
    scores: dict[int, float] = {}
    for producer in channels.producers:
        kernel = np.moveaxis(numpy_helper.to_array(weights[producer.weight]), producer.axis, 0).reshape(
            len(producer.units), -1
        )
        norms = np.linalg.norm(kernel.astype(np.float64), axis=1)
        norms /= norms.mean() or 1.0
        for root, norm in zip(channels.roots(producer.units), norms, strict=True):
            scores[int(root)] = scores.get(int(root), 0.0) + float(norm)
    return scores


def _by_activation(model: Any, channels: Channels, samples: Sequence[Mapping[str, Array]]) -> dict[int, float]:
    """Mean square of each root where it is read, times that of the weights that read it, relative to the layer's
    whole."""
    numpy_helper = needed("onnx").numpy_helper
    weights = initializers(model)
    names = list(dict.fromkeys(reader.node.input[0] for reader in channels.readers))
    power: dict[str, Array] = {}
    if names:
        for answer in run_samples(tapped(model, names), samples):
            for name, value in answer.items():
                square = np.square(value.astype(np.float64))
                square = square.mean(axis=tuple(axis for axis in range(square.ndim) if axis != 1))
                power[name] = power.get(name, np.zeros_like(square)) + square
    scores: dict[int, float] = {}
    for reader in channels.readers:
        kernel = np.moveaxis(numpy_helper.to_array(weights[reader.weight]), reader.axis, 0)
        brought = power[reader.node.input[0]] * np.square(kernel.reshape(len(kernel), -1).astype(np.float64)).sum(
            axis=1
        )
        brought /= brought.sum() or 1.0
        for root, part in zip(channels.roots(reader.units), brought, strict=True):
            scores[int(root)] = scores.get(int(root), 0.0) + float(part)
    return scores


def _applied(model: Any, channels: Channels, kept: frozenset[int]) -> Any:
    """The model with all weights cut down to the kept roots."""
    onnx = needed("onnx")
    copy = copied(model)
    weights = initializers(copy)
    nodes = {node.name: node for node in copy.graph.node}

    def staying(units: Array) -> Array:
        return np.flatnonzero([int(root) in kept for root in channels.roots(units)])

    for cut in channels.cuts:
        array = onnx.numpy_helper.to_array(weights[cut.weight])
        smaller = np.ascontiguousarray(np.take(array, staying(cut.units), axis=cut.axis))
        weights[cut.weight].CopyFrom(onnx.numpy_helper.from_array(smaller, cut.weight))
    for node, units in channels.grouped:
        # The depthwise kernel's own first axis was cut above; its number of groups follows the input.
        per_group = len(units) // next(entry.i for entry in node.attribute if entry.name == "group")
        for entry in nodes[node.name].attribute:
            if entry.name == "group":
                entry.i = len(staying(units)) // per_group
    for node in channels.flattened:
        flat = onnx.helper.make_node("Flatten", node.input[:1], node.output, node.name, axis=1)
        nodes[node.name].CopyFrom(flat)
    for node, parts in channels.splits:
        _resize_split(copy, nodes[node.name], [len(staying(part)) for part in parts])
    del copy.graph.value_info[:]
    return inferred(copy)


def _resize_split(model: Any, node: Any, sizes: Sequence[int]) -> None:
    onnx = needed("onnx")
    name = f"{node.name}/sizes"
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(sizes, np.int64), name))
    kept = [entry for entry in node.attribute if entry.name not in ("split", "num_outputs")]
    data = node.input[0]
    del node.attribute[:], node.input[:]
    node.attribute.extend(kept)
    node.input.extend([data, name])

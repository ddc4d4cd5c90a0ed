"""Equalising channels across layers, so that one scale for all channels of an activation loses none of them.

Between two layers that only a positively homogeneous path joins (ReLU, pooling), channel c of the first may be
divided by any s > 0 and the weights that read it multiplied by s: the function stays. Scales after Nagel et al.,
"Data-Free Quantization Through Weight Equalization and Bias Correction" (2019), with the activations' own ranges on
the calibration data and the migration strength of Xiao et al., "SmoothQuant" (2023).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_sdk.compress.onnx_graphs import attribute, copied, initializers, readers_of, tapped
from edge_sdk.compress.onnx_running import run_samples
from edge_sdk.compress.tools import needed
from edge_sdk.tensors import Array

__all__ = ["equalisable", "equalise"]

_PASSING = frozenset(
    {
        "Relu",
        "LeakyRelu",
        "MaxPool",
        "AveragePool",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "Identity",
        "Dropout",
        "Flatten",
    }
)
"""Ops with f(s·x) = s·f(x) for s > 0, channel by channel."""
_MIGRATION = 0.5
_WIDEST = 1e4


@dataclass(frozen=True, slots=True)
class Pair:
    """Two layers and the tensor the second reads.

    Attributes:
        first, second: nodes.
        tensor: what `second` reads.
        repeats: how many of its features come from one channel of `first` (after Flatten).
    """

    first: Any
    second: Any
    tensor: str
    repeats: int


def equalise(model: Any, samples: Sequence[Mapping[str, Array]]) -> tuple[Any, int]:
    """A model with the same function whose channels have like ranges, and how many pairs of layers were balanced.

    Args:
        model: a prepared `ModelProto`; not changed.
        samples: calibration data.
    """
    numpy_helper = needed("onnx").numpy_helper
    copy = copied(model)
    pairs = equalisable(copy)
    if not pairs:
        return copy, 0
    ranges = _channel_ranges(copy, pairs, samples)
    weights = initializers(copy)
    for pair in pairs:
        kernel, following = (numpy_helper.to_array(weights[node.input[1]]) for node in (pair.first, pair.second))
        scales = _scales(ranges[pair.tensor], following, pair)
        _put(weights, pair.first.input[1], kernel / scales.reshape((-1,) + (1,) * (kernel.ndim - 1)))
        if len(pair.first.input) > 2 and pair.first.input[2]:
            _put(weights, pair.first.input[2], numpy_helper.to_array(weights[pair.first.input[2]]) / scales)
        _put(weights, pair.second.input[1], following * _broadcast(scales, following, pair))
    return copy, len(pairs)


def equalisable(model: Any) -> list[Pair]:
    """Pairs of layers between which channels may be scaled, in the order they run."""
    weights = initializers(model)
    outputs = {entry.name for entry in model.graph.output}
    readers = readers_of(model)

    def own(name: str) -> bool:
        return name in weights and len(readers[name]) == 1

    found = []
    for first in model.graph.node:
        if first.op_type != "Conv" or not all(own(name) for name in first.input[1:] if name):
            continue
        tensor, flattened = first.output[0], False
        while len(after := readers.get(tensor, [])) == 1 and tensor not in outputs and after[0].op_type in _PASSING:
            flattened = flattened or after[0].op_type == "Flatten"
            tensor = after[0].output[0]
        if len(after) != 1 or tensor in outputs or after[0].input[0] != tensor:
            continue
        second = after[0]
        repeats = _repeats(weights, first, second, flattened) if len(second.input) > 1 and own(second.input[1]) else 0
        if repeats:
            found.append(Pair(first, second, tensor, repeats))
    return found


def _repeats(weights: Mapping[str, Any], first: Any, second: Any, flattened: bool) -> int:
    """Features of the second layer's input that come from one channel of the first; 0 where they do not fit."""
    channels, dims = weights[first.input[1]].dims[0], weights[second.input[1]].dims
    if second.op_type == "Conv" and not flattened:
        group = attribute(second, "group", 1)
        return int((group == 1 and dims[1] == channels) or (group == channels and dims[1] == 1))
    if second.op_type == "Gemm" and flattened and not attribute(second, "transA", 0) and len(dims) == 2:
        features = dims[1] if attribute(second, "transB", 0) else dims[0]
        return features // channels if features % channels == 0 else 0
    return 0


def _channel_ranges(model: Any, pairs: Sequence[Pair], samples: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """Largest |value| of every channel of the tensors between the pairs: float64[channels]."""
    names = list(dict.fromkeys(pair.tensor for pair in pairs))
    ranges: dict[str, Array] = {}
    repeats = {pair.tensor: pair.repeats for pair in pairs}
    for answer in run_samples(tapped(model, names), samples):
        for name, value in answer.items():
            size = np.abs(value.astype(np.float64))
            size = size.max(axis=tuple(axis for axis in range(size.ndim) if axis != 1))
            size = size.reshape(-1, repeats[name]).max(axis=1)
            ranges[name] = np.maximum(ranges.get(name, size), size)
    return ranges


def _scales(ranges: Array, following: Array, pair: Pair) -> Array:
    """What each channel is divided by. A depthwise reader has a scale for each channel, so all of the spread can go
    there."""
    if _depthwise(following, pair):
        scales = ranges.copy()
    else:
        rows = _by_channel(following, pair)
        reach = np.maximum(np.abs(rows).max(axis=(1, 2), keepdims=True), np.finfo(np.float32).tiny)
        columns = (np.abs(rows) / reach).max(axis=(0, 2))
        usable = (ranges > 0) & (columns > 0)
        scales = np.ones_like(ranges)
        scales[usable] = ranges[usable] ** _MIGRATION / columns[usable] ** (1 - _MIGRATION)
    positive = scales[scales > 0]
    if not positive.size:
        return np.ones_like(scales)
    middle = float(np.exp(np.log(positive).mean()))
    scales[scales <= 0] = middle
    # Powers of two leave every float32 product as it was.
    exponents = np.rint(np.log2(np.clip(scales / middle, 1 / _WIDEST, _WIDEST)))
    return np.asarray(np.exp2(exponents))


def _by_channel(following: Array, pair: Pair) -> Array:
    """The reader's weights as [outputs, channels, what else]."""
    if pair.second.op_type == "Gemm":
        matrix = following if attribute(pair.second, "transB", 0) else following.T
        return matrix.reshape(len(matrix), -1, pair.repeats)
    return following.reshape(*following.shape[:2], -1)


def _broadcast(scales: Array, following: Array, pair: Pair) -> Array:
    """The scales in the shape in which they multiply the reader's weights."""
    if pair.second.op_type == "Gemm":
        repeated = np.repeat(scales, pair.repeats)
        return repeated[None, :] if attribute(pair.second, "transB", 0) else repeated[:, None]
    if _depthwise(following, pair):
        return np.repeat(scales, len(following) // len(scales)).reshape((-1,) + (1,) * (following.ndim - 1))
    return scales.reshape((1, -1) + (1,) * (following.ndim - 2))


def _depthwise(following: Array, pair: Pair) -> bool:
    return bool(pair.second.op_type == "Conv" and attribute(pair.second, "group", 1) > 1 and following.shape[1] == 1)


def _put(weights: Mapping[str, Any], name: str, array: Array) -> None:
    numpy_helper = needed("onnx").numpy_helper
    weights[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array, dtype=np.float32), name))

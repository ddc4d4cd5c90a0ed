"""Batch normalisations: written out over the batch, and folded into the convolutions before them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

EPSILON = 1e-5
SMALLEST_VARIANCE = 1e-3

Array = np.ndarray[Any, np.dtype[Any]]


def written_out(node: onnx.NodeProto, rank: int) -> list[onnx.NodeProto]:
    """A batch normalisation by the statistics of the batch it gets; they become NAME_mean and NAME_variance.

    x -> minus mean -> over deviation -> times gamma -> plus beta -> y
    """
    x, gamma, beta = node.input[:3]
    name = node.name
    axes = [axis for axis in range(rank) if axis != 1]

    def make(kind: str, inputs: Sequence[str], label: str, **attributes: Any) -> onnx.NodeProto:
        output = label if label == node.output[0] else f"{name}_{label}"
        parts = [part if part in (x, gamma, beta) else f"{name}_{part}" for part in inputs]
        return helper.make_node(kind, parts, [output], name=f"{output}_made", **attributes)

    return [
        make("Constant", [], "sizes", value_ints=[1, -1, *[1] * (rank - 2)]),
        make("Constant", [], "floor", value_float=SMALLEST_VARIANCE),
        make("ReduceMean", [x], "mean", axes=axes),
        make("Sub", [x, "mean"], "centred"),
        make("Mul", ["centred", "centred"], "square"),
        make("ReduceMean", ["square"], "variance", axes=axes),
        make("Max", ["variance", "floor"], "floored"),
        make("Sqrt", ["floored"], "deviation"),
        make("Div", ["centred", "deviation"], "normal"),
        make("Reshape", [gamma, "sizes"], "gamma"),
        make("Reshape", [beta, "sizes"], "beta"),
        make("Mul", ["normal", "gamma"], "scaled"),
        make("Add", ["scaled", "beta"], node.output[0]),
    ]


def folded(
    nodes: Sequence[onnx.NodeProto], weights: Mapping[str, Array]
) -> tuple[list[onnx.NodeProto], dict[str, Array]]:
    """Nodes and weights with each batch normalisation that follows a convolution without bias folded into it."""
    changed = dict(weights)
    producers = {name: node for node in nodes for name in node.output}
    kept: dict[str, onnx.NodeProto | None] = {}
    for node in nodes:
        conv = producers.get(node.input[0]) if node.op_type == "BatchNormalization" else None
        if conv is None or conv.op_type != "Conv" or len(conv.input) > 2:
            continue
        gamma, beta, mean, variance = (weights[name] for name in node.input[1:])
        factor = gamma / np.sqrt(variance + EPSILON)
        kernel = weights[conv.input[1]]
        bias = f"{conv.name}_bias"
        changed[conv.input[1]] = kernel * factor.reshape(-1, *[1] * (kernel.ndim - 1))
        changed[bias] = (beta - mean * factor).astype(np.float32)
        whole = onnx.NodeProto()
        whole.CopyFrom(conv)
        whole.input.append(bias)
        whole.output[0] = node.output[0]
        kept[conv.name], kept[node.name] = whole, None
    found = [kept.get(node.name, node) for node in nodes]
    return [node for node in found if node is not None], changed

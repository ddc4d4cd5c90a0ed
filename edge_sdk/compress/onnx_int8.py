"""Static int8 of an ONNX model: weights per channel, activations per tensor, as QuantizeLinear/DequantizeLinear
pairs."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from edge_sdk.compress.onnx_graphs import attribute, copied, initializers, makers_of, readers_of
from edge_sdk.compress.tools import needed, one_line, quiet
from edge_sdk.errors import CompressionError

__all__ = ["QUANTISED_OPS", "glue_layers", "quantisable", "static_int8", "stem_layers", "tail_layers"]

QUANTISED_OPS = (
    "Add", "ArgMax", "Clip", "Concat", "Conv", "ConvTranspose", "Gather", "Gemm", "GlobalAveragePool", "LeakyRelu",
    "MatMul", "MaxPool", "Mul", "Pad", "Relu", "Reshape", "Resize", "Sigmoid", "Slice", "Split", "Squeeze",
    "Transpose", "Unsqueeze", "Where",
)  # fmt: skip
"""Ops that have an int8 kernel in ONNX Runtime, or only move data, or vanish into their neighbour. Not Softmax: its
int8 form rounds to 1/256, and shares among many classes are smaller. Not AveragePool: its int8 kernel took
30 times as long as float in an Inception-shaped network."""
_HEAVY = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_FLOAT_OUTPUT = frozenset({"Gemm", "MatMul"})
"""Their int8 kernels can give floats, so a last layer's scores need not be rounded to 256 steps."""
_ACTIVATIONS = frozenset({"Relu", "Clip", "LeakyRelu", "PRelu", "HardSwish", "Sigmoid"})
_FLOAT_ONLY = frozenset(
    {"Div", "Erf", "Gelu", "LayerNormalization", "Pow", "ReduceMean", "Softmax", "Sqrt", "Sub", "Tanh"}
)
_JOINING = frozenset({"Add", "Mul"})
_STEM_CHANNELS = 4


def static_int8(model: Any, ranges: Any, float_nodes: Collection[str] = ()) -> Any:
    """The model with int8 weights and activations.

    Activations are uint8 and weights int8: the pairing all CPUs have kernels for. What follows the last layer with
    weights stays in float.

    Args:
        model: a prepared `ModelProto`; not changed.
        ranges: of `activation_ranges`.
        float_nodes: names of nodes that stay in float.

    Raises:
        CompressionError: the quantizer fails on this model.
    """
    quantizer = needed("onnxruntime.quantization.qdq_quantizer")
    kinds = needed("onnxruntime.quantization").QuantType
    left_out = [*float_nodes, *tail_layers(model), *glue_layers(model)]
    copy = copied(model)
    try:
        with quiet():
            made = quantizer.QDQQuantizer(
                copy, True, False, kinds.QInt8, kinds.QUInt8, ranges, [], left_out, list(QUANTISED_OPS), {}
            )
            quantised = made.quantize_model()
    except Exception as error:  # noqa: BLE001 - the quantizer has no error class of its own
        raise CompressionError(f"static int8 failed: {one_line(error)}") from None
    return _with_float_scores(quantised, set(left_out))


def quantisable(model: Any) -> list[Any]:
    """The nodes whose arithmetic int8 makes cheaper: those that multiply by constant weights."""
    weights = initializers(model)
    return [node for node in model.graph.node if node.op_type in _HEAVY and any(n in weights for n in node.input[1:2])]


def stem_layers(model: Any) -> list[str]:
    """First convolutions over the few channels of a picture. They stay in float: their int8 kernel works on rows
    too short to pay (2.5 times slower than float on x86 with VNNI), and quantising the picture costs accuracy for
    nothing.

    One that a MaxPool follows is none of them: ONNX Runtime would run that pool on integers in a layout that takes
    it 15 times as long.
    """
    weights = initializers(model)
    inputs = {entry.name for entry in model.graph.input}
    readers = readers_of(model)
    found = []
    for node in model.graph.node:
        if node.op_type != "Conv" or node.input[0] not in inputs or node.input[1] not in weights:
            continue
        if weights[node.input[1]].dims[1] > _STEM_CHANNELS or attribute(node, "group", 1) != 1:
            continue
        after = readers.get(node.output[0], [])
        while len(after) == 1 and after[0].op_type in _ACTIVATIONS:
            after = readers.get(after[0].output[0], [])
        if not any(reader.op_type == "MaxPool" for reader in after):
            found.append(node.name)
    return found


def glue_layers(model: Any) -> list[str]:
    """Sums and products around ops without an int8 kernel (normalisation, GELU, softmax). They stay in float with
    those: in int8 each would cost a rounding and two conversions."""
    neighbours: dict[str, set[str]] = {}
    makers = makers_of(model)
    for node in model.graph.node:
        for name in node.input:
            if name in makers:
                neighbours.setdefault(node.name, set()).add(makers[name].name)
                neighbours.setdefault(makers[name].name, set()).add(node.name)
    found = {node.name for node in model.graph.node if node.op_type in _FLOAT_ONLY}
    joining = {node.name for node in model.graph.node if node.op_type in _JOINING}
    waiting = list(found)
    while waiting:
        for name in neighbours.get(waiting.pop(), ()):
            if name in joining and name not in found:
                found.add(name)
                waiting.append(name)
    return sorted(found)


def tail_layers(model: Any) -> list[str]:
    """Nodes after which no layer with weights comes: rounding there touches the answer, and there is little to gain."""
    makers = makers_of(model)
    before: set[str] = set()
    waiting = list(quantisable(model))
    while waiting:
        node = waiting.pop()
        if node.name not in before:
            before.add(node.name)
            waiting.extend(makers[name] for name in node.input if name in makers)
    return [node.name for node in model.graph.node if node.name not in before]


def _with_float_scores(model: Any, left_out: set[str]) -> Any:
    """Takes out QuantizeLinear/DequantizeLinear pairs between a last Gemm or MatMul and what reads it in float."""
    makers = makers_of(model)
    readers = readers_of(model)
    outputs = {entry.name for entry in model.graph.output}
    dropped = set()
    for pair in [node for node in model.graph.node if node.op_type == "QuantizeLinear"]:
        maker = makers.get(pair.input[0])
        after = readers.get(pair.output[0], [])
        if maker is None or maker.op_type not in _FLOAT_OUTPUT or len(readers[pair.input[0]]) != 1 or len(after) != 1:
            continue
        real = after[0].output[0]
        if any(node.name not in left_out for node in readers.get(real, [])) or pair.input[0] in outputs:
            continue
        maker.output[list(maker.output).index(pair.input[0])] = real
        dropped |= {pair.name, after[0].name}
    kept = [node for node in model.graph.node if node.name not in dropped]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    return model

"""Variants of an ONNX model that need no data: float16, int8 computed on the fly, int4 weights."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from edge_sdk.compress.onnx_graphs import attribute, copied, initializers, inner_graphs, sort_nodes
from edge_sdk.compress.tools import needed, one_line, quiet
from edge_sdk.errors import CompressionError

__all__ = ["SMALLEST_SHARE", "dynamic_int8", "float16", "int4_weights", "weight_share"]

_DYNAMIC_OPS = ("MatMul", "Gemm", "Attention", "LSTM")
"""Ops whose dynamic int8 kernel is fast. Not Conv: with ConvInteger a face detector took 18 times as
long as in float."""
_BLOCK = 32
_FLOAT = 1  # onnx.TensorProto.FLOAT
SMALLEST_SHARE = 0.2
"""Below this share of the weights a variant would be the source again."""


def float16(model: Any) -> tuple[Any, dict[str, str]]:
    """Weights and arithmetic in float16, inputs and outputs as they were. A CPU without float16 kernels computes in
    float32.

    Args:
        model: a cleaned `ModelProto`; not changed.

    Raises:
        CompressionError: nothing to convert, or the converter fails.
    """
    converter = needed("onnxruntime.transformers.float16")
    onnx = needed("onnx")
    if not any(weight.data_type == _FLOAT for weight in model.graph.initializer):
        raise CompressionError("it holds no float32 weights that could become float16")
    copy = copied(model)
    blocked = _beyond_float16(copy)
    try:
        with quiet():
            made = converter.convert_float_to_float16(copy, keep_io_types=True, node_block_list=blocked or None)
            sort_nodes(made.graph)
            onnx.checker.check_model(made)
    except Exception as error:  # noqa: BLE001 - the converter has no error class of its own
        raise CompressionError(f"float16 failed: {one_line(error)}") from None
    recipe = {"method": "onnxruntime.transformers.float16"}
    if blocked:
        recipe["float layers"] = ", ".join(blocked)
    return made, recipe


def dynamic_int8(model: Any) -> tuple[Any, dict[str, str]]:
    """Weights of matrix products and LSTMs in int8, activations quantised anew at each call.

    Args:
        model: a prepared `ModelProto`; not changed.

    Raises:
        CompressionError: less than a fifth of the weights would change, or the quantizer fails.
    """
    quantization = needed("onnxruntime.quantization")
    quantizer = needed("onnxruntime.quantization.onnx_quantizer")
    share = weight_share(model, [node for node in model.graph.node if node.op_type in _DYNAMIC_OPS])
    if share < SMALLEST_SHARE:
        raise CompressionError(
            f"only {share:.0%} of its weights are in matrix products or LSTMs, and dynamic int8 convolutions are slower"
            " than float; static int8 is for convolutions and needs calibration data"
        )
    try:
        with quiet():
            made = quantizer.ONNXQuantizer(
                copied(model), True, False, quantizer.QuantizationMode.IntegerOps, False, quantization.QuantType.QInt8,
                quantization.QuantType.QUInt8, None, [], [], list(_DYNAMIC_OPS), {"MatMulConstBOnly": True},
            )  # fmt: skip
            made.quantize_model()
    except Exception as error:  # noqa: BLE001 - as above
        raise CompressionError(f"dynamic int8 failed: {one_line(error)}") from None
    return made.model.model, {"method": "onnxruntime.quantization dynamic", "weights": "int8 per channel"}


def int4_weights(model: Any) -> tuple[Any, dict[str, str]]:
    """Weights of matrix products in 4 bits by blocks of 32 (MatMulNBits), activations as they were.

    Args:
        model: a prepared `ModelProto`; not changed.

    Raises:
        CompressionError: less than a fifth of the weights would change, or the quantizer fails.
    """
    quantizer = needed("onnxruntime.quantization.matmul_nbits_quantizer")
    copy = copied(model)
    _gemm_to_matmul(copy)
    share = weight_share(copy, [node for node in copy.graph.node if node.op_type == "MatMul"])
    if share < SMALLEST_SHARE:
        raise CompressionError(
            f"only {share:.0%} of its weights are in matrix products, and ONNX Runtime has no 4-bit kernel for others"
        )
    try:
        with quiet():
            made = quantizer.MatMulNBitsQuantizer(copy, bits=4, block_size=_BLOCK, is_symmetric=True)
            made.process()
    except Exception as error:  # noqa: BLE001 - as above
        raise CompressionError(f"int4 weights failed: {one_line(error)}") from None
    return made.model.model, {"method": "onnxruntime MatMulNBits", "weights": f"int4, blocks of {_BLOCK}"}


def _beyond_float16(model: Any) -> list[str]:
    """Nodes with a weight that float16 cannot hold."""
    numpy_helper = needed("onnx").numpy_helper
    largest = 65504.0
    beyond = {
        name
        for name, weight in initializers(model).items()
        if weight.data_type == _FLOAT and math.prod(weight.dims) and abs(numpy_helper.to_array(weight)).max() > largest
    }
    return [node.name for node in model.graph.node if beyond.intersection(node.input)]


def _gemm_to_matmul(model: Any) -> None:
    """Plain fully connected layers as MatMul and Add: only MatMul has 4-bit kernels."""
    onnx = needed("onnx")
    weights = initializers(model)
    kept: list[Any] = []
    for node in model.graph.node:
        plain = (
            node.op_type == "Gemm"
            and node.input[1] in weights
            and attribute(node, "alpha", 1.0) == 1.0
            and attribute(node, "beta", 1.0) == 1.0
            and not attribute(node, "transA", 0)
        )
        if not plain:
            kept.append(node)
            continue
        name = node.input[1]
        if attribute(node, "transB", 0):
            name = f"{node.input[1]}/transposed"
            if name not in weights:
                array = onnx.numpy_helper.to_array(weights[node.input[1]])
                model.graph.initializer.append(onnx.numpy_helper.from_array(array.T.copy(), name))
                weights[name] = model.graph.initializer[-1]
        bias = node.input[2] if len(node.input) > 2 and node.input[2] else ""
        product = f"{node.output[0]}/product" if bias else node.output[0]
        kept.append(onnx.helper.make_node("MatMul", [node.input[0], name], [product], node.name))
        if bias:
            kept.append(onnx.helper.make_node("Add", [product, bias], [node.output[0]], f"{node.name}/bias"))
    del model.graph.node[:]
    model.graph.node.extend(kept)
    _drop_unread(model)


def _drop_unread(model: Any) -> None:
    read = {name for node in model.graph.node for name in node.input} | {entry.name for entry in model.graph.output}
    for graph in inner_graphs(model):
        read |= {name for node in graph.node for name in node.input} | {entry.name for entry in graph.output}
    kept = [weight for weight in model.graph.initializer if weight.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def weight_share(model: Any, nodes: Iterable[Any]) -> float:
    """Share of the float32 weights that these nodes read behind their first input."""
    weights = {name: math.prod(w.dims) for name, w in initializers(model).items() if w.data_type == _FLOAT}
    everything = sum(weights.values())
    read = {name for node in nodes for name in node.input[1:]}
    return sum(size for name, size in weights.items() if name in read) / everything if everything else 0.0

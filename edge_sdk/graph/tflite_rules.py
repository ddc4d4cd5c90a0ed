"""Rules that count the multiply-accumulates of TFLite ops, as `onnx_rules` does for ONNX. Data lie as NHWC."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from edge_sdk.graph.counting import Cost, Operands, Shape, conv_cost, conv_transpose_cost, matmul_cost

__all__ = ["RULES"]


def _strides(op: Operands) -> dict[str, tuple[int, ...]]:
    axes = [axis for axis in ("d", "h", "w") if f"stride_{axis}" in op.options]
    return {
        "strides": tuple(int(op.options[f"stride_{axis}"]) for axis in axes),
        "dilations": tuple(int(op.options.get(f"dilation_{axis}_factor", 1)) for axis in axes),
    }


def _conv_2d(op: Operands) -> Cost:
    """Filter [out, height, width, in of a group]."""
    data, kernel = op.input(0), op.input(1)
    if data is None or kernel is None or len(data) != 4 or len(kernel) != 4 or not kernel[3]:
        return Cost(None)
    return conv_cost(op.output(), kernel[1:3], data[3], kernel[0], max(data[3] // kernel[3], 1), **_strides(op))


def _depthwise_conv_2d(op: Operands) -> Cost:
    """Filter [1, height, width, out]: each output channel sees one input channel."""
    data, kernel = op.input(0), op.input(1)
    if data is None or kernel is None or len(data) != 4 or len(kernel) != 4:
        return Cost(None)
    cost = conv_cost(op.output(), kernel[1:3], data[3], kernel[3], data[3], **_strides(op))
    return Cost(cost.macs, cost.attributes)


def _conv_3d(op: Operands) -> Cost:
    """Filter [depth, height, width, in, out]."""
    kernel = op.input(1)
    if kernel is None or len(kernel) != 5:
        return Cost(None)
    return conv_cost(op.output(), kernel[:3], kernel[3], kernel[4], 1, **_strides(op))


def _transpose_conv(op: Operands) -> Cost:
    """Filter [out, height, width, in]; the data come third, behind the shape to make."""
    kernel = op.input(1)
    if kernel is None or len(kernel) != 4:
        return Cost(None)
    return conv_transpose_cost(op.input(2), kernel[1:3], kernel[3], kernel[0], 1, **_strides(op))


def _conv_3d_transpose(op: Operands) -> Cost:
    """Filter [depth, height, width, out, in]; the data come third, behind the shape to make."""
    kernel = op.input(1)
    if kernel is None or len(kernel) != 5:
        return Cost(None)
    return conv_transpose_cost(op.input(2), kernel[:3], kernel[4], kernel[3], 1, **_strides(op))


def _fully_connected(op: Operands) -> Cost:
    """Weights [out, in]; the output may have any rank."""
    data, weights = op.input(0), op.input(1)
    if data is None or weights is None or len(weights) != 2 or not weights[1]:
        return Cost(None, {}, "gemm")
    rows = math.prod(data) // weights[1]
    cost = matmul_cost((rows, weights[0]), weights[1], True)
    return Cost(cost.macs, cost.attributes, "gemm")


def _batch_matmul(op: Operands) -> Cost:
    data = op.input(0)
    if data is None or len(data) < 2:
        return Cost(None)
    return matmul_cost(op.output(), data[-2] if op.options.get("adj_x") else data[-1], op.is_constant(1))


def _weights_a_step(op: Operands) -> int:
    """Elements of all weight matrices, each of which multiplies once a step and sample."""
    pairs = zip(op.inputs, op.constant, strict=True)
    return sum(math.prod(shape) for shape, constant in pairs if constant and shape is not None and len(shape) == 2)


def _one_step(op: Operands) -> Cost:
    data = op.input(0)
    if data is None or not data:
        return Cost(None)
    return Cost(data[0] * _weights_a_step(op), {"steps": 1, "batch": data[0], "input_size": data[-1]})


def _sequence(op: Operands) -> Cost:
    data, output = op.input(0), op.output()
    if data is None or len(data) != 3:
        return Cost(None)
    batch, steps = (data[1], data[0]) if op.options.get("time_major") else (data[0], data[1])
    attributes = {"steps": steps, "batch": batch, "input_size": data[2]}
    if output is not None and len(output) == 3:
        attributes["hidden_size"] = output[2]
    return Cost(steps * batch * _weights_a_step(op), attributes)


def _pool(op: Operands) -> Cost:
    kernel = (int(op.options.get("filter_height", 1)), int(op.options.get("filter_width", 1)))
    return Cost(0, {"kernel": kernel, **_strides(op)})


def _axis(op: Operands) -> Cost:
    return Cost(0, {"axis": int(op.options["axis"])} if "axis" in op.options else {})


def _stablehlo_convolution(op: Operands) -> Cost:
    kernel = op.input(1)
    feature = int(op.options.get("kernel_output_feature_dimension", 0))
    output = op.output()
    if kernel is None or output is None or not 0 <= feature < len(kernel) or not kernel[feature]:
        return Cost(None)
    return Cost(math.prod(output) * (math.prod(kernel) // kernel[feature]))


def _stablehlo_dot(op: Operands) -> Cost:
    data: Shape = op.input(0)
    output = op.output()
    axes = [int(axis) for axis in op.options.get("lhs_contracting_dimensions", ())]
    if data is None or output is None or not all(0 <= axis < len(data) for axis in axes):
        return Cost(None)
    return Cost(math.prod(output) * math.prod(data[axis] for axis in axes))


RULES: Mapping[str, Callable[[Operands], Cost]] = {
    "CONV_2D": _conv_2d,
    "DEPTHWISE_CONV_2D": _depthwise_conv_2d,
    "CONV_3D": _conv_3d,
    "TRANSPOSE_CONV": _transpose_conv,
    "CONV_3D_TRANSPOSE": _conv_3d_transpose,
    "FULLY_CONNECTED": _fully_connected,
    "BATCH_MATMUL": _batch_matmul,
    **dict.fromkeys(("LSTM", "RNN", "SVDF"), _one_step),
    **dict.fromkeys(
        (
            "UNIDIRECTIONAL_SEQUENCE_LSTM",
            "BIDIRECTIONAL_SEQUENCE_LSTM",
            "UNIDIRECTIONAL_SEQUENCE_RNN",
            "BIDIRECTIONAL_SEQUENCE_RNN",
        ),
        _sequence,
    ),
    **dict.fromkeys(("AVERAGE_POOL_2D", "MAX_POOL_2D", "L2_POOL_2D"), _pool),
    **dict.fromkeys(("CONCATENATION", "GATHER", "PACK", "UNPACK"), _axis),
    "STABLEHLO_CONVOLUTION": _stablehlo_convolution,
    "STABLEHLO_DOT_GENERAL": _stablehlo_dot,
}
"""Rules by op type, as the schema spells it."""

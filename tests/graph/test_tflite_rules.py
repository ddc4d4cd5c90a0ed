"""What each TFLite op costs. The first line of a test draws its graph; data lie as NHWC."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edge_sdk.formats.tflite_types import builtin_ops
from edge_sdk.graph import Op, open_graph
from edge_sdk.graph.tflite_kinds import kind_of
from edge_sdk.graph.tflite_rules import RULES
from edge_sdk.graph.totals import PRODUCT_KINDS
from tests.models import TfliteBuilder

CODES, OPTIONS = schema.BuiltinOperator, schema.BuiltinOptions


def options(kind: str, **settings: Any) -> tuple[Any, int]:
    made = getattr(schema, f"{kind}T")()
    for name, setting in settings.items():
        setattr(made, name, setting)
    return made, getattr(OPTIONS, kind)


def only_op(builder: TfliteBuilder, op: str, inputs: list[int], output: int, settings: tuple[Any, int]) -> Op:
    """The op of a graph of one operator whose first input is fed."""
    fed = [index for index in inputs if index >= 0 and builder.graph.tensors[index].buffer == 0]
    builder.op(getattr(CODES, op), inputs, [output], *settings)
    builder.graph.inputs, builder.graph.outputs = fed, [output]
    (found,) = open_graph(builder.bytes()).ops
    return found


def ones(builder: TfliteBuilder, name: str, *shape: int, dtype: str = "float32") -> int:
    return builder.tensor(name, shape, dtype, data=np.ones(shape))


def test_a_convolution_with_its_activation() -> None:
    # x[1,8,8,3] ─ CONV_2D(w[16,3,3,3], b[16]; stride 2, RELU6) ─ y[1,4,4,16]
    b = TfliteBuilder()
    tensors = [b.tensor("x", [1, 8, 8, 3]), ones(b, "w", 16, 3, 3, 3), ones(b, "b", 16)]
    settings = options("Conv2DOptions", strideW=2, strideH=2, fusedActivationFunction=3)
    op = only_op(b, "CONV_2D", tensors, b.tensor("y", [1, 4, 4, 16]), settings)
    assert (op.kind, op.macs, op.parameters) == ("conv", 4 * 4 * 16 * 27, 16 * 27 + 16)
    assert (op.attributes["strides"], op.attributes["activation"]) == ((2, 2), "relu6")
    assert (op.input_bytes, op.output_bytes, op.parameter_bytes) == (768, 1024, 4 * 448)


def test_a_grouped_convolution() -> None:
    # x[1,4,4,8] ─ CONV_2D(w[6,1,1,4]) ─ y[1,4,4,6]: two groups, as the depth of the filter tells
    b = TfliteBuilder()
    tensors = [b.tensor("x", [1, 4, 4, 8]), ones(b, "w", 6, 1, 1, 4)]
    settings = options("Conv2DOptions", strideW=1, strideH=1)
    op = only_op(b, "CONV_2D", [*tensors, -1], b.tensor("y", [1, 4, 4, 6]), settings)
    assert (op.kind, op.macs, op.attributes["group"]) == ("conv", 16 * 6 * 4, 2)


def test_a_depthwise_convolution() -> None:
    # x[1,4,4,8] ─ DEPTHWISE_CONV_2D(w[1,3,3,16]; multiplier 2) ─ y[1,2,2,16]
    b = TfliteBuilder()
    tensors = [b.tensor("x", [1, 4, 4, 8]), ones(b, "w", 1, 3, 3, 16), ones(b, "b", 16)]
    settings = options("DepthwiseConv2DOptions", strideW=1, strideH=1, depthMultiplier=2, padding=1)
    op = only_op(b, "DEPTHWISE_CONV_2D", tensors, b.tensor("y", [1, 2, 2, 16]), settings)
    assert (op.kind, op.macs, op.attributes["group"]) == ("depthwise_conv", 4 * 16 * 9, 8)


def test_a_transposed_convolution() -> None:
    # shape, w[5,2,2,6], x[1,4,4,6] ─ TRANSPOSE_CONV(stride 2) ─ y[1,8,8,5]
    b = TfliteBuilder()
    size = b.tensor("size", [4], "int32", data=[1, 8, 8, 5])
    tensors = [size, ones(b, "w", 5, 2, 2, 6), b.tensor("x", [1, 4, 4, 6])]
    settings = options("TransposeConvOptions", strideW=2, strideH=2)
    op = only_op(b, "TRANSPOSE_CONV", tensors, b.tensor("y", [1, 8, 8, 5]), settings)
    assert (op.kind, op.macs) == ("conv_transpose", 16 * 6 * 4 * 5)


def test_a_fully_connected_layer_over_more_than_one_row() -> None:
    # x[2,5,8] ─ FULLY_CONNECTED(w[16,8]) ─ y[2,5,16]
    b = TfliteBuilder()
    tensors = [b.tensor("x", [2, 5, 8]), ones(b, "w", 16, 8), -1]
    settings = options("FullyConnectedOptions", keepNumDims=True)
    op = only_op(b, "FULLY_CONNECTED", tensors, b.tensor("y", [2, 5, 16]), settings)
    assert (op.kind, op.macs, op.attributes["k"]) == ("gemm", 10 * 8 * 16, 8)


def test_a_product_of_activations() -> None:
    # a[2,8,5] transposed, b[2,8,3] ─ BATCH_MATMUL ─ y[2,5,3]
    b = TfliteBuilder()
    tensors = [b.tensor("a", [2, 8, 5]), b.tensor("b", [2, 8, 3])]
    op = only_op(b, "BATCH_MATMUL", tensors, b.tensor("y", [2, 5, 3]), options("BatchMatMulOptions", adjX=True))
    assert (op.kind, op.macs) == ("matmul", 2 * 5 * 3 * 8)


def test_a_recurrent_layer_multiplies_by_all_its_matrices_at_every_step() -> None:
    # x[1,10,6] ─ UNIDIRECTIONAL_SEQUENCE_LSTM(4 × w[5,6], 4 × r[5,5], …) ─ y[1,10,5]
    b = TfliteBuilder()
    x = b.tensor("x", [1, 10, 6])
    matrices = [ones(b, f"w{i}", 5, 6) for i in range(4)] + [ones(b, f"r{i}", 5, 5) for i in range(4)]
    biases = [ones(b, f"b{i}", 5) for i in range(4)]
    state = [b.tensor(name, [1, 5], variable=True) for name in ("h", "c")]
    inputs = [x, *matrices, -1, -1, -1, *biases, -1, -1, *state]
    settings = options("UnidirectionalSequenceLSTMOptions", timeMajor=False)
    b.op(CODES.UNIDIRECTIONAL_SEQUENCE_LSTM, inputs, [y := b.tensor("y", [1, 10, 5])], *settings)
    b.graph.inputs, b.graph.outputs = [x], [y]
    (op,) = open_graph(b.bytes()).ops
    assert (op.kind, op.macs) == ("recurrent", 10 * 4 * 5 * (6 + 5))
    assert (op.attributes["steps"], op.attributes["hidden_size"]) == (10, 5)


def test_tiles_of_a_dilated_convolution_are_counted_where_the_file_leaves_the_batch_open() -> None:
    # x[?,4,4,1] ─ SPACE_TO_BATCH_ND(2×2) ─ [4·?,2,2,1] ─ CONV_2D(w[3,1,1,1]) ─ BATCH_TO_SPACE_ND ─ y[?,4,4,3]
    b = TfliteBuilder()
    x = b.tensor("x", [1, 4, 4, 1], signature=[-1, 4, 4, 1])
    tiles = b.tensor("tiles", [1, 2, 2, 1], signature=[-1, 2, 2, 1])
    maps = b.tensor("maps", [1, 2, 2, 3], signature=[-1, 2, 2, 3])
    y = b.tensor("y", [1, 4, 4, 3], signature=[-1, 4, 4, 3])
    block = b.tensor("block", [2], "int32", data=[2, 2])
    none = b.tensor("none", [2, 2], "int32", data=np.zeros((2, 2)))
    b.op(CODES.SPACE_TO_BATCH_ND, [x, block, none], [tiles])
    b.op(CODES.CONV_2D, [tiles, ones(b, "w", 3, 1, 1, 1), -1], [maps], *options("Conv2DOptions", strideW=1, strideH=1))
    b.op(CODES.BATCH_TO_SPACE_ND, [maps, block, none], [y])
    b.graph.inputs, b.graph.outputs = [x], [y]
    graph = open_graph(b.bytes())
    assert graph.macs == 16 * 3 and graph.tensors["tiles"].shape == (4, 2, 2, 1)
    assert open_graph(b.bytes(), {"x[0]": 5}).macs == 5 * 16 * 3


def test_every_builtin_op_has_a_kind() -> None:
    without = {op for op in builtin_ops() if kind_of(op) == ("other", False)}
    nameless = {"CUSTOM", "DELEGATE", "PLACEHOLDER_FOR_GREATER_OP_CODES", "STABLEHLO_CUSTOM_CALL"}
    assert without == nameless | {"LSH_PROJECTION", "RFFT2D"}
    assert {op for op in builtin_ops() if kind_of(op)[0] in PRODUCT_KINDS} <= RULES.keys()


@pytest.mark.parametrize("op", ["RELU", "SOFTMAX", "LOGISTIC", "SQRT"])
def test_ops_that_multiply_nothing_are_counted_with_0(op: str) -> None:
    # x[2,3] ─ op ─ y[2,3]
    b = TfliteBuilder()
    found = only_op(b, op, [b.tensor("x", [2, 3])], b.tensor("y", [2, 3]), (None, OPTIONS.NONE))
    assert (found.macs, found.counted, found.input_bytes) == (0, True, 24)

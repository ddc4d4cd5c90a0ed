"""What each ONNX op costs. The first line of a test draws its graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from edge_sdk.graph import Op, open_graph
from edge_sdk.graph.onnx_kinds import kind_of
from edge_sdk.graph.onnx_rules import RULES
from edge_sdk.graph.totals import PRODUCT_KINDS
from tests import models

onnx = pytest.importorskip("onnx")
node, value = onnx.helper.make_node, models.value


def weight(name: str, *shape: int, dtype: Any = np.float32) -> Any:
    return models.constant(name, np.ones(shape), dtype)


def only_op(nodes: Any, inputs: Sequence[Any], weights: Sequence[Any] = (), *, opset: int = 17, **options: Any) -> Op:
    """The op of a graph of one node, whose outputs are the graph's."""
    outputs = [value(name, None) for name in nodes.output if name]
    content = models.onnx_bytes([nodes], inputs, outputs, weights, opset=opset, **options)
    (op,) = open_graph(content).ops
    return op


def test_a_convolution() -> None:
    # x[1,3,8,8] ─ Conv(w[16,3,3,3], b[16]; stride 2, pad 1) ─ y[1,16,4,4]
    conv = node("Conv", ["x", "w", "b"], ["y"], strides=[2, 2], pads=[1, 1, 1, 1])
    op = only_op(conv, [value("x", [1, 3, 8, 8])], [weight("w", 16, 3, 3, 3), weight("b", 16)])
    assert (op.kind, op.macs) == ("conv", 16 * 4 * 4 * 3 * 3 * 3)
    assert (op.parameters, op.parameter_bytes) == (16 * 27 + 16, 4 * (16 * 27 + 16))
    assert (op.input_bytes, op.output_bytes) == (4 * 3 * 64, 4 * 16 * 16)
    assert (op.attributes["kernel"], op.attributes["strides"], op.attributes["group"]) == ((3, 3), (2, 2), 1)
    assert (op.attributes["in_channels"], op.attributes["out_channels"]) == (3, 16)
    assert op.precision == "float32" and op.counted


def test_a_depthwise_convolution_sees_one_channel() -> None:
    # x[2,16,5,5] ─ Conv(w[16,1,3,3]; group 16) ─ y[2,16,3,3]
    op = only_op(node("Conv", ["x", "w"], ["y"], group=16), [value("x", [2, 16, 5, 5])], [weight("w", 16, 1, 3, 3)])
    assert (op.kind, op.macs) == ("depthwise_conv", 2 * 16 * 9 * 9)


def test_a_grouped_convolution_of_one_dimension() -> None:
    # x[1,8,20] ─ Conv(w[12,4,5]; group 2, dilation 2) ─ y[1,12,12]
    conv = node("Conv", ["x", "w"], ["y"], group=2, dilations=[2])
    op = only_op(conv, [value("x", [1, 8, 20])], [weight("w", 12, 4, 5)])
    assert (op.kind, op.macs) == ("conv", 12 * 12 * 4 * 5)
    assert (op.attributes["kernel"], op.attributes["dilations"], op.attributes["group"]) == ((5,), (2,), 2)


def test_a_transposed_convolution_spreads_each_input() -> None:
    # x[1,6,4,4] ─ ConvTranspose(w[6,5,2,2]; stride 2) ─ y[1,5,8,8]
    op = only_op(
        node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2]), [value("x", [1, 6, 4, 4])], [weight("w", 6, 5, 2, 2)]
    )
    assert (op.kind, op.macs) == ("conv_transpose", 6 * 16 * 5 * 4)


@pytest.mark.parametrize("transposed", [0, 1])
def test_a_gemm(transposed: int) -> None:
    # x[4,8] or its transpose ─ Gemm(w[8,16], b[16]) ─ y[4,16]
    gemm = node("Gemm", ["x", "w", "b"], ["y"], transA=transposed)
    op = only_op(gemm, [value("x", [8, 4] if transposed else [4, 8])], [weight("w", 8, 16), weight("b", 16)])
    assert (op.kind, op.macs, op.parameters) == ("gemm", 4 * 8 * 16, 8 * 16 + 16)
    assert dict(op.attributes) == {"batch": 1, "m": 4, "n": 16, "k": 8}


def test_a_product_with_weights_is_a_gemm_in_kind() -> None:
    # x[2,5,8] ─ MatMul(w[8,16]) ─ y[2,5,16]
    op = only_op(node("MatMul", ["x", "w"], ["y"]), [value("x", [2, 5, 8])], [weight("w", 8, 16)])
    assert (op.kind, op.macs) == ("gemm", 2 * 5 * 8 * 16)


def test_a_product_of_activations() -> None:
    # q[2,3,5,8], k[2,3,8,7] ─ MatMul ─ y[2,3,5,7]
    op = only_op(node("MatMul", ["q", "k"], ["y"]), [value("q", [2, 3, 5, 8]), value("k", [2, 3, 8, 7])])
    assert (op.kind, op.macs, op.parameters) == ("matmul", 6 * 5 * 8 * 7, 0)
    assert dict(op.attributes) == {"batch": 6, "m": 5, "n": 7, "k": 8}


@pytest.mark.parametrize(
    ("a", "b", "macs"), [([8], [8, 3], 24), ([3, 8], [8], 24), ([8], [8], 8), ([2, 3, 8], [8], 48)]
)
def test_products_of_vectors(a: list[int], b: list[int], macs: int) -> None:
    # a ─ MatMul(b) ─ y, where a, b or both are vectors
    assert only_op(node("MatMul", ["a", "b"], ["y"]), [value("a", a), value("b", b)]).macs == macs


@pytest.mark.parametrize(
    ("equation", "shapes", "macs"),
    [
        ("bhid,bhjd->bhij", [[2, 3, 5, 8], [2, 3, 7, 8]], 2 * 3 * 5 * 7 * 8),
        ("...ij, ...jk", [[4, 5, 8], [4, 8, 3]], 4 * 5 * 8 * 3),
        ("ij->ji", [[3, 4]], 0),
    ],
)
def test_an_einsum(equation: str, shapes: list[list[int]], macs: int) -> None:
    # a, b ─ Einsum(…) ─ y: every combination of indices takes a product
    names = ["a", "b"][: len(shapes)]
    inputs = [value(name, shape) for name, shape in zip(names, shapes, strict=True)]
    assert only_op(node("Einsum", names, ["y"], equation=equation), inputs).macs == macs


@pytest.mark.parametrize(("op_type", "gates"), [("RNN", 1), ("GRU", 3), ("LSTM", 4)])
def test_recurrent_layers(op_type: str, gates: int) -> None:
    # x[10 steps, batch 2, 6] ─ LSTM/GRU/RNN(w[2, gates·5, 6], r[2, gates·5, 5]; both ways) ─ y[10,2,2,5]
    layer = node(op_type, ["x", "w", "r"], ["y"], hidden_size=5, direction="bidirectional")
    op = only_op(layer, [value("x", [10, 2, 6])], [weight("w", 2, gates * 5, 6), weight("r", 2, gates * 5, 5)])
    assert (op.kind, op.macs) == ("recurrent", 10 * 2 * 2 * gates * 5 * (6 + 5))
    assert (op.attributes["steps"], op.attributes["hidden_size"], op.attributes["directions"]) == (10, 5, 2)


def test_attention_is_two_products() -> None:
    # q[1,4,6,8], k[1,4,9,8], v[1,4,9,8] ─ Attention ─ y[1,4,6,8]
    inputs = [value("q", [1, 4, 6, 8]), value("k", [1, 4, 9, 8]), value("v", [1, 4, 9, 8])]
    op = only_op(node("Attention", ["q", "k", "v"], ["y"]), inputs, opset=23, ir_version=10)
    assert (op.kind, op.macs) == ("attention", 4 * 6 * 9 * (8 + 8))


def test_packed_weights_of_four_bits() -> None:
    # x[2,64] ─ MatMulNBits(w uint8[32, 2, 16] for 64×32 weights) ─ y[2,32]
    op = only_op(
        node("MatMulNBits", ["x", "w", "s"], ["y"], domain="com.microsoft", K=64, N=32, bits=4, block_size=32),
        [value("x", [2, 64])],
        [weight("w", 32, 2, 16, dtype=np.uint8), weight("s", 64)],
        domains=[("com.microsoft", 1)],
    )
    assert (op.kind, op.macs, op.precision) == ("gemm", 2 * 64 * 32, "int4 (weights only)")
    assert (op.output_bytes, op.parameter_bytes) == (4 * 2 * 32, 32 * 2 * 16 + 4 * 64)


@pytest.mark.parametrize("op_type", ["Relu", "Sigmoid", "Softmax", "Transpose", "Flatten", "ReduceMean", "Erf"])
def test_ops_that_multiply_nothing_are_counted_with_0(op_type: str) -> None:
    # x[2,3] ─ op ─ y
    op = only_op(node(op_type, ["x"], ["y"]), [value("x", [2, 3])])
    assert (op.macs, op.counted) == (0, True) and op.input_bytes == 24


def test_of_a_table_only_the_rows_looked_up_are_read() -> None:
    # ids[1,7] ─ Gather(table[1000,16]) ─ y[1,7,16]
    op = only_op(
        node("Gather", ["table", "ids"], ["y"]), [value("ids", [1, 7], models.I64)], [weight("table", 1000, 16)]
    )
    assert (op.parameters, op.parameter_bytes, op.output_bytes) == (16_000, 4 * 7 * 16, 4 * 7 * 16)


def test_what_no_rule_covers_is_named_and_not_counted() -> None:
    # x[2,3] ─ a.domain.Mystery ─ y
    content = models.onnx_bytes(
        [node("Mystery", ["x"], ["y"], domain="a.domain")],
        [value("x", [2, 3])],
        [value("y", [2, 3])],
        domains=[("a.domain", 1)],
    )
    graph = open_graph(content)
    (op,) = graph.ops
    assert (op.type, op.kind, op.macs, op.counted) == ("a.domain.Mystery", "other", None, False)
    assert (op.input_bytes, op.output_bytes) == (24, 24)
    assert graph.uncounted == {"a.domain.Mystery": 1} and graph.macs == 0


def test_every_standard_op_has_a_kind() -> None:
    schemas = {(s.domain, s.name) for s in onnx.defs.get_all_schemas() if s.name not in ("Constant", "FlexAttention")}
    types = [name if domain == "" else f"{domain}.{name}" for domain, name in schemas]
    nameless = {"DFT", "STFT", "MelWeightMatrix", "ImageDecoder"}
    unknown = {op for op in types if kind_of(op) == ("other", False) and op not in nameless}
    assert all(op.startswith(("ai.onnx.ml.SVM", "ai.onnx.ml.Tree", "ai.onnx.preview")) for op in unknown)
    standard = {op for op in types if "." not in op and kind_of(op)[0] in PRODUCT_KINDS}
    assert standard <= RULES.keys()

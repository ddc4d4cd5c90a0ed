"""What each op computes in. The first line of a test draws its graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edge_sdk.graph import Graph, open_graph
from tests import models

onnx = pytest.importorskip("onnx")
node, value, constant = onnx.helper.make_node, models.value, models.constant
SCALES = [constant("s", 0.1), constant("z", 0, np.uint8), constant("zw", 0, np.int8), constant("sw", 0.1)]


def precisions(graph: Graph) -> dict[str, str]:
    return {op.type: op.precision for op in graph.ops}


def quantised(*inner: Any, weights: Any = ()) -> dict[str, str]:
    """Precision by op of x ─ QuantizeLinear ─ DequantizeLinear ─ a ─ … ─ b ─ QuantizeLinear ─ DequantizeLinear ─ y."""
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        node("DequantizeLinear", ["xq", "s", "z"], ["a"]),
        *inner,
        node("QuantizeLinear", ["b", "s", "z"], ["bq"]),
        node("DequantizeLinear", ["bq", "s", "z"], ["y"]),
    ]
    content = models.onnx_bytes(nodes, [value("x", [1, 2, 4, 4])], [value("y", None)], [*SCALES, *weights])
    return precisions(open_graph(content))


def test_between_dequantising_and_quantising_an_op_is_int8() -> None:
    # x ─ Q ─ DQ ─ Conv(DQ(w int8)) ─ Relu ─ Q ─ DQ ─ y: the range of the type does the work of the Relu
    found = quantised(
        node("DequantizeLinear", ["wq", "sw", "zw"], ["w"]),
        node("Conv", ["a", "w"], ["c"]),
        node("Relu", ["c"], ["b"]),
        weights=[constant("wq", np.ones((3, 2, 1, 1)), np.int8)],
    )
    assert (found["Conv"], found["Relu"], found["QuantizeLinear"], found["DequantizeLinear"]) == ("int8",) * 4


def test_an_op_whose_input_is_not_quantised_stays_float() -> None:
    # x ─ Q ─ DQ ─ Sqrt ─ Neg ─ Q ─ DQ ─ y: Sqrt hands floats to Neg
    found = quantised(node("Sqrt", ["a"], ["c"]), node("Neg", ["c"], ["b"]))
    assert (found["Sqrt"], found["Neg"]) == ("float32", "float32")


def test_integer_weights_under_floats_are_weights_only() -> None:
    # x float ─ Conv(DQ(w int8)) ─ y float
    nodes = [node("DequantizeLinear", ["wq", "sw", "zw"], ["w"]), node("Conv", ["x", "w"], ["y"])]
    weights = [*SCALES, constant("wq", np.ones((3, 2, 1, 1)), np.int8)]
    graph = open_graph(models.onnx_bytes(nodes, [value("x", [1, 2, 4, 4])], [value("y", None)], weights))
    assert precisions(graph)["Conv"] == "int8 (weights only)"
    conv = graph.ops[1]
    assert (conv.parameters, conv.parameter_bytes) == (6, 6)  # as stored, a byte each


def test_half_precision_weights_under_floats() -> None:
    # x float32 ─ MatMul(Cast(w float16)) ─ y
    nodes = [node("Cast", ["w"], ["wide"], to=1), node("MatMul", ["x", "wide"], ["y"])]
    weights = [constant("w", np.ones((4, 3)), np.float16)]
    graph = open_graph(models.onnx_bytes(nodes, [value("x", [2, 4])], [value("y", None)], weights))
    assert precisions(graph)["MatMul"] == "float16 (weights only)"


def test_float16_throughout() -> None:
    assert set(precisions(open_graph(models.onnx_float16())).values()) == {"float16"}


def test_quantised_while_running() -> None:
    found = precisions(open_graph(models.onnx_int8_dynamic()))
    assert found["MatMulInteger"] == found["DynamicQuantizeLinear"] == "int8 (dynamic)"


def test_tflite_precisions() -> None:
    assert set(precisions(open_graph(models.tflite_float_conv())).values()) == {"float32"}
    assert precisions(open_graph(models.tflite_int8())) == {"FULLY_CONNECTED": "int8"}
    assert precisions(open_graph(models.tflite_int8("uint8"))) == {"FULLY_CONNECTED": "int8"}
    assert precisions(open_graph(models.tflite_int8_dynamic())) == {"FULLY_CONNECTED": "int8 (dynamic)"}


def test_indices_and_shapes_have_their_own_type() -> None:
    # x ─ Shape ─ Gather ─ y
    nodes = [node("Shape", ["x"], ["s"]), node("Gather", ["s", "i"], ["y"])]
    graph = open_graph(
        models.onnx_bytes(nodes, [value("x", [2, 3])], [value("y", None, models.I64)], [constant("i", 0, np.int64)])
    )
    assert graph.ops[1].precision == "int64"

"""The cut at the inputs: they travel, and the tail is the whole model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edge_sdk.errors import ModelError, UnsupportedOp
from edge_sdk.formats import open_model
from edge_sdk.graph import open_graph
from edge_sdk.graph.codec import read_record, wire_bytes
from edge_sdk.graph.cuts import cut_at, input_cut
from edge_sdk.graph.splitting import split_model
from edge_sdk.offload.parts import made_parts
from tests import models
from tests.graph.test_codecs import both, run

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
node, value, constant = onnx.helper.make_node, models.value, models.constant


@pytest.mark.parametrize("make", [models.onnx_conv, models.tflite_float_conv])
def test_the_tail_is_the_whole_and_without_a_codec_there_is_no_head(make: Callable[[], bytes], untried: None) -> None:
    content = make()
    graph = open_graph(content)
    cut = input_cut(graph)
    assert cut == cut_at(graph, graph.inputs) and cut.is_at_inputs and not cut.divides
    assert (cut.tensors, cut.head_outputs, cut.tail_outputs) == (graph.inputs, (), graph.outputs)
    with open_model(content) as model:
        made = made_parts(model, cut, graph=graph)
    assert made.split.head == b"" and made.samples == 0 and not made.made_up
    feeds = {name: np.full(graph.tensors[name].shape or (), 0.5, np.float32) for name in cut.tensors}
    there, here = both(made.split, feeds), run(content, feeds)
    assert all(np.array_equal(there[name], here[name]) for name in here)


@pytest.mark.parametrize("make", [models.onnx_conv, models.tflite_float_conv])
def test_with_a_codec_the_head_is_what_encodes(make: Callable[[], bytes], untried: None) -> None:
    content = make()
    cut = input_cut(open_graph(content))
    with open_model(content) as model:
        made = made_parts(model, cut, codec="int8")
    head = open_model(made.split.head).describe()
    assert {spec.name for spec in head.outputs} == set(made.split.sent)
    assert {spec.dtype for spec in head.outputs} == {"uint8"}
    assert made.made_up and made.difference.relative < 0.1
    record = read_record(open_model(made.split.tail))
    assert record is not None and (record.part, record.cut, record.codec) == ("tail", cut.id, "int8")


def branching(weight: float = 2.0) -> bytes:
    """If(sum(x) > 0): x · w, else: x; `x` and `w` are of the graph around."""
    outcome = [onnx.helper.make_tensor_value_info("r", 1, [1, 6])]
    then = onnx.helper.make_graph([node("Mul", ["x", "w"], ["r"])], "then", [], outcome)
    otherwise = onnx.helper.make_graph([node("Identity", ["x"], ["r"])], "otherwise", [], outcome)
    nodes = [
        node("ReduceSum", ["x"], ["s"], keepdims=0),
        node("Greater", ["s", "zero"], ["above"]),
        node("If", ["above"], ["y"], then_branch=then, else_branch=otherwise),
    ]
    weights = [constant("w", [weight]), constant("zero", np.array(0.0))]
    return models.onnx_bytes(nodes, [value("x", [1, 6])], [value("y", [1, 6])], weights)


@pytest.mark.parametrize("codec", ["none", "int8", "int4", "int16"])
def test_control_flow_does_no_harm_there(codec: str, untried: None) -> None:
    content = branching()
    graph = open_graph(content)
    with pytest.raises(UnsupportedOp):
        cut_at(graph, ["x"])
    cut = input_cut(graph)
    feeds = {"x": np.array([[1, -2, 0.5, 3, -1, 0.25]], np.float32)}
    with open_model(content) as model:
        split = made_parts(model, cut, codec=codec, samples=[feeds], graph=graph).split
    assert np.abs(both(split, feeds)["y"] - run(content, feeds)["y"]).max() <= 0.5
    assert wire_bytes(graph, cut, codec) == {"none": 24, "int8": 6, "int4": 3, "int16": 12}[codec]


def test_an_input_that_is_an_output_stays() -> None:
    content = models.onnx_bytes(
        [node("Relu", ["x"], ["y"])], [value("x", [4])], [value("y", [4]), value("x", [4])]
    )  # fmt: skip
    split = split_model(content, input_cut(open_graph(content)))
    assert split.head_outputs == ("x",) and split.head
    feeds = {"x": np.array([-1, 0, 1, 2], np.float32)}
    assert {name: array.tolist() for name, array in both(split, feeds).items()} == {
        "x": [-1, 0, 1, 2],
        "y": [0, 0, 1, 2],
    }


def test_what_keeps_state_cannot_run_elsewhere() -> None:
    content = models.onnx_bytes([node("Constant", [], ["y"], value_float=1.0)], [value("x", [1])], [value("y", [])])
    with pytest.raises(ModelError, match="nothing of it depends on inputs; run it here"):
        input_cut(open_graph(content))

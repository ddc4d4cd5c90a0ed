"""`open_graph`: order, tensors, sizes of open dimensions, totals and memory, for both formats."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from edge_sdk.errors import DamagedModel, InputNameError, InputShapeError, MissingExtra, ModelNotFound
from edge_sdk.formats import open_model
from edge_sdk.graph import Graph, open_graph
from tests import models

onnx = pytest.importorskip("onnx")
node, value, constant = onnx.helper.make_node, models.value, models.constant


def shapes(graph: Graph) -> dict[str, tuple[int, ...] | None]:
    return {name: tensor.shape for name, tensor in graph.tensors.items()}


# --- what is in it ---


def test_an_onnx_graph() -> None:
    # x[batch,8] ─ Gemm(8×16) ─ Relu ─ Gemm(16×4) ─ Softmax ─ y[batch,4]
    graph = open_graph(models.onnx_mlp())
    assert (graph.format, graph.inputs, graph.outputs) == ("onnx", ("x",), ("y",))
    assert [op.type for op in graph.ops] == ["Gemm", "Relu", "Gemm", "Softmax"]
    assert graph.assumed == {"batch": 1} and graph.uncounted == {}
    assert (graph.macs, graph.parameters, graph.parameter_bytes) == (8 * 16 + 16 * 4, 212, 848)
    assert graph.tensors["x"].shape == (1, 8) and not graph.tensors["x"].constant
    assert graph.activation_bytes == 4 * (8 + 16 + 16 + 4 + 4)
    assert graph.peak_activation_bytes == 4 * (16 + 16)


def test_a_tflite_graph() -> None:
    # image[1,8,8,3] ─ CONV_2D(4×3×3×3) ─ MEAN ─ SOFTMAX ─ scores[1,4]
    graph = open_graph(models.tflite_float_conv())
    assert (graph.format, graph.inputs, graph.outputs) == ("tflite", ("image",), ("scores",))
    assert [(op.name, op.kind) for op in graph.ops] == [
        ("CONV_2D_0", "conv"),
        ("MEAN_1", "reduce"),
        ("SOFTMAX_2", "softmax"),
    ]
    assert (graph.macs, graph.assumed) == (64 * 4 * 27, {})
    assert graph.peak_activation_bytes == 4 * (8 * 8 * 3 + 8 * 8 * 4)


def test_sources_are_a_path_bytes_or_an_open_file_that_stays_open(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(models.onnx_mlp())
    with open_model(path) as model:
        assert open_graph(path) == open_graph(path.read_bytes()) == open_graph(model)
        assert len(model.content()) == model.size_bytes


def test_initialisers_listed_as_inputs_are_constants() -> None:
    # x ─ MatMul(w) ─ Add(b) ─ Relu ─ y; w and b are listed as inputs too
    graph = open_graph(models.onnx_with_initializer_inputs())
    assert graph.inputs == ("x",) and graph.parameters == 15
    assert graph.tensors["w"].constant and graph.tensors["b"].constant and not graph.tensors["p"].constant


def test_nodes_are_put_in_an_order_in_which_they_run_and_unnamed_ones_get_names() -> None:
    # x ─ Relu ─ a ─ Neg ─ y, written the other way round
    nodes = [node("Neg", ["a"], ["y"]), node("Relu", ["x"], ["a"])]
    graph = open_graph(models.onnx_bytes(nodes, [value("x", [2])], [value("y", [2])]))
    assert [op.name for op in graph.ops] == ["Relu_0", "Neg_1"]
    twice = [node("Relu", ["x"], ["a"], name="same"), node("Neg", ["a"], ["y"], name="same")]
    graph = open_graph(models.onnx_bytes(twice, [value("x", [2])], [value("y", [2])]))
    assert [op.name for op in graph.ops] == ["same", "same#2"]


def test_functions_of_the_model_are_inlined() -> None:
    types = {op.type for op in open_graph(models.onnx_function()).ops}
    assert not any("." in op for op in types)


def test_what_is_computed_from_weights_alone_costs_nothing_and_counts_once() -> None:
    # w[3,4] ─ Transpose ─ t;  x[2,4] ─ MatMul(t) ─ a ─ MatMul(w) ─ y: w is one weight, read twice
    nodes = [node("Transpose", ["w"], ["t"]), node("MatMul", ["x", "t"], ["a"]), node("MatMul", ["a", "w"], ["y"])]
    graph = open_graph(
        models.onnx_bytes(nodes, [value("x", [2, 4])], [value("y", [2, 4])], [constant("w", np.ones((3, 4)))])
    )
    transpose, first, second = graph.ops
    assert graph.tensors["t"].constant
    assert (transpose.macs, transpose.input_bytes, transpose.output_bytes, transpose.parameters) == (0, 0, 0, 0)
    assert (first.kind, first.parameters, second.parameters, graph.parameters) == ("gemm", 12, 12, 12)


def test_external_data_are_not_read(tmp_path: Path) -> None:
    path = models.onnx_external_data(tmp_path)
    whole = open_graph(path)
    (data,) = (file for file in tmp_path.iterdir() if file != path)
    data.write_bytes(b"\xff" * data.stat().st_size)
    assert open_graph(path) == whole and whole.parameters > 0


# --- open dimensions ---


def test_open_sizes_can_be_given() -> None:
    # x[batch,8] ─ … ─ y[batch,4]
    graph = open_graph(models.onnx_mlp(), {"batch": 32})
    assert graph.assumed == {"batch": 32} and graph.macs == 32 * (8 * 16 + 16 * 4)
    assert graph.tensors["y"].shape == (32, 4)


def test_nameless_dimensions_are_called_by_their_input_and_axis() -> None:
    # x[?,?] ─ Relu ─ y
    content = models.onnx_bytes([node("Relu", ["x"], ["y"])], [value("x", [None, None])], [value("y", [None, None])])
    assert open_graph(content).assumed == {"x[0]": 1, "x[1]": 1}
    assert open_graph(content, {"x[1]": 7}).tensors["y"].shape == (1, 7)


def test_a_size_is_taken_for_which_every_tensor_has_a_shape() -> None:
    # x[batch,length] ─ Unsqueeze ─ Conv(kernel 40) ─ y: a length of 1 is too short
    nodes = [node("Unsqueeze", ["x", "axis"], ["u"]), node("Conv", ["u", "w"], ["y"])]
    weights = [constant("axis", [1], np.int64), constant("w", np.ones((2, 1, 40)))]
    content = models.onnx_bytes(nodes, [value("x", ["batch", "length"])], [value("y", None)], weights)
    graph = open_graph(content)
    assert graph.assumed == {"batch": 1, "length": 64} and graph.tensors["y"].shape == (1, 2, 25)


def test_the_number_of_samples_of_a_tflite_file_can_be_changed() -> None:
    # x[?,3] ─ ADD(x) ─ y[?,3]
    content = models.tflite_dynamic()
    assert open_graph(content).assumed == {"x[0]": 1}
    graph = open_graph(content, {"x[0]": 5})
    assert graph.tensors["y"].shape == (5, 3) and graph.assumed == {"x[0]": 5}


def test_wrong_sizes_are_refused_with_the_open_dimensions() -> None:
    with pytest.raises(InputNameError, match="no open dimension 'bath'; open dimensions: 'batch'"):
        open_graph(models.onnx_mlp(), {"bath": 2})
    with pytest.raises(InputShapeError, match="size 0 of dimension 'batch'"):
        open_graph(models.onnx_mlp(), {"batch": 0})
    with pytest.raises(InputNameError, match="none: all are fixed"):
        open_graph(models.tflite_float_conv(), {"batch": 2})


def test_shapes_that_the_graph_computes_are_worked_out() -> None:
    # x[batch,4,6] ─ Reshape(Concat(Unsqueeze(Gather(Shape(x), 0)), -1)) ─ y[batch,24]
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Gather", ["shape", "first"], ["batch"]),
        node("Unsqueeze", ["batch", "axes"], ["row"]),
        node("Concat", ["row", "rest"], ["target"], axis=0),
        node("Reshape", ["x", "target"], ["y"]),
    ]
    numbers = {"first": 0, "axes": [0], "rest": [-1]}
    weights = [constant(name, number, np.int64) for name, number in numbers.items()]
    content = models.onnx_bytes(nodes, [value("x", ["batch", 4, 6])], [value("y", None)], weights)
    assert open_graph(content, {"batch": 3}).tensors["y"].shape == (3, 24)


def test_what_the_file_says_of_inner_tensors_does_not_outweigh_the_sizes_given() -> None:
    # x[batch,8] ─ Relu ─ a (the file says [1,8]) ─ Neg ─ y
    graph = onnx.helper.make_graph(
        [node("Relu", ["x"], ["a"]), node("Neg", ["a"], ["y"])],
        "g",
        [value("x", ["batch", 8])],
        [value("y", [1, 8])],
        value_info=[value("a", [1, 8])],
    )
    made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    found = shapes(open_graph(made.SerializeToString(), {"batch": 4}))
    assert found["a"] == found["y"] == (4, 8)


# --- graphs inside ops ---


def test_a_loop_counts_its_body_once_and_names_what_it_takes_from_around_it() -> None:
    graph = open_graph(models.onnx_loop())
    (loop,) = (op for op in graph.ops if op.type == "Loop")
    assert (loop.kind, loop.counted) == ("control", True) and loop.attributes["ops"] >= 1


def branch(name: str, columns: int) -> onnx.GraphProto:
    weights = constant(f"{name}_w", np.ones((8, columns)))
    return onnx.helper.make_graph(
        [node("MatMul", ["x", f"{name}_w"], [f"{name}_y"])], name, [], [value(f"{name}_y", None)], [weights]
    )


def test_an_if_counts_its_dearer_branch() -> None:
    # condition, x[2,8] ─ If(then: x·w[8,3]; else: x·w[8,30]) ─ y
    choice = node("If", ["condition"], ["y"], then_branch=branch("small", 3), else_branch=branch("large", 30))
    inputs = [value("condition", [], onnx.TensorProto.BOOL), value("x", [2, 8])]
    graph = open_graph(models.onnx_bytes([choice], inputs, [value("y", None)]))
    (op,) = graph.ops
    assert (op.macs, op.parameters, graph.parameters) == (2 * 8 * 30, 240, 240)
    assert op.inputs == ("condition", "x")


def test_an_if_counts_the_branch_taken_where_shapes_decide() -> None:
    # x[2,8] ─ If(rank of x is 2; then: x·w[8,3]; else: x·w[8,30]) ─ y[2,3]
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Size", ["shape"], ["rank"]),
        node("Equal", ["rank", "two"], ["flat"]),
        node("If", ["flat"], ["y"], then_branch=branch("small", 3), else_branch=branch("large", 30)),
    ]
    content = models.onnx_bytes(nodes, [value("x", [2, 8])], [value("y", None)], [constant("two", 2, np.int64)])
    graph = open_graph(content)
    assert graph.ops[-1].macs == 2 * 8 * 3 and graph.tensors["y"].shape == (2, 3)


def test_a_tflite_if_counts_its_subgraphs() -> None:
    graph = open_graph(models.tflite_if())
    (op,) = graph.ops
    assert (op.type, op.kind, op.macs, op.attributes["ops"]) == ("IF", "control", 0, 2)


# --- memory ---


def test_peak_memory_frees_a_tensor_after_its_last_reader() -> None:
    # x[100] ─ Relu ─ a ─ Neg ─ b ─ Add(a) ─ y: at the sum a, b and y live; x is gone
    nodes = [node("Relu", ["x"], ["a"]), node("Neg", ["a"], ["b"]), node("Add", ["a", "b"], ["y"])]
    graph = open_graph(models.onnx_bytes(nodes, [value("x", [100])], [value("y", [100])]))
    assert (graph.activation_bytes, graph.peak_activation_bytes) == (1600, 1200)


def test_a_reshaped_tensor_is_counted_once_in_memory() -> None:
    # x[10,10] ─ Flatten ─ a ─ Relu ─ y
    nodes = [node("Flatten", ["x"], ["a"]), node("Relu", ["a"], ["y"])]
    graph = open_graph(models.onnx_bytes(nodes, [value("x", [10, 10])], [value("y", [10, 10])]))
    assert (graph.activation_bytes, graph.peak_activation_bytes) == (1200, 800)


# --- what is refused ---


def test_errors_are_one_line_that_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="no such file"):
        open_graph(tmp_path / "missing.onnx")
    ring = [node("Add", ["x", "b"], ["a"]), node("Relu", ["a"], ["b"], name="back")]
    with pytest.raises(DamagedModel, match="waits for its own output"):
        open_graph(models.onnx_bytes(ring, [value("x", [2])], [value("b", [2])]))
    with pytest.raises(DamagedModel, match=r"node 'odd': .*(input|Inputs)"):
        open_graph(models.onnx_bytes([node("Conv", ["x"], ["y"], name="odd")], [value("x", [2])], [value("y", [2])]))


def test_without_the_package_onnx_one_line_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtra, match=r"edge-sdk\[graph\]"):
        open_graph(models.onnx_mlp())
    assert open_graph(models.tflite_float_conv()).macs  # TFLite needs no extra

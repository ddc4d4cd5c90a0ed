"""`ModelFile.check` on ONNX: a model that contradicts itself is refused, and the message says where."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from edge_sdk.errors import DamagedModel, EdgeError, ModelNotFound
from edge_sdk.formats import open_model
from edge_sdk.formats.protobuf import encode_varint
from tests import models


def refusal(content: bytes, error: type[EdgeError] = DamagedModel) -> str:
    with pytest.raises(error) as caught:
        open_model(content, name="m.onnx").check()
    message = str(caught.value)
    assert message.startswith("m.onnx: ") and "\n" not in message
    return message


def changed(content: bytes, change: Callable[[onnx.ModelProto], object]) -> bytes:
    model = onnx.load_model_from_string(content)
    change(model)
    return model.SerializeToString()


def message(number: int, content: bytes) -> bytes:
    """A protobuf field that holds a message."""
    return encode_varint(number << 3 | 2) + encode_varint(len(content)) + content


@pytest.mark.parametrize("name", models.ONNX_MODELS)
def test_well_formed_models_pass(name: str) -> None:
    model = open_model(models.ONNX_MODELS[name]())
    model.check()
    model.check()


def test_a_file_cut_off_at_any_place_is_refused() -> None:
    content = models.onnx_mlp()
    for length in range(1, len(content)):
        # What was cut off behind the graph may be missing: opsets and metadata are fields of their own.
        try:
            open_model(content[:length], name="cut.onnx").check()
        except DamagedModel:
            continue
        assert open_model(content[:length]).describe().parameters == 212


def test_an_initialiser_that_stores_too_little() -> None:
    def cut(model: onnx.ModelProto) -> None:
        model.graph.initializer[0].raw_data = model.graph.initializer[0].raw_data[:-4]

    text = refusal(changed(models.onnx_mlp(), cut))
    assert "'w1'" in text and "stores 508 bytes, expected 512" in text


def test_an_initialiser_with_too_few_numbers() -> None:
    def cut(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.CopyFrom(helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0]))
        del tensor.float_data[:]

    assert "stores 0 numbers in float_data, expected 1" in refusal(changed(models.onnx_add(), cut))


@pytest.mark.parametrize("dims", [[-1, 4], [1 << 40, 1 << 40], [1 << 62]])
def test_an_initialiser_of_an_impossible_shape(dims: list[int]) -> None:
    text = refusal(changed(models.onnx_mlp(), lambda m: m.graph.initializer[0].dims.__setitem__(slice(None), dims)))
    assert "'w1' has shape" in text


def test_an_element_type_that_does_not_exist() -> None:
    text = refusal(changed(models.onnx_mlp(), lambda m: setattr(m.graph.initializer[0], "data_type", 99)))
    assert "element type 99" in text


@pytest.mark.parametrize(
    ("dtype", "count"),
    [
        *((dtype, 3) for dtype in ("float32", "float16", "int8", "uint16", "int64", "float64", "uint64", "bool")),
        *(("complex64", 3), ("uint32", 3), ("int32", 0)),
    ],
)
@pytest.mark.parametrize("raw", [True, False])
def test_every_way_to_store_elements_is_understood(dtype: str, count: int, raw: bool) -> None:
    import numpy as np

    array = np.ones(count, dtype)
    kind = helper.np_dtype_to_tensor_dtype(array.dtype)
    tensor = helper.make_tensor("w", kind, [count], array.tobytes() if raw else array, raw=raw)
    node = helper.make_node("Identity", ["w"], ["y"])
    open_model(models.onnx_bytes([node], [], [models.value("y", [count], kind)], [tensor])).check()


@pytest.mark.parametrize("dtype", [TensorProto.INT4, TensorProto.UINT4, TensorProto.FLOAT8E5M2])
def test_packed_elements_are_understood(dtype: int) -> None:
    tensor = helper.make_tensor("w", dtype, [3], [1, 2, 3])
    node = helper.make_node("Identity", ["w"], ["y"])
    open_model(models.onnx_bytes([node], [], [models.value("y", [3], dtype)], [tensor])).check()


def test_a_node_that_takes_what_nothing_makes() -> None:
    text = refusal(changed(models.onnx_mlp(), lambda m: m.graph.node[1].input.__setitem__(0, "lost")))
    assert "'relu' (Relu) takes 'lost'" in text


def test_an_output_that_nothing_makes() -> None:
    assert "output 'lost'" in refusal(changed(models.onnx_mlp(), lambda m: setattr(m.graph.output[0], "name", "lost")))


def test_a_name_that_two_nodes_make() -> None:
    text = refusal(changed(models.onnx_two_inputs(), lambda m: m.graph.node[1].output.__setitem__(0, "sum")))
    assert "'sum' is made by node" in text


def test_inner_graphs_see_outer_names_but_not_the_other_way_round() -> None:
    open_model(models.onnx_loop()).check()
    text = refusal(changed(models.onnx_loop(), lambda m: setattr(m.graph.output[0], "name", "next")))
    assert "output 'next'" in text


def test_nodes_may_stand_in_any_order() -> None:
    def turn(model: onnx.ModelProto) -> None:
        nodes = list(model.graph.node)[::-1]
        del model.graph.node[:]
        model.graph.node.extend(nodes)

    open_model(changed(models.onnx_mlp(), turn)).check()


def test_a_group_of_none() -> None:
    def ungroup(model: onnx.ModelProto) -> None:
        next(a for a in model.graph.node[0].attribute if a.name == "group").i = 0

    assert "'group' is 0" in refusal(changed(models.onnx_conv(), ungroup))


@pytest.mark.parametrize("raw", [True, False])
def test_a_division_of_integers_by_a_constant_zero(raw: bool) -> None:
    """An engine that folds constants would divide while it loads, and die of it."""
    zero = helper.make_tensor("zero", TensorProto.INT64, [1], b"\0" * 8 if raw else [0], raw=raw)
    items = models.value("x", [2], TensorProto.INT64), models.value("y", [2], TensorProto.INT64)
    content = models.onnx_bytes([helper.make_node("Div", ["x", "zero"], ["y"])], [items[0]], [items[1]], [zero])
    assert "divides integers by a constant 0" in refusal(content)
    halves = helper.make_tensor("zero", TensorProto.INT64, [1], [2])
    open_model(
        models.onnx_bytes([helper.make_node("Div", ["x", "zero"], ["y"])], [items[0]], [items[1]], [halves])
    ).check()


def test_a_sequence_of_parts_of_no_size() -> None:
    def empty(model: onnx.ModelProto) -> None:
        model.graph.initializer[0].raw_data = bytes(8)

    assert "splits into parts of [0]" in refusal(changed(models.onnx_sequence_output(), empty))


def test_a_function_that_calls_itself() -> None:
    def recur(model: onnx.ModelProto) -> None:
        node = model.functions[0].node[0]
        node.op_type, node.domain = "DoubleSquare", "local"
        del node.input[1]

    assert "'DoubleSquare' calls itself" in refusal(changed(models.onnx_function(), recur))


def test_a_call_with_more_than_the_function_has() -> None:
    text = refusal(changed(models.onnx_function(), lambda m: m.graph.node[0].input.append("x")))
    assert "has 2 inputs and 1 outputs, but function 'DoubleSquare' has 1 and 1" in text


def test_no_graph_and_no_outputs() -> None:
    assert "no graph" in refusal(b"\x08\x08\x12\x03abc")
    assert "no outputs" in refusal(changed(models.onnx_add(), lambda m: m.graph.ClearField("output")))


def test_graphs_nested_without_end_are_refused() -> None:
    graph = b""
    for _ in range(5000):
        graph = message(1, message(5, message(6, graph)))
    assert "deeper than" in refusal(message(7, graph))


def test_a_name_that_is_no_text() -> None:
    content = models.onnx_add()
    assert "not UTF-8" in refusal(content.replace(b"\x0a\x01x", b"\x0a\x01\xff"))


def test_external_data_within_the_file_passes(tmp_path: Path) -> None:
    open_model(models.onnx_external_data(tmp_path)).check()


def with_external(path: Path, **entries: str) -> Path:
    model = onnx.load_model(path, load_external_data=False)
    tensor = model.graph.initializer[0]
    kept = {entry.key: entry.value for entry in tensor.external_data} | entries
    del tensor.external_data[:]
    for key, text in kept.items():
        tensor.external_data.add(key=key, value=text)
    path.write_bytes(model.SerializeToString())
    return path


def test_external_data_that_is_missing(tmp_path: Path) -> None:
    path = models.onnx_external_data(tmp_path)
    (tmp_path / "model.onnx.data").unlink()
    with pytest.raises(ModelNotFound, match=r"model\.onnx\.data.* is missing"):
        open_model(path).check()


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ({"location": "../secret"}, "expected one in the model's folder"),
        ({"location": "/etc/passwd"}, "expected one in the model's folder"),
        ({"location": ""}, "expected one in the model's folder"),
        ({"offset": "4"}, "ends at byte 260"),
        ({"offset": "-4"}, "ends at byte"),
        ({"length": "128"}, "takes 128 bytes"),
        ({"length": "many"}, "no readable offset or length"),
    ],
)
def test_external_data_that_does_not_fit(tmp_path: Path, entries: dict[str, str], says: str) -> None:
    path = with_external(models.onnx_external_data(tmp_path), **entries)
    with pytest.raises(DamagedModel) as caught:
        open_model(path).check()
    assert says in str(caught.value)


def test_external_data_cannot_stand_for_an_address_in_memory(tmp_path: Path) -> None:
    """onnxruntime reads this location as "the offset is a pointer": a file that says so would read foreign memory."""
    path = with_external(models.onnx_external_data(tmp_path), location="*/_ORT_MEM_ADDR_/*", offset="4096")
    with pytest.raises(EdgeError):
        open_model(path).check()


def test_external_data_needs_the_path(tmp_path: Path) -> None:
    content = models.onnx_external_data(tmp_path).read_bytes()
    assert "open the model by its path" in refusal(content, ModelNotFound)

"""`without_initializer_inputs`: the same model to onnxruntime, with its weights as constants."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from edge_sdk.errors import DamagedModel
from edge_sdk.formats import open_model, without_initializer_inputs
from edge_sdk.formats.protobuf import encode_varint
from tests import models

onnxruntime = pytest.importorskip("onnxruntime")


def run(content: bytes | memoryview, feeds: dict[str, Any]) -> list[Any]:
    session = onnxruntime.InferenceSession(bytes(content), providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds))


def inputs_of(content: bytes | memoryview) -> list[str]:
    return [item.name for item in onnx.load_model_from_string(bytes(content)).graph.input]


def test_initialisers_leave_the_inputs_and_the_outputs_stay_equal() -> None:
    content = models.onnx_with_initializer_inputs()
    rewritten, removed = without_initializer_inputs(content)
    assert removed == ("w", "b")
    assert inputs_of(rewritten) == ["x"]
    onnx.checker.check_model(bytes(rewritten))
    feeds = {"x": np.ones((1, 4), np.float32)}
    np.testing.assert_allclose(run(content, feeds)[0], run(rewritten, feeds)[0], rtol=1e-6)


def test_doing_it_twice_changes_nothing_more() -> None:
    rewritten, _ = without_initializer_inputs(models.onnx_with_initializer_inputs())
    again, removed = without_initializer_inputs(rewritten)
    assert again is rewritten and removed == ()


def test_where_there_is_nothing_to_do_the_content_itself_comes_back() -> None:
    content = models.onnx_mlp()
    assert without_initializer_inputs(content) == (content, ())
    assert without_initializer_inputs(content)[0] is content


def test_what_the_caller_feeds_stays_an_input() -> None:
    content = models.onnx_with_initializer_inputs(ir_version=4)
    rewritten, removed = without_initializer_inputs(content, keep=("w",))
    assert removed == ("b",)
    assert inputs_of(rewritten) == ["x", "w"]
    feeds = {"x": np.ones((1, 4), np.float32), "w": np.zeros((4, 3), np.float32)}
    np.testing.assert_allclose(run(content, feeds)[0], run(rewritten, feeds)[0], rtol=1e-6)


@pytest.mark.parametrize(("before", "after"), [(3, 4), (4, 4), (8, 8)])
def test_the_ir_version_is_raised_to_where_initialisers_may_be_constants(before: int, after: int) -> None:
    rewritten, _ = without_initializer_inputs(models.onnx_with_initializer_inputs(ir_version=before))
    assert onnx.load_model_from_string(bytes(rewritten)).ir_version == after


def test_everything_else_stays_as_it_was() -> None:
    content = models.onnx_with_initializer_inputs(ir_version=8)
    expected = onnx.load_model_from_string(content)
    del expected.graph.input[1:]
    rewritten, _ = without_initializer_inputs(content)
    assert bytes(rewritten) == expected.SerializeToString()


def test_a_missing_ir_version_is_added() -> None:
    model = onnx.load_model_from_string(models.onnx_with_initializer_inputs())
    model.ClearField("ir_version")
    rewritten, _ = without_initializer_inputs(model.SerializeToString())
    assert onnx.load_model_from_string(bytes(rewritten)).ir_version == 4


def test_a_graph_written_in_two_parts_is_one_graph() -> None:
    """Protobuf merges a message that occurs twice: here the inputs stand in one part and the weights in another."""
    model = onnx.load_model_from_string(models.onnx_with_initializer_inputs())
    weights = onnx.GraphProto(initializer=model.graph.initializer)
    model.graph.ClearField("initializer")
    part = weights.SerializeToString()
    content = model.SerializeToString() + bytes([7 << 3 | 2]) + encode_varint(len(part)) + part
    assert open_model(content).describe().initializer_inputs == ("w", "b")
    rewritten, removed = without_initializer_inputs(content)
    assert removed == ("w", "b")
    feeds = {"x": np.ones((1, 4), np.float32)}
    np.testing.assert_allclose(run(content, feeds)[0], run(rewritten, feeds)[0], rtol=1e-6)


def test_sparse_initialisers_are_initialisers_too() -> None:
    values = numpy_helper.from_array(np.asarray([1.0], np.float32), "s")
    indices = numpy_helper.from_array(np.asarray([1], np.int64), "s_indices")
    sparse = helper.make_sparse_tensor(values, indices, [3])
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "s"], ["y"])],
        "g",
        [models.value("x", [3]), models.value("s", [3])],
        [models.value("y", [3])],
        sparse_initializer=[sparse],
    )
    content = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)]).SerializeToString()
    rewritten, removed = without_initializer_inputs(content)
    assert removed == ("s",) and inputs_of(rewritten) == ["x"]
    open_model(bytes(rewritten)).check()


def test_bytes_that_are_no_model_are_refused() -> None:
    with pytest.raises(DamagedModel):
        without_initializer_inputs(models.onnx_with_initializer_inputs()[:-1])


@st.composite
def chains(draw: st.DrawFn) -> tuple[bytes, list[str]]:
    """y = x ∘ w1 ∘ w2 …, some of the weights listed as inputs, in an order of their own."""
    count = draw(st.integers(1, 6))
    ops = draw(st.lists(st.sampled_from(["Add", "Mul", "Sub", "Max"]), min_size=count, max_size=count))
    listed = draw(st.lists(st.sampled_from(range(count)), unique=True, max_size=count))
    shapes = draw(st.lists(st.sampled_from([(), (3,), (2, 3), (1, 3)]), min_size=count, max_size=count))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    weights = [models.constant(f"w{i}", rng.normal(size=shape)) for i, shape in enumerate(shapes)]
    names = ["x", *(f"t{i}" for i in range(count - 1)), "y"]
    nodes = [helper.make_node(op, [names[i], f"w{i}"], [names[i + 1]]) for i, op in enumerate(ops)]
    inputs = [models.value("x", [2, 3]), *(models.value(f"w{i}", list(shapes[i])) for i in listed)]
    order = draw(st.permutations(inputs))
    version = draw(st.sampled_from([4, 7, 8]))
    return models.onnx_bytes(nodes, order, [models.value("y", [2, 3])], weights, ir_version=version), [
        item.name for item in order if item.name != "x"
    ]


@settings(max_examples=25)
@given(chains(), st.data())
def test_models_of_any_shape_compute_the_same(chain: tuple[bytes, list[str]], data: st.DataObject) -> None:
    content, listed = chain
    keep = set(data.draw(st.lists(st.sampled_from(listed), unique=True))) if listed else set()
    rewritten, removed = without_initializer_inputs(content, keep)
    assert list(removed) == [name for name in listed if name not in keep]
    onnx.checker.check_model(bytes(rewritten))
    assert without_initializer_inputs(rewritten, keep) == (rewritten, ())
    feeds = {"x": np.arange(6, dtype=np.float32).reshape(2, 3)}
    np.testing.assert_allclose(run(content, feeds)[0], run(rewritten, feeds)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make", models.ONNX_MODELS.values(), ids=models.ONNX_MODELS)
def test_every_model_is_still_well_formed(make: Callable[[], bytes]) -> None:
    content = make()
    rewritten, removed = without_initializer_inputs(content)
    open_model(bytes(rewritten)).check()
    assert bool(removed) == (make is models.onnx_with_initializer_inputs)


def test_a_real_model(assets: Path) -> None:
    path = assets / "models" / "ultraface_rfb320.onnx"
    with open_model(path) as model:
        content = bytes(model.content())
    rewritten, removed = without_initializer_inputs(content)
    assert len(removed) == 112 and inputs_of(rewritten) == ["input"]
    feeds = {"input": np.random.default_rng(0).normal(size=(1, 3, 240, 320)).astype(np.float32)}
    for before, after in zip(run(content, feeds), run(rewritten, feeds), strict=True):
        np.testing.assert_allclose(before, after, atol=1e-4)

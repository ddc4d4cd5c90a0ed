"""Twins: the same model in another format is known by its answers, whatever its tensors are called or laid out like."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sdk import signature
from edge_sdk.compress.data import Data
from edge_sdk.compress.guard import Guard
from edge_sdk.compress.twin import match
from edge_sdk.errors import CompressionError, ModelError

models = pytest.importorskip("tests.models")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("ai_edge_litert")


pytestmark = pytest.mark.usefixtures("untried")


@pytest.fixture
def tflite(tmp_path: Path) -> Path:
    """image float32[1, 8, 8, 3] to scores float32[1, 4]."""
    path = tmp_path / "net.tflite"
    path.write_bytes(models.tflite_float_conv())
    return path


def same_in_onnx(folder: Path, factor: float = 1.0, shape: Sequence[int] = (1, 4, 1)) -> Path:
    """The network of `tflite` in NCHW, with other names and an output of another shape."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(4, 3, 3, 3)).transpose(0, 3, 1, 2) * factor
    helper = onnx.helper
    nodes = [
        helper.make_node("Conv", ["pixels", "w", "b"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Softmax", ["p"], ["s"], axis=1),
        helper.make_node("Reshape", ["s", "shape"], ["shares"]),
    ]
    parts = [
        models.constant("w", weights),
        models.constant("b", rng.normal(size=4)),
        models.constant("shape", shape, np.int64),
    ]
    path = folder / "net.onnx"
    path.write_bytes(
        models.onnx_bytes(nodes, [models.value("pixels", [1, 3, 8, 8])], [models.value("shares", list(shape))], parts)
    )
    return path


def test_nchw_and_nhwc_with_other_names_and_an_axis_more(tflite: Path, tmp_path: Path) -> None:
    twin = match(tflite, same_in_onnx(tmp_path))
    assert twin.error < 1e-5
    assert twin.made_up
    assert twin.mapping == signature.Mapping(
        inputs=(signature.TensorMapping(name="image", tensor="pixels", transpose=(0, 3, 1, 2)),),
        outputs=(signature.TensorMapping(name="scores", tensor="shares", shape=(1, 4, 1)),),
    )


def test_the_other_way_round_on_data_and_judged_through_the_mapping(tflite: Path, tmp_path: Path) -> None:
    source = same_in_onnx(tmp_path, shape=(1, 4))
    rng = np.random.default_rng(3)
    data = Data("noise", [{"pixels": rng.normal(size=(1, 3, 8, 8)).astype(np.float32)} for _ in range(6)])
    twin = match(source, tflite, data)
    assert (twin.made_up, twin.samples) == (False, 4)
    assert twin.mapping.inputs[0].transpose == (0, 2, 3, 1)
    verdict = Guard(source, data, 0.0).judge(tflite, twin.mapping)
    assert verdict.passed
    assert verdict.engine == "litert"


def test_outputs_in_another_order_are_told_apart_by_their_values(tmp_path: Path) -> None:
    source, other = tmp_path / "a.onnx", tmp_path / "b.tflite"
    source.write_bytes(models.onnx_two_inputs())
    other.write_bytes(models.tflite_two_io())
    model = onnx.load(source)
    for node, name in zip(model.graph.node, ("first", "second"), strict=True):
        node.output[0] = name
    del model.graph.output[:]
    model.graph.output.extend([models.value("second", [3]), models.value("first", [3])])
    onnx.save(model, source)
    found = {entry.name: entry.tensor for entry in match(source, other).mapping.outputs}
    assert found == {"second": "product", "first": "sum"}


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda folder: same_in_onnx(folder, factor=1.1), "which differs by"),
        (lambda folder: written(folder, models.onnx_mlp()), "no transpose leads from one to the other"),
        (lambda folder: written(folder, models.onnx_two_inputs()), "no transpose leads from one to the other"),
    ],
)
def test_another_model_is_refused_with_what_differs(tflite: Path, tmp_path: Path, make: Any, told: str) -> None:
    with pytest.raises(CompressionError) as caught:
        match(tflite, make(tmp_path))
    assert "is not the same model as net.tflite" in str(caught.value)
    assert told in str(caught.value)


def test_a_file_that_is_no_model(tflite: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        match(tflite, written(tmp_path, b"\0" * 100))


def test_the_face_detector_in_both_formats(assets: Path) -> None:
    twin = match(assets / "models" / "ultraface_rfb320.onnx", assets / "models" / "ultraface_rfb320.tflite")
    assert twin.error < 1e-3
    assert {entry.name: entry.tensor for entry in twin.mapping.outputs} == {
        "scores": "Identity_1",
        "boxes": "Identity",
    }


def written(folder: Path, content: bytes) -> Path:
    path = folder / "other.onnx"
    path.write_bytes(content)
    return path

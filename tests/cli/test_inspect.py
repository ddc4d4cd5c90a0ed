"""`edge-sdk inspect`: what a model file holds, as text and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edge_sdk.cli import main

onnx = pytest.importorskip("onnx")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """y = relu(x @ w), where w is listed among the inputs too."""
    float32 = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["h"]), onnx.helper.make_node("Relu", ["h"], ["y"])],
        "g",
        [
            onnx.helper.make_tensor_value_info("x", float32, ["batch", 4]),
            onnx.helper.make_tensor_value_info("w", float32, [4, 2]),
        ],
        [onnx.helper.make_tensor_value_info("y", float32, ["batch", 2])],
        [onnx.numpy_helper.from_array(np.ones((4, 2), np.float32), "w")],
    )
    made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    made.producer_name = "a test"
    path = tmp_path / "small.onnx"
    path.write_bytes(made.SerializeToString())
    return path


def test_text_tells_inputs_outputs_precision_size_opset_and_ops(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(model)]) == 0
    text = capsys.readouterr().out
    for expected in (
        "small.onnx, onnx (IR 8)",
        "a test",
        "ai.onnx 17",
        "float32",
        "8 in 32 bytes",
        "x  float32[batch, 4]",
    ):
        assert expected in text
    assert "y  float32[batch, 2]" in text and "2: MatMul 1, Relu 1" in text
    assert "1 are listed as inputs" in text and "w  float32" not in text


def test_json_holds_the_same(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(model), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["format"] == "onnx" and record["opset"] == {"ai.onnx": 17} and record["precision"] == "float32"
    assert record["inputs"][0] == {
        "name": "x",
        "dtype": "float32",
        "shape": ["batch", 4],
        "kind": "tensor",
        "quantization": None,
    }
    assert record["ops"] == {"MatMul": 1, "Relu": 1} and record["initializer_inputs"] == ["w"]
    assert record["parameters"] == 8 and record["size_bytes"] == model.stat().st_size


def test_quantisation_and_custom_ops_are_told(assets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(assets / "models" / "mobilenet_v2_224_int8.tflite")]) == 0
    assert "uint8[1, 224, 224, 3]  scale 0.00784314, zero point 127" in capsys.readouterr().out
    assert main(["inspect", str(assets / "models" / "must_fail_custom_op.tflite"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["custom_ops"] == ["fake-op-double"]


def test_what_is_no_model_is_one_line_and_exit_code_1(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(model.read_bytes()[:40])
    for path in (cut, tmp_path / "none.onnx", tmp_path):
        assert main(["inspect", str(path)]) == 1
        shown = capsys.readouterr()
        assert shown.out == "" and len(shown.err.splitlines()) == 1
        assert shown.err.startswith("edge-sdk: ") and path.name in shown.err

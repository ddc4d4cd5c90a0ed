"""Tails in the layout of Triton and of OpenVINO Model Server."""

from __future__ import annotations

import ast
import importlib.util
import json
from pathlib import Path

import pytest

from edge_sdk.errors import ModelError
from edge_sdk.formats import open_model
from edge_sdk.graph import open_graph
from edge_sdk.graph.codec import coding_mark
from edge_sdk.graph.cuts import single_cuts
from edge_sdk.graph.splitting import Split, split_model
from edge_sdk.offload.exporting import export_tail, triton_config
from edge_sdk.wire.endpoint import TailIdentity
from tests import models

onnx = pytest.importorskip("onnx")


@pytest.fixture
def split() -> Split:
    """x[batch,8] ─ Gemm ─│─ Relu ─ Gemm ─ Softmax ─ y[batch,4], with codec int8"""
    content = models.onnx_mlp()
    cut = single_cuts(open_graph(content))[0]
    return split_model(content, cut, codec="int8", ranges={cut.tensors[0]: (-1.0, 1.0)})


def fingerprint() -> str:
    with open_model(models.onnx_mlp()) as model:
        return model.fingerprint


def test_triton_gets_a_model_and_its_configuration(split: Split, tmp_path: Path) -> None:
    files = export_tail("triton", tmp_path / "repository", "tail", split)
    assert [path.relative_to(tmp_path).as_posix() for path in files] == [
        "repository/tail/1/model.onnx",
        "repository/tail/config.pbtxt",
    ]
    assert files[0].read_bytes() == split.tail
    text = files[1].read_text()
    assert 'backend: "onnxruntime"' in text and "max_batch_size: 0" in text
    assert f'name: "{split.sent[0]}" data_type: TYPE_UINT8 dims: [ -1, 16 ]' in text
    assert 'name: "y" data_type: TYPE_FP32 dims: [ -1, 4 ]' in text


def test_a_triton_with_only_its_python_back_end_gets_a_program_too(split: Split, tmp_path: Path) -> None:
    files = export_tail("triton-python", tmp_path, "tail", split)
    assert [path.name for path in files] == ["model.onnx", "model.py", "config.pbtxt"]
    assert 'backend: "python"' in files[2].read_text()
    names = {node.name for node in ast.walk(ast.parse(files[1].read_text())) if isinstance(node, ast.ClassDef)}
    assert names == {"TritonPythonModel"}


def test_the_configuration_is_one_of_tritons_schema(split: Split) -> None:
    from google.protobuf import text_format

    # The schema alone: importing its package needs grpc.
    package = Path(pytest.importorskip("tritonclient").__path__[0])
    spec = importlib.util.spec_from_file_location("model_config_pb2", package / "grpc" / "model_config_pb2.py")
    assert spec is not None and spec.loader is not None
    schema = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(schema)
    config = text_format.Parse(triton_config('odd "name"\n', split.tail), schema.ModelConfig())
    assert config.name == 'odd "name"\n' and config.backend == "onnxruntime"
    assert [(entry.name, list(entry.dims)) for entry in config.output] == [("y", [-1, 4])]
    assert config.input[0].data_type == schema.TYPE_UINT8
    told = {key: value.string_value for key, value in config.parameters.items()}
    # With the scales, as a device asks for them: another head would send other bytes.
    assert told == TailIdentity(fingerprint(), split.cut.id, coding_mark("int8", split.scales)).parameters()


def test_openvino_gets_an_entry_beside_those_of_others(split: Split, tmp_path: Path) -> None:
    other = {"config": {"name": "other", "base_path": "/models/other"}}
    (tmp_path / "config.json").write_text(json.dumps({"model_config_list": [other], "x": 1}))
    for _ in range(2):  # once more replaces the entry
        files = export_tail("openvino", tmp_path, "tail", split)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["x"] == 1 and config["model_config_list"][0] == other
    assert [entry["config"]["name"] for entry in config["model_config_list"]] == ["other", "tail"]
    assert Path(config["model_config_list"][1]["config"]["base_path"]) / "1" / "model.onnx" == files[0].resolve()


@pytest.mark.parametrize("content", ["", "[1]", '{"model_config_list": 3}', "[" * 100_000])
def test_a_configuration_that_is_none_is_left_alone(split: Split, tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ModelError, match=r"config\.json"):
        export_tail("openvino", tmp_path, "tail", split)
    assert (tmp_path / "config.json").read_text() == content


def test_what_a_server_does_not_run_is_refused(split: Split, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no export for 'other'; expected one of triton"):
        export_tail("other", tmp_path, "tail", split)
    pytest.importorskip("ai_edge_litert")
    content = models.tflite_float_conv()
    tflite = split_model(content, single_cuts(open_graph(content))[0])
    with pytest.raises(ModelError, match="Triton has no back end for TFLite"):
        export_tail("triton", tmp_path, "tail", tflite)
    assert export_tail("openvino", tmp_path, "tail", tflite)[0].name == "model.tflite"

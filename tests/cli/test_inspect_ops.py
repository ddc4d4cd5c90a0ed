"""`edge-sdk inspect --ops`: what each op costs, as a table and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_sdk.cli import main

models = pytest.importorskip("tests.models")
pytest.importorskip("onnx")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """x[batch,8] ─ Gemm(8×16) ─ Relu ─ Gemm(16×4) ─ Softmax ─ y[batch,4]"""
    path = tmp_path / "mlp.onnx"
    path.write_bytes(models.onnx_mlp())
    return path


def test_the_table_has_a_row_per_op_and_the_totals(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(model), "--ops"]) == 0
    text = capsys.readouterr().out
    head, *rows = text.partition("\n\n")[2].partition("\n\n")[0].splitlines()
    assert head.split() == [
        "op",
        "type",
        "kind",
        "MACs",
        "share",
        "parameters",
        "weights",
        "reads",
        "writes",
        "precision",
    ]
    assert [row.split()[1] for row in rows] == ["Gemm", "Relu", "Gemm", "Softmax"]
    assert rows[0].split()[2:] == ["gemm", "128", "66.7%", "144", "576", "B", "32", "B", "64", "B", "float32"]
    for line in (
        "MACs         192 in 4 ops: gemm 100.0%",
        "weights      212 in 848 B",
        "activations  192 B in all, 128 B at most at one moment",
        "assumed      batch = 1",
    ):
        assert line in text
    assert "not counted" not in text and "opset" in text  # what `inspect` tells without --ops comes first


def test_sizes_of_open_dimensions_can_be_given(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(model), "--ops", "--sizes", "batch=10"]) == 0
    text = capsys.readouterr().out
    assert "MACs         1,920 in 4 ops" in text and "assumed      batch = 10" in text
    assert main(["inspect", str(model), "--ops", "--sizes", "bath=10"]) == 1
    assert "no open dimension 'bath'; open dimensions: 'batch'" in capsys.readouterr().err
    with pytest.raises(SystemExit) as exit:
        main(["inspect", str(model), "--ops", "--sizes", "batch"])
    assert exit.value.code == 2 and "'batch' is no NAME=NUMBER" in capsys.readouterr().err


def test_json_holds_the_graph(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(model), "--ops", "--json"]) == 0
    graph = json.loads(capsys.readouterr().out)["graph"]
    assert (graph["macs"], graph["parameters"], graph["assumed"]) == (192, 212, {"batch": 1})
    assert graph["uncounted"] == {} and graph["peak_activation_bytes"] == 128
    first = graph["ops"][0]
    assert (first["type"], first["kind"], first["macs"], first["precision"]) == ("Gemm", "gemm", 128, "float32")
    assert first["output_shapes"] == [[1, 16]] and first["share"] == pytest.approx(128 / 192)
    assert first["attributes"] == {"batch": 1, "m": 1, "n": 16, "k": 8}
    assert main(["inspect", str(model), "--json"]) == 0
    assert "graph" not in json.loads(capsys.readouterr().out)


def test_an_op_without_a_rule_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "custom.tflite"
    path.write_bytes(models.tflite_custom_op())
    assert main(["inspect", str(path), "--ops"]) == 0
    text = capsys.readouterr().out
    assert "not counted" in text and "  ?" in text


def test_names_of_a_file_do_not_reach_the_terminal_raw(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import onnx

    nodes = [onnx.helper.make_node("Relu", ["x"], ["y"], name="red \x1b[31m alert" + "!" * 80)]
    path = tmp_path / "named.onnx"
    path.write_bytes(models.onnx_bytes(nodes, [models.value("x", [2])], [models.value("y", [2])]))
    assert main(["inspect", str(path), "--ops"]) == 0
    text = capsys.readouterr().out
    assert "\x1b" not in text and "…" in text

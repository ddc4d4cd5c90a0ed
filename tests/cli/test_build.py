"""`edge-sdk build`: the table, the JSON, the report, and one line for what is wrong."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sdk import bundle
from edge_sdk.cli import main

models = pytest.importorskip("tests.models")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")


pytestmark = pytest.mark.usefixtures("untried")


@pytest.fixture
def source(tmp_path: Path) -> str:
    path = tmp_path / "net.onnx"
    path.write_bytes(models.onnx_mlp())
    return str(path)


@pytest.fixture
def data(tmp_path: Path) -> str:
    np.savez(tmp_path / "d.npz", x=np.random.default_rng(0).normal(size=(12, 8)).astype(np.float32))
    return str(tmp_path / "d.npz")


def build(*words: str) -> int:
    return main(["build", "--measure", "0", *words])


def test_the_table_names_every_variant(source: str, data: str, tmp_path: Path, capsys: Any) -> None:
    out = str(tmp_path / "net.edge")
    assert build(source, "-o", out, "--evaluate", data, "--variants", "fp32,int8-static") == 0
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert lines[0].split()[:5] == ["variant", "status", "latency", "faster", "size"]
    assert lines[1].startswith("fp32")
    assert "int8-static: it needs calibration data" in text
    assert f"{out}: release 1, 1 variant" in text
    assert "judged on 12 samples of d.npz" in text


def test_json_is_the_whole_result(source: str, data: str, tmp_path: Path, capsys: Any) -> None:
    assert build(source, "-o", str(tmp_path / "n.edge"), "--evaluate", data, "--variants", "fp32", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["schema"] == 1
    assert result["rows"][0]["name"] == "fp32"
    assert result["rows"][0]["agreement"] == 1
    with bundle.open(tmp_path / "n.edge") as made:
        assert made.digest == result["digest"]


def test_a_report_and_one_archive(source: str, data: str, tmp_path: Path, capsys: Any) -> None:
    pytest.importorskip("jinja2")
    words = ("-o", str(tmp_path / "n.edge"), "--zip", "--report", str(tmp_path / "r.html"), "--variants", "fp32")
    assert build(source, *words, "--name", "my net", "--calibration", data, "--samples", "3") == 0
    assert "my net" in (tmp_path / "r.html").read_text()
    assert (tmp_path / "n.edge").is_file()
    assert f"report: {tmp_path}/r.html" in capsys.readouterr().out
    with bundle.open(tmp_path / "n.edge") as made:
        assert made.manifest.name == "my net"
        assert made.variants[0].accuracy[0].samples == 3


def test_a_twin(tmp_path: Path, capsys: Any) -> None:
    pytest.importorskip("ai_edge_litert")
    (tmp_path / "a.onnx").write_bytes(models.onnx_add())
    (tmp_path / "a.tflite").write_bytes(models.tflite_add())
    words = (str(tmp_path / "a.onnx"), "--twin", str(tmp_path / "a.tflite"), "-o", str(tmp_path / "a.edge"))
    assert build(*words, "--variants", "fp32") == 0
    assert "twin-tflite" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--evaluate", "none.npz"), "none.npz: there is no such file"),
        (("--variants", "int3"), "there is no variant 'int3'"),
        (("--twin", "none.tflite"), "none.tflite: no such file"),
        (("--metric", "top1"), "needs data with labels"),
        (("--labels", "none.txt"), "none.txt: the labels cannot be read"),
    ],
)
def test_what_is_wrong_is_one_line(source: str, tmp_path: Path, capsys: Any, words: tuple[str, ...], told: str) -> None:
    assert build(source, "-o", str(tmp_path / "n.edge"), *words) == 1
    error = capsys.readouterr().err
    assert told in error
    assert error.startswith("edge-sdk: ")
    assert error.count("\n") == 1
    assert not (tmp_path / "n.edge").exists()


def test_a_model_of_another_world(tmp_path: Path, capsys: Any) -> None:
    assert build("no_such_package_of_mine:make", "-o", str(tmp_path / "n.edge")) == 1
    error = capsys.readouterr().err
    assert "from no_such_package_of_mine import make" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("net.onnx",),
        ("net.onnx", "-o", "n.edge", "--max-drop", "2"),
        ("net.onnx", "-o", "n.edge", "--samples", "0"),
    ],
)
def test_wrong_usage(words: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["build", *words])
    assert ended.value.code == 2


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_the_step_under_way(
    source: str, data: str, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr", screen)
    assert build(source, "-o", str(tmp_path / "n.edge"), "--evaluate", data, "--variants", "fp32") == 0
    assert "writing the bundle" in screen.getvalue()
    assert "writing the bundle" not in capsys.readouterr().out


def test_elsewhere_there_is_nothing_but_the_table(source: str, data: str, tmp_path: Path, capsys: Any) -> None:
    assert build(source, "-o", str(tmp_path / "n.edge"), "--evaluate", data, "--variants", "fp32") == 0
    assert capsys.readouterr().err == ""

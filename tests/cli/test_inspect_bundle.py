"""`edge-sdk inspect NAME.edge`: the manifest for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_sdk import bundle
from edge_sdk.bundle import Accuracy, Latency, Variant
from edge_sdk.cli import main
from edge_sdk.signature import LogicalTensor, Signature

models = pytest.importorskip("tests.models")


@pytest.fixture
def made(tmp_path: Path) -> str:
    signature = Signature(
        inputs=(LogicalTensor(name="x", dtype="float32", shape=("batch", 8)),),
        outputs=(LogicalTensor(name="y", dtype="float32", shape=("batch", 4)),),
        labels=("no", "on\x1b[31m"),
    )
    figures = Variant(
        name="small",
        kept="beyond max-drop",
        accuracy=(Accuracy(metric="top-1", value=0.9, data="digits", samples=9),),
        latency=(Latency(device="board", engine="onnxruntime 1", latency_ms=1.5),),
    )
    bundle.create(
        tmp_path / "m.edge",
        name="mlp",
        signature=signature,
        variants=[figures],
        files={"small": models.onnx_mlp(8, 4, 4)},
    )
    return str(tmp_path / "m.edge")


def test_a_person_sees_signature_and_variants(made: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", made]) == 0
    text = capsys.readouterr().out
    assert "mlp, release 1" in text
    assert "x  float32[batch, 8]" in text
    for word in ("small", "float32", "top-1 0.9 on digits", "1.5 ms on board", "beyond max-drop"):
        assert word in text
    assert "\x1b" not in text


def test_a_program_gets_the_manifest(made: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", made, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["format"] == "edge"
    assert record["manifest"]["variants"][0]["name"] == "small"


def test_what_is_wrong_is_one_line(made: str, capsys: pytest.CaptureFixture[str]) -> None:
    (Path(made) / "manifest.json").write_text("{")
    assert main(["inspect", made]) == 1
    error = capsys.readouterr().err
    assert "manifest" in error and error.count("\n") == 1

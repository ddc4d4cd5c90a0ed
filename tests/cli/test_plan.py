"""`edge-sdk plan`: the table, the reason, the words, and what goes wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_sdk import bundle
from edge_sdk.bundle import Accuracy, Variant
from edge_sdk.cli import main
from edge_sdk.signature import LogicalTensor, Signature

models = pytest.importorskip("tests.models")
pytest.importorskip("onnxruntime")


@pytest.fixture
def made(tmp_path: Path) -> str:
    """A bundle of two variants with figures for accuracy."""
    signature = Signature(
        inputs=(LogicalTensor(name="x", dtype="float32", shape=("batch", 8)),),
        outputs=(LogicalTensor(name="y", dtype="float32", shape=("batch", 4)),),
    )
    figures = {"large": 0.98, "small": 0.9}
    bundle.create(
        tmp_path / "m.edge",
        name="mlp",
        signature=signature,
        variants=[
            Variant(name=name, accuracy=(Accuracy(metric="top-1", value=value, data="digits", samples=9),))
            for name, value in figures.items()
        ],
        files={"large": models.onnx_mlp(8, 64, 4), "small": models.onnx_mlp(8, 4, 4)},
    )
    return str(tmp_path / "m.edge")


def test_the_table_marks_the_choice_and_tells_why(made: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", made, "--budget", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:4] == ["variant", "engine", "on", "placement"]
    chosen = [line for line in lines if line.startswith(">")]
    assert len(chosen) == 1
    assert "m.edge on" in lines[-1] and "planned in" in lines[-1]


def test_what_is_ruled_out_is_marked_and_explained(made: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", made, "--min-accuracy", "0.95", "--explain", "--budget", "2"]) == 0
    text = capsys.readouterr().out
    assert any(line.startswith("x") and "small" in line for line in text.splitlines())
    assert "Ruled out: small with onnxruntime: accuracy 0.9 is below min_accuracy=0.95" in text
    assert "A min_accuracy of 0.9 or less would let small in" in text


def test_the_json_is_the_plan_and_its_explanation(made: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", made, "--json", "--explain", "--budget", "2"]) == 0
    made_plan = json.loads(capsys.readouterr().out)
    assert made_plan["schema"] == 1
    assert made_plan["variant"] in {"large", "small"}
    assert {candidate["variant"] for candidate in made_plan["candidates"]} == {"large", "small"}
    assert made_plan["explanation"][0].startswith(made_plan["variant"])


def test_the_second_plan_is_kept_and_fresh_measures_again(made: str, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, cached in ((["--json"], False), (["--json"], True), (["--json", "--fresh"], False)):
        assert main(["plan", made, "--budget", "1", *arguments]) == 0
        assert json.loads(capsys.readouterr().out)["cached"] is cached


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["missing.onnx"], "no such file"),
        (["missing.edge"], "no such bundle"),
        (["MADE", "--min-accuracy", "0.99"], "no candidate may run"),
        (["MADE", "--variant", "tiny"], "has no variant 'tiny'"),
        (["MADE", "--target", "no-such-board"], "no-such-board"),
        (["MADE", "--max-latency-ms", "-1"], "max_latency_ms is -1.0; expected a number above 0"),
        (["MADE", "--min-accuracy", "70"], "expected a share from 0 to 1"),
        (["MADE", "--rate", "0"], "rate_hz is 0.0"),
    ],
)
def test_what_is_wrong_is_one_line(
    made: str, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    assert main(["plan", *(made if word == "MADE" else word for word in arguments)]) == 1
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1

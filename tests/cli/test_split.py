"""`edge-sdk split`: the list of cuts, head and tail as files, exports, and what goes wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edge_sdk import bundle
from edge_sdk.bundle import Variant
from edge_sdk.cli import main
from edge_sdk.errors import ModelError
from edge_sdk.formats import open_model
from edge_sdk.graph.codec import read_record
from edge_sdk.offload import parts, parts_kept
from edge_sdk.signature import LogicalTensor, Signature
from tests import models

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def model(tmp_path: Path) -> str:
    """x[1,4] ─ Relu ─ a ┬ Neg ─ b ┬ Add ─ y
    └ Abs ─ c ┘"""
    node = onnx.helper.make_node
    nodes = [node("Relu", ["x"], ["a"]), node("Neg", ["a"], ["b"]), node("Abs", ["a"], ["c"])]
    nodes.append(node("Add", ["b", "c"], ["y"]))
    path = tmp_path / "fork.onnx"
    path.write_bytes(models.onnx_bytes(nodes, [models.value("x", [1, 4])], [models.value("y", [1, 4])]))
    return str(path)


def cuts(model: str, capsys: Capture, *options: str) -> list[dict[str, object]]:
    assert main(["split", model, "--json", *options]) == 0
    found: list[dict[str, object]] = json.loads(capsys.readouterr().out)["cuts"]
    return found


def test_cuts_are_listed_with_bytes_and_macs(model: str, capsys: Capture) -> None:
    assert main(["split", model, "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["cut", "bytes", "head", "MACs", "tail", "MACs", "tensors"]
    assert lines[1].split()[-1] == "a" and "16" in lines[1].split()
    assert "1 cuts" in lines[-1] or "cuts, " in lines[-1]


def test_json_holds_the_cuts(model: str, capsys: Capture) -> None:
    (single,) = [cut for cut in cuts(model, capsys) if cut["tensors"] == ["a"]]
    assert (single["wire_bytes"], single["head_ops"], single["tail_ops"], single["pareto"]) == (16, 1, 3, True)
    every = cuts(model, capsys, "--limit", "100")
    assert {tuple(cut["tensors"]) for cut in every} == {("a",), ("a", "b"), ("a", "c"), ("b", "c")}  # type: ignore[arg-type]
    assert len(cuts(model, capsys, "--limit", "2")) == 2


def test_head_and_tail_are_written_and_compared(model: str, tmp_path: Path, capsys: Capture) -> None:
    assert main(["split", model, "--at", "b", "c", "-o", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    assert "head then tail gives what the whole gives, bit for bit, on made-up inputs" in text
    assert "32 bytes a request, codec none: b, c" in text
    record = read_record(open_model(tmp_path / "out" / "fork.tail.onnx"))
    assert record is not None and record.tensors == ("b", "c")
    assert (tmp_path / "out" / "fork.head.onnx").is_file()


def test_head_and_tail_of_an_earlier_call_are_taken_unless_there_is_data_to_compare_on(
    model: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["split", model, "--at", "a", "--codec", "fp16", "--json"]
    assert main(command) == 0
    first = capsys.readouterr().out

    def made_again(*_: object, **__: object) -> None:
        raise ModelError("made again")

    monkeypatch.setattr(parts_kept, "made_parts", made_again)
    assert main(command) == 0
    assert capsys.readouterr().out == first
    monkeypatch.setattr(parts, "made_parts", made_again)
    np.savez(tmp_path / "one.npz", x=np.full((1, 4), 3.0, np.float32))
    assert main([*command, "--data", str(tmp_path / "one.npz")]) == 1
    assert "made again" in capsys.readouterr().err


def test_a_cut_goes_by_its_id_too(model: str, capsys: Capture) -> None:
    (several,) = [cut for cut in cuts(model, capsys, "--limit", "9") if cut["tensors"] == ["b", "c"]]
    assert main(["split", model, "--at", str(several["id"]), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tensors"] == ["b", "c"]


def test_int8_takes_its_ranges_from_data(model: str, tmp_path: Path, capsys: Capture) -> None:
    np.savez(tmp_path / "one.npz", x=np.full((1, 4), 3.0, np.float32))
    command = ["split", model, "--at", "a", "--codec", "int8", "--json"]
    assert main([*command, "--data", str(tmp_path / "one.npz")]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["coded_bytes"], record["sent"], record["made_up"]) == (4, ["a.uint8"], False)
    assert main([*command[:-1]]) == 0
    assert "ranges for int8 come from made-up inputs; give real ones with --data" in capsys.readouterr().out
    np.save(tmp_path / "bare.npy", np.zeros(3))
    assert main([*command, "--data", str(tmp_path / "bare.npy")]) == 1
    assert "expected an .npz file" in capsys.readouterr().err


def test_a_tail_is_exported(model: str, tmp_path: Path, capsys: Capture) -> None:
    assert main(["split", model, "--at", "a", "--export", "triton", str(tmp_path / "models"), "--json"]) == 0
    files = json.loads(capsys.readouterr().out)["files"]
    assert [Path(path).name for path in files] == ["model.onnx", "config.pbtxt"]


def test_a_variant_of_a_bundle(tmp_path: Path, capsys: Capture) -> None:
    signature = Signature(
        inputs=(LogicalTensor(name="x", dtype="float32", shape=("batch", 8)),),
        outputs=(LogicalTensor(name="y", dtype="float32", shape=("batch", 4)),),
    )
    files = {"large": models.onnx_mlp(8, 64, 4), "small": models.onnx_mlp(8, 4, 4)}
    path = str(tmp_path / "m.edge")
    bundle.create(path, name="mlp", signature=signature, variants=[Variant(name=n) for n in files], files=files)
    assert cuts(path, capsys)[0]["wire_bytes"] == 4 * 64
    assert cuts(path, capsys, "--variant", "small")[0]["wire_bytes"] == 4 * 4
    assert main(["split", path, "--variant", "none"]) == 1
    assert "has no variant none" in capsys.readouterr().err.replace("'", "")


def test_what_cannot_be_cut_is_told_in_one_line(model: str, tmp_path: Path, capsys: Capture) -> None:
    control = tmp_path / "if.onnx"
    control.write_bytes(models.onnx_if())
    told = {
        (str(control),): "control flow cannot be cut: it holds If",
        (model, "--at", "b"): "'b' is no cut: ops behind it also read 'c'",
        (model, "--at", "nothing"): "nothing called 'nothing' flows",
        (model, "--variant", "v"): "is no bundle",
        (str(tmp_path / "missing.onnx"),): "no such file",
    }
    for arguments, message in told.items():
        assert main(["split", *arguments]) == 1
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "options",
    [("--codec", "int8"), ("-o", "d"), ("--at", "a", "--list"), ("--limit", "0"), ("--at", "a", "--export", "x", "d")],
)
def test_wrong_usage(model: str, options: tuple[str, ...], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as exit:
        main(["split", model, *options])
    assert exit.value.code == 2 and "split" in capsys.readouterr().err


def test_at_the_inputs_the_tail_is_the_whole_and_there_is_no_head(model: str, tmp_path: Path, capsys: Capture) -> None:
    assert main(["split", model, "--at", "x", "-o", str(tmp_path / "parts")]) == 0
    page = capsys.readouterr().out
    assert "head     none: the inputs travel as they are" in page and "equal" not in page
    assert [path.name.split(".")[1] for path in (tmp_path / "parts").iterdir()] == ["tail"]
    control = tmp_path / "if.onnx"
    control.write_bytes(models.onnx_if())
    with open_model(control) as file:
        names = [spec.name for spec in file.describe().inputs]
    assert main(["split", str(control), "--at", *names, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["head_bytes"] == 0

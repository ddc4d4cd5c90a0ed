"""What a folder of models holds, and which models may be computed in batches."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloud_offload.coding import accepted
from cloud_offload.repository import listed
from edge_sdk.errors import InputShapeError, UnreadableInput
from edge_sdk.schedule.joining import form_of, joined, may_batch, parted
from edge_sdk.tensors import TensorSpec
from tests.bundle.making import SIGNATURE, make
from tests.cloud_offload.endpoints import Start, put


def test_versions_are_numbered_folders_with_a_model(tmp_path: Path) -> None:
    put(tmp_path, "a", b"", 10)
    put(tmp_path, "a", b"", 2, "model.tflite")
    (tmp_path / "a" / "3").mkdir()
    (tmp_path / "a" / "01").mkdir()
    (tmp_path / "a" / "notes.txt").write_text("")
    found = listed(tmp_path)
    assert [(v, f.platform) for v, f in found["a"].items()] == [(2, "litert_tflite"), (10, "onnxruntime_onnx")]


def test_entries_without_a_plain_name_are_left_out(tmp_path: Path) -> None:
    for name in (".hidden", "a b", "a@cut", "-x"):
        put(tmp_path, name, b"")
    (tmp_path / "file.onnx").write_bytes(b"")
    assert listed(tmp_path) == {}


def test_a_changed_file_has_another_stamp(tmp_path: Path) -> None:
    put(tmp_path, "a", b"1")
    before = listed(tmp_path)["a"][1].stamp
    put(tmp_path, "a", b"2")
    assert listed(tmp_path)["a"][1].stamp != before


def test_a_repository_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnreadableInput, match="none"):
        listed(tmp_path / "none")


def spec(name: str, *shape: int | None) -> TensorSpec:
    return TensorSpec(name, "float32", shape)


def running(compute: Any) -> Any:
    def run(feeds: Mapping[str, Any]) -> dict[str, Any]:
        return {"y": compute(feeds["x"])}

    return run


def test_a_model_that_treats_rows_apart_may_be_batched() -> None:
    assert may_batch([spec("x", None, 3)], [spec("y", None, 3)], running(lambda x: x * 2))


@pytest.mark.parametrize(
    "compute",
    [
        lambda x: x - x.mean(axis=0),
        lambda x: np.cumsum(x, axis=0),
        lambda x: x[::-1],
        lambda x: x[:1],
    ],
    ids=["normalises over it", "carries along it", "turns it round", "gives fewer rows"],
)
def test_a_model_whose_open_first_axis_is_no_batch_is_not(compute: Any) -> None:
    assert not may_batch([spec("x", None, 3)], [spec("y", None, 3)], running(compute))


def test_a_fixed_first_axis_is_not_batched() -> None:
    assert not may_batch([spec("x", 1, 3)], [spec("y", 1, 3)], running(lambda x: x))


def test_a_model_that_refuses_what_was_made_up_is_not_batched() -> None:
    def refuse(x: Any) -> Any:
        raise InputShapeError("too short")

    assert not may_batch([spec("x", None, None)], [spec("y", None)], running(refuse))


def test_requests_are_joined_and_parted_by_rows() -> None:
    requests = [{"x": np.full((n, 2), n, np.float32)} for n in (1, 3, 2)]
    assert len({form_of(r)[0] for r in requests}) == 1  # type: ignore[index]
    parts = parted({"y": joined(requests)["x"]}, [1, 3, 2])
    assert parts is not None
    assert all(np.array_equal(part["y"], r["x"]) for part, r in zip(parts, requests, strict=True))


def test_inputs_with_different_rows_are_computed_alone() -> None:
    assert form_of({"a": np.zeros((1, 2)), "b": np.zeros((2, 2))}) is None
    assert form_of({"a": np.zeros(())}) is None
    assert form_of({"a": np.zeros((0, 2))}) is None


def test_the_coding_of_an_answer_is_one_that_the_client_accepts() -> None:
    assert accepted("gzip, deflate") == "gzip"
    assert accepted("deflate;q=0.5, gzip;q=0") == "deflate"
    for header in ("", "identity", "br", "gzip;q=0", "gzip;q=0.000"):
        assert accepted(header) is None


@pytest.mark.parametrize("as_zip", [True, False])
def test_a_bundle_is_served_under_its_signature_and_digest(tmp_path: Path, start: Start, as_zip: bool) -> None:
    made = make(tmp_path / "mlp.edge", as_zip=as_zip, golden=[])
    endpoint = start(tmp_path)
    told = endpoint.ask("GET", "/v2/models/mlp").json()
    assert told["platform"] == "edge_bundle"
    assert told["parameters"]["edge_bundle"] == made.digest
    feeds = {
        s.name: np.ones([d if isinstance(d, int) else 1 for d in s.shape or ()], s.dtype) for s in SIGNATURE.inputs
    }
    answer = endpoint.infer("mlp", feeds).response()
    assert list(answer.outputs) == [s.name for s in SIGNATURE.outputs]

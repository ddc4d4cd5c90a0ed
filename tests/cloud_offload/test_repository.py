"""What a folder of models holds, and what of it is served."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cloud_offload.coding import accepted
from cloud_offload.repository import listed
from edge_sdk.errors import UnreadableInput
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

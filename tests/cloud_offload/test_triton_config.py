"""What a `config.pbtxt` in the repository says to this endpoint, and that no such file can do harm."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

pytest.importorskip("onnxruntime")

from cloud_offload.settings import VersionPolicy
from cloud_offload.triton_config import MAX_BYTES, TritonConfig, read_config
from edge_sdk.errors import UnreadableInput
from edge_sdk.formats import open_model
from edge_sdk.graph.cuts import cuts_of
from edge_sdk.graph.opening import open_graph
from edge_sdk.graph.splitting import split_model
from edge_sdk.offload.exporting import export_tail
from tests import models
from tests.cloud_offload.endpoints import Start, add_constant, put

ROW = np.zeros((1, 2), np.float32)
WHOLE = """
# A model of two versions. Comments may hold anything: { " ' [
name: "densenet_onnx"
platform: 'onnxruntime_onnx'   # either quote
max_batch_size: 8
input [
  { name: "data\\"_0" data_type: TYPE_FP32, format: FORMAT_NCHW dims: [ 3, 224, -1 ]
    reshape { shape: [ 1, 3 ] } },
  < name: "b" dims: 1; dims: 2 >
]
output: [ { name: "fc6_1" data_type: TYPE_FP32 dims: [ 1000 ] label_filename: "a" "b" } ]
instance_group [ { count: 2 kind: KIND_CPU } ]
dynamic_batching { preferred_batch_size: [ 4, 8 ] max_queue_delay_microseconds: 100 }
parameters { key: "x" value: { string_value: "max_batch_size: 3" } }
[some.extension/of.a.kind] { it: - 1.5e-3f }
version_policy: { specific { versions: [ 1, 3 ] } }
"""


def read(folder: Path, text: str | bytes) -> TritonConfig:
    folder.mkdir(exist_ok=True)
    (folder / "config.pbtxt").write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_config(folder)


def test_of_a_whole_configuration_two_things_count(tmp_path: Path) -> None:
    assert read(tmp_path / "m", WHOLE) == TritonConfig(VersionPolicy(None, (1, 3)), 8)


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("", None),
        ("version_policy { all { } }", VersionPolicy(latest=None)),
        ("version_policy: <all: <>>", VersionPolicy(latest=None)),
        ("version_policy { latest { num_versions: 2 } }", VersionPolicy(latest=2)),
        ("version_policy { latest { } }", VersionPolicy(latest=1)),
        ("version_policy { }", VersionPolicy()),
        ("version_policy { specific { versions: 1 versions: 3 } }", VersionPolicy(None, (1, 3))),
        ("version_policy { all {} } version_policy { latest { num_versions: 3 } }", VersionPolicy(latest=3)),
    ],
)
def test_the_version_policy(tmp_path: Path, text: str, policy: VersionPolicy | None) -> None:
    assert read(tmp_path / "m", text).policy == policy


@pytest.mark.parametrize(("text", "rows"), [("", None), ("max_batch_size: 0", 1), ("max_batch_size: 16", 16)])
def test_the_largest_batch(tmp_path: Path, text: str, rows: int | None) -> None:
    assert read(tmp_path / "m", text).max_batch == rows


def test_without_a_file_nothing_is_said(tmp_path: Path) -> None:
    assert read_config(tmp_path / "none") == TritonConfig()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a {", "ends in the middle"),
        ("a }", "line 1"),
        ("\n\na: }", "line 3"),
        ("a: [1 2]", "',' or ']'"),
        ("a: [[1]]", "a value"),
        ('a: "x', "not understood"),
        ("{}", "a field's name"),
        ("a: ", "ends in the middle"),
        ("[a.b", "ends in the middle"),
        ("max_batch_size: -1", "expected a whole number"),
        ("max_batch_size: many", "expected a whole number"),
        ("max_batch_size {}", "expected a whole number"),
        ("max_batch_size: 99999999999", "expected a whole number"),
        ("version_policy: 1", "expected a message"),
        ("version_policy { specific { versions: [1, x] } }", "expected a whole number"),
        ("a {" * 100_000, "deeper than"),
        (b"\xff\xfe", "UTF-8"),
        (b" " * (MAX_BYTES + 1), "more than"),
    ],
)
def test_what_is_none_is_told_with_its_line(tmp_path: Path, text: str | bytes, told: str) -> None:
    with pytest.raises(UnreadableInput, match=told) as caught:
        read(tmp_path / "m", text)
    assert "m/config.pbtxt" in str(caught.value)


pieces = st.sampled_from([*WHOLE.split(), "{", "}", "<", ">", "[", "]", ":", ",", '"', "'", "#", "\n", "\\", "-", "1"])


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(pieces, max_size=60).map(" ".join) | st.text(max_size=200))
@example("'" * 50_000)
@example('"' + "\\" * 50_000)
@example("#" * 50_000 + "{")
def test_any_text_is_read_or_refused(tmp_path: Path, text: str) -> None:
    try:
        read(tmp_path / "m", text.encode(errors="replace"))
    except UnreadableInput as error:
        assert "\n" not in str(error)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, len(WHOLE) - 1), st.integers(0, 200), st.text(max_size=3))
def test_an_altered_configuration_is_read_or_refused(tmp_path: Path, at: int, length: int, instead: str) -> None:
    try:
        read(tmp_path / "m", (WHOLE[:at] + instead + WHOLE[at + length :]).encode(errors="replace"))
    except UnreadableInput as error:
        assert "config.pbtxt" in str(error)


def test_each_model_follows_its_own_configuration(tmp_path: Path, start: Start) -> None:
    configured = {
        "every": "version_policy { all {} }",
        "chosen": "version_policy { specific { versions: [1] } } max_batch_size: 0",
        "broken": "version_policy {",
    }
    for name in (*configured, "plain"):
        for version in (1, 2):
            put(tmp_path, name, add_constant(float(version)), version)
    for name, text in configured.items():
        (tmp_path / name / "config.pbtxt").write_text(text)
    endpoint = start(tmp_path, "--watch", "0.05")
    index = endpoint.ask("POST", "/v2/repository/index", b'{"ready": true}').json()
    ready = {(entry["name"], entry["version"]) for entry in index}
    assert ready == {("every", "1"), ("every", "2"), ("chosen", "1"), ("plain", "2")}
    assert endpoint.infer("chosen", {"x": ROW}).response().outputs["y"][0, 0] == 1.0
    assert endpoint.wait_for("loaded", model="chosen")["batches"] is False
    assert endpoint.wait_for("loaded", model="plain")["batches"] is True
    every = endpoint.ask("POST", "/v2/repository/index").json()
    reasons = {entry["reason"] for entry in every if entry["name"] == "broken"}
    assert reasons == {"broken/config.pbtxt: ends in the middle of a message"}

    (tmp_path / "broken" / "config.pbtxt").write_text("version_policy {}")
    (tmp_path / "chosen" / "config.pbtxt").write_text("version_policy { latest {} }")
    endpoint.wait_for("loaded", model="broken", version=2)
    endpoint.wait_for("loaded", model="chosen", version=2)
    assert endpoint.infer("chosen", {"x": ROW}).response().outputs["y"][0, 0] == 2.0
    assert len([event for event in endpoint.events if event["event"] == "load failed"]) == 1


def test_a_tail_exported_for_triton_is_served_as_it_is(tmp_path: Path, start: Start) -> None:
    with open_model(models.onnx_mlp()) as model:
        cut = next(c for c in cuts_of(open_graph(model)).cuts if c.divides and len(c.tensors) == 1)
        export_tail("triton", tmp_path, "tail", split_model(model, cut))
    assert (tmp_path / "tail" / "config.pbtxt").is_file()
    endpoint = start(tmp_path)
    assert endpoint.ask("GET", "/v2/models/tail/ready").status == 200

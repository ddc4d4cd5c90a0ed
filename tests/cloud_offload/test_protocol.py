"""The Open Inference Protocol v2 over HTTP with its binary and repository extensions, asked of a real endpoint.

README.md beside this file lists what the protocol's texts state, and the test for each.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sdk.wire.body import encode_request
from tests.cloud_offload.endpoints import TYPES

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def json_request(**other: Any) -> bytes:
    data = {"name": "x", "datatype": "FP32", "shape": [2, 3], "data": X.ravel().tolist()}
    return json.dumps({"inputs": [data], **other}).encode()


# --- health and metadata ---


def test_live_and_ready_answer_200(shared: Any) -> None:
    live, ready = shared.ask("GET", "/v2/health/live"), shared.ask("GET", "/v2/health/ready")
    assert (live.status, live.json()) == (200, {"live": True})
    assert (ready.status, ready.json()) == (200, {"live": True, "ready": True})
    assert shared.ask("GET", "/v2/models/add/ready").json() == {"name": "add", "ready": True}


def test_names_and_paths_are_case_sensitive(shared: Any) -> None:
    for path in ("/v2/health/LIVE", "/V2", "/v2/models/ADD", "/v2/models/add/Ready"):
        assert shared.ask("GET", path).status == 404
    assert shared.ask("POST", "/v2/models/add/infer", json_request().replace(b"FP32", b"fp32")).status == 400
    assert shared.ask("POST", "/v2/models/add/infer", json_request().replace(b'"x"', b'"X"')).status == 400


def test_a_slash_at_the_end_changes_nothing(shared: Any) -> None:
    for path in ("/v2/", "/v2/health/live/", "/v2/models/add/"):
        assert shared.ask("GET", path).status == 200


def test_server_metadata_has_name_version_and_extensions(shared: Any) -> None:
    told = shared.ask("GET", "/v2").json()
    assert told["name"] == "edge-sdk"
    assert told["version"]
    assert told["extensions"] == ["binary_tensor_data", "model_repository"]


def test_model_metadata_has_versions_platform_inputs_and_outputs(shared: Any) -> None:
    told = shared.ask("GET", "/v2/models/dynamic").json()
    assert told["name"] == "dynamic"
    assert told["versions"] == ["1"]
    assert told["platform"] == "onnxruntime_onnx"
    assert told["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, -1]}]
    assert [output["name"] for output in told["outputs"]] == ["y", "total"]
    assert len(told["parameters"]["edge_bundle"]) == 64


def test_model_ready_answers_200_and_404_for_an_unknown_one(shared: Any) -> None:
    assert shared.ask("GET", "/v2/models/add/ready").status == 200
    assert shared.ask("GET", "/v2/models/add/versions/1/ready").status == 200
    assert shared.ask("GET", "/v2/models/nothing/ready").status == 404
    assert shared.ask("GET", "/v2/models/add/versions/9/ready").status == 404
    assert shared.ask("GET", "/v2/models/broken/ready").status == 404


def test_without_a_version_the_highest_answers(shared: Any) -> None:
    x = np.zeros((1, 2), np.float32)
    assert shared.infer("rows", {"x": x}).response().model_version == "2"
    assert shared.infer("rows", {"x": x}).response().outputs["y"].tolist() == [[2, 2]]
    assert shared.infer("rows/versions/1", {"x": x}).response().outputs["y"].tolist() == [[1, 1]]


# --- inference ---


def test_json_in_json_out(shared: Any) -> None:
    answer = shared.ask("POST", "/v2/models/add/infer", json_request(id="42"))
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    told = answer.json()
    assert (told["model_name"], told["model_version"], told["id"]) == ("add", "1", "42")
    assert told["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [2, 3], "data": (X + 1).ravel().tolist()}]


def test_binary_in_binary_out(shared: Any) -> None:
    answer = shared.infer("add", {"x": X}, request_id="7")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.response().request_id == "7"
    assert np.array_equal(answer.response().outputs["y"], X + 1)


def test_each_output_may_be_asked_for_as_binary_or_json(shared: Any) -> None:
    outputs = [{"name": "product", "parameters": {"binary_data": True}}, {"name": "sum"}]
    inputs = [{"name": n, "datatype": "FP32", "shape": [3], "data": [1, 2, 3]} for n in "ab"]
    body = json.dumps({"inputs": inputs, "outputs": outputs}).encode()
    answer = shared.ask("POST", "/v2/models/two/infer", body)
    length = int(answer.headers["inference-header-content-length"])
    heads = json.loads(answer.body[:length])["outputs"]
    assert [head["name"] for head in heads] == ["product", "sum"]
    assert heads[0]["parameters"] == {"binary_data_size": 12}
    assert heads[1]["data"] == [2, 4, 6]
    assert answer.response().outputs["product"].tolist() == [1, 4, 9]


def test_outputs_not_asked_for_do_not_come(shared: Any) -> None:
    assert list(shared.infer("dynamic", {"x": X}, outputs=["total"]).response().outputs) == ["total"]


def test_text_travels_as_bytes(shared: Any) -> None:
    spec = shared.ask("GET", "/v2/models/text").json()["inputs"][0]
    assert spec["datatype"] == "BYTES"
    for binary in (True, False):
        answer = shared.infer("text", {spec["name"]: np.array(["a", "é"], object)}, binary=binary)
        assert answer.status == 200


def test_tflite_models_are_served_alike(shared: Any) -> None:
    told = shared.ask("GET", "/v2/models/lite").json()
    assert told["platform"] == "litert_tflite"
    shape = [max(size, 1) for size in told["inputs"][0]["shape"]]
    x = np.ones(shape, np.float32)
    assert shared.infer("lite", {told["inputs"][0]["name"]: x}).status == 200


CODERS: dict[str, Any] = {"gzip": gzip.compress, "deflate": zlib.compress}


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
def test_bodies_may_be_compressed_both_ways(shared: Any, coding: str) -> None:
    zstd = pytest.importorskip("backports.zstd")
    coder = {**CODERS, "zstd": zstd.compress}[coding]
    decoder = {"gzip": gzip.decompress, "deflate": zlib.decompress, "zstd": zstd.decompress}[coding]
    x = np.zeros((100, 100), np.float32)
    body = encode_request({"x": x})
    headers = {"Content-Encoding": coding, "Accept-Encoding": coding}
    headers["Inference-Header-Content-Length"] = str(body.header_length)
    answer = shared.ask("POST", "/v2/models/dynamic/infer", coder(body.joined()), headers)
    assert answer.status == 200, answer.body
    assert answer.headers["content-encoding"] == coding
    answer.body = decoder(answer.body)
    assert np.array_equal(answer.response().outputs["y"], x)


def test_an_answer_is_not_compressed_where_that_is_not_wanted(shared: Any) -> None:
    x = np.zeros((100, 100), np.float32)
    for wanted in ("", "identity", "gzip;q=0", "br"):
        answer = shared.infer("dynamic", {"x": x}, {"Accept-Encoding": wanted})
        assert "content-encoding" not in answer.headers


def test_an_id_that_was_not_given_does_not_come_back(shared: Any) -> None:
    assert "id" not in shared.ask("POST", "/v2/models/add/infer", json_request()).json()


def test_all_outputs_come_where_none_is_named(shared: Any) -> None:
    for outputs in ({}, {"outputs": []}):
        inputs = [{"name": "x", "datatype": "FP32", "shape": [2, 3], "data": X.ravel().tolist()}]
        answer = shared.ask("POST", "/v2/models/dynamic/infer", json.dumps({"inputs": inputs, **outputs}).encode())
        assert [output["name"] for output in answer.json()["outputs"]] == ["y", "total"]


@pytest.mark.parametrize("data", [X.tolist(), X.ravel().tolist()], ids=["nested", "flat"])
def test_data_may_be_nested_or_flat_in_row_major_order(shared: Any, data: Any) -> None:
    head = {"name": "x", "datatype": "FP32", "shape": [2, 3], "data": data}
    answer = shared.ask("POST", "/v2/models/add/infer", json.dumps({"inputs": [head]}).encode())
    assert np.array_equal(answer.response().outputs["y"], X + 1)


def test_shape_and_data_are_those_of_the_whole_batch(shared: Any) -> None:
    answer = shared.infer("rows/versions/1", {"x": np.zeros((5, 2), np.float32)}, binary=False)
    assert answer.json()["outputs"][0]["shape"] == [5, 2]


@pytest.mark.parametrize("parameters", [{"mine": "a", "n": 1, "f": 0.5, "b": True}, {"priority": 3}, {}])
def test_parameters_that_mean_nothing_here_are_let_through(shared: Any, parameters: Any) -> None:
    head = {"name": "x", "datatype": "FP32", "shape": [2, 3], "data": X.ravel().tolist(), "parameters": parameters}
    body = {"inputs": [head], "parameters": parameters, "outputs": [{"name": "y", "parameters": parameters}]}
    assert shared.ask("POST", "/v2/models/add/infer", json.dumps(body).encode()).status == 200


@pytest.mark.parametrize("value", [None, [], {}])
def test_parameters_are_text_numbers_or_flags(shared: Any, value: Any) -> None:
    assert shared.ask("POST", "/v2/models/add/infer", json_request(parameters={"mine": value})).status == 400


@pytest.mark.parametrize("binary", [True, False])
def test_every_datatype_is_carried_from_its_least_to_its_largest_value(shared: Any, binary: bool) -> None:
    told = shared.ask("GET", "/v2/models/types").json()
    assert [spec["datatype"] for spec in told["inputs"]] == list(TYPES)
    answer = shared.infer("types", {f"x_{name}": array for name, array in TYPES.items()}, binary=binary).response()
    for name, array in TYPES.items():
        assert answer.outputs[f"y_{name}"].dtype == array.dtype
        assert np.array_equal(answer.outputs[f"y_{name}"], array)


# --- binary data ---


def test_binary_data_is_little_endian_without_padding_in_the_order_of_the_inputs(shared: Any) -> None:
    """Written by hand, as the text has it: 3 × FP32 of `b` before 3 × FP32 of `a`."""
    raw = bytes.fromhex("0000803f 00000040 00004040") + bytes.fromhex("0000a040 0000a040 0000a040")
    inputs = [
        {"name": name, "datatype": "FP32", "shape": [3], "parameters": {"binary_data_size": 12}} for name in ("b", "a")
    ]
    head = json.dumps({"model_name": "two", "inputs": inputs, "outputs": [{"name": "sum"}]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head)), "Content-Type": "application/octet-stream"}
    answer = shared.ask("POST", "/v2/models/two/infer", head + raw, headers)
    assert answer.json()["outputs"][0]["data"] == [6, 7, 8]


def test_a_bool_is_one_byte_and_a_bytes_element_follows_its_length(shared: Any) -> None:
    name = shared.ask("GET", "/v2/models/text").json()["inputs"][0]["name"]
    raw = b"\x01\x00\x00\x00a" + b"\x02\x00\x00\x00\xc3\xa9"
    tensor = {"name": name, "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [tensor]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    assert shared.ask("POST", "/v2/models/text/infer", head + raw, headers).status == 200
    answer = shared.infer("types", {f"x_{name}": array for name, array in TYPES.items()}, outputs=["y_BOOL"])
    assert answer.body[int(answer.headers["inference-header-content-length"]) :] == b"\x01\x00"


def test_binary_and_json_inputs_may_come_in_one_request(shared: Any) -> None:
    inputs = [
        {"name": "a", "datatype": "FP32", "shape": [3], "data": [1, 2, 3]},
        {"name": "b", "datatype": "FP32", "shape": [3], "parameters": {"binary_data_size": 12}},
    ]
    head = json.dumps({"inputs": inputs, "outputs": [{"name": "sum"}]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    answer = shared.ask("POST", "/v2/models/two/infer", head + np.ones(3, np.float32).tobytes(), headers)
    assert answer.json()["outputs"][0]["data"] == [2, 3, 4]


def test_binary_data_of_an_output_overrides_binary_data_output(shared: Any) -> None:
    outputs = [{"name": "sum", "parameters": {"binary_data": False}}, {"name": "product"}]
    inputs = [{"name": n, "datatype": "FP32", "shape": [3], "data": [1, 2, 3]} for n in "ab"]
    body = {"inputs": inputs, "outputs": outputs, "parameters": {"binary_data_output": True}}
    answer = shared.ask("POST", "/v2/models/two/infer", json.dumps(body).encode())
    heads = json.loads(answer.body[: int(answer.headers["inference-header-content-length"])])["outputs"]
    assert "data" in heads[0] and heads[1]["parameters"] == {"binary_data_size": 12}


def test_without_binary_outputs_there_is_no_header_length_and_with_them_content_length_is_of_all(shared: Any) -> None:
    assert "inference-header-content-length" not in shared.infer("add", {"x": X}, binary=False).headers
    answer = shared.infer("add", {"x": X})
    length = int(answer.headers["inference-header-content-length"])
    assert int(answer.headers["content-length"]) == len(answer.body) == length + X.nbytes


def test_binary_inputs_without_the_header_length_are_refused(shared: Any) -> None:
    body = encode_request({"x": X})
    assert shared.ask("POST", "/v2/models/add/infer", body.joined()).status == 400


# --- errors ---


def test_errors_are_json_with_one_line(shared: Any) -> None:
    answer = shared.ask("POST", "/v2/models/add/infer", b"{")
    assert answer.status == 400
    assert list(answer.json()) == ["error"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v2/nothing", 404),
        ("GET", "/v2/models/nothing", 404),
        ("GET", "/v2/models/%2e%2e%2fadd", 404),
        ("GET", "/v2/models/add/versions/01", 404),
        ("GET", "/v2/models/add/versions/x/ready", 404),
        ("GET", "/v2/models/add@cut", 404),
        ("POST", "/v2/models/nothing/infer", 404),
        ("GET", "/v2/models/add/infer", 405),
        ("POST", "/v2", 405),
        ("GET", "/v2/repository/index", 405),
        ("POST", "/v2/repository/models/nothing/load", 404),
        ("POST", "/v2/repository/models/..%2f..%2fetc/load", 404),
        ("POST", "/v2/repository/models/nothing/unload", 404),
    ],
)
def test_status_of_what_is_not_there(shared: Any, method: str, path: str, status: int) -> None:
    answer = shared.ask(method, path)
    assert answer.status == status
    assert answer.json()["error"]


BAD: dict[str, tuple[bytes, dict[str, str], int, str]] = {
    "an unknown input": (json_request().replace(b'"x"', b'"z"'), {}, 400, "'z'"),
    "another dtype": (json_request().replace(b"FP32", b"FP64"), {}, 400, "float64"),
    "another shape": (json_request().replace(b"[2, 3]", b"[3, 2]"), {}, 400, "'x'"),
    "an unknown output": (json_request(outputs=[{"name": "z"}]), {}, 400, "no output 'z'"),
    "a header length that is no number": (
        json_request(),
        {"Inference-Header-Content-Length": "1x"},
        400,
        "whole number",
    ),
    "a header length beyond the body": (json_request(), {"Inference-Header-Content-Length": "9999"}, 400, "9999"),
    "an unknown coding": (json_request(), {"Content-Encoding": "br"}, 415, "gzip"),
    "a broken coding": (json_request(), {"Content-Encoding": "gzip"}, 400, "no valid gzip"),
    "half a coding": (gzip.compress(json_request())[:-9], {"Content-Encoding": "gzip"}, 400, "middle"),
    "a bomb": (gzip.compress(bytes(5 * 2**20)), {"Content-Encoding": "gzip"}, 413, "once expanded"),
    "a body that is too large": (bytes(4 * 2**20 + 1), {}, 413, "more than"),
    "a deadline that is no number": (json_request(), {"deadline-ms": "soon"}, 400, "deadline-ms"),
    "a timeout that is no number": (json_request(parameters={"timeout": "1"}), {}, 400, "microseconds"),
    "a timeout beyond 64 bits": (json_request(parameters={"timeout": 10**400}), {}, 400, "microseconds"),
    "a sequence": (json_request(parameters={"sequence_id": 1}), {}, 400, "sequences"),
    "a classification": (
        json_request(outputs=[{"name": "y", "parameters": {"classification": 1}}]),
        {},
        400,
        "classif",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_request_is_told_what_is_wrong(shared: Any, what: str) -> None:
    body, headers, status, reason = BAD[what]
    answer = shared.ask("POST", "/v2/models/add/infer", body, headers)
    assert answer.status == status, answer.body
    assert reason in answer.json()["error"]


def test_a_body_without_a_told_length_is_bounded_too(shared: Any) -> None:
    connection = shared.connect()
    connection.request("POST", "/v2/models/add/infer", iter([json_request()]), encode_chunked=True)
    assert connection.getresponse().status == 200
    connection.close()
    connection = shared.connect()
    try:
        connection.request("POST", "/v2/models/add/infer", (bytes(2**20) for _ in range(5)), encode_chunked=True)
        assert connection.getresponse().status == 413
    except (BrokenPipeError, ConnectionResetError):
        pass  # the endpoint had answered, and closed, before all was sent
    finally:
        connection.close()
    assert shared.ask("GET", "/v2/health/live").status == 200


# --- repository and metrics ---


def test_the_index_tells_every_version_its_state_and_why(shared: Any) -> None:
    rows = {(row["name"], row["version"]): row for row in shared.ask("POST", "/v2/repository/index").json()}
    assert rows["rows", "1"]["state"] == rows["rows", "2"]["state"] == "READY"
    assert rows["broken", "1"]["state"] == "UNAVAILABLE"
    assert rows["broken", "1"]["reason"]
    ready = shared.ask("POST", "/v2/repository/index", b'{"ready": true}').json()
    assert all(row["state"] == "READY" for row in ready)
    assert "broken" not in {row["name"] for row in ready}


def test_index_rows_have_name_version_state_and_reason(shared: Any) -> None:
    for row in shared.ask("POST", "/v2/repository/index", b"{}").json():
        assert list(row) == ["name", "version", "state", "reason"]
        assert all(isinstance(told, str) for told in row.values())
    refused = shared.ask("POST", "/v2/repository/index", b'{"ready": 1}')
    assert (refused.status, list(refused.json())) == (400, ["error"])


@pytest.mark.parametrize("body", [b"", b"{}", b'{"parameters": {}}', b'{"parameters": {"unload_dependents": true}}'])
def test_load_and_unload_take_no_body_or_parameters(shared: Any, body: bytes) -> None:
    assert shared.ask("POST", "/v2/repository/models/spare/unload", body).status == 200
    assert shared.ask("GET", "/v2/models/spare/ready").status == 404
    assert shared.ask("POST", "/v2/repository/models/spare/load", body).status == 200
    assert shared.ask("GET", "/v2/models/spare/ready").status == 200


@pytest.mark.parametrize(
    "parameters", [{"config": "{}"}, {"file:1/model.onnx": "AAAA"}, {"unload_dependents": 1}, [], None]
)
def test_a_load_parameter_that_would_have_to_be_obeyed_is_refused(shared: Any, parameters: Any) -> None:
    for verb in ("load", "unload"):
        body = json.dumps({"parameters": parameters}).encode()
        answer = shared.ask("POST", f"/v2/repository/models/spare/{verb}", body)
        assert (answer.status, list(answer.json())) == (400, ["error"])
    assert shared.ask("GET", "/v2/models/spare/ready").status == 200


def test_loading_a_broken_model_is_told_why(shared: Any) -> None:
    answer = shared.ask("POST", "/v2/repository/models/broken/load")
    assert answer.status == 400
    assert "cannot be loaded" in answer.json()["error"]


def test_metrics_are_prometheus_text(shared: Any) -> None:
    parser = pytest.importorskip("prometheus_client.parser")
    shared.infer("add", {"x": X})
    page = shared.ask("GET", "/metrics")
    samples = {s.name: s for f in parser.text_string_to_metric_families(page.body.decode()) for s in f.samples}
    assert samples["edge_inferences_total"].value >= 1
    assert "edge_in_progress" in samples


def test_each_request_is_one_line_of_json_in_the_log(shared: Any) -> None:
    shared.ask("GET", "/v2/models/nothing/ready?marked")
    told = shared.wait_for("request", path="/v2/models/nothing/ready")
    assert told["status"] == 404
    assert told["error"]


def test_the_list_of_what_the_texts_state_names_only_tests_that_are_there() -> None:
    folder = Path(__file__).parent
    listed = set(re.findall(r"`(test_\w+)`", (folder / "README.md").read_text()))
    assert len(listed) > 25
    written = {name for path in folder.glob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text())}
    assert listed <= written, listed - written

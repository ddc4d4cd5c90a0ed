"""What other servers tell of a model is read leniently; what is no metadata is refused in one line."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.errors import InvalidAnswer
from edge_sdk.wire.metadata import read_configuration, read_document, read_metadata

# As Triton and mlserver answer; the second has no versions and names parameters null.
TRITON = {
    "name": "m", "versions": ["1", "3"], "platform": "onnxruntime_onnx",
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
}  # fmt: skip
MLSERVER = {"name": "m", "versions": [], "platform": "", "inputs": [], "outputs": [], "parameters": None, "x-new": [1]}


def test_names_datatypes_and_shapes() -> None:
    metadata = read_metadata(memoryview(json.dumps(TRITON).encode()), "endpoint")
    assert (metadata.name, metadata.versions, metadata.platform) == ("m", ("1", "3"), "onnxruntime_onnx")
    assert (metadata.inputs, metadata.outputs) == (("x",), ("y",))
    assert metadata.datatypes == {"x": "FP32", "y": "FP32"}
    assert metadata.shapes == {"x": (-1, 3), "y": (-1, 2)}


def test_what_is_missing_null_or_new_does_no_harm() -> None:
    assert read_metadata(memoryview(json.dumps(MLSERVER).encode()), "endpoint").parameters == {}
    assert read_metadata(memoryview(b'{"name": "m"}'), "endpoint").versions == ()


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"name": 3}', b'{"name": "m", "inputs": 3}', b"\xff"])
def test_what_is_no_metadata_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidAnswer, match="not as the protocol says"):
        read_metadata(memoryview(body), "endpoint")


@given(st.one_of(st.binary(max_size=60), st.integers(1, 30000).map(lambda n: b"[" * n)))
@settings(max_examples=100)
def test_no_body_breaks_the_reader(body: bytes) -> None:
    assert isinstance(read_document(memoryview(body)), dict)
    try:
        read_metadata(memoryview(body), "endpoint")
    except InvalidAnswer as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"parameters": {"a": {"string_value": "b"}, "c": {"string_value": 1}, "d": "e"}}', {"a": "b"}),
        (b'{"name": "m"}', {}),
        (b'{"parameters": ["a"]}', {}),
        (b"<html>", {}),
    ],
)
def test_parameters_of_a_configuration(body: bytes, expected: dict[str, str]) -> None:
    assert read_configuration(memoryview(body)) == expected

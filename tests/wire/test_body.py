"""The body that travels: what goes in comes out, nothing is copied, and what breaks the protocol is told."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np
import pytest

from edge_sdk.errors import EdgeError, WireError
from edge_sdk.wire.body import decode_request, decode_response, encode_request, encode_response
from edge_sdk.wire.limits import Limits

DTYPES = [
    "bool",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "int8",
    "int16",
    "int32",
    "int64",
    "float16",
    "float32",
    "float64",
]


def request(head: Any, binary: bytes = b"", header_length: int | None = None, **limits: int) -> Any:
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    length = len(text) if binary and header_length is None else header_length
    return decode_request(memoryview(text + binary), length, Limits(**limits))


def tensor(**other: Any) -> dict[str, Any]:
    return {"name": "x", "datatype": "FP32", "shape": [2], **other}


# --- there and back ---


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (3,), (2, 0), (2, 3, 4)])
@pytest.mark.parametrize("binary", [True, False])
def test_every_datatype_comes_back_as_it_went(dtype: str, shape: tuple[int, ...], binary: bool) -> None:
    array = (np.arange(np.prod(shape, dtype=int)).reshape(shape) % 2).astype(dtype)
    body = encode_request({"x": array}, request_id="7", binary=binary)
    back = decode_request(memoryview(body.joined()), body.header_length)
    assert back.request_id == "7"
    assert back.inputs["x"].dtype == array.dtype
    assert back.inputs["x"].shape == shape
    assert np.array_equal(back.inputs["x"], array)


@pytest.mark.parametrize("binary", [True, False])
def test_bytes_come_back_as_bytes_objects(binary: bool) -> None:
    body = encode_request({"x": np.array([["a", b"b,["], ["", "é"]], object)}, binary=binary)
    back = decode_request(memoryview(body.joined()), body.header_length).inputs["x"]
    assert back.tolist() == [[b"a", b"b,["], [b"", "é".encode()]]


def test_numpy_text_travels_as_bytes() -> None:
    body = encode_request({"x": np.array(["one", "two"])})
    assert decode_request(memoryview(body.joined()), body.header_length).inputs["x"].tolist() == [b"one", b"two"]


def test_an_answer_comes_back_with_its_names() -> None:
    outputs = {"a": np.ones((2, 2), np.float32), "b": np.arange(3)}
    body = encode_response("m", "3", outputs, request_id="r", parameters={"k": 1}, binary={"a"})
    back = decode_response(memoryview(body.joined()), body.header_length)
    assert (back.model_name, back.model_version, back.request_id, back.parameters) == ("m", "3", "r", {"k": 1})
    assert list(back.outputs) == ["a", "b"]
    assert all(np.array_equal(back.outputs[name], outputs[name]) for name in outputs)


def test_strided_and_big_endian_arrays_travel_by_value() -> None:
    arrays = {"t": np.arange(6, dtype=np.int32).reshape(2, 3).T, "e": np.arange(3, dtype=">f4")}
    body = encode_request(arrays)
    back = decode_request(memoryview(body.joined()), body.header_length).inputs
    assert all(np.array_equal(back[name], arrays[name]) for name in arrays)


def test_outputs_asked_for_say_whether_they_come_as_binary_data() -> None:
    head = {"inputs": [], "outputs": [{"name": "a", "parameters": {"binary_data": False}}, {"name": "b"}]}
    asked = request({**head, "parameters": {"binary_data_output": True}})
    assert [(o.name, o.binary) for o in asked.outputs] == [("a", False), ("b", True)]
    assert asked.binary


def test_json_data_may_be_flat_or_nested() -> None:
    for data in ([1, 2, 3, 4], [[1, 2], [3, 4]]):
        head = {"inputs": [{"name": "x", "datatype": "INT8", "shape": [2, 2], "data": data}]}
        assert request(head).inputs["x"].tolist() == [[1, 2], [3, 4]]


# --- no copies ---


def test_encoding_sends_the_array_s_own_memory() -> None:
    array = np.zeros(1000, np.float32)
    body = encode_request({"x": array})
    assert np.shares_memory(np.frombuffer(body.parts[1], np.uint8), array)


def test_decoding_gives_read_only_views_of_the_body() -> None:
    joined = np.frombuffer(encode_request({"x": np.ones(1000)}).joined(), np.uint8)
    body = encode_request({"x": np.ones(1000)})
    back = decode_request(memoryview(joined), body.header_length).inputs["x"]
    assert np.shares_memory(back, joined)
    assert not back.flags.writeable


def test_the_head_is_filled_up_so_that_tensors_lie_aligned() -> None:
    for name in ("x", "xy", "xyz"):
        assert (encode_request({name: np.ones(3)}).header_length or 1) % 64 == 0


def test_a_tensor_that_lies_askew_is_copied_into_place() -> None:
    head = {"inputs": [tensor(parameters={"binary_data_size": 8})]}
    for fill in range(4):
        text = json.dumps(head).encode() + b" " * fill
        assert request(text, np.ones(2, "<f4").tobytes()).inputs["x"].flags.aligned


# --- what is refused, and how it is told ---

BROKEN: dict[str, tuple[Any, bytes, str]] = {
    "no JSON": (b"{", b"", "JSON|truncated"),
    "no inputs": ({}, b"", "inputs"),
    "inputs of another type": ({"inputs": 3}, b"", "inputs"),
    "a name that is no text": ({"inputs": [tensor(name=3, data=[1, 2])]}, b"", "name"),
    "an unknown datatype": ({"inputs": [tensor(datatype="F32", data=[1, 2])]}, b"", "F32"),
    "BF16": ({"inputs": [tensor(datatype="BF16", data=[1, 2])]}, b"", "FP16 or FP32"),
    "a negative size": ({"inputs": [tensor(shape=[-1], data=[1])]}, b"", "negative"),
    "a size that is no number": ({"inputs": [tensor(shape=["2"], data=[1])]}, b"", "shape"),
    "neither data nor size": ({"inputs": [tensor()]}, b"", "neither"),
    "both data and size": ({"inputs": [tensor(data=[1, 2], parameters={"binary_data_size": 8})]}, bytes(8), "both"),
    "too few elements": ({"inputs": [tensor(data=[1])]}, b"", "expected 2"),
    "too many elements": ({"inputs": [tensor(data=[1, 2, 3])]}, b"", "expected 2"),
    "another nesting": ({"inputs": [tensor(shape=[2, 2], data=[[1], [2, 3, 4]])]}, b"", "shape"),
    "text among numbers": ({"inputs": [tensor(data=["1", 2])]}, b"", "FP32"),
    "true for a number": ({"inputs": [tensor(datatype="INT8", data=[True, 2])]}, b"", "INT8"),
    "a fraction for a whole number": ({"inputs": [tensor(datatype="INT8", data=[1.5, 2])]}, b"", "INT8"),
    "a number beyond its datatype": ({"inputs": [tensor(datatype="UINT8", data=[256, 0])]}, b"", "beyond UINT8"),
    "a float beyond its datatype": ({"inputs": [tensor(data=[1e39, 0])]}, b"", "beyond FP32"),
    "NaN in JSON": (b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":[NaN]}]}', b"", "JSON|inference"),
    "a key twice": (b'{"inputs":[],"id":"a","id":"b"}', b"", "twice"),
    "a key twice, once escaped": (b'{"inputs":[],"id":"a","\\u0069d":"b"}', b"", "twice"),
    "a tensor twice": ({"inputs": [tensor(data=[1, 2]), tensor(data=[1, 2])]}, b"", "twice"),
    "an output twice": ({"inputs": [], "outputs": [{"name": "y"}, {"name": "y"}]}, b"", "twice"),
    "a flag that is none": ({"inputs": [], "parameters": {"binary_data_output": 1}}, b"", "true or false"),
    "a size that is too small": ({"inputs": [tensor(parameters={"binary_data_size": 4})]}, bytes(4), "expected 8"),
    "a size beyond the body": ({"inputs": [tensor(parameters={"binary_data_size": 8})]}, bytes(7), "only 7"),
    "a negative binary size": ({"inputs": [tensor(parameters={"binary_data_size": -8})]}, bytes(8), "number of bytes"),
    "a binary size that is true": ({"inputs": [tensor(parameters={"binary_data_size": True})]}, bytes(8), "number of"),
    "bytes left over": ({"inputs": [tensor(parameters={"binary_data_size": 8})]}, bytes(9), "1 bytes are left"),
    "a BOOL of 2": (
        {"inputs": [tensor(datatype="BOOL", parameters={"binary_data_size": 2})]},
        b"\1\2",
        "neither 0 nor 1",
    ),
    "a BYTES element beyond its end": (
        {"inputs": [tensor(datatype="BYTES", shape=[1], parameters={"binary_data_size": 6})]},
        b"\xff\xff\xff\xffab",
        "ends beyond",
    ),
    "a BYTES element too few": (
        {"inputs": [tensor(datatype="BYTES", parameters={"binary_data_size": 5})]},
        b"\1\0\0\0a",
        "too small",
    ),
    "BYTES left over": (
        {"inputs": [tensor(datatype="BYTES", shape=[1], parameters={"binary_data_size": 6})]},
        b"\1\0\0\0ab",
        "left after",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_request_is_refused_with_its_reason(what: str) -> None:
    head, binary, reason = BROKEN[what]
    with pytest.raises(WireError, match=reason) as told:
        request(head, binary)
    assert told.value.status == 400
    assert "\n" not in str(told.value)


def test_binary_data_without_a_told_head_is_refused() -> None:
    with pytest.raises(WireError, match="JSON head is not told"):
        request({"inputs": [tensor(parameters={"binary_data_size": 8})]})


@pytest.mark.parametrize("length", [0, -1, 10**6])
def test_a_head_that_ends_outside_the_body_is_refused(length: int) -> None:
    with pytest.raises(WireError, match="header length"):
        request({"inputs": []}, b"", length)


def test_shapes_are_judged_before_memory_is_taken() -> None:
    for shape in ([2**40], [2**62, 0], [2**31] * 3, [0, 2**62]):
        for datatype in ("FP64", "BYTES"):
            head = {"inputs": [tensor(shape=shape, datatype=datatype, data=[])]}
            with pytest.raises(WireError, match="too large") as told:
                request(head)
            assert told.value.status == 413


def test_json_is_bounded_in_depth_and_size() -> None:
    with pytest.raises(WireError, match="deeper"):
        request(b'{"inputs":[],"x":' + b"[" * 100_000)
    with pytest.raises(WireError, match="binary data") as told:
        request({"inputs": [], "id": "a" * 100}, max_json_bytes=50)
    assert told.value.status == 413
    with pytest.raises(WireError, match="more than the 2 allowed"):
        request({"inputs": [tensor(name=str(i), data=[1, 2]) for i in range(3)]}, max_tensors=2)
    with pytest.raises(WireError, match="dimensions"):
        request({"inputs": [tensor(shape=[1] * 33, data=[1])]})


def test_a_body_beyond_the_limit_is_refused() -> None:
    with pytest.raises(WireError, match="more than the 10 allowed") as told:
        request({"inputs": []}, max_body_bytes=10)
    assert told.value.status == 413


def test_what_json_cannot_tell_is_refused_when_encoding() -> None:
    for array in (np.array([np.nan], np.float32), np.array([np.inf]), np.array([b"\xff"], object)):
        with pytest.raises(WireError, match="ask for binary data"):
            encode_response("m", "1", {"y": array}, binary=False)


def test_what_the_protocol_has_no_form_for_is_refused_when_encoding() -> None:
    for array in (np.ones(2, complex), np.array([1, None], object), np.array(["2020-01-01"], "M8[D]")):
        with pytest.raises(WireError):
            encode_request({"x": array})


def test_a_wire_error_is_an_edge_error_and_a_value_error() -> None:
    assert issubclass(WireError, EdgeError)
    assert issubclass(WireError, ValueError)


def test_long_strings_without_an_end_take_time_in_proportion_to_their_length() -> None:
    # Ten times this would take minutes if each quote were tried as another beginning.
    with pytest.raises(WireError):
        request(b'{"inputs":[],"id":"' + b'\\"' * 500_000)


def test_other_keys_are_left_alone() -> None:
    assert request({"inputs": [tensor(data=[1, 2], x=1)], "y": {"z": []}}).inputs["x"].tolist() == [1, 2]
    assert msgspec.json.decode(encode_request({}, binary=False).joined()) == {"inputs": []}


def test_elements_of_all_bytes_tensors_together_are_bounded() -> None:
    limits = Limits(max_elements=5)
    for binary in (True, False):
        inputs = {name: np.array(["a"] * 3, object) for name in "ab"}
        body = encode_request(inputs, binary=binary)
        with pytest.raises(WireError, match="more than the 5 elements") as told:
            decode_request(memoryview(body.joined()), body.header_length, limits)
        assert told.value.status == 413
        body = encode_request({"a": inputs["a"]}, binary=binary)
        assert decode_request(memoryview(body.joined()), body.header_length, limits).inputs["a"].size == 3

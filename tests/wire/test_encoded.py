"""Tensors that stand as files in a body, beside raw ones."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest

from edge_sdk.errors import WireError
from edge_sdk.wire.body import decode_request, decode_response, encode_request
from edge_sdk.wire.encoded import Encoded

PICTURE = Encoded(b"any bytes at all", "UINT8", (1, 4, 4, 3), "jpeg@80")


def test_a_file_and_an_array_travel_in_one_body() -> None:
    body = encode_request({"a": np.arange(3, dtype=np.float32), "x": PICTURE, "b": np.ones(2, np.int8)})
    head = json.loads(body.joined()[: body.header_length])
    assert head["inputs"][1] == {
        "name": "x", "datatype": "UINT8", "shape": [1, 4, 4, 3],
        "parameters": {"binary_data_size": 16, "edge_coding": "jpeg@80"},
    }  # fmt: skip
    read = decode_request(memoryview(body.joined()), body.header_length)
    assert read.encoded == {"x": PICTURE}
    assert {name: array.tolist() for name, array in read.inputs.items()} == {"a": [0, 1, 2], "b": [1, 1]}


def test_json_has_no_form_for_a_file() -> None:
    with pytest.raises(WireError, match="JSON has no form for") as refused:
        encode_request({"x": PICTURE}, binary=False)
    assert refused.value.status == 415


def changed(**parameters: object) -> tuple[memoryview, int]:
    head = {"name": "x", "datatype": "UINT8", "shape": [1, 4, 4, 3], "parameters": parameters}
    if "data" in parameters:
        head["data"] = parameters.pop("data")
    text = msgspec.json.encode({"inputs": [head]})
    return memoryview(text + PICTURE.content), len(text)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (changed(edge_coding="jpeg@80"), "edge_coding without binary_data_size"),
        (changed(edge_coding="jpeg@80", data=[0] * 48), "edge_coding without binary_data_size"),
        (changed(edge_coding="jpeg@80", binary_data_size=17), "but only 16 bytes follow"),
        (changed(edge_coding="jpeg@80", binary_data_size=15), "1 bytes are left"),
    ],
)
def test_bodies_that_break_the_form_are_refused(body: tuple[memoryview, int], told: str) -> None:
    with pytest.raises(WireError, match=told):
        decode_request(*body)


def test_a_coding_that_is_no_text_comes_as_text_that_no_decoder_knows() -> None:
    body, length = changed(edge_coding=5, binary_data_size=16)
    assert decode_request(body, length).encoded["x"].coding == "5"


def test_answers_hold_no_files() -> None:
    body, length = changed(edge_coding="jpeg@80", binary_data_size=16)
    text = bytes(body[:length]).replace(b'"inputs"', b'"model_name":"m","outputs"')
    with pytest.raises(WireError, match="output 'x' came encoded"):
        decode_response(memoryview(text + PICTURE.content), len(text))

"""Whatever bytes come, reading them gives a request or a WireError, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.errors import WireError
from edge_sdk.wire.body import decode_request, decode_response, encode_request, encode_response
from edge_sdk.wire.limits import Limits

LIMITS = Limits(max_body_bytes=2**16)
GOOD = encode_request(
    {"x": np.ones((2, 3), np.float32), "t": np.array(["a", "bc"], object), "b": np.array([True])}, outputs=["y"]
)
ANSWER = encode_response("m", "1", {"y": np.ones((2, 3), np.float32), "z": np.arange(3)}, binary={"y"})

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
)
sizes = st.integers(-1, 4) | st.sampled_from([2**31, 2**63, 2**64]) | values
datatypes = st.sampled_from(["BOOL", "UINT8", "INT64", "FP16", "FP32", "FP64", "BYTES", "BF16", ""]) | values
parameters = st.dictionaries(st.sampled_from(["binary_data_size", "binary_data", "k"]), sizes, max_size=2) | values
tensors = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["x", "y"]) | values,
        "datatype": datatypes,
        "shape": st.lists(sizes, max_size=3) | values,
    },
    optional={"parameters": parameters, "data": values},
)
heads = st.fixed_dictionaries(
    {"inputs": st.lists(tensors, max_size=3) | values, "outputs": st.lists(tensors, max_size=2) | values},
    optional={"id": values, "parameters": parameters, "model_name": st.just("m")},
)


def read(body: bytes, header_length: int | None) -> None:
    for decode in (decode_request, decode_response):
        try:
            got: Any = decode(memoryview(body), header_length, LIMITS)
        except WireError as error:
            assert "\n" not in str(error)
            assert error.status in (400, 413)
            continue
        arrays = got.inputs if decode is decode_request else got.outputs
        assert all(isinstance(array, np.ndarray) and not array.flags.writeable for array in arrays.values())


@settings(max_examples=150)
@given(st.binary(max_size=200), st.none() | st.integers(-2, 300))
def test_any_bytes(body: bytes, header_length: int | None) -> None:
    read(body, header_length)


@settings(max_examples=250)
@given(heads, st.binary(max_size=40), st.booleans())
def test_any_structure(head: dict[str, Any], binary: bytes, told: bool) -> None:
    text = json.dumps(head).encode()
    read(text + binary, len(text) if told else None)


@settings(max_examples=250)
@given(st.data())
def test_flipped_bytes_of_a_good_body(data: st.DataObject) -> None:
    good = GOOD if data.draw(st.booleans()) else ANSWER
    body = bytearray(good.joined())
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(body)) | st.just(len(body)))
    read(bytes(body[:end]), good.header_length)

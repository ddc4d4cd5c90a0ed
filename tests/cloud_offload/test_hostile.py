"""Malformed requests are never answered with a 5xx, and never keep the endpoint from answering the next one."""

from __future__ import annotations

import json
import socket
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_sdk.wire.body import encode_request
from tests.cloud_offload.endpoints import Endpoint

GOOD = encode_request({"x": np.zeros((2, 3), np.float32)}, outputs=["y"])
FEW = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)
tensors = st.fixed_dictionaries(
    {"name": st.just("x") | values, "datatype": st.sampled_from(["FP32", "BYTES", "INT8"]), "shape": st.just([2, 3])},
    optional={"parameters": values, "data": st.lists(st.integers(0, 9), min_size=6, max_size=6) | values},
)
heads = st.fixed_dictionaries(
    {"inputs": st.lists(tensors, max_size=2) | values},
    optional={"outputs": values, "parameters": values, "id": st.text(max_size=3) | values},
)


@FEW
@given(heads)
def test_any_structure_is_answered_below_500(shared: Endpoint, head: dict[str, Any]) -> None:
    answer = shared.ask("POST", "/v2/models/add/infer", json.dumps(head).encode())
    assert answer.status in (200, 400, 413)


@FEW
@given(st.data())
def test_flipped_bytes_are_answered_below_500(shared: Endpoint, data: st.DataObject) -> None:
    body = bytearray(GOOD.joined())
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    length = data.draw(st.just(GOOD.header_length) | st.integers(0, 400))
    headers = {"Inference-Header-Content-Length": str(length)}
    answer = shared.ask("POST", "/v2/models/add/infer", bytes(body), headers)
    assert answer.status in (200, 400, 413)


@FEW
@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=30), st.sampled_from(["GET", "POST"]))
def test_any_path_is_answered_below_500(shared: Endpoint, path: str, method: str) -> None:
    target = "/v2/models/" + path.replace("#", "").replace("?", "")
    assert shared.ask(method, target).status in (200, 400, 404, 405)


RAW = [
    b"\x00\x01\x02\x03\r\n\r\n",
    b"POST /v2/models/add/infer HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"POST /v2/models/add/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999\r\n\r\n",
    b"POST /v2/models/add/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    b"POST /v2/models/add/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"GET /v2/models/" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
]


@pytest.mark.parametrize("index", range(len(RAW)))
def test_what_is_hardly_http_is_refused_and_the_next_request_is_answered(shared: Endpoint, index: int) -> None:
    address = urlsplit(shared.url)
    with socket.create_connection((address.hostname, address.port), 30) as connection:
        try:
            connection.sendall(RAW[index])
            line = connection.recv(65536).partition(b"\r\n")[0]
        except ConnectionError:
            line = b""
    assert line == b"" or line.split()[1].startswith(b"4")
    assert shared.ask("GET", "/v2/health/live").status == 200


def test_a_client_that_leaves_in_the_middle_costs_nothing(shared: Endpoint) -> None:
    address = urlsplit(shared.url)
    for _ in range(5):
        with socket.create_connection((address.hostname, address.port), 30) as connection:
            connection.sendall(b"POST /v2/models/add/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n{")
    shared.wait_for("request", count=5, status=499)
    assert shared.ask("GET", "/v2/health/live").status == 200

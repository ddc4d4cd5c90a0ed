"""NVIDIA's own client of the protocol against the endpoint: sync and asyncio, JSON and binary, compressed."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from tests.cloud_offload.endpoints import Endpoint

client = pytest.importorskip("tritonclient.http")

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def address(endpoint: Endpoint) -> str:
    return urlsplit(endpoint.url).netloc


def asked(module: Any, binary: bool) -> dict[str, Any]:
    x = module.InferInput("x", [2, 3], "FP32")
    x.set_data_from_numpy(X, binary_data=binary)
    return {"inputs": [x], "outputs": [module.InferRequestedOutput("y", binary_data=binary)], "request_id": "5"}


def test_health_metadata_and_index(shared: Endpoint) -> None:
    with client.InferenceServerClient(address(shared)) as triton:
        assert triton.is_server_live()
        assert triton.is_server_ready()
        assert triton.is_model_ready("add")
        assert not triton.is_model_ready("nothing")
        assert triton.get_server_metadata()["name"] == "edge-sdk"
        assert triton.get_model_metadata("add")["inputs"][0]["datatype"] == "FP32"
        assert {row["name"] for row in triton.get_model_repository_index()} >= {"add", "rows"}


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("coding", [None, "gzip", "deflate"])
def test_inference(shared: Endpoint, binary: bool, coding: str | None) -> None:
    with client.InferenceServerClient(address(shared)) as triton:
        codings = {"request_compression_algorithm": coding, "response_compression_algorithm": coding}
        answer = triton.infer("add", **asked(client, binary), **codings)
    assert np.array_equal(answer.as_numpy("y"), X + 1)
    assert answer.get_response()["id"] == "5"


def test_text(shared: Endpoint) -> None:
    with client.InferenceServerClient(address(shared)) as triton:
        name = triton.get_model_metadata("text")["inputs"][0]["name"]
        words = client.InferInput(name, [2], "BYTES")
        words.set_data_from_numpy(np.array(["one", "zwölf"], object))
        answer = triton.infer("text", [words])
        output = triton.get_model_metadata("text")["outputs"][0]["name"]
        assert answer.as_numpy(output) is not None


def test_an_error_arrives_with_its_reason(shared: Endpoint) -> None:
    with client.InferenceServerClient(address(shared)) as triton:
        wrong = client.InferInput("z", [2, 3], "FP32")
        wrong.set_data_from_numpy(X)
        with pytest.raises(Exception, match="no input 'z'"):
            triton.infer("add", [wrong])


def test_asyncio(shared: Endpoint) -> None:
    aio = pytest.importorskip("tritonclient.http.aio")

    async def ask() -> Any:
        async with aio.InferenceServerClient(address(shared)) as triton:
            answers = await asyncio.gather(*(triton.infer("add", **asked(aio, b)) for b in (True, False) * 4))
            return [answer.as_numpy("y") for answer in answers]

    assert all(np.array_equal(y, X + 1) for y in asyncio.run(ask()))

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


@pytest.mark.parametrize(("there", "back"), [(True, False), (False, True)])
def test_inputs_and_outputs_may_travel_in_different_ways(shared: Endpoint, there: bool, back: bool) -> None:
    with client.InferenceServerClient(address(shared)) as triton:
        x = client.InferInput("x", [2, 3], "FP32")
        x.set_data_from_numpy(X, binary_data=there)
        answer = triton.infer("add", [x], outputs=[client.InferRequestedOutput("y", binary_data=back)])
    assert ("data" in answer.get_output("y")) is not back
    assert np.array_equal(answer.as_numpy("y"), X + 1)


def test_what_is_larger_than_one_read(shared: Endpoint) -> None:
    rows = np.arange(200_000, dtype=np.float32).reshape(-1, 2)
    with client.InferenceServerClient(address(shared)) as triton:
        for coding in (None, "gzip"):
            x = client.InferInput("x", list(rows.shape), "FP32")
            x.set_data_from_numpy(rows)
            told = {"request_compression_algorithm": coding, "response_compression_algorithm": coding}
            assert np.array_equal(triton.infer("rows", [x], model_version="1", **told).as_numpy("y"), rows + 1)


def test_many_at_once_and_later(shared: Endpoint) -> None:
    with client.InferenceServerClient(address(shared), concurrency=4) as triton:
        asked_for = [triton.async_infer("add", **asked(client, number % 2 == 0)) for number in range(12)]
        assert all(np.array_equal(one.get_result().as_numpy("y"), X + 1) for one in asked_for)


def test_a_timeout_that_has_passed(shared: Endpoint) -> None:
    with client.InferenceServerClient(address(shared)) as triton:
        turns = client.InferInput("n", [], "INT64")
        turns.set_data_from_numpy(np.array(10**8, np.int64))
        with pytest.raises(Exception, match="deadline"):
            triton.infer("slow", [turns], timeout=20_000)


@pytest.fixture
def aio() -> Any:
    return pytest.importorskip("tritonclient.http.aio")


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("coding", [None, "gzip", "deflate"])
def test_asyncio(shared: Endpoint, aio: Any, binary: bool, coding: str | None) -> None:
    codings = {"request_compression_algorithm": coding, "response_compression_algorithm": coding}

    async def ask() -> Any:
        async with aio.InferenceServerClient(address(shared)) as triton:
            answers = await asyncio.gather(*(triton.infer("add", **asked(aio, binary), **codings) for _ in range(8)))
            return [answer.as_numpy("y") for answer in answers]

    assert all(np.array_equal(y, X + 1) for y in asyncio.run(ask()))


def test_asyncio_asks_for_all_else_too(shared: Endpoint, aio: Any) -> None:
    async def ask() -> None:
        async with aio.InferenceServerClient(address(shared)) as triton:
            assert await triton.is_server_live()
            assert await triton.is_server_ready()
            assert await triton.is_model_ready("add")
            assert not await triton.is_model_ready("nothing")
            assert (await triton.get_server_metadata())["name"] == "edge-sdk"
            assert (await triton.get_model_metadata("rows", "2"))["name"] == "rows"
            assert {row["name"] for row in await triton.get_model_repository_index()} >= {"add", "rows"}
            with pytest.raises(Exception, match="no input 'z'"):
                wrong = aio.InferInput("z", [2, 3], "FP32")
                wrong.set_data_from_numpy(X)
                await triton.infer("add", [wrong])

    asyncio.run(ask())

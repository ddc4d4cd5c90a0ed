"""What requests may cost in all: bodies and answers held at once, objects made of them, and who waits for whom."""

from __future__ import annotations

import asyncio
import http.client
import json
import resource
import socket
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from cloud_offload.exchange import Exchange
from cloud_offload.inference import Inference
from cloud_offload.settings import ServeSettings
from edge_sdk.wire.body import encode_request
from tests import models
from tests.cloud_offload.endpoints import Endpoint, put, start_endpoint

MIB = 2**20
BODY_MIB, PENDING_MIB = 64, 160


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """An endpoint that may hold two and a half of its largest bodies; its clients one request each."""
    repository = tmp_path_factory.mktemp("repository")
    put(repository, "dynamic", models.onnx_dynamic())
    limits = ["--max-body-mb", str(BODY_MIB), "--max-pending-mb", str(PENDING_MIB), "--body-timeout", "20"]
    endpoint = start_endpoint(repository, tmp_path_factory.mktemp("cache"), *limits)
    yield endpoint
    endpoint.process.kill()
    endpoint.process.wait()


def peak_bytes(endpoint: Endpoint) -> int:
    """The most memory that the process ever had."""
    lines = Path(f"/proc/{endpoint.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024


def test_all_bodies_together_are_bounded_however_many_clients_send_them(narrow: Endpoint) -> None:
    """48 clients with 64 MiB each are 3 GiB; the last byte is kept back, so that none is answered and let go."""
    x = np.zeros((1, BODY_MIB * MIB // 4 - 1024), np.float32)
    body = encode_request({"x": x}, outputs=["total"])
    before = peak_bytes(narrow)
    with ThreadPoolExecutor(48) as pool, ExitStack() as open_ones:
        sending = [pool.submit(half_sent, narrow, body.parts, body.header_length, open_ones) for _ in range(48)]
        told = [future.result() for future in sending]
        refused = [line for line in told if line]
        assert all(b" 503 " in line and b"retry-after" in line for line in refused)
        assert len(refused) >= 48 - PENDING_MIB // BODY_MIB - 1
        assert narrow.ask("GET", "/v2/health/live").status == 200
    # A buffer may be twice what has come, and is copied once when it grows.
    assert peak_bytes(narrow) - before < (2 * PENDING_MIB + 2 * BODY_MIB) * MIB
    assert narrow.infer("dynamic", {"x": np.ones((1, 2), np.float32)}).status == 200


def half_sent(endpoint: Endpoint, parts: Any, header_length: int, open_ones: ExitStack) -> bytes:
    """Sends all but the last byte, on a connection that stays; the head of the answer, b"" where there is none yet."""
    address = urlsplit(endpoint.url)
    connection = open_ones.enter_context(socket.create_connection((address.hostname, address.port), 60))
    size = sum(len(part) for part in parts)
    head = f"POST /v2/models/dynamic/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n"
    head += f"Inference-Header-Content-Length: {header_length}\r\n\r\n"
    try:
        connection.sendall(head.encode())
        for part in parts[:-1]:
            connection.sendall(part)
        connection.sendall(memoryview(parts[-1])[:-1])
        connection.settimeout(5)
        return connection.recv(65536)
    except TimeoutError:
        return b""
    except ConnectionError:
        return b"HTTP/1.1 503 retry-after"  # it was answered, and closed, while it still sent


def test_a_body_that_stops_coming_is_told_408_after_the_body_timeout(tmp_path: Path) -> None:
    put(tmp_path / "models", "dynamic", models.onnx_dynamic())
    endpoint = start_endpoint(tmp_path / "models", tmp_path / "cache", "--body-timeout", "0.2")
    try:
        address = urlsplit(endpoint.url)
        with socket.create_connection((address.hostname, address.port), 60) as connection:
            connection.sendall(b"POST /v2/models/dynamic/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
            assert b" 408 " in connection.recv(65536)
    finally:
        endpoint.process.kill()
        endpoint.process.wait()


def test_connections_that_ask_nothing_leave_files_for_models_and_logs(narrow: Endpoint) -> None:
    """Half of the files that the process may open; who comes then is told so, until others have gone."""
    before = resource.prlimit(narrow.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(narrow.process.pid, resource.RLIMIT_NOFILE, (64, before[1]))
    try:
        with ExitStack() as stack:
            idle = [stack.enter_context(closing(narrow.connect())) for _ in range(32)]
            statuses = []
            for connection in idle:
                connection.request("GET", "/v2/health/live")
                with connection.getresponse() as response:
                    statuses.append(response.status)
                    response.read()
            assert statuses[0] == 200
            with closing(narrow.connect()) as one_more:
                one_more.connect()
                response = http.client.HTTPResponse(one_more.sock)
                response.begin()
                assert (response.status, response.headers["Retry-After"]) == (503, "1")
                assert "connections" in json.loads(response.read())["error"]
        # Each answer gives the endpoint time to hear that the others have gone.
        assert any(narrow.ask("GET", "/v2/health/live").status == 200 for _ in range(100))
    finally:
        resource.prlimit(narrow.process.pid, resource.RLIMIT_NOFILE, before)


def test_an_answer_of_too_many_elements_as_json_is_refused_with_the_way_out(narrow: Endpoint) -> None:
    x = np.zeros((1, 2**22 + 1), np.float32)
    told = narrow.infer("dynamic", {"x": x}, outputs=["y"], binary=True)
    assert told.status == 200
    head = {"name": "x", "datatype": "FP32", "shape": list(x.shape), "parameters": {"binary_data_size": x.nbytes}}
    text = json.dumps({"inputs": [head]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(text))}
    told = narrow.ask("POST", "/v2/models/dynamic/infer", text + x.tobytes(), headers)
    assert told.status == 400
    assert "ask for binary data" in told.json()["error"]


def test_a_client_has_its_request_in_progress_until_it_has_taken_the_answer(tmp_path: Path) -> None:
    put(tmp_path / "models", "dynamic", models.onnx_dynamic())
    endpoint = start_endpoint(tmp_path / "models", tmp_path / "cache", "--per-client", "1")
    try:
        body = encode_request({"x": np.zeros((4, MIB), np.float32)}, outputs=["y"])
        connection = endpoint.connect()
        headers = {"Inference-Header-Content-Length": str(body.header_length)}
        connection.request("POST", "/v2/models/dynamic/infer", body.joined(), headers)
        answer = connection.getresponse()
        assert answer.status == 200
        assert endpoint.ask("GET", "/v2/models/dynamic").status == 429
        assert len(answer.read()) > 16 * MIB
        endpoint.wait_for("request", path="/v2/models/dynamic/infer", status=200)
        assert endpoint.ask("GET", "/v2/models/dynamic").status == 200
    finally:
        endpoint.process.kill()
        endpoint.process.wait()


class Counting(Executor):
    """Does the work at once and counts it."""

    def __init__(self) -> None:
        self.count = 0

    def submit(self, work: Any, /, *arguments: Any, **named: Any) -> Future[Any]:
        self.count += 1
        future: Future[Any] = Future()
        try:
            future.set_result(work(*arguments, **named))
        except Exception as error:  # noqa: BLE001 - handed on to whoever waits
            future.set_exception(error)
        return future


@pytest.mark.parametrize(("elements", "helped"), [(4, 0), (100_000, 1)])
def test_large_json_is_read_beside_the_requests_of_others(elements: int, helped: int) -> None:
    x = np.zeros(elements, np.float32)
    text = encode_request({"x": x}, binary=False).joined()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": text, "more_body": False}

    async def read() -> Any:
        helpers = Counting()
        inference: Any = Inference(ServeSettings(repository=Path()), helpers, helpers, SimpleNamespace())  # type: ignore[arg-type]
        scope = {"method": "POST", "path": "/", "query_string": b"", "client": None, "headers": []}
        request = await inference._read(Exchange(scope, receive, receive))  # type: ignore[arg-type]
        assert np.array_equal(request.inputs["x"], x)
        return helpers.count

    assert asyncio.run(read()) == helped

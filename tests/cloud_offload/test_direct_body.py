"""Bodies read from the socket into their place: whole, in drops, one behind the other, refused, and never ended."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from edge_sdk.wire.body import decode_response, encode_request
from tests.cloud_offload.endpoints import ROOT, Endpoint, Start, add_constant, put

ROWS = np.arange(40_000, dtype=np.float32).reshape(-1, 2)
LARGE = np.arange(700_000, dtype=np.float32).reshape(-1, 2)
"""Of 2.8 MB: read in several steps."""


@pytest.fixture
def sock(shared: Endpoint) -> Iterator[socket.socket]:
    with connected(shared) as connection:
        yield connection


def connected(endpoint: Endpoint) -> socket.socket:
    address = urlsplit(endpoint.url)
    return socket.create_connection((address.hostname, address.port), timeout=60)


def request(x: np.ndarray, model: str = "rows", headers: str = "") -> bytes:
    body = encode_request({"x": x})
    head = (
        f"POST /v2/models/{model}/infer HTTP/1.1\r\nHost: endpoint\r\nInference-Header-Content-Length:"
        f" {body.header_length}\r\nContent-Length: {body.size}\r\n{headers}\r\n"
    )
    return head.encode() + body.joined()


class Answers:
    """Answers as they come on one connection."""

    def __init__(self, sock: socket.socket) -> None:
        self._file = sock.makefile("rb")

    def next(self) -> tuple[int, dict[str, str], bytes]:
        status = int(self._file.readline().split()[1])
        headers = {}
        while line := self._file.readline().strip():
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        return status, headers, self._file.read(int(headers["content-length"]))

    def y(self) -> np.ndarray:
        status, headers, body = self.next()
        assert status == 200, body
        return decode_response(memoryview(body), int(headers["inference-header-content-length"])).outputs["y"]

    def ended(self) -> bool:
        return self._file.read(1) == b""


@pytest.mark.parametrize("x", [ROWS, LARGE], ids=["in one step", "in several"])
def test_a_body_comes_as_it_was_sent(sock: socket.socket, x: np.ndarray) -> None:
    answers = Answers(sock)
    for turn in range(3):
        sock.sendall(request(x + turn))
        np.testing.assert_array_equal(answers.y(), x + turn + 2)


@pytest.mark.parametrize("begin", [1, 60, 150, 400, 16_384, 17_000])
def test_also_in_pieces(sock: socket.socket, begin: int) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sent = request(ROWS)
    for piece in (sent[:begin], sent[begin : begin + 1], sent[begin + 1 : -1], sent[-1:]):
        sock.sendall(piece)
        time.sleep(0.01)  # only so that pieces are likelier to come apart; the answer is the same if they do not
    np.testing.assert_array_equal(Answers(sock).y(), ROWS + 2)


def test_requests_may_follow_each_other_without_waiting(sock: socket.socket) -> None:
    small = ROWS[:3]
    sock.sendall(request(ROWS) + request(small) + request(LARGE) + request(ROWS))
    answers = Answers(sock)
    for x in (ROWS, small, LARGE, ROWS):
        np.testing.assert_array_equal(answers.y(), x + 2)


@pytest.mark.parametrize(
    ("model", "headers", "status"), [("nothing", "", 404), ("rows", "deadline-ms: x\r\n", 400), ("add", "", 400)]
)
def test_after_a_refusal_the_connection_goes_on(sock: socket.socket, model: str, headers: str, status: int) -> None:
    answers = Answers(sock)
    for _ in range(2):
        sock.sendall(request(LARGE, model, headers))
        assert answers.next()[0] == status
        sock.sendall(request(ROWS))
        np.testing.assert_array_equal(answers.y(), ROWS + 2)


def test_what_is_too_large_is_refused_before_it_is_read(sock: socket.socket) -> None:
    sock.sendall(b"POST /v2/models/rows/infer HTTP/1.1\r\nHost: e\r\nContent-Length: 9999999999\r\n\r\n")
    assert Answers(sock).next()[0] == 413


def test_a_client_that_goes_in_the_middle_harms_nobody(shared: Endpoint, sock: socket.socket) -> None:
    for length in (100, 20_000, 150_000):
        with connected(shared) as other:
            other.sendall(request(ROWS)[:length])
    sock.sendall(request(ROWS))
    np.testing.assert_array_equal(Answers(sock).y(), ROWS + 2)


@pytest.fixture
def impatient(tmp_path: Path) -> Iterator[Endpoint]:
    """An endpoint that waits 0.2 s for a body."""
    put(tmp_path / "models", "rows", add_constant(2.0))
    code = (
        "import sys; from pathlib import Path; from cloud_offload.server import serve;"
        "from cloud_offload.settings import ServeSettings;"
        "serve(ServeSettings(repository=Path(sys.argv[1]), port=0, body_timeout_s=0.2))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "models")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "EDGE_SDK_CACHE": str(tmp_path / "cache")}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    endpoint = Endpoint(process)
    threading.Thread(target=endpoint.follow, daemon=True).start()
    endpoint.url = endpoint.wait_for("listening")["url"]
    yield endpoint
    process.kill()
    process.wait()


@pytest.mark.parametrize(("x", "length"), [(ROWS, 50_000), (LARGE, 1_500_000)], ids=["first step", "second step"])
def test_after_half_a_body_nothing_more_is_read(impatient: Endpoint, x: np.ndarray, length: int) -> None:
    """What comes late would otherwise be taken for a request of its own."""
    with connected(impatient) as sock:
        answers = Answers(sock)
        sock.sendall(request(x)[:length])
        status, headers, _ = answers.next()
        assert (status, headers["connection"]) == (408, "close")
        assert answers.ended()


def test_an_endpoint_that_ends_answers_the_body_that_is_coming(start: Start, tmp_path: Path) -> None:
    put(tmp_path / "models", "rows", add_constant(2.0))
    endpoint = start(tmp_path / "models")
    with connected(endpoint) as sock:
        sent = request(ROWS)
        sock.sendall(sent[:100_000])
        with connected(endpoint) as other:  # answered after the first one was begun
            other.sendall(request(ROWS))
            Answers(other).y()
        endpoint.process.terminate()
        sock.sendall(sent[100_000:])
        answers = Answers(sock)
        np.testing.assert_array_equal(answers.y(), ROWS + 2)
        assert answers.ended()
        assert endpoint.process.wait(60) == 0

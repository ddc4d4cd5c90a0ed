"""Connecting takes no longer than it may, whoever is silent: the resolver, the server, or its handshake."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sdk.breaker import Breaker
from edge_sdk.errors import DeadlineExceeded, EndpointUnreachable
from edge_sdk.wire.deadline import Deadline
from edge_sdk.wire.dialling import MOST_LEFT_BEHIND
from edge_sdk.wire.http import HttpEndpoint
from edge_sdk.wire.retry import NO_RETRY
from tests.wire.endpoint_process import EndpointProcess, endpoint_process

ROOT = Path(__file__).parents[2]
H = np.arange(12, dtype=np.float32)
RECORD_BYTES = 16_000


class SilentServer:
    """Accepts connections and then sends nothing, or a TLS record byte by byte: 160 seconds for the whole of it.

    Attributes:
        sent: how many bytes went out before the other side had gone.
        left: set once it has.
    """

    def __init__(self, drip: bool) -> None:
        self.sent, self.left = 0, threading.Event()
        self._drip, self._ended = drip, threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._ended.set()
        self._listener.close()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        try:
            if self._drip:
                connection.sendall(b"\x16\x03\x03" + RECORD_BYTES.to_bytes(2, "big"))
                while not self._ended.wait(0.01) and self.sent < RECORD_BYTES:
                    connection.sendall(b"\x02")
                    self.sent += 1
            while connection.recv(4096):
                pass
        except OSError:
            pass
        self.left.set()
        connection.close()


@pytest.fixture(params=[False, True], ids=["silent", "byte by byte"])
def server(request: pytest.FixtureRequest) -> Iterator[SilentServer]:
    running = SilentServer(request.param)
    yield running
    running.close()


def test_a_server_that_never_ends_its_handshake_is_left_at_the_deadline(server: SilentServer) -> None:
    endpoint = HttpEndpoint(server.url, retry=NO_RETRY, connect_timeout_s=60)
    with pytest.raises(DeadlineExceeded, match="no connection within the deadline"):
        endpoint.infer("m", {"h": H}, deadline=Deadline.after(200))
    assert not server.left.is_set(), "connecting goes on for the next request"
    endpoint.close()


def test_a_server_that_never_ends_its_handshake_is_left_after_the_time_for_connecting(server: SilentServer) -> None:
    endpoint = HttpEndpoint(server.url, retry=NO_RETRY, connect_timeout_s=0.2)
    with pytest.raises(EndpointUnreachable, match="cannot connect: timed out"):
        endpoint.infer("m", {"h": H})
    assert server.left.wait(60), "its socket is closed too"
    assert server.sent < RECORD_BYTES
    endpoint.close()


# --- the resolver ---


@pytest.fixture
def process() -> Iterator[EndpointProcess]:
    with endpoint_process() as running:
        yield running


class SlowResolver:
    """`socket.getaddrinfo`, which waits until it is let go.

    Attributes:
        asked: how often it was.
    """

    def __init__(self) -> None:
        self.asked, self.go_on = 0, threading.Event()
        self._real = socket.getaddrinfo

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        self.asked += 1
        self.go_on.wait()
        return self._real(*arguments, **options)


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowResolver]:
    slow = SlowResolver()
    monkeypatch.setattr(socket, "getaddrinfo", slow)
    yield slow
    slow.go_on.set()


def test_a_resolver_that_hangs_ends_no_request_late_and_few_threads_wait_for_it(
    resolver: SlowResolver, process: EndpointProcess
) -> None:
    endpoint = HttpEndpoint(process.url, retry=NO_RETRY, breaker=Breaker(failures=10**9))
    for _ in range(MOST_LEFT_BEHIND):
        with pytest.raises(DeadlineExceeded):
            endpoint.infer("m", {"h": H}, deadline=Deadline.after(20))
    with pytest.raises(EndpointUnreachable, match=f"{MOST_LEFT_BEHIND} earlier attempts still hang"):
        endpoint.infer("m", {"h": H}, deadline=Deadline.after(20))
    assert resolver.asked == MOST_LEFT_BEHIND
    endpoint.close()


def test_a_connection_that_came_too_late_is_there_for_the_next_request(
    resolver: SlowResolver, process: EndpointProcess
) -> None:
    endpoint = HttpEndpoint(process.url, retry=NO_RETRY)
    with pytest.raises(DeadlineExceeded):
        endpoint.infer("m", {"h": H}, deadline=Deadline.after(20))
    resolver.go_on.set()
    while not endpoint._connections._idle:
        pass
    np.testing.assert_array_equal(endpoint.infer("m", {"h": H}).outputs["y"], H * 3)
    assert resolver.asked == 1
    endpoint.close()


SILENT_NAME_SERVER = """
import socket, sys
import numpy as np
from edge_sdk.errors import DeadlineExceeded
from edge_sdk.wire.deadline import Deadline
from edge_sdk.wire.http import HttpEndpoint

server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 53))
try:
    HttpEndpoint("http://gate.example").infer("m", {"h": np.zeros(3)}, deadline=Deadline.after(500))
except DeadlineExceeded as error:
    server.settimeout(60)
    question = server.recv(512)
    print("asked" if b"gate" in question else question, "-", error)
"""


def test_a_name_server_that_is_silent_ends_no_request_late(tmp_path: Path) -> None:
    """The system's own resolver, in a network of its own whose name server never answers."""
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        pytest.skip("a network of its own needs unshare and ip")
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:20 attempts:3\n")
    prepare = f"ip link set lo up && mount --bind {tmp_path}/resolv.conf /etc/resolv.conf"
    network = ["unshare", "--net", "--mount", "sh", "-c"]
    if subprocess.run([*network, prepare], capture_output=True).returncode:
        pytest.skip("this user may not make a network of its own")
    found = subprocess.run(
        [*network, f'{prepare} && exec "$0" -c "$1"', sys.executable, SILENT_NAME_SERVER],
        capture_output=True,
        text=True,
        timeout=55,  # the resolver would go on for 60
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert found.stdout.startswith("asked - gate.example:80: no connection within the deadline"), found

"""What the endpoint tells of its own time, and the probes of the link that it takes."""

from __future__ import annotations

import socket
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from benchmarks.shaped_link import Shape, ShapedLink
from cloud_offload.arrival import Arrival
from cloud_offload.pace import Pace, expected_queue_s
from edge_sdk.wire.body import encode_request
from edge_sdk.wire.http import HttpEndpoint
from edge_sdk.wire.probing import first_look
from tests.cloud_offload.endpoints import Endpoint, Reply, Start, add_constant, put, slow

SMALL, LARGE = np.zeros((4, 2), np.float32), np.zeros((8000, 2), np.float32)


@pytest.fixture
def sock(shared: Endpoint) -> Iterator[socket.socket]:
    address = urlsplit(shared.url)
    with socket.create_connection((address.hostname, address.port), timeout=60) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield connection


def request(x: np.ndarray) -> tuple[bytes, bytes]:
    body = encode_request({"x": x})
    head = (
        "POST /v2/models/rows/infer HTTP/1.1\r\nHost: endpoint\r\nInference-Header-Content-Length:"
        f" {body.header_length}\r\nContent-Length: {body.size}\r\n\r\n"
    )
    return head.encode(), body.joined()


def answer(sock: socket.socket) -> Reply:
    with sock.makefile("rb") as file:
        status = int(file.readline().split()[1])
        headers = {}
        while line := file.readline().strip():
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        return Reply(status, headers, file.read(int(headers["content-length"])))


class TestReceiving:
    @pytest.mark.parametrize("x", [SMALL, LARGE], ids=["small", "large"])
    def test_begins_when_the_head_has_come_and_ends_with_the_last_byte(
        self, sock: socket.socket, x: np.ndarray
    ) -> None:
        head, body = request(x)
        sock.sendall(head + body[:50])
        began_s = time.monotonic()
        threading.Event().wait(0.15)
        sock.sendall(body[50:])
        most_ms = (time.monotonic() - began_s) * 1e3
        told = answer(sock).response().parameters
        receive_ms = told["edge_receive_ms"]
        assert isinstance(receive_ms, float)
        assert 140 < receive_ms < most_ms + 100
        assert told["edge_receive_bytes"] == len(body) - 50

    def test_the_wait_for_a_head_is_not_in_it(self, sock: socket.socket) -> None:
        head, body = request(SMALL)
        sock.sendall(head[:30])
        threading.Event().wait(0.3)
        sock.sendall(head[30:] + body)
        told = answer(sock).response().parameters
        assert isinstance(told["edge_receive_ms"], float) and told["edge_receive_ms"] < 250
        assert told["edge_receive_bytes"] == 0

    def test_what_waited_until_it_was_asked_for_says_nothing_of_bandwidth(self) -> None:
        arrival = Arrival()
        arrival.head_read()
        arrival.head_s -= 0.5
        arrival.asked()
        arrival.came(100_000)
        assert arrival.told()["edge_receive_bytes"] == 0


class TestQueueAndComputing:
    def test_are_told_apart_in_every_answer(self, tmp_path: Path, start: Start) -> None:
        put(tmp_path, "slow", slow())
        endpoint = start(tmp_path, "--threads", "1")
        turns = {"n": np.array(300_000)}
        first = endpoint.infer("slow", turns).response().parameters
        results: list[dict[str, float]] = []
        threads = [
            threading.Thread(target=lambda: results.append(endpoint.infer("slow", turns).response().parameters))  # type: ignore[arg-type]
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        computed = [one["edge_compute_ms"] for one in (first, *results)]
        queued = sorted(one["edge_queue_ms"] for one in results)
        assert max(computed) < 4 * min(computed)  # type: ignore[operator,type-var]
        assert queued[-1] > 1.2 * min(computed)  # type: ignore[operator,type-var]
        told = endpoint.ask("GET", "/v2/models/slow").json()["parameters"]
        assert min(computed) <= told["edge_compute_ms"] <= max(computed)
        assert told["edge_queue_ms"] > 0

    def test_metadata_tell_what_the_warm_up_took_before_the_first_request(self, tmp_path: Path, start: Start) -> None:
        put(tmp_path, "add", add_constant(1.0))
        told = start(tmp_path).ask("GET", "/v2/models/add").json()["parameters"]
        assert 0 < told["edge_compute_ms"] < 1000
        assert told["edge_queue_ms"] == 0

    def test_the_queue_that_is_expected_is_what_is_there_now(self) -> None:
        pace = Pace()
        pace.record(0.0, 0.1)
        assert expected_queue_s([(pace, 1)], threads=2) == 0
        assert expected_queue_s([(pace, 1)], threads=1) == pytest.approx(0.05)
        assert expected_queue_s([(pace, 4), (Pace(), 0)], threads=1) == pytest.approx(0.35)
        assert expected_queue_s([(pace, 4)], threads=2) == pytest.approx(0.125)
        assert pace.told(0.35) == {"edge_compute_ms": 100.0, "edge_queue_ms": 350.0}


class TestProbes:
    @pytest.mark.parametrize(("up", "down"), [(0, 0), (10, 100_000), (100_000, 10), (1 << 20, 1 << 20)])
    def test_bytes_go_both_ways(self, shared: Endpoint, up: int, down: int) -> None:
        reply = shared.ask("POST", f"/v2/edge-probe?bytes={down}", bytes(up))
        assert (reply.status, len(reply.body)) == (200, down)
        assert float(reply.headers["edge-receive-ms"]) >= 0
        assert 0 <= int(reply.headers["edge-receive-bytes"]) <= up

    @pytest.mark.parametrize(
        ("query", "up", "status"),
        [
            ("bytes=-1", 0, 400),
            ("bytes=x", 0, 400),
            ("bytes=1&bytes=2", 0, 400),
            ("bytes=" + "9" * 300, 0, 400),
            ("bytes=1048577", 0, 413),
            ("bytes=1", (1 << 20) + 1, 413),
        ],
    )
    def test_within_limits(self, shared: Endpoint, query: str, up: int, status: int) -> None:
        reply = shared.ask("POST", f"/v2/edge-probe?{query}", bytes(up))
        assert reply.status == status
        assert "byte" in reply.json()["error"]

    def test_only_with_a_token_where_one_is_asked_for(self, tmp_path: Path, start: Start) -> None:
        put(tmp_path / "models", "add", add_constant(1.0))
        (tmp_path / "tokens").write_text("secret\n")
        endpoint = start(tmp_path / "models", "--token-file", str(tmp_path / "tokens"))
        assert endpoint.ask("POST", "/v2/edge-probe?bytes=10", b"").status == 401
        with closing(HttpEndpoint(endpoint.url, token="secret")) as client:
            assert client.probe(10, 10)

    def test_get_is_refused(self, shared: Endpoint) -> None:
        assert shared.ask("GET", "/v2/edge-probe?bytes=1").status == 405


class TestTheClientBehindARealLink:
    """Within 10 % of the truth: the bandwidth each way, and what a request takes."""

    @pytest.mark.parametrize(("mbps", "rtt_ms"), [(1.0, 20.0), (10.0, 2.0), (20.0, 100.0)])
    def test_after_ten_requests(self, shared: Endpoint, mbps: float, rtt_ms: float) -> None:
        with (
            ShapedLink(urlsplit(shared.url).port or 0, Shape(up_mbps=mbps, down_mbps=2 * mbps, rtt_ms=rtt_ms)) as link,
            closing(HttpEndpoint(link.url)) as client,
        ):
            rows = np.zeros((1500 if mbps <= 1 else 6000, 2), np.float32)
            took_ms = [client.infer("rows", {"x": rows}).duration_ms for _ in range(10)]
            estimate, load = client.link.estimate(), client.load.estimate("rows")
        assert estimate is not None and load is not None
        assert estimate.up_mbps == pytest.approx(mbps, rel=0.1)
        assert estimate.down_mbps == pytest.approx(2 * mbps, rel=0.1)
        predicted_ms = estimate.transfer_ms(rows.nbytes, rows.nbytes) + load.queue_ms + load.compute_ms
        assert predicted_ms == pytest.approx(np.median(took_ms), rel=0.1)

    def test_a_first_look_tells_it_before_the_first_request(self, shared: Endpoint) -> None:
        found = []
        with ShapedLink(urlsplit(shared.url).port or 0, Shape(up_mbps=2, down_mbps=4, rtt_ms=20)) as link:
            for _ in range(3):  # one of them may meet a busy machine
                with closing(HttpEndpoint(link.url)) as client:
                    first_look(client)
                    estimate = client.link.estimate()
                assert estimate is not None and estimate.requests == 0
                found.append((estimate.up_mbps or 0.0, estimate.down_mbps or 0.0, estimate.rtt_ms))
        up_mbps, down_mbps, rtt_ms = map(statistics.median, zip(*found, strict=True))
        assert up_mbps == pytest.approx(2, rel=0.15)
        assert down_mbps == pytest.approx(4, rel=0.15)
        assert 18 < rtt_ms < 40

"""The link that benchmarks measure over is as fast, far and lossy as they ask: by a simulated clock, and for real."""

from __future__ import annotations

import json
import socket
import threading
from dataclasses import dataclass, field

import pytest

from benchmarks.shaped_link import PACKET_BYTES, SPARE_BYTES, Lane, Shape, ShapedLink


@dataclass(eq=False)
class Far:
    """The far end of a lane: what came, and when."""

    latest_s: float = 0.0
    data: bytearray = field(default_factory=bytearray)
    at_s: float = 0.0
    ended: bool = False


def carried(lane: Lane, content: bytes, sink: Far, now_s: float = 0.0, most_held: list[int] | None = None) -> float:
    """Puts `content` into a lane as fast as it takes it, and follows its clock until all has come."""
    left = memoryview(content)
    while left or lane.next_s() is not None:
        room = lane.room_bytes
        if left and room:
            lane.put(sink, bytes(left[:room]), now_s)
            left = left[room:]
        if most_held is not None:
            most_held.append(lane.held_bytes)
        due = lane.next_s()
        assert due is not None
        now_s = max(now_s, due)
        for far, data, ends in lane.take(now_s):
            assert isinstance(far, Far)
            far.data += data
            far.ended |= ends
            lane.held_bytes -= len(data)
    return now_s


@pytest.mark.parametrize("mbps", [0.25, 1.0, 4.0, 10.0, 30.0, 100.0])
@pytest.mark.parametrize("rtt_ms", [1.0, 20.0, 80.0])
def test_a_lane_is_as_fast_and_as_far_as_asked(mbps: float, rtt_ms: float) -> None:
    lane, sink, most = Lane(mbps, rtt_ms / 2e3), Far(), list[int]()
    content = bytes(range(256)) * int(max(mbps * 125e3 // 256, 64))
    took_s = carried(lane, content, sink, most_held=most)
    assert took_s == pytest.approx(len(content) / (mbps * 125e3) + rtt_ms / 2e3, rel=0.03)
    assert bytes(sink.data) == content and lane.passed_bytes == len(content) and lane.held_bytes == 0
    assert max(most) <= mbps * 125 * rtt_ms / 2 + SPARE_BYTES


def test_a_new_rate_holds_for_what_waits_already() -> None:
    lane, sink = Lane(0.25, 0.0), Far()
    lane.put(sink, bytes(50_000), 0.0)  # 1.6 s at this rate
    list(lane.take(0.1))
    lane.shape(10.0, 0.0, 0.0, 0.1)
    assert carried(lane, b"", sink, 0.1) < 0.1 + 0.1


def test_lost_packets_come_late_and_in_order() -> None:
    content = bytes(range(256)) * 1_000
    clean_s = carried(Lane(10.0, 0.02), content, Far())
    lane, sink = Lane(10.0, 0.02, loss_share=0.05), Far()
    lossy_s = carried(lane, content, sink)
    assert bytes(sink.data) == content
    packets = len(content) / PACKET_BYTES
    assert clean_s + 0.01 * packets * PACKET_BYTES / 1.25e6 < lossy_s < clean_s * 1.1 + 0.06


def test_connections_share_a_lane() -> None:
    lane, one, other = Lane(1.0, 0.0), Far(), Far()
    lane.put(one, bytes(12_500), 0.0)
    lane.put(other, bytes(12_500), 0.0)
    assert carried(lane, b"", one) == pytest.approx(0.2, rel=1e-6)
    assert len(one.data) == len(other.data) == 12_500


def test_real_connections_pass_whole_while_the_link_changes() -> None:
    def echo(server: socket.socket) -> None:
        sock, _ = server.accept()
        with sock:
            while data := sock.recv(1 << 16):
                sock.sendall(data)

    def sent(sock: socket.socket, content: bytes) -> None:
        sock.sendall(content)
        sock.shutdown(socket.SHUT_WR)

    content = bytes(range(256)) * 2_000
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=echo, args=(server,), daemon=True).start()
        with ShapedLink(server.getsockname()[1], Shape(rtt_ms=2.0)) as link:
            port = int(link.url.rpartition(":")[2])
            with socket.create_connection(("127.0.0.1", port)) as sock:
                sender = threading.Thread(target=sent, args=(sock, content))
                sender.start()
                link.set(up_mbps=50.0, loss_share=0.01)
                came = bytearray()
                while data := sock.recv(1 << 16):
                    came += data
                sender.join()
            assert bytes(came) == content
            link.set()
            assert json.loads(json.dumps(link.passed)) == {"up_bytes": len(content), "down_bytes": len(content)}


def test_an_endpoint_that_is_away_ends_the_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with ShapedLink(port) as link, socket.create_connection(("127.0.0.1", int(link.url.rpartition(":")[2]))) as sock:
        sock.settimeout(30)
        assert sock.recv(1) == b""

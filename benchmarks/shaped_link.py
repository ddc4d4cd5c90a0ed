"""A link as a process: bandwidth each way, delay and loss between a device and an endpoint on one machine.

    python benchmarks/shaped_link.py --to PORT      one line of JSON with its own port, then settings on stdin
    python benchmarks/shaped_link.py --check        what it gives beside what was asked for, over real sockets

Each line on stdin is a JSON object with any of `up_mbps`, `down_mbps`, `rtt_ms` and `loss_share`, which hold from then
on, for what already waits too; the answer is a line with what passed so far. It ends with its stdin.

A lane is a clock of serialisation: a packet leaves when those before it have left and its own bits are on the wire,
and arrives half a round trip later. A lost packet is sent again after one and a half round trips (a fast
retransmission or a tail loss probe, RFC 8985), and what follows on its connection waits for it, since TCP keeps the
order. All connections share the lane. It holds a bandwidth-delay product and 64 KB, then it reads no more, so that the
sender is held up as TCP does it. Connections are made at once, without their round trip: the clients measured here
keep theirs.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import heapq
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

PACKET_BYTES = 1460
TICK_S = 0.25e-3
"""Packets that leave within this time travel as one: as fine as a process wakes up."""
SPARE_BYTES = 64 << 10
READ_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Shape:
    """What a link is like.

    Attributes:
        up_mbps, down_mbps: megabits a second from the device to the endpoint, and back.
        rtt_ms: round trip, half of it each way.
        loss_share: of the packets each way, 0 to 1.
    """

    up_mbps: float = 100.0
    down_mbps: float = 100.0
    rtt_ms: float = 1.0
    loss_share: float = 0.0


class Sink(Protocol):
    """Where a lane leads to; lanes keep there when the latest packet arrives, since none overtakes it."""

    latest_s: float


@dataclass(slots=True)
class _Waiting:
    sink: Sink
    data: memoryview
    since_s: float
    ends: bool = False


class Lane:
    """One direction of a link, by any clock: nothing here waits.

    Attributes:
        held_bytes: that are in it now.
        passed_bytes: that arrived.
    """

    def __init__(self, mbps: float, delay_s: float, loss_share: float = 0.0, seed: int = 0) -> None:
        self._chance = random.Random(seed)
        self._waiting: deque[_Waiting] = deque()
        self._travelling: list[tuple[float, int, Sink, memoryview, bool]] = []
        self._number = 0
        self._free_s = 0.0
        self.held_bytes = self.passed_bytes = 0
        self._set(mbps, delay_s, loss_share)

    def _set(self, mbps: float, delay_s: float, loss_share: float) -> None:
        self._bytes_per_s = mbps * 125e3
        self._delay_s, self._loss_share = delay_s, loss_share
        self._piece_bytes = PACKET_BYTES * max(1, int(self._bytes_per_s * TICK_S / PACKET_BYTES))

    def shape(self, mbps: float, delay_s: float, loss_share: float, now_s: float) -> None:
        """From now on it is like this."""
        self._advance(now_s)
        self._set(mbps, delay_s, loss_share)

    @property
    def room_bytes(self) -> int:
        """How much more it takes now."""
        return max(int(self._bytes_per_s * self._delay_s) + SPARE_BYTES - self.held_bytes, 0)

    def put(self, sink: Sink, data: bytes, now_s: float) -> None:
        """More to carry; nothing is the end of a connection."""
        self._advance(now_s)
        self._waiting.append(_Waiting(sink, memoryview(data), now_s, ends=not data))
        self.held_bytes += len(data)

    def take(self, now_s: float) -> Iterator[tuple[Sink, memoryview, bool]]:
        """What has arrived: where it goes to, the bytes, and whether its connection ends."""
        self._advance(now_s)
        while self._travelling and self._travelling[0][0] <= now_s:
            _, _, sink, data, ends = heapq.heappop(self._travelling)
            self.passed_bytes += len(data)
            yield sink, data, ends

    def next_s(self) -> float | None:
        """When something arrives next; None while it is empty."""
        times = [self._travelling[0][0]] if self._travelling else []
        if self._waiting:
            times.append(self._leaves_s(self._waiting[0]) + self._delay_s)
        return min(times, default=None)

    def _leaves_s(self, waiting: _Waiting) -> float:
        size = min(len(waiting.data), self._piece_bytes)
        return max(self._free_s, waiting.since_s) + size / self._bytes_per_s

    def _advance(self, now_s: float) -> None:
        while self._waiting:
            waiting = self._waiting[0]
            left_s = self._leaves_s(waiting)
            # All that has left is on its way, whatever the link is like later.
            if left_s > now_s:
                return
            piece, waiting.data = waiting.data[: self._piece_bytes], waiting.data[self._piece_bytes :]
            again_s = sum(len(packet) for packet in self._lost(piece)) / self._bytes_per_s
            arrives_s = left_s + self._delay_s + (again_s and again_s + 3 * self._delay_s)
            sink = waiting.sink
            sink.latest_s = arrives_s = max(arrives_s, sink.latest_s)
            self._free_s = left_s + again_s
            self._number += 1
            heapq.heappush(self._travelling, (arrives_s, self._number, sink, piece, waiting.ends))
            if not waiting.data:
                self._waiting.popleft()

    def _lost(self, piece: memoryview) -> list[memoryview]:
        if not self._loss_share:
            return []
        packets = [piece[at : at + PACKET_BYTES] for at in range(0, len(piece), PACKET_BYTES)]
        return [packet for packet in packets if self._chance.random() < self._loss_share]


@dataclass(eq=False, slots=True)
class _End:
    """One end of a connection: a socket that is read into a lane, and written to from the other one."""

    sock: socket.socket
    lane: Lane
    other: _End | None = None
    latest_s: float = 0.0
    pending: deque[memoryview] = field(default_factory=deque)
    reads: bool = True
    shuts: bool = False

    def fileno(self) -> int:
        return self.sock.fileno()


class Proxy:
    """Carries connections to `port` of this machine over two lanes; `serve` does it until `control` ends."""

    def __init__(self, port: int, shape: Shape) -> None:
        self._target = ("127.0.0.1", port)
        self._shape = shape
        delay_s = shape.rtt_ms / 2e3
        self.up = Lane(shape.up_mbps, delay_s, shape.loss_share, seed=1)
        self.down = Lane(shape.down_mbps, delay_s, shape.loss_share, seed=2)
        self._listener = socket.socket()
        # Accepted sockets inherit it: what the kernel buffers before this process is not on the link yet.
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SPARE_BYTES)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(128)
        self.port = int(self._listener.getsockname()[1])
        self._ends: set[_End] = set()

    def serve(self, control: int, answer: Callable[[dict[str, Any]], None]) -> None:
        """Runs until `control`, a file descriptor with settings, ends."""
        told = b""
        while True:
            self._deliver()
            dues = [due for due in (self.up.next_s(), self.down.next_s()) if due is not None]
            timeout = max(min(dues) - time.monotonic(), 0.0) if dues else None
            readable: list[Any] = [control, self._listener, *(e for e in self._ends if e.reads and e.lane.room_bytes)]
            writable = [end for end in self._ends if end.pending]
            ready, free, _ = select.select(readable, writable, [], timeout)
            for end in free:
                self._write(end)
            for one in ready:
                if one is control:
                    content = os.read(control, 1 << 16)
                    if not content:
                        return
                    *lines, told = (told + content).split(b"\n")
                    for line in lines:
                        answer(self._told(line))
                elif one is self._listener:
                    self._accept()
                elif one in self._ends:
                    self._read(one)

    def _told(self, line: bytes) -> dict[str, Any]:
        shape = self._shape = replace(self._shape, **json.loads(line))
        now_s, delay_s = time.monotonic(), shape.rtt_ms / 2e3
        self.up.shape(shape.up_mbps, delay_s, shape.loss_share, now_s)
        self.down.shape(shape.down_mbps, delay_s, shape.loss_share, now_s)
        return {"up_bytes": self.up.passed_bytes, "down_bytes": self.down.passed_bytes}

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        server = socket.socket()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SPARE_BYTES)
        try:
            server.connect(self._target)
        except OSError:
            client.close()
            server.close()
            return
        here, there = _End(client, self.up), _End(server, self.down)
        here.other, there.other = there, here
        for end in (here, there):
            end.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            end.sock.setblocking(False)
            self._ends.add(end)

    def _read(self, end: _End) -> None:
        assert end.other is not None
        try:
            data = end.sock.recv(min(end.lane.room_bytes, READ_BYTES))
        except BlockingIOError:
            return
        except OSError:
            data = b""
        end.reads = bool(data)
        end.lane.put(end.other, data, time.monotonic())

    def _deliver(self) -> None:
        for lane in (self.up, self.down):
            touched: dict[_End, None] = {}
            for sink, data, ends in lane.take(time.monotonic()):
                assert isinstance(sink, _End)
                touched[sink] = None
                sink.shuts |= ends
                if data:
                    sink.pending.append(data)
            for sink in touched:
                self._write(sink)

    def _write(self, end: _End) -> None:
        assert end.other is not None
        lane = end.other.lane
        try:
            while end.pending:
                sent = end.sock.send(end.pending[0])
                lane.held_bytes -= sent
                if sent < len(end.pending[0]):
                    end.pending[0] = end.pending[0][sent:]
                    return
                end.pending.popleft()
        except BlockingIOError:
            return
        except OSError:  # whoever read there went away
            lane.held_bytes -= sum(map(len, end.pending))
            end.pending.clear()
            end.shuts = True
        if end.shuts:
            self._shut(end)

    def _shut(self, end: _End) -> None:
        assert end.other is not None
        with contextlib.suppress(OSError):
            end.sock.shutdown(socket.SHUT_WR)
        if not end.reads and not end.other.reads and end.other.shuts:
            for one in (end, end.other):
                self._ends.discard(one)
                one.sock.close()


class ShapedLink:
    """The process of a link to `port`; a context manager.

    Attributes:
        url: of the endpoint behind it.
        passed: `up_bytes` and `down_bytes` when its settings were last set.
    """

    def __init__(self, port: int, shape: Shape = Shape()) -> None:
        command = [sys.executable, str(Path(__file__).resolve()), "--to", str(port)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._lock = threading.Lock()
        self.shape = shape
        self.passed: dict[str, int] = {}
        self.url = f"http://127.0.0.1:{self._line()['port']}"
        self.set()

    def set(self, **settings: float) -> None:
        """Changes these settings of `Shape`, and returns when they hold."""
        with self._lock:
            self.shape = replace(self.shape, **settings)
            shape = self.shape
            told = {name: getattr(shape, name) for name in ("up_mbps", "down_mbps", "rtt_ms", "loss_share")}
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(told).encode() + b"\n")
            self._process.stdin.flush()
            self.passed = self._line()

    def close(self) -> None:
        """Ends the process, and all connections with it. Idempotent."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def __enter__(self) -> ShapedLink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _line(self) -> dict[str, int]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the link ended with {self._process.wait()}")
        found: dict[str, int] = json.loads(line)
        return found


# What it gives, over real sockets.


def checked(mbps: float, rtt_ms: float, size_bytes: int) -> tuple[float, float]:
    """Measured over expected time of one request of `size_bytes` with a tiny answer, and of one with a tiny request."""
    import statistics

    ratios = ([], [])  # type: tuple[list[float], list[float]]
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_answer, args=(server,), daemon=True).start()
        shape = Shape(up_mbps=mbps, down_mbps=mbps, rtt_ms=rtt_ms)
        with ShapedLink(server.getsockname()[1], shape) as link:
            port = int(link.url.rpartition(":")[2])
            with socket.create_connection(("127.0.0.1", port)) as sock:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for _ in range(5):
                    for ratio, sent, wanted in ((ratios[0], size_bytes, 8), (ratios[1], 16, size_bytes)):
                        began = time.perf_counter()
                        sock.sendall(sent.to_bytes(8, "little") + wanted.to_bytes(8, "little") + bytes(sent - 16))
                        left = wanted
                        while left:
                            left -= len(sock.recv(min(left, 1 << 20)))
                        expected_s = rtt_ms / 1e3 + (sent + wanted) / (mbps * 125e3)
                        ratio.append((time.perf_counter() - began) / expected_s)
    return statistics.median(ratios[0]), statistics.median(ratios[1])


def _answer(server: socket.socket) -> None:
    sock, _ = server.accept()
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with sock, contextlib.suppress(OSError):
        while head := sock.recv(16, socket.MSG_WAITALL):
            left = int.from_bytes(head[:8], "little") - 16
            while left:
                left -= len(sock.recv(min(left, 1 << 20)))
            sock.sendall(bytes(int.from_bytes(head[8:], "little")))


def check() -> int:
    """Prints measured over expected time each way; 1 where one is off by more than 3 %."""
    worst = 0.0
    print(f"{'Mbit/s':>8} {'rtt ms':>8} {'bytes':>10} {'up':>8} {'down':>8}   measured over expected time")
    for mbps in (0.25, 1.0, 4.0, 10.0, 30.0, 100.0):
        for rtt_ms in (1.0, 20.0, 80.0):
            size_bytes = int(max(min(mbps * 125e3 * 0.3, 2e6), 4e3))
            up, down = checked(mbps, rtt_ms, size_bytes)
            worst = max(worst, abs(up - 1), abs(down - 1))
            print(f"{mbps:8g} {rtt_ms:8g} {size_bytes:10,} {up:8.3f} {down:8.3f}", flush=True)
    print(f"worst: {worst:.1%}")
    return int(worst > 0.03)


def main() -> int:
    """Runs a link, or checks one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    wanted = parser.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--to", type=int, metavar="PORT")
    wanted.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    if arguments.check:
        return check()
    for told in (signal.SIGTERM, signal.SIGINT):  # to a whole group: it ends with its stdin, after the others
        signal.signal(told, signal.SIG_IGN)
    with contextlib.suppress(OSError, AttributeError):  # timers on time, not within Linux's usual 50 µs
        ctypes.CDLL(None).prctl(29, 1_000, 0, 0, 0)
    proxy = Proxy(arguments.to, Shape())

    def answer(told: dict[str, Any]) -> None:
        print(json.dumps(told), flush=True)

    answer({"port": proxy.port})
    proxy.serve(sys.stdin.fileno(), answer)
    return 0


if __name__ == "__main__":
    sys.exit(main())

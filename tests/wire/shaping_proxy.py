"""A TCP proxy with the bandwidth and delay of a link, each way, as a process of its own or in this one.

All connections share one line each way. A piece leaves when the line is free, takes its bytes' time, and arrives after
the delay; moments are kept by the clock, so that a late wake-up is made up for.
"""

from __future__ import annotations

import contextlib
import math
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKET_BYTES = 1460
MOST_PIECE_BYTES = 1 << 14
MOST_WAITING = 64
"""Pieces in the line's buffer; what does not fit waits at the sender."""


@dataclass
class Line:
    """One way.

    Attributes:
        mbps: megabits a second.
        delay_ms: added to each piece.
    """

    mbps: float = math.inf
    delay_ms: float = 0.0
    free_s: float = 0.0

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    def piece_bytes(self) -> int:
        """What is sent in a millisecond, but at least a packet."""
        return int(min(max(self.mbps * 125, PACKET_BYTES), MOST_PIECE_BYTES))

    def arrives_s(self, size_bytes: int) -> float:
        """When a piece that is there now arrives."""
        with self._lock:
            self.free_s = max(self.free_s, time.monotonic()) + size_bytes * 8e-6 / self.mbps
            return self.free_s + self.delay_ms / 1e3


class ShapingProxy:
    """Forwards connections to `port` of this machine over one link.

    Attributes:
        port: where it listens.
        url: of an endpoint behind it.
        up, down: the link; may be changed at any time.
    """

    def __init__(self, port: int, up: Line | None = None, down: Line | None = None) -> None:
        self._target = ("127.0.0.1", port)
        self.up, self.down = up or Line(), down or Line()
        self._sockets: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = int(self._listener.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def shape(self, up_mbps: float, down_mbps: float, delay_ms: float) -> None:
        """The link from now on; the delay is each way."""
        self.up.mbps, self.down.mbps = up_mbps, down_mbps
        self.up.delay_ms = self.down.delay_ms = delay_ms

    def close(self) -> None:
        """Ends everything."""
        for sock in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
            except OSError:
                return
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._sockets.add(end)
            self._join(client, server, self.up)
            self._join(server, client, self.down)

    def _join(self, source: socket.socket, sink: socket.socket, line: Line) -> None:
        waiting: queue.Queue[tuple[float, bytes]] = queue.Queue(MOST_WAITING)
        threading.Thread(target=self._take, args=(source, line, waiting), daemon=True).start()
        threading.Thread(target=self._give, args=(sink, waiting), daemon=True).start()

    def _take(self, source: socket.socket, line: Line, waiting: queue.Queue[tuple[float, bytes]]) -> None:
        piece = b" "
        while piece:
            try:
                piece = source.recv(line.piece_bytes())
            except OSError:
                piece = b""
            waiting.put((line.arrives_s(len(piece)), piece))

    def _give(self, sink: socket.socket, waiting: queue.Queue[tuple[float, bytes]]) -> None:
        while True:
            at_s, piece = waiting.get()
            if (left_s := at_s - time.monotonic()) > 0:
                time.sleep(left_s)
            try:
                if not piece:
                    sink.shutdown(socket.SHUT_WR)
                    return
                sink.sendall(piece)
            except OSError:
                while waiting.get()[1]:  # so that the other thread ends
                    pass
                return


class ShapingProcess:
    """A `ShapingProxy` in a process of its own, so that it takes no time from the one that measures."""

    def __init__(self, port: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        self.url = f"http://127.0.0.1:{self.port}"

    def shape(self, up_mbps: float, down_mbps: float, delay_ms: float) -> None:
        """See `ShapingProxy.shape`; returns when it holds."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{up_mbps} {down_mbps} {delay_ms}\n")
        self._process.stdin.flush()
        self._process.stdout.readline()

    def close(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.communicate()


@contextlib.contextmanager
def shaping_process(port: int) -> Iterator[ShapingProcess]:
    """A proxy that is gone afterwards."""
    process = ShapingProcess(port)
    try:
        yield process
    finally:
        process.close()


def main() -> None:
    proxy = ShapingProxy(int(sys.argv[1]))
    print(proxy.port, flush=True)
    for line in sys.stdin:
        up_mbps, down_mbps, delay_ms = map(float, line.split())
        proxy.shape(up_mbps, down_mbps, delay_ms)
        print("shaped", flush=True)


if __name__ == "__main__":
    main()

"""A TCP proxy that does to real connections what links do: cut, stall, slow down, truncate, garble."""

from __future__ import annotations

import random
import socket
import threading

from tests.wire.packet_loss import drop_packets

PIECE_BYTES = 1 << 14


class FaultProxy:
    """Forwards connections to `port` of this machine until told otherwise. Faults hold for old and new connections.

    Attributes:
        port: where it listens.
        url: of an endpoint behind it.
        pause_s: waited before each piece of up to 16 KB is passed on: a slow link.
        lost_share: share of pieces that wait for `resend_s`, as lost packets do; for real ones see `drop_packets`.
        truncate_at: a connection ends after so many bytes from the endpoint; None for never.
        garble_at: the byte at this place of what the endpoint sends on a connection is inverted; None for none.
    """

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self.pause_s = self.lost_share = 0.0
        self.resend_s = 0.02
        self.truncate_at: int | None = None
        self.garble_at: int | None = None
        self._dropped_share = 0.0
        self._passes = threading.Event()
        self._passes.set()
        self._refuses = False
        self._closing = threading.Event()
        self._chance = random.Random(1)
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = int(self._listener.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Ends all connections, and new ones at once."""
        self._refuses = True
        self._end_all()

    def stall(self) -> None:
        """Nothing passes, nothing ends: the cable is out."""
        self._passes.clear()

    def drop_packets(self, share: float) -> None:
        """From now on this share of the packets of new connections is really lost, in both directions, for good."""
        self._dropped_share = share
        drop_packets(self._listener, share)

    def restore(self) -> None:
        """All is well again, for new connections; lost packets stay lost."""
        self.pause_s = self.lost_share = 0.0
        self.truncate_at = self.garble_at = None
        self._refuses = False
        self._passes.set()

    def close(self) -> None:
        """Ends everything."""
        self._closing.set()
        self._passes.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._end_all()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                client, _ = self._listener.accept()
                if self._refuses:
                    client.close()
                    continue
                server = socket.create_connection(self._target)
                if self._dropped_share:
                    drop_packets(server, self._dropped_share)
            except OSError:
                continue
            with self._lock:
                self._sockets |= {client, server}
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for source, sink, answers in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._pump, args=(source, sink, answers), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        passed = 0
        try:
            while piece := source.recv(PIECE_BYTES):
                self._passes.wait()
                lost = self.lost_share and self._chance.random() < self.lost_share
                if (pause_s := self.pause_s + lost * self.resend_s) and self._closing.wait(pause_s):
                    break
                if answers and self.garble_at is not None and passed <= self.garble_at < passed + len(piece):
                    changed = bytearray(piece)
                    changed[self.garble_at - passed] ^= 0xFF
                    piece = bytes(changed)
                passed += len(piece)
                if answers and self.truncate_at is not None and passed > self.truncate_at:
                    sink.sendall(piece[: max(len(piece) - (passed - self.truncate_at), 0)])
                    break
                sink.sendall(piece)
        except OSError:
            pass
        finally:
            self._end({source, sink})

    def _end(self, ends: set[socket.socket]) -> None:
        with self._lock:
            mine = ends & self._sockets
            self._sockets -= ends
        for end in mine:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            end.close()

    def _end_all(self) -> None:
        with self._lock:
            ends = set(self._sockets)
        self._end(ends)

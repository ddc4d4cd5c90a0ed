"""An endpoint in a process of its own that behaves as badly as it is told. Run it, read its port from its output.

    PUT /mode/NAME    from now on requests for inference meet this behaviour, and are counted from 0
    GET /seen         how many requests for inference came so far, and the headers of the last

The model computes y = 3 * h in any shape.
"""

from __future__ import annotations

import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
HEADER_LENGTH = "Inference-Header-Content-Length"
IDENTITY = {"edge_bundle": "sha256:1234", "edge_cut": "c0ffee", "edge_codec": "none"}


BOMB = gzip.compress(bytes(1 << 22), 1)


class EndpointProcess:
    """The process, and how to tell it what to do."""

    def __init__(self, port: int = 0) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(port)], stdout=subprocess.PIPE, text=True, env=environment
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        self.url = f"http://127.0.0.1:{self.port}"

    def mode(self, name: str) -> None:
        """How it behaves from now on; returns when it knows."""
        self._ask("PUT", f"/mode/{name}")

    def seen(self) -> dict[str, Any]:
        """What came so far."""
        seen: dict[str, Any] = json.loads(self._ask("GET", "/seen"))
        return seen

    def kill(self) -> None:
        """Ends it as a power cut would."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _ask(self, method: str, path: str) -> bytes:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path)
            return connection.getresponse().read()
        finally:
            connection.close()


@contextmanager
def endpoint_process(port: int = 0) -> Iterator[EndpointProcess]:
    """An endpoint that is gone afterwards."""
    process = EndpointProcess(port)
    try:
        yield process
    finally:
        process.kill()


class Handler(BaseHTTPRequestHandler):
    """Speaks the protocol where the mode lets it."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    mode = "well"
    count = 0
    last: dict[str, str] = {}  # noqa: RUF012 - shared on purpose

    def log_message(self, *_: Any) -> None:
        """Says nothing."""

    def do_PUT(self) -> None:
        Handler.mode, Handler.count = self.path.rpartition("/")[2], 0
        self.answer(b"{}")

    def do_GET(self) -> None:
        if self.path == "/seen":
            self.answer(json.dumps({"count": Handler.count, "headers": Handler.last}).encode())
        elif self.path == "/v2":
            extensions = [] if Handler.mode in ("json", "json-broken") else ["binary_tensor_data"]
            self.answer(json.dumps({"name": "p", "version": "1", "extensions": extensions}).encode())
        elif self.path.endswith("ready"):
            self.answer(b"{}", status=503 if Handler.mode == "busy" else 200)
        elif Handler.mode == "unknown":
            self.answer(b'{"error": "no such model"}', status=404)
        else:
            name = self.path.split("/")[3]
            told = {**IDENTITY, "edge_bundle": "sha256:old"} if Handler.mode == "yesterday" else IDENTITY
            self.answer(json.dumps({"name": name, "versions": ["1"], "platform": "p", "parameters": told}).encode())

    def do_POST(self) -> None:
        from edge_sdk.wire.body import decode_request, encode_response

        body = bytearray(int(self.headers["Content-Length"]))
        self.rfile.readinto(body)
        Handler.count += 1
        Handler.last = dict(self.headers.items())
        if Handler.mode.startswith("json") and (HEADER_LENGTH in self.headers or Handler.mode == "json-broken"):
            self.answer(b"Internal Server Error", status=500)
            return
        coding = self.headers.get("Content-Encoding")
        content = {"gzip": gzip.decompress, "deflate": zlib.decompress}.get(coding or "", bytes)(bytes(body))
        length = self.headers.get(HEADER_LENGTH)
        request = decode_request(memoryview(content), int(length) if length else None)
        h = request.inputs["h"]
        outputs = {"y": (h * 3).astype(h.dtype)}
        parameters: dict[str, Any] = {}
        mode = Handler.mode
        if mode == "mixed":  # one misdeed after the other
            mode = MISDEEDS[Handler.count % len(MISDEEDS)]
        if mode == "shapes":
            outputs = {"y": outputs["y"].ravel()[:-1]}
        elif mode == "nan":
            outputs = {"y": np.full_like(outputs["y"], np.nan)}
        elif mode == "names":
            outputs = {"z": outputs["y"]}
        elif mode == "reloaded":
            parameters = {**IDENTITY, "edge_bundle": "sha256:old"}
        made = encode_response("m", "1", outputs, parameters=parameters)
        if mode == "json":
            self.answer(encode_response("m", "1", outputs, binary=False).joined())
            return
        self.misbehave(mode, made.joined(), made.header_length or 0)

    def misbehave(self, mode: str, body: bytes, header_length: int) -> None:
        headers = {HEADER_LENGTH: str(header_length)}
        while Handler.mode == "gate":  # until another mode is told
            threading.Event().wait(0.002)
        if mode == "stall":
            threading.Event().wait()
        elif mode == "drip":
            self.drip()
        elif mode == "500":
            self.answer(b'{"error": "a bug\\nof two lines"}', status=500)
        elif mode == "busy":
            self.answer(b'{"error": "queue is full"}', status=503, headers={"Retry-After": "0"})
        elif mode == "busy-once":
            Handler.mode = "well"
            self.answer(b'{"error": "queue is full"}', status=429, headers={"Retry-After": "0"})
        elif mode == "hangup":
            self.hang_up()
        elif mode == "hangup-once":
            Handler.mode = "well"
            self.hang_up()
        elif mode == "garbage":
            self.connection.sendall(b"\x00\xff\x80 this is no HTTP at all\r\n\r\n")
            self.hang_up()
        elif mode == "html":
            self.answer(b"<html>captive portal</html>", headers={"Content-Type": "text/html"})
        elif mode == "short":
            self.answer(body[:-5], headers=headers, length=len(body))
            self.hang_up()
        elif mode == "huge":
            self.answer(b"", headers=headers, length=1 << 60)
        elif mode == "bomb":
            self.answer(BOMB, headers={**headers, "Content-Encoding": "gzip"})
        elif mode == "gzip":
            self.answer(gzip.compress(body), headers={**headers, "Content-Encoding": "gzip"})
        elif mode == "chunked":
            self.chunked(body, headers)
        else:
            self.answer(body, headers=headers)

    def answer(self, body: bytes, status: int = 200, headers: Any = None, length: int | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def chunked(self, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(200)
        for name, value in {**headers, "Transfer-Encoding": "chunked"}.items():
            self.send_header(name, value)
        self.end_headers()
        for start in range(0, len(body), 100):
            piece = body[start : start + 100]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    def drip(self) -> None:
        pause = threading.Event()
        self.connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        while not pause.wait(0.01):
            self.connection.sendall(b" ")

    def hang_up(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)


MISDEEDS = ("well", "500", "garbage", "shapes", "nan", "hangup", "names", "short", "html", "huge", "reloaded")


def main() -> None:
    ThreadingHTTPServer.allow_reuse_address = True
    ThreadingHTTPServer.daemon_threads = True
    ThreadingHTTPServer.request_queue_size = 128
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()

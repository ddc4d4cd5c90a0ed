"""A real endpoint in a process of its own, on a free port; a plain HTTP client; models to serve."""

from __future__ import annotations

import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from edge_sdk.wire.body import InferResponse, decode_response, encode_request
from tests import models

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Reply:
    """An answer as it came."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def response(self) -> InferResponse:
        length = self.headers.get("inference-header-content-length")
        return decode_response(memoryview(self.body), int(length) if length else None)


@dataclass
class Endpoint:
    """A running endpoint: its process, its address, and the events that it logged."""

    process: subprocess.Popen[str]
    url: str = ""
    events: list[dict[str, Any]] = field(default_factory=list, repr=False)
    arrived: threading.Condition = field(default_factory=threading.Condition, repr=False)

    def follow(self) -> None:
        """Reads the log until the process ends."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self.arrived:
                self.events.append(json.loads(line) if line.startswith("{") else {"event": line.strip()})
                self.arrived.notify_all()
        with self.arrived:
            self.events.append({"event": "ended"})
            self.arrived.notify_all()

    def wait_for(self, event: str, count: int = 1, **fields: Any) -> dict[str, Any]:
        """The `count`th logged event of this kind with these fields."""

        def found() -> list[dict[str, Any]]:
            wanted = {"event": event, **fields}
            return [e for e in self.events if wanted.items() <= e.items()]

        def enough() -> bool:
            return len(found()) >= count or any(e["event"] == "ended" for e in self.events)

        with self.arrived:
            assert self.arrived.wait_for(enough, 60), self.events
            assert len(found()) >= count, self.events
            return found()[count - 1]

    def connect(self, context: ssl.SSLContext | None = None) -> http.client.HTTPConnection:
        """A new connection."""
        host, port = urlsplit(self.url).hostname or "", urlsplit(self.url).port
        if context is not None:
            return http.client.HTTPSConnection(host, port, timeout=60, context=context)
        return http.client.HTTPConnection(host, port, timeout=60)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        context: ssl.SSLContext | None = None,
    ) -> Reply:
        """One request on a connection of its own."""
        connection = self.connect(context)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def infer(self, model: str, inputs: dict[str, Any], headers: dict[str, str] | None = None, **options: Any) -> Reply:
        """One inference request; binary unless `options` say otherwise."""
        body = encode_request(inputs, **options)
        told = dict(headers or {})
        if body.header_length is not None:
            told["Inference-Header-Content-Length"] = str(body.header_length)
        return self.ask("POST", f"/v2/models/{model}/infer", body.joined(), told)

    def terminate(self) -> int:
        """SIGTERM, then its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


Start = Callable[..., Endpoint]


def start_endpoint(repository: Path, cache: Path, *arguments: str) -> Endpoint:
    command = [sys.executable, "-m", "edge_sdk.cli", "serve", str(repository), "--port", "0", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "EDGE_SDK_CACHE": str(cache)}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    endpoint = Endpoint(process)
    threading.Thread(target=endpoint.follow, daemon=True).start()
    endpoint.url = endpoint.wait_for("listening")["url"]
    return endpoint


@contextmanager
def running(repository: Path, cache: Path, *arguments: str) -> Iterator[Endpoint]:
    """An endpoint until the end of the block, where it is killed."""
    endpoint = start_endpoint(repository, cache, *arguments)
    try:
        yield endpoint
    finally:
        endpoint.process.kill()
        endpoint.process.wait()


def put(repository: Path, name: str, content: bytes, version: int = 1, file: str = "model.onnx") -> Path:
    """Puts a model into a repository, whole at once."""
    path = repository / name / str(version) / file
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_bytes(content)
    part.replace(path)
    return path


def add_constant(value: float) -> bytes:
    """y = x + value; float32[batch, 2]."""
    return models.onnx_bytes(
        [models.helper.make_node("Add", ["x", "c"], ["y"])],
        [models.value("x", ["batch", 2])],
        [models.value("y", ["batch", 2])],
        [models.constant("c", value)],
    )


def slow() -> bytes:
    """turns = n, counted one by one: takes as long as the caller says; n int64[]."""
    h, v = models.helper, models.value
    body = h.make_graph(
        [h.make_node("Identity", ["go_on"], ["going"]), h.make_node("Add", ["sum", "one"], ["next"])],
        "body",
        [v("i", [], models.I64), v("go_on", [], models.TensorProto.BOOL), v("sum", [], models.I64)],
        [v("going", [], models.TensorProto.BOOL), v("next", [], models.I64)],
    )
    return models.onnx_bytes(
        [h.make_node("Loop", ["n", "true", "zero"], ["turns"], body=body)],
        [v("n", [], models.I64)],
        [v("turns", [], models.I64)],
        [models.constant(n, x, d) for n, x, d in (("true", True, bool), ("zero", 0, np.int64), ("one", 1, np.int64))],
    )


TYPES = {
    "BOOL": np.array([True, False]),
    **{f"UINT{8 * n}": np.array([0, 2 ** (8 * n) - 1], f"u{n}") for n in (1, 2, 4, 8)},
    **{f"INT{8 * n}": np.array([-(2 ** (8 * n - 1)), 2 ** (8 * n - 1) - 1], f"i{n}") for n in (1, 2, 4, 8)},
    **{f"FP{8 * n}": np.array([-0.5, 1024], f"f{n}") for n in (2, 4, 8)},
}
"""An array of each datatype of the protocol but BYTES, with its least and largest value."""


def all_types() -> bytes:
    """y_TYPE = x_TYPE for each datatype but BYTES; two elements."""
    nodes, inputs, outputs = [], [], []
    for name, array in TYPES.items():
        kind = models.helper.np_dtype_to_tensor_dtype(array.dtype)
        nodes.append(models.helper.make_node("Identity", [f"x_{name}"], [f"y_{name}"]))
        inputs.append(models.value(f"x_{name}", [2], kind))
        outputs.append(models.value(f"y_{name}", [2], kind))
    return models.onnx_bytes(nodes, inputs, outputs)

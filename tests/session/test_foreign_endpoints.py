"""Endpoints of others: they speak the protocol and tell nothing of links, computing times, or tails made on demand."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx
import onnxruntime

import edge_sdk
from edge_sdk.wire.body import decode_request, encode_response
from tests import models

HEADER_LENGTH = "Inference-Header-Content-Length"
X = np.random.default_rng(0).standard_normal((1, 8), np.float32)


class Foreign(ThreadingHTTPServer):
    """Serves one ONNX model as the Open Inference Protocol has it, and nothing beyond.

    Attributes:
        asked: how often, by method and path.
    """

    daemon_threads = True

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: Counter[str] = Counter()
        self.session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Foreign

    def log_message(self, *_: object) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        self.server.asked[f"GET {self.path}"] += 1
        if self.path == "/v2/models/mlp":
            told = {"name": "mlp", "versions": ["1"], "platform": "onnx", "inputs": [], "outputs": []}
            self._answer(json.dumps(told).encode())
        elif self.path == "/v2":
            self._answer(json.dumps({"name": "f", "version": "1", "extensions": ["binary_tensor_data"]}).encode())
        else:
            self._answer(b"{}", 200 if self.path.startswith("/v2/health") else 404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked[f"POST {self.path}"] += 1
        if self.path != "/v2/models/mlp/infer":
            self._answer(b'{"error": "not found"}', 404)
            return
        length = self.headers.get(HEADER_LENGTH)
        request = decode_request(memoryview(body), int(length) if length else None)
        names = [output.name for output in self.server.session.get_outputs()]
        outputs = dict(zip(names, self.server.session.run(names, dict(request.inputs)), strict=True))
        made = encode_response("mlp", "1", outputs)
        self._answer(made.joined(), header_length=made.header_length)

    def _answer(self, content: bytes, status: int = 200, header_length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        if header_length is not None:
            self.send_header(HEADER_LENGTH, str(header_length))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def serving(content: bytes) -> Iterator[Foreign]:
    with Foreign(content) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def foreign() -> Iterator[Foreign]:
    with serving(models.onnx_mlp()) as server:
        yield server


def answer(session: edge_sdk.Session) -> np.ndarray:
    return next(iter(session.run(X).values()))


def test_it_is_tried_when_the_model_is_loaded_and_then_a_place_like_others(foreign: Foreign, model: Path) -> None:
    with edge_sdk.load(model) as session:
        expected = answer(session)
    with edge_sdk.load(model, endpoints=[foreign.url], ways=["offload"]) as session:
        plan = session.plan
        tried = foreign.asked["POST /v2/models/mlp/infer"]
        found = [answer(session) for _ in range(4)]
        figures = session.split_figures()
    assert plan.kind == "offload" and plan.remote is not None
    assert plan.remote.endpoint == foreign.url and plan.remote.codec == "none"
    assert tried > 0, "a few requests showed what it takes"
    assert figures is not None and (figures.requests, figures.remote) == (4, 4)
    np.testing.assert_allclose(found, [expected] * 4, rtol=1e-5)


def test_what_takes_less_here_stays_and_the_table_tells_both(foreign: Foreign, model: Path) -> None:
    with edge_sdk.load(model, endpoints=[foreign.url]) as session:
        plan = session.plan
    assert plan.kind == "local" and "a split does not pay" in plan.reason
    assert any(row.kind == "offload" and row.predicted is not None for row in plan.candidates)


def test_it_is_not_asked_where_the_input_must_stay(foreign: Foreign, model: Path) -> None:
    with edge_sdk.load(model, endpoints=[foreign.url], ways=["split", "offload"], keep_input_local=True) as session:
        plan = session.plan
        assert answer(session).shape
    assert plan.kind == "local"
    assert foreign.asked["POST /v2/models/mlp/infer"] == 0, "it makes no tails, and must not see inputs"


def test_a_tail_that_it_does_not_have_is_no_way(foreign: Foreign, model: Path) -> None:
    with edge_sdk.load(model, endpoints=[foreign.url], ways=["split"]) as session:
        plan = session.plan
        found = [answer(session) for _ in range(3)]
        figures = session.split_figures()
    assert plan.kind == "local"
    assert len(found) == 3 and figures is not None and figures.remote == 0


def test_another_model_of_the_same_name_is_not_gone_to(model: Path) -> None:
    other = onnx.load_from_string(models.onnx_mlp())
    for weights in other.graph.initializer:
        weights.raw_data = (-3 * onnx.numpy_helper.to_array(weights)).tobytes()
    with (
        serving(other.SerializeToString()) as foreign,
        edge_sdk.load(model, endpoints=[foreign.url], ways=["offload"]) as session,
    ):
        plan = session.plan
        here = answer(session)
    with edge_sdk.load(model) as session:
        np.testing.assert_allclose(here, answer(session), rtol=1e-5)
    assert plan.kind == "local" and "another model?" in plan.reason

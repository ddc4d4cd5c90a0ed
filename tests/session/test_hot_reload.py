"""A real endpoint whose model is retrained and put back again and again, seen from devices that hold the first one."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

import onnx
import onnx.numpy_helper

import edge_sdk
from edge_sdk.breaker import Breaker
from edge_sdk.formats import open_model
from edge_sdk.graph import open_graph
from edge_sdk.graph.cuts import cut_at
from edge_sdk.offload import SplitFigures
from edge_sdk.offload.opening import open_split
from edge_sdk.offload.parts import made_parts
from edge_sdk.wire.http import HttpEndpoint
from tests import models
from tests.cloud_offload.endpoints import Endpoint, put, start_endpoint
from tests.offload.splits import MOST_GROWTH_MB, SETTLED, resident_mb

COUNTS = [60, pytest.param(2000, marks=pytest.mark.slow)]
LEAST_RELOADS = 4
HELD = models.onnx_mlp()
XS = np.random.default_rng(0).standard_normal((50, 1, 8), np.float32)


def retrained() -> bytes:
    """The same network with other weights."""
    proto = onnx.load_model_from_string(HELD)
    for weights in proto.graph.initializer:
        array = onnx.numpy_helper.to_array(weights)
        weights.CopyFrom(onnx.numpy_helper.from_array((-1.5 * array).astype(array.dtype), weights.name))
    return bytes(proto.SerializeToString())


def answers_of(content: bytes) -> list[Any]:
    with edge_sdk.load(content, plan_budget_s=0) as session:
        return [session.run(x)["y"] for x in XS]


class Reloaded:
    """The endpoint, and a hand that replaces its model.

    Attributes:
        reloads: how often that was done.
        answered: released by each request.
    """

    def __init__(self, server: Endpoint, repository: Path) -> None:
        self.server, self.reloads = server, 0
        self.answered = threading.Semaphore(0)
        self._repository = repository

    def put(self, content: bytes) -> None:
        """Returns once the endpoint has the model and its tail."""
        put(self._repository, "mlp", content)
        for method, path in (("POST", "repository/models/mlp/load"), ("GET", "models/mlp@h2")):
            reply = self.server.ask(method, f"/v2/{path}")
            assert reply.status == 200, reply
        self.reloads += 1

    @contextmanager
    def again_and_again(self) -> Iterator[None]:
        """While this is entered, a few requests after the other; at its end the endpoint has what the devices hold."""
        done = threading.Event()

        def replace() -> None:
            for content in itertools.cycle([retrained(), HELD]):
                self.put(content)
                for _ in range(10):
                    while not done.is_set() and not self.answered.acquire(timeout=0.1):
                        pass
                if done.is_set() and content is HELD:
                    return

        with ThreadPoolExecutor(1) as hand:
            replacing = hand.submit(replace)
            try:
                yield
            finally:
                done.set()
            replacing.result()


@pytest.fixture
def reloaded(tmp_path: Path) -> Iterator[Reloaded]:
    put(tmp_path / "repository", "mlp", HELD)
    server = start_endpoint(tmp_path / "repository", tmp_path / "endpoint-cache")
    yield Reloaded(server, tmp_path / "repository")
    server.process.kill()
    server.process.wait()


def ask(
    reloaded: Reloaded, count: int, run: Callable[[Any], Any], figures: Callable[[], SplitFigures], refusal: str
) -> None:
    """So many requests by four threads while the model is replaced; then on until the other model was refused with
    these words, and until the endpoint, which has the right one again, answers again."""
    held, other = answers_of(HELD), answers_of(retrained())
    assert all(np.abs(one - two).max() > 1e-3 for one, two in zip(held, other, strict=True)), "else nothing is shown"

    def check(number: int) -> None:
        np.testing.assert_allclose(run(XS[number % len(XS)]), held[number % len(XS)], rtol=1e-5, atol=1e-6)
        reloaded.answered.release()

    numbers = itertools.count()
    while not figures().remote:
        check(next(numbers))
    with reloaded.again_and_again(), ThreadPoolExecutor(4) as threads:
        asked = 0
        while asked < count or reloaded.reloads < LEAST_RELOADS:
            if asked == SETTLED:
                before_mb = resident_mb()
            list(threads.map(check, itertools.islice(numbers, 20)))
            asked += 20
    if count > SETTLED:
        assert resident_mb() <= before_mb + MOST_GROWTH_MB
    reloaded.put(retrained())
    while refusal not in figures().failure:
        check(next(numbers))
    reloaded.put(HELD)
    remote = figures().remote
    while figures().remote == remote:
        check(next(numbers))
    after = figures()
    assert after.local > 0
    assert after.requests == after.remote + after.local >= count


@pytest.fixture
def endpoint(reloaded: Reloaded) -> Iterator[HttpEndpoint]:
    """Never left alone, so that each model meets requests."""
    client = HttpEndpoint(reloaded.server.url, breaker=Breaker(failures=10**9))
    yield client
    client.close()


@pytest.mark.parametrize("count", COUNTS)
def test_a_session_gets_its_own_models_answers_and_finds_its_tail_again(
    reloaded: Reloaded, endpoint: HttpEndpoint, tmp_path: Path, count: int
) -> None:
    """The tail's name holds the fingerprint: the endpoint that has another model refuses it."""
    path = tmp_path / "mlp.onnx"
    path.write_bytes(HELD)
    with edge_sdk.load(path, plan_budget_s=0, endpoints=[endpoint], cut="h2") as session:

        def figures() -> SplitFigures:
            found = session.split_figures()
            assert found is not None
            return found

        ask(reloaded, count, lambda x: session.run(x)["y"], figures, "no file with fingerprint")


@pytest.mark.parametrize("count", COUNTS)
def test_a_tail_that_is_named_without_a_fingerprint_is_refused_by_what_it_says_of_itself(
    reloaded: Reloaded, endpoint: HttpEndpoint, count: int
) -> None:
    with open_model(HELD) as model:
        parts = made_parts(model, cut_at(open_graph(model), ["h2"]))
        runner = open_split(model, parts.split, [endpoint], "mlp@h2")
    ask(reloaded, count, lambda x: runner.run({"x": x})["y"], runner.figures, "edge_bundle is")
    runner.close()

"""A split model with its tail at our own endpoint, a real process that serves a folder of models."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

from edge_sdk.formats import open_model
from edge_sdk.graph.cuts import cuts_of
from edge_sdk.graph.opening import open_graph
from edge_sdk.graph.splitting import split_model
from edge_sdk.offload import SplitRunner
from edge_sdk.offload.opening import open_split
from edge_sdk.tensors import Array
from edge_sdk.wire.http import HttpEndpoint
from tests import models
from tests.cloud_offload.endpoints import Endpoint, put, running


def tail() -> bytes:
    with open_model(models.onnx_mlp()) as model:
        cut = next(c for c in cuts_of(open_graph(model)).cuts if c.divides and len(c.tensors) == 1)
        return split_model(model, cut).tail


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    repository = tmp_path_factory.mktemp("repository")
    put(repository, "mlp-tail", tail())
    with running(repository, tmp_path_factory.mktemp("cache")) as endpoint:
        yield endpoint


@pytest.fixture
def endpoint(server: Endpoint) -> Iterator[HttpEndpoint]:
    client = HttpEndpoint(server.url)
    yield client
    client.close()


def runner_of(endpoint: HttpEndpoint) -> SplitRunner:
    with open_model(models.onnx_mlp()) as model:
        cut = next(c for c in cuts_of(open_graph(model)).cuts if c.divides and len(c.tensors) == 1)
        return open_split(model, split_model(model, cut), [endpoint], "mlp-tail")


def feeds_of(number: int) -> dict[str, Array]:
    return {"x": np.random.default_rng(number).standard_normal((1, 8), np.float32)}


def test_it_is_ready_and_tells_of_the_tail(endpoint: HttpEndpoint) -> None:
    assert endpoint.ready()
    assert endpoint.ready("mlp-tail")
    assert not endpoint.ready("nothing")
    assert endpoint.metadata("mlp-tail").platform == "onnxruntime_onnx"


def test_it_answers_what_the_local_tail_answers_and_none_is_lost_when_it_is_killed(
    server: Endpoint, endpoint: HttpEndpoint
) -> None:
    runner = runner_of(endpoint)
    runner.split = dataclasses.replace(runner.split, identity=None)
    there = [runner.run(feeds_of(number)) for number in range(30)]
    remote = runner.figures().remote
    assert remote > 0
    server.process.kill()
    server.process.wait()
    here = [runner.run(feeds_of(number)) for number in range(30)]
    for one, other in zip(there, here, strict=True):
        np.testing.assert_allclose(one["y"], other["y"], rtol=1e-5, atol=1e-6)
    assert (runner.figures().requests, runner.figures().remote) == (60, remote)
    runner.close()

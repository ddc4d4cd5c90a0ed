"""Endpoints to ask: one that all tests share, and others that a test starts for itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

from tests import models
from tests.cloud_offload.endpoints import Endpoint, Start, add_constant, all_types, put, slow, start_endpoint


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """One endpoint for all tests that leave it as it was."""
    repository = tmp_path_factory.mktemp("repository")
    put(repository, "add", models.onnx_add())
    put(repository, "dynamic", models.onnx_dynamic())
    put(repository, "lite", models.tflite_add(), file="model.tflite")
    put(repository, "text", models.onnx_string())
    put(repository, "two", models.onnx_two_inputs())
    put(repository, "mlp", models.onnx_mlp())
    put(repository, "image", models.onnx_conv())
    put(repository, "spare", models.onnx_add())
    put(repository, "rows", add_constant(1.0), 1)
    put(repository, "rows", add_constant(2.0), 2)
    put(repository, "types", all_types())
    put(repository, "slow", slow())
    put(repository, "broken", b"no model")
    limits = ["--max-body-mb", "4", "--max-pending-mb", "16", "--body-timeout", "5", "--upload-mb", "1"]
    endpoint = start_endpoint(repository, tmp_path_factory.mktemp("cache"), "--versions", "all", *limits)
    yield endpoint
    endpoint.process.kill()
    endpoint.process.wait()


@pytest.fixture
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts endpoints that end with the test."""
    started: list[Endpoint] = []

    def begin(repository: Path, *arguments: str) -> Endpoint:
        started.append(start_endpoint(repository, tmp_path_factory.mktemp("cache"), *arguments))
        return started[-1]

    yield begin
    for endpoint in started:
        endpoint.process.kill()
        endpoint.process.wait()

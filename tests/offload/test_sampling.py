"""Requests as a session takes them become requests as the model file takes them."""

from __future__ import annotations

import numpy as np
import pytest

from edge_sdk.engines import LoadOptions, Runner
from edge_sdk.engines.quantised import FloatRunner
from edge_sdk.engines.registry import find_engine
from edge_sdk.engines.state import StatefulRunner
from edge_sdk.errors import InputShapeError
from edge_sdk.formats import open_model
from edge_sdk.offload.sampling import inner_feeds
from tests import models

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def loaded(content: bytes) -> Runner:
    return find_engine("onnxruntime").load(open_model(content), LoadOptions())


def test_floats_for_a_quantised_model_reach_it_as_bytes() -> None:
    pytest.importorskip("ai_edge_litert")
    runner = find_engine("litert").load(open_model(models.tflite_int8()), LoadOptions())
    (seen,) = inner_feeds(runner, FloatRunner, [np.full((1, 4), 2.0, np.float32)], "data")
    np.testing.assert_array_equal(seen["x"], np.full((1, 4), 7, np.int8), "2.0 / 0.5 + 3")


def test_state_is_carried_from_request_to_request() -> None:
    one = np.ones((1, 2), np.float32)
    seen = inner_feeds(
        loaded(models.onnx_state()), lambda inner: StatefulRunner(inner, {"state": "next_state"}), [one, one], "data"
    )
    np.testing.assert_array_equal([feeds["state"] for feeds in seen], [0 * one, one])


def test_a_request_that_does_not_fit_is_told() -> None:
    with pytest.raises(InputShapeError, match="the data"):
        inner_feeds(loaded(models.onnx_mlp()), lambda inner: inner, [np.zeros((1, 9), np.float32)], "the data")


def test_a_runner_that_cannot_be_wrapped_is_closed() -> None:
    closed = []
    runner = loaded(models.onnx_mlp())
    close = runner.close
    runner.close = lambda: closed.append(close())  # type: ignore[method-assign]

    def refuse(inner: Runner) -> Runner:
        raise InputShapeError("does not fit")

    with pytest.raises(InputShapeError, match="does not fit"):
        inner_feeds(runner, refuse, [], "data")
    assert len(closed) == 1

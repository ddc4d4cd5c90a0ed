"""Quick models are computed on the event loop's own thread: which ones, and when no longer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cloud_offload.pace import QUICK_IN_A_ROW, Pace, bounded
from edge_sdk.tensors import TensorSpec
from tests import models
from tests.cloud_offload.endpoints import Start, add_constant, put, slow

FIXED = (TensorSpec("x", "float32", (2, 3)),)


def paced(times: list[float]) -> bool:
    pace = Pace(bounded=True)
    for seconds in times:
        pace.took(seconds)
    return pace.quick


def test_a_model_is_quick_once_many_computations_were() -> None:
    assert not paced([])
    assert not paced([1e-4] * (QUICK_IN_A_ROW - 1))
    assert paced([1e-4] * QUICK_IN_A_ROW)
    assert not paced([1e-3] * 100)


def test_a_slow_one_ends_it_at_once_and_one_that_is_not_quite_quick_costs_trust() -> None:
    assert not paced([1e-4] * 1000 + [0.1])
    assert not paced([1e-4] * 1000 + [1e-3])
    assert paced([1e-4] * 1000 + [1e-3] + [1e-4] * 2)


def test_only_models_that_do_the_same_work_for_every_request() -> None:
    quick = Pace(bounded=False)
    for _ in range(100):
        quick.took(0.0)
    assert not quick.quick
    assert bounded(models.onnx_add(), FIXED)
    assert not bounded(models.onnx_add(), (TensorSpec("x", "float32", (None, 3)),))
    assert not bounded(slow(), (TensorSpec("n", "int64", ()),))
    assert not bounded(b"no model", FIXED)


@pytest.mark.parametrize("content", [models.onnx_add(), add_constant(1.0)], ids=["fixed", "open"])
def test_answers_are_the_same_before_and_after(start: Start, tmp_path: Path, content: bytes) -> None:
    put(tmp_path / "models", "m", content)
    endpoint = start(tmp_path / "models")
    shape = (2, 3) if content == models.onnx_add() else (2, 2)
    for turn in range(3 * QUICK_IN_A_ROW):
        x = np.full(shape, turn, np.float32)
        np.testing.assert_array_equal(endpoint.infer("m", {"x": x}).response().outputs["y"], x + 1)
    refused = endpoint.infer("m", {"x": np.zeros((1, 9), np.float32)})
    assert refused.status == 400
    page = endpoint.ask("GET", "/metrics").body.decode()
    assert 'edge_in_progress{model="m",version="1"} 0.0' in page
    assert 'edge_batch_requests_count{model="m",version="1"} 48.0' in page

"""`made_parts`: head and tail compared with the whole, ranges from samples."""

from __future__ import annotations

import numpy as np
import pytest

from edge_sdk.errors import InputShapeError, ModelError
from edge_sdk.formats import open_model
from edge_sdk.graph import open_graph
from edge_sdk.graph.cuts import cut_at
from edge_sdk.offload.parts import made_parts
from tests import models

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture
def mlp() -> bytes:
    """x[batch,8] ─ Gemm ─ Relu ─ Gemm ─ Softmax ─ y[batch,4]"""
    return models.onnx_mlp()


def relu(content: bytes) -> str:
    """Name of what the Relu gives."""
    return next(op.outputs[0] for op in open_graph(content).ops if op.type == "Relu")


def test_parts_are_compared_with_the_whole_on_made_up_inputs(mlp: bytes) -> None:
    made = made_parts(open_model(mlp), cut_at(open_graph(mlp), [relu(mlp)]))
    assert made.made_up and made.samples == 1
    assert made.difference.relative <= 1e-5


def test_ranges_for_int8_come_from_all_samples(mlp: bytes) -> None:
    cut = cut_at(open_graph(mlp), [relu(mlp)])
    samples = [{"x": np.full((1, 8), size, np.float32)} for size in (1.0, 100.0)]
    narrow, wide = (made_parts(open_model(mlp), cut, codec="int8", samples=some) for some in (samples[:1], samples))
    assert not wide.made_up and wide.samples == 2
    assert wide.split.coded[0].scale > 50 * narrow.split.coded[0].scale
    assert not wide.difference.exact


def test_a_difference_above_what_is_borne_is_refused(mlp: bytes) -> None:
    cut = cut_at(open_graph(mlp), [relu(mlp)])
    with pytest.raises(ModelError, match="differ from the whole model at output 'y'"):
        made_parts(open_model(mlp), cut, codec="int8", tolerance=1e-9)


def test_a_sample_that_does_not_fit_is_told(mlp: bytes) -> None:
    cut = cut_at(open_graph(mlp), [relu(mlp)])
    with pytest.raises(InputShapeError, match="sample"):
        made_parts(open_model(mlp), cut, samples=[{"x": np.zeros((1, 9), np.float32)}])

"""Altered files either open or are refused with an `EdgeError`; nothing else comes out."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_sdk.errors import EdgeError
from edge_sdk.graph import fused, open_graph
from tests import models

pytest.importorskip("onnx")

MODELS = {name: make() for name, make in {**models.ONNX_MODELS, **models.TFLITE_MODELS}.items()}
edits = st.lists(st.tuples(st.integers(0, 1 << 30), st.integers(0, 255)), min_size=1, max_size=3)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_each_small_model_opens(name: str) -> None:
    try:
        graph = open_graph(MODELS[name])
    except EdgeError as error:  # a newer schema and the like
        assert "\n" not in str(error)
        return
    assert graph.peak_activation_bytes <= graph.activation_bytes
    for engine in ("onnxruntime", "litert", "another"):
        names = [op for group in fused(graph, engine) for op in group.ops]
        assert len(names) == len(set(names)) and set(names) <= {op.name for op in graph.ops}


@settings(max_examples=250, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(sorted(MODELS)), edits)
def test_altered_models(name: str, changes: list[tuple[int, int]]) -> None:
    content = bytearray(MODELS[name])
    for place, byte in changes:
        content[place % len(content)] = byte
    try:
        graph = open_graph(bytes(content))
    except EdgeError as error:
        assert "\n" not in str(error)
        return
    assert graph.macs >= 0 and graph.peak_activation_bytes >= 0
    assert all(group.input_bytes >= 0 for group in fused(graph, "onnxruntime"))

"""Runners that compute nothing worth speaking of, for tests of what stands around them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge_sdk.engines import LoadOptions, PlacementReport, Runner
from edge_sdk.metrics import Histogram
from edge_sdk.tensors import TensorSpec

__all__ = ["AddsOne"]


class AddsOne(Runner):
    """`y = x + 1` for one number, as the model `onnx_add` of these tests."""

    def __init__(self, engine: str, options: LoadOptions) -> None:
        self.engine, self.options = engine, options
        self.model, self.queue = "m.onnx", Histogram()
        self.inputs = (TensorSpec("x", "float32", (1,)),)
        self.outputs = (TensorSpec("y", "float32", (1,)),)

    def run(self, feeds: Mapping[str, Any], out: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return {"y": feeds["x"] + 1}

    def placement(self) -> PlacementReport:
        return PlacementReport((), (), False)

    def close(self) -> None:
        """Nothing is held."""

"""`open_graph`: from a model file to its graph."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import MappingProxyType

from edge_sdk.formats import ModelFile, open_model
from edge_sdk.graph.view import Graph

__all__ = ["open_graph"]


def open_graph(
    source: str | os.PathLike[str] | bytes | ModelFile, sizes: Mapping[str, int] = MappingProxyType({})
) -> Graph:
    """Opens a model file as a graph. No engine is used and nothing runs; weights stay in the file.

    Args:
        source: path of an ONNX or TFLite file, the bytes of one, or an open `ModelFile`, which stays open.
        sizes: sizes for open dimensions, by their name or "input[axis]". Those not given are 1 where they count samples
            (called "batch" or the like, or the first and nameless), the others 1, 64 or 512: the first that gives every
            tensor a shape. `Graph.assumed` tells what was taken.

    Raises:
        ModelError: the file is missing, damaged, or of another format.
        MissingExtra: an ONNX file needs the extra `graph`, a TFLite file does not.
        InputNameError: `sizes` names a dimension that is not open.
        InputShapeError: a size is not a whole number above 0, or cannot be changed in this file.
    """
    if isinstance(source, ModelFile):
        return _opened(source, sizes)
    with open_model(source) as model:
        return _opened(model, sizes)


def _opened(model: ModelFile, sizes: Mapping[str, int]) -> Graph:
    model.check()
    if model.format == "onnx":
        from edge_sdk.graph.onnx_graph import open_onnx

        return open_onnx(model, sizes)
    from edge_sdk.graph.tflite_graph import open_tflite

    return open_tflite(model, sizes)

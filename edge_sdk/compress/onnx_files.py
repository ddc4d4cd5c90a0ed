"""ONNX files on the build side: read with all weights, written whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge_sdk.compress.onnx_graphs import name_nodes
from edge_sdk.compress.tools import needed, one_line
from edge_sdk.errors import CompressionError, DamagedModel

__all__ = ["MIN_IR_VERSION", "load", "save"]

_LARGEST_SINGLE_FILE = 1 << 30
"""Beyond this many bytes weights go to a file of their own: protobuf ends at 2 GiB."""
MIN_IR_VERSION = 8
"""Older IR versions demand initialisers among the graph inputs, which keeps engines from folding them."""


def load(path: Path) -> Any:
    """A `ModelProto` with all its weights in memory; initialisers are no inputs, and all nodes have names of their own.

    Raises:
        MissingExtra: `onnx` is not installed.
        DamagedModel: the file or an external file of it cannot be read.
    """
    onnx = needed("onnx")
    undecodable = needed("google.protobuf.message").DecodeError

    try:
        model = onnx.load(str(path))
    except (undecodable, OSError, ValueError, onnx.checker.ValidationError) as error:
        raise DamagedModel(f"{path.name}: cannot be read as ONNX: {one_line(error)}; export it again") from None
    given = {weight.name for weight in model.graph.initializer}
    kept = [entry for entry in model.graph.input if entry.name not in given]
    if len(kept) < len(model.graph.input):
        del model.graph.input[:]
        model.graph.input.extend(kept)
    model.ir_version = max(model.ir_version, MIN_IR_VERSION)
    name_nodes(model)
    return model


def save(model: Any, path: Path) -> None:
    """Writes a model; one that is too large for a single file gets `NAME.data` beside it.

    Raises:
        CompressionError: it could not be written.
    """
    onnx = needed("onnx")
    large = sum(len(weight.raw_data) for weight in model.graph.initializer) > _LARGEST_SINGLE_FILE
    try:
        path.unlink(missing_ok=True)
        if large:
            onnx.save_model(model, str(path), save_as_external_data=True, location=f"{path.name}.data")
        else:
            onnx.save_model(model, str(path))
    except (OSError, ValueError) as error:
        raise CompressionError(f"{path}: the variant could not be written: {one_line(error)}") from None

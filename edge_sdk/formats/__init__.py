"""What a model file holds, read without any engine."""

from __future__ import annotations

from edge_sdk.formats.info import ModelInfo, Signature
from edge_sdk.formats.model_file import ModelFile, open_model
from edge_sdk.formats.onnx_wire import without_initializer_inputs

__all__ = ["ModelFile", "ModelInfo", "Signature", "open_model", "without_initializer_inputs"]

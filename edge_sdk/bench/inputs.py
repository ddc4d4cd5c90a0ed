"""What a caller of a model or bundle feeds and gets, read without loading it."""

from __future__ import annotations

import os
from collections.abc import Iterable

from edge_sdk import bundle
from edge_sdk.formats import open_model
from edge_sdk.signature import LogicalTensor
from edge_sdk.tensors import Quantization, TensorSpec

__all__ = ["caller_specs"]

Specs = tuple[TensorSpec, ...]


def caller_specs(model: str | os.PathLike[str]) -> tuple[Specs, Specs]:
    """Inputs that must be fed, and outputs, in the model's order; of a bundle those of its signature.

    Raises:
        ModelError: it is no model and no bundle.
    """
    if bundle.is_bundle(model):
        with bundle.open(model) as opened:
            return _specs(opened.signature.inputs), _specs(opened.signature.outputs)
    with open_model(model) as file:
        info = file.describe()
    return tuple(spec for spec in info.inputs if spec.name not in info.initializer_inputs), tuple(info.outputs)


def _specs(tensors: Iterable[LogicalTensor]) -> Specs:
    return tuple(TensorSpec(t.name, t.dtype, t.shape, quantization=_quantization(t)) for t in tensors)


def _quantization(tensor: LogicalTensor) -> Quantization | None:
    return None if tensor.scale is None else Quantization((tensor.scale,), (tensor.zero_point or 0,))

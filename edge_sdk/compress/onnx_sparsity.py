"""Unstructured sparsity: the smallest weights become zero. Only an engine that skips zeros is faster for it."""

from __future__ import annotations

from typing import Any

import numpy as np

from edge_sdk.compress.onnx_graphs import copied, initializers
from edge_sdk.compress.onnx_int8 import quantisable
from edge_sdk.compress.tools import needed

__all__ = ["with_zeros"]


def with_zeros(model: Any, share: float) -> Any:
    """The model with this share of each layer's weights, the smallest, set to zero.

    Args:
        model: a prepared `ModelProto`; not changed.
        share: 0 to 1.
    """
    numpy_helper = needed("onnx").numpy_helper
    copy = copied(model)
    weights = initializers(copy)
    for name in {node.input[1] for node in quantisable(copy)}:
        array = numpy_helper.to_array(weights[name]).copy()
        size = np.abs(array)
        array[size < np.quantile(size, share)] = 0
        weights[name].CopyFrom(numpy_helper.from_array(array, name))
    return copy

"""ONNX Runtime's types and values beside ours: specs from its type strings, arrays from its sequences and maps."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from edge_sdk.errors import EngineError
from edge_sdk.tensors import Array, TensorSpec

__all__ = ["engine_value", "spec_of", "value_arrays"]

_DTYPES = {"float": "float32", "double": "float64", "float16": "float16", "bfloat16": "bfloat16", "string": "string"}
_TENSOR = re.compile(r"(?:sparse_)?tensor\((\w+)\)")
KEYS_SUFFIX = ".keys"


def spec_of(name: str, type_text: str, shape: Sequence[Any] | None) -> TensorSpec:
    """The spec for ONNX Runtime's `NodeArg`, from its type: "tensor(float)", "seq(map(int64,tensor(float)))", …"""
    inner = _TENSOR.search(type_text)
    element = inner[1] if inner else "string"
    dtype = _DTYPES.get(element, element)
    if type_text.startswith("tensor("):
        dims = None if shape is None else tuple(d if isinstance(d, (int, str)) else None for d in shape)
        return TensorSpec(name, dtype, dims)
    kind = "optional"
    if type_text.startswith("seq(map("):
        kind = "sequence of maps"
    elif type_text.startswith("seq("):
        kind = "sequence"
    elif type_text.startswith("map("):
        kind = "map"
    return TensorSpec(name, dtype, None, kind)


def engine_value(spec: TensorSpec, value: Any) -> Any:
    """What to hand ONNX Runtime for an input that is no plain tensor: an object array of tensors becomes a list."""
    if spec.kind == "sequence" and isinstance(value, np.ndarray):
        return list(value)
    if spec.kind == "optional" and isinstance(value, np.ndarray) and value.dtype == object and value.ndim == 1:
        return list(value)
    return value


def value_arrays(name: str, value: Any, model: str) -> dict[str, Array]:
    """Arrays for an output that is no plain tensor.

    A sequence of tensors becomes an object array of shape (n,) whose elements are the tensors. A map becomes its values
    in the order of its sorted keys, and an output `name.keys`; a sequence of n maps over the same k keys a (n, k) array
    likewise. An empty optional becomes an object array of shape () that holds None.

    Raises:
        EngineError: a sequence of maps with differing keys, or a kind that has no array form (sparse tensors).
    """
    if value is None:
        return {name: np.array(None, dtype=object)}
    if isinstance(value, dict):
        keys = sorted(value)
        return {name: np.asarray([value[k] for k in keys]), name + KEYS_SUFFIX: np.asarray(keys)}
    if isinstance(value, list):
        if value and isinstance(value[0], dict):
            keys = sorted(value[0])
            if any(sorted(row) != keys for row in value):
                raise EngineError(
                    f"{model}: output {name!r} is a sequence of maps with differing keys, which has no array form;"
                    " export the model without the ZipMap at its end"
                )
            rows = np.asarray([[row[k] for k in keys] for row in value])
            return {name: rows, name + KEYS_SUFFIX: np.asarray(keys)}
        items = np.empty(len(value), dtype=object)
        for index, item in enumerate(value):
            items[index] = item
        return {name: items}
    if isinstance(value, (np.ndarray, np.generic)):
        return {name: np.asarray(value)}
    raise EngineError(f"{model}: output {name!r} is a {type(value).__name__}, which has no array form")

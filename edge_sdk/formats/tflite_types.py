"""Element types of TFLite tensors: names, and how many bytes so many elements take.

Source: schema.fbs, enum TensorType, and `TfLiteTypeGetSize` of the runtime.
"""

from __future__ import annotations

import functools

from edge_sdk.formats.tflite_schema import BUILTIN_OPS, TENSOR_TYPES

__all__ = ["builtin_ops", "data_bytes", "dtype_name"]

_BITS = {
    "float32": 32, "float16": 16, "int32": 32, "uint8": 8, "int64": 64, "bool": 8, "int16": 16, "complex64": 64,
    "int8": 8, "float64": 64, "complex128": 128, "uint64": 64, "uint32": 32, "uint16": 16, "int4": 4, "bfloat16": 16,
    "int2": 2, "uint4": 4, "float8e4m3fn": 8, "float8e5m2": 8,
}  # fmt: skip


@functools.cache
def _types() -> list[str]:
    return TENSOR_TYPES.split()


@functools.cache
def builtin_ops() -> list[str]:
    """Names of the builtin ops in the order of their codes."""
    return BUILTIN_OPS.split()


def dtype_name(code: int) -> str | None:
    """Name of a tensor type as `TensorSpec.dtype` spells it; None where the schema has none."""
    types = _types()
    return types[code] if 0 <= code < len(types) else None


def data_bytes(dtype: str, elements: int) -> int | None:
    """Bytes that `elements` elements take; None for types without a fixed size (string, resource, variant)."""
    bits = _BITS.get(dtype)
    return None if bits is None else (elements * bits + 7) // 8

"""Tensors as JSON lists, flat or nested; the number of elements is checked against the shape before they are built."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from edge_sdk.errors import WireError
from edge_sdk.tensors import Array
from edge_sdk.wire.datatypes import BYTES, dtype_of
from edge_sdk.wire.limits import Limits
from edge_sdk.wire.tensor_data import checked_count, element_bytes, objects

__all__ = ["from_json", "to_json"]

_ELEMENTS: dict[str, Any] = {"BOOL": bool, BYTES: str, "FP16": float, "FP32": float, "FP64": float}


def from_json(tensor: str, shape: Sequence[int], datatype: str, data: msgspec.Raw, limits: Limits) -> Array:
    """The tensor from a JSON list, flat or nested as `shape` is.

    Raises:
        WireError: another number of elements, another nesting, or an element that is none of the datatype.
    """
    count = checked_count(tensor, shape, datatype, limits)
    text = bytes(data).strip()
    # Whatever the nesting, there is one comma fewer than elements; strings may hold more of them.
    listed, most = text.count(b",") + 1, max(count, 1)
    if count == 0:
        for size in shape:
            most *= max(size, 1)
    if listed < count or (datatype != BYTES and listed > most):
        raise WireError(f"tensor {tensor!r}: data has {listed} elements, expected {count} for shape {list(shape)}")
    values = _flat(tensor, shape, count, datatype, text)
    if datatype == BYTES:
        return objects([value.encode() for value in values], shape)
    return _numbers(tensor, shape, datatype, values)


def _flat(tensor: str, shape: Sequence[int], count: int, datatype: str, text: bytes) -> list[Any]:
    nested = len(shape) > 1 and text[1:].lstrip().startswith(b"[")
    sizes = shape if nested else (count,)
    wanted: Any = _ELEMENTS.get(datatype, int)
    for _ in sizes:
        wanted = list[wanted]
    try:
        level: list[Any] = [msgspec.json.decode(text, type=wanted)]
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise WireError(
            f"tensor {tensor!r}: data is no list of {datatype}, flat or nested as shape {list(shape)}: {reason}"
        ) from None
    for size in sizes:
        if any(len(part) != size for part in level):
            raise WireError(f"tensor {tensor!r}: data does not have the {count} elements of shape {list(shape)}")
        level = [element for part in level for element in part]
    return level


def _numbers(tensor: str, shape: Sequence[int], datatype: str, values: list[Any]) -> Array:
    dtype = dtype_of(datatype, tensor)
    if dtype.kind in "iu" and values:
        bounds = np.iinfo(dtype.name)
        if min(values) < bounds.min or max(values) > bounds.max:
            raise WireError(f"tensor {tensor!r}: data holds a number beyond {datatype}")
    with np.errstate(over="ignore"):
        array: Array = np.array(values, dtype).reshape(shape)
    if dtype.kind == "f" and not np.isfinite(array).all():
        raise WireError(f"tensor {tensor!r}: data holds a number beyond {datatype}; infinity travels as binary data")
    array.flags.writeable = False
    return array


def to_json(tensor: str, array: Array, datatype: str) -> msgspec.Raw:
    """The tensor as a flat JSON list.

    Raises:
        WireError: NaN, infinity, or bytes that are no text: these travel as binary data only.
    """
    values = array.ravel().tolist()
    if datatype == BYTES:
        try:
            values = [element_bytes(tensor, value).decode() for value in values]
        except UnicodeDecodeError:
            raise WireError(f"tensor {tensor!r}: holds bytes that are no UTF-8; ask for binary data") from None
    elif array.dtype.kind == "f" and not np.isfinite(array).all():
        raise WireError(f"tensor {tensor!r}: holds NaN or infinity, which JSON has not; ask for binary data")
    return msgspec.Raw(msgspec.json.encode(values))

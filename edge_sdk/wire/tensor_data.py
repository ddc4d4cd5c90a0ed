"""Tensors as raw little-endian bytes and as length-prefixed BYTES; sizes are checked before anything is built.

Source: Triton's "Binary Tensor Data Extension" of the Open Inference Protocol.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from edge_sdk.errors import WireError
from edge_sdk.tensors import Array
from edge_sdk.wire.datatypes import BYTES, dtype_of
from edge_sdk.wire.limits import Limits

__all__ = ["checked_count", "element_bytes", "from_binary", "objects", "to_binary"]

_LENGTH = struct.Struct("<I")


def checked_count(tensor: str, shape: Sequence[int], datatype: str, limits: Limits) -> int:
    """Number of elements of a tensor that the limits allow.

    Raises:
        WireError: a negative size, or more than fits.
    """
    if len(shape) > limits.max_rank:
        raise WireError(f"tensor {tensor!r}: has {len(shape)} dimensions, more than {limits.max_rank}")
    item_bytes, count = dtype_of(datatype, tensor).itemsize, 1
    for size in shape:
        if size < 0:
            raise WireError(f"tensor {tensor!r}: shape {str(list(shape))[:200]} has a negative size")
        # Sizes beside a 0 count too: numpy refuses those whose product does not fit its own integer.
        count *= max(size, 1)
        if count * item_bytes > limits.max_body_bytes or (datatype == BYTES and count > limits.max_elements):
            raise WireError(f"tensor {tensor!r}: shape {str(list(shape))[:200]} of {datatype} is too large", status=413)
    return 0 if 0 in shape else count


def from_binary(tensor: str, shape: Sequence[int], datatype: str, raw: memoryview, limits: Limits) -> Array:
    """The tensor as a read-only view of `raw`; a copy only where `raw` lies so that the dtype is not aligned.

    Raises:
        WireError: `raw` is not of the size that shape and datatype give.
    """
    count = checked_count(tensor, shape, datatype, limits)
    if datatype == BYTES:
        return objects(_split(tensor, raw, count), shape)
    dtype = dtype_of(datatype, tensor)
    if len(raw) != count * dtype.itemsize:
        raise WireError(
            f"tensor {tensor!r}: binary_data_size is {len(raw)}, expected {count * dtype.itemsize}"
            f" for {datatype} of shape {list(shape)}"
        )
    array: Array = np.frombuffer(raw, dtype).reshape(shape) if count else np.empty(shape, dtype)
    if datatype == "BOOL" and count and array.view(np.uint8).max() > 1:
        raise WireError(f"tensor {tensor!r}: a BOOL is neither 0 nor 1")
    if not array.flags.aligned:
        array = array.copy()
    array.flags.writeable = False
    return array


def _split(tensor: str, raw: memoryview, count: int) -> list[bytes]:
    if len(raw) < count * _LENGTH.size:
        raise WireError(
            f"tensor {tensor!r}: binary_data_size is {len(raw)}, too small for {count} elements with their lengths"
        )
    elements, at = [], 0
    for index in range(count):
        begin = at + _LENGTH.size
        end = begin + _LENGTH.unpack_from(raw, at)[0] if begin <= len(raw) else len(raw) + 1
        if end > len(raw):
            raise WireError(f"tensor {tensor!r}: BYTES element {index} ends beyond its {len(raw)} bytes")
        elements.append(bytes(raw[begin:end]))
        at = end
    if at != len(raw):
        raise WireError(f"tensor {tensor!r}: {len(raw) - at} bytes are left after {count} BYTES elements")
    return elements


def objects(elements: Sequence[Any], shape: Sequence[int]) -> Array:
    """A read-only array of objects."""
    flat = np.empty(len(elements), object)
    for index, element in enumerate(elements):
        flat[index] = element
    array: Array = flat.reshape(shape)
    array.flags.writeable = False
    return array


def to_binary(tensor: str, array: Array, datatype: str) -> memoryview:
    """The bytes of a tensor: its own memory where that is C-contiguous and little-endian.

    Raises:
        WireError: a BYTES element is neither bytes nor str.
    """
    if datatype == BYTES:
        elements = [element_bytes(tensor, element) for element in array.ravel().tolist()]
        return memoryview(b"".join(part for e in elements for part in (_LENGTH.pack(len(e)), e)))
    if not array.flags.c_contiguous:
        array = np.ascontiguousarray(array)
    if array.dtype.byteorder == ">" or (array.dtype.byteorder == "=" and sys.byteorder == "big"):
        array = array.astype(array.dtype.newbyteorder("<"))
    # memoryview.cast refuses a size of 0, and float16 of older buffers: bytes have neither trouble.
    return array.reshape(-1).view(np.uint8).data if array.size else memoryview(b"")


def element_bytes(tensor: str, element: object) -> bytes:
    """One element of a BYTES tensor.

    Raises:
        WireError: it is neither bytes nor str that UTF-8 can tell.
    """
    if isinstance(element, bytes):
        return element
    if isinstance(element, str):
        try:
            return element.encode()
        except UnicodeEncodeError:
            raise WireError(f"tensor {tensor!r}: a text element is no valid Unicode") from None
    raise WireError(f"tensor {tensor!r}: an element is a {type(element).__name__}, expected bytes or str")

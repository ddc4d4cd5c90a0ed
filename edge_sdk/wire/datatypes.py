"""The datatypes of the Open Inference Protocol and the dtypes of numpy that carry them.

Source: Open Inference Protocol v2, "Tensor Data Types".
"""

from __future__ import annotations

import sys

import numpy as np

from edge_sdk.errors import WireError
from edge_sdk.tensors import Array

__all__ = ["BYTES", "datatype_of", "dtype_of"]

BYTES = "BYTES"

_NAMES = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
}


def _little(name: str) -> np.dtype[np.generic]:
    # On a little-endian machine this stays numpy's own object for the dtype, which feeds are compared with by identity.
    dtype: np.dtype[np.generic] = np.dtype(name)
    return dtype if sys.byteorder == "little" else dtype.newbyteorder("<")


_DTYPES = {datatype: _little(name) for datatype, name in _NAMES.items()}
_DATATYPES = {np.dtype(name): datatype for datatype, name in _NAMES.items()}


def dtype_of(datatype: str, tensor: str) -> np.dtype[np.generic]:
    """The little-endian dtype of `datatype`, object for BYTES.

    Raises:
        WireError: there is no such datatype, or numpy has none for it.
    """
    if (dtype := _DTYPES.get(datatype)) is not None:
        return dtype
    if datatype == BYTES:
        return np.dtype(object)
    if datatype == "BF16":
        raise WireError(f"tensor {tensor!r}: datatype BF16 is not carried here; send FP16 or FP32")
    expected = ", ".join((*_NAMES, BYTES))
    raise WireError(f"tensor {tensor!r}: datatype {datatype[:40]!r} is not known; expected one of {expected}")


def datatype_of(array: Array, tensor: str) -> str:
    """The datatype that carries `array`.

    Raises:
        WireError: none does.
    """
    found = _DATATYPES.get(array.dtype)
    if found is None:
        found = _DATATYPES.get(array.dtype.newbyteorder("="))
    if found is not None:
        return found
    if array.dtype.kind in "OSU":
        return BYTES
    raise WireError(f"tensor {tensor!r}: dtype {array.dtype.name} has no datatype in the protocol")

"""Named arrays as one .npz, byte for byte the same for the same arrays, and read back without trust in it."""

from __future__ import annotations

import ast
import io
import math
import struct
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from edge_sdk.bundle.paths import shortened
from edge_sdk.errors import BundleDamaged, InputNameError, InputTypeError
from edge_sdk.tensors import Array

__all__ = ["pack_arrays", "unpack_arrays"]

_SUFFIX = ".npy"
_LONG_AGO = (1980, 1, 1, 0, 0, 0)
_KINDS = "biufcU"


def pack_arrays(arrays: Mapping[str, Any]) -> bytes:
    """The arrays as an .npz that `numpy.load` reads, too. Strings (dtype object) are kept as numpy's own.

    Raises:
        InputNameError: a name cannot be kept.
        InputTypeError: a value is no array of numbers, booleans or strings.
    """
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, value in arrays.items():
            if not name.isprintable():
                raise InputNameError(f"golden array {name!r}: expected a name of printable characters")
            array = np.asarray(value)
            if array.dtype.kind in "OS" and all(isinstance(item, (str, bytes)) for item in array.flat):
                array = array.astype(str)
            if array.dtype.kind not in _KINDS:
                raise InputTypeError(
                    f"golden array {name!r} has dtype {array.dtype}; expected numbers, booleans or strings: sequences"
                    " and maps are not kept"
                )
            part = io.BytesIO()
            np.lib.format.write_array(part, np.asarray(array, order="C"), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(name + _SUFFIX, _LONG_AGO), part.getvalue())
    return target.getvalue()


def unpack_arrays(content: bytes, where: str) -> dict[str, Array]:
    """Reads what `pack_arrays` wrote. Strings come back with dtype object, as engines take them.

    Raises:
        BundleDamaged: it is no such file.
    """
    arrays: dict[str, Array] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for entry in archive.infolist():
                if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > len(content):
                    raise ValueError(f"{shortened(entry.filename)} is compressed; expected stored arrays")
                array = _read_array(archive.read(entry))
                name = entry.filename.removesuffix(_SUFFIX)
                if name in arrays:
                    raise ValueError(f"{shortened(name)} occurs twice")
                arrays[name] = array.astype(object) if array.dtype.kind == "U" else array
    except (
        zipfile.BadZipFile, zlib.error, EOFError, struct.error, RuntimeError, ValueError, TypeError, OSError,
        OverflowError, SyntaxError, MemoryError,
    ) as error:  # fmt: skip
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise BundleDamaged(f"{where}: holds no arrays that can be read: {reason}; fetch the bundle again") from None
    return arrays


def _read_array(content: bytes) -> Array:
    """One .npy; the size it claims is compared with the bytes there are before room is made for it.

    Source: NEP 1, "A simple file format for NumPy arrays".
    """
    if content[:6] != b"\x93NUMPY" or content[6] not in (1, 2, 3):
        raise ValueError("an entry is no .npy array")
    width = 2 if content[6] == 1 else 4
    start = 8 + width + int.from_bytes(content[8 : 8 + width], "little")
    if start > min(len(content), 65_536):
        raise ValueError("the head of an array is longer than the file")
    head = ast.literal_eval(content[8 + width : start].decode("latin1" if content[6] < 3 else "utf-8").strip())
    dtype, shape = np.dtype(head["descr"]), head["shape"]
    if dtype.kind not in _KINDS or not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"an array has dtype {dtype} and shape {shape}")
    if dtype.itemsize * math.prod(shape) != len(content) - start:
        raise ValueError(f"an array of {dtype} {list(shape)} takes other than {len(content) - start} bytes")
    order: Literal["C", "F"] = "F" if head["fortran_order"] else "C"
    flat: Array = np.frombuffer(content, dtype, offset=start)
    return flat.reshape(tuple(shape), order=order).copy(order="C")

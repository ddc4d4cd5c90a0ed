"""Arrays from .npy and .npz files. Pickled objects are refused: reading them runs code."""

from __future__ import annotations

import os
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from edge_sdk.errors import InputError, UnreadableInput
from edge_sdk.tensors import Array

__all__ = ["read_array", "read_arrays", "reading_arrays"]

MAX_BYTES = 8 << 30
_DAMAGE = (
    ValueError,
    OSError,
    EOFError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,
    MemoryError,
    RuntimeError,
    SyntaxError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""All that numpy's and zipfile's readers raise for a damaged file."""


def read_array(path: Path) -> Array:
    """Reads a .npy file.

    Raises:
        UnreadableInput: missing, damaged, or of Python objects.
    """
    array = read_arrays(path)
    if not isinstance(array, np.ndarray):
        raise UnreadableInput(f"{path}: expected one array (.npy), found an archive (.npz)")
    return array


def read_arrays(path: Path) -> Array | dict[str, Array]:
    """Reads a .npy file as an array, or a .npz file as arrays by name.

    Raises:
        UnreadableInput: missing, damaged, too large, or of Python objects.
    """
    if not path.is_file():
        raise UnreadableInput(f"{path}: no such file" if not path.exists() else f"{path}: not a regular file")
    with reading_arrays(path), open(path, "rb") as file:
        if file.read(4) == b"PK\x03\x04":
            with zipfile.ZipFile(file) as archive:
                size = sum(member.file_size for member in archive.infolist())
            if size > MAX_BYTES:
                raise UnreadableInput(f"{path}: its arrays would take {size >> 20} MB, the limit is {MAX_BYTES >> 20}")
        file.seek(0)
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            return {name: np.asarray(loaded[name]) for name in loaded.files}


@contextmanager
def reading_arrays(path: Path) -> Iterator[None]:
    """Turns whatever a damaged file makes its readers raise into one clear error.

    Raises:
        UnreadableInput: in place of the reader's error.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except InputError:
        raise
    except FileNotFoundError:
        raise UnreadableInput(f"{path}: there is no such file") from None
    except _DAMAGE as error:
        reason = " ".join((getattr(error, "strerror", None) or str(error) or type(error).__name__).split())
        if "allow_pickle" in reason or "pickled" in reason:
            reason = "it is no array of numbers (pickled objects are not read)"
        raise UnreadableInput(f"{os.fspath(path)}: the array cannot be read: {reason[:200]}") from None

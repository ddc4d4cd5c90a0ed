"""Tensors in memory that two processes share: laid one behind the other, read where they lie."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Iterator

import msgspec
import numpy as np

from edge_sdk.tensors import Array

__all__ = ["SharedTensors", "TensorPlace"]

_ALIGNMENT = 64
"""Of a cache line; what engines prefer for the buffers they read."""


class TensorPlace(msgspec.Struct, frozen=True, array_like=True):
    """Where a tensor lies: name, numpy dtype, shape, bytes from the beginning."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int


class SharedTensors:
    """Memory behind a file descriptor that another process has too. It grows with what is laid into it.

    One side at a time reads or writes: who that is, the two agree on elsewhere.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._map: mmap.mmap | None = None

    def lay(self, tensors: Iterable[tuple[str, Array]], offset: int = 0) -> tuple[tuple[TensorPlace, ...], int]:
        """Copies tensors into the memory.

        Args:
            tensors: names and arrays of numbers.
            offset: where the first goes.

        Returns:
            Where each lies, and where the next would.
        """
        places, arrays = [], []
        for name, array in tensors:
            places.append(TensorPlace(name, array.dtype.str, array.shape, offset))
            arrays.append(array)
            offset += -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT
        self._hold(offset)
        for place, array in zip(places, arrays, strict=True):
            np.copyto(self._array(place), array)
        return tuple(places), offset

    def arrays(self, places: Iterable[TensorPlace]) -> Iterator[tuple[str, Array]]:
        """Names and arrays, as they lie in the memory: valid until it is written again."""
        for place in places:
            self._hold(place.offset + np.dtype(place.dtype).itemsize * int(np.prod(place.shape, dtype=np.int64)))
            yield place.name, self._array(place)

    def _array(self, place: TensorPlace) -> Array:
        assert self._map is not None
        dtype, count = np.dtype(place.dtype), int(np.prod(place.shape, dtype=np.int64))
        if not count:
            return np.empty(place.shape, dtype)
        return np.frombuffer(self._map, dtype, count, place.offset).reshape(place.shape)

    def _hold(self, size_bytes: int) -> None:
        """Makes the memory at least so large."""
        size_bytes = max(size_bytes, 1)
        if self._map is not None and len(self._map) >= size_bytes:
            return
        present = os.fstat(self._fd).st_size
        if present < size_bytes:
            present = -(-size_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
            os.ftruncate(self._fd, present)
        self._map = mmap.mmap(self._fd, present)  # the old one goes when no array refers to it

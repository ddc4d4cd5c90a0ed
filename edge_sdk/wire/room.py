"""Memory for a body, placed so that the tensors behind its JSON head lie as engines want them."""

from __future__ import annotations

import numpy as np

__all__ = ["ALIGNMENT", "room_for"]

ALIGNMENT = 64
"""Bytes: a line of the cache, and the widest vector register."""


def room_for(size_bytes: int, header_length: int) -> memoryview:
    """Uninitialised bytes, of which number `header_length` lies at a multiple of `ALIGNMENT`."""
    room = np.empty(size_bytes + ALIGNMENT, np.uint8)
    start = -(room.ctypes.data + header_length) % ALIGNMENT
    return memoryview(room.data)[start : start + size_bytes]

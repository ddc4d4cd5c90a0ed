"""Requests from files: one .npz a request, with an array for each input."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

__all__ = ["requests_of"]


def requests_of(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """Reads them, in order.

    Raises:
        UnreadableInput: a file cannot be read, or holds one array without a name.
    """
    from edge_sdk.errors import UnreadableInput
    from edge_sdk.formats.array_files import read_arrays

    found = []
    for path in paths:
        arrays = read_arrays(path)
        if not isinstance(arrays, dict):
            raise UnreadableInput(f"{path}: expected an .npz file with an array for each input, found one array")
        found.append(arrays)
    return found

"""Where drawn pictures and raw outputs go."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edge_sdk.errors import InputValueError, StorageError
from edge_sdk.storage import write_whole

__all__ = ["Folder", "Saver"]


class Folder:
    """A folder for results, created on demand, in which no name is given twice.

    Raises:
        StorageError: it cannot be created.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._taken: set[str] = set()
        try:
            self._path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"{path}: the folder cannot be created: {error.strerror}") from None

    def place(self, name: str, source: Path) -> Path:
        """A path for the result called `name`; inputs of one name from several folders get a number.

        Raises:
            InputValueError: the result would take the place of its own source.
        """
        stem, suffix = os.path.splitext(name)
        unique, number = name, 2
        while unique in self._taken:
            unique, number = f"{stem}-{number}{suffix}", number + 1
        self._taken.add(unique)
        target = self._path / unique
        if target.exists() and target.samefile(source):
            raise InputValueError(
                f"{source}: the result would overwrite it; name another folder than that of the inputs"
            )
        return target


class Saver:
    """Writes the raw outputs of each input as one .npz file.

    Args:
        folder: where to.
    """

    def __init__(self, folder: str) -> None:
        self._folder = Folder(folder)

    def save(self, source: Path, outputs: Mapping[str, Any]) -> None:
        """Writes `outputs` (those that are arrays of numbers) under the source's name.

        Raises:
            StorageError: the file cannot be written.
        """
        arrays = {n: v for n, v in outputs.items() if isinstance(v, np.ndarray) and v.dtype.kind != "O"}
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        write_whole(self._folder.place(f"{source.name}.npz", source), buffer.getvalue())

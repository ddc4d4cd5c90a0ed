"""Samples from .npz and .npy files: only the rows that are taken are kept in memory, and of .npy files none."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from edge_sdk.compress.data import Data, spread
from edge_sdk.errors import InputNameError, InputShapeError, InputTypeError, UnreadableInput
from edge_sdk.formats.array_files import reading_arrays
from edge_sdk.tensors import Array, TensorSpec, quantize

__all__ = ["read_array_file", "read_array_folder"]

MAX_KEPT_BYTES = 4 << 30
_LABEL_NAMES = ("labels", "label", "y", "targets", "target", "classes", "class")


def read_array_file(path: Path, inputs: Sequence[TensorSpec], samples: int | None) -> Data:
    """Reads an .npz file (arrays by input name, the first axis counts samples, labels beside them) or an .npy file.

    Raises:
        UnreadableInput: missing, damaged, too large, or of Python objects.
        InputError: an array does not fit its input.
    """
    with reading_arrays(path):
        stored = _Npz(path) if path.suffix.lower() == ".npz" else _Npy(path)
        roles, notes = _roles(stored.shapes, inputs, path)
        rows = _rows(stored.shapes, roles, path)
        chosen = spread(rows, samples)
        columns = stored.take(list(roles), chosen)
    labels = None
    feeds: dict[str, Array] = {}
    for name, spec in roles.items():
        if spec is None:
            labels = _labels(columns[name], path, name)
        else:
            feeds[spec.name] = _fitting(columns[name], spec, path)
    if len(chosen) < rows:
        notes = (*notes, f"{len(chosen)} of {rows} samples, evenly spread")
    return Data(path.name, _Rows(feeds, {s.name: s for s in roles.values() if s is not None}), labels, notes=notes)


def read_array_folder(folder: Path, inputs: Sequence[TensorSpec], samples: int | None) -> Data:
    """Reads a folder of .npy or .npz files, in the order of their names; each holds one sample or several.

    Raises:
        UnreadableInput: a file is damaged.
        InputError: an array does not fit its input.
    """
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in (".npy", ".npz") and p.is_file())
    parts = [read_array_file(file, inputs, samples) for file in (files[i] for i in spread(len(files), samples))]
    feeds = [feed for part in parts for feed in part.feeds]
    has_labels = [part.labels is not None for part in parts]
    labels = [label for part in parts for label in part.labels or ()] if all(has_labels) else None
    chosen = spread(len(feeds), samples)
    notes = dict.fromkeys(note for part in parts for note in part.notes)
    if any(has_labels) and labels is None:
        notes["some files hold labels and others none: labels are left out"] = None
    return Data(
        folder.name,
        [feeds[i] for i in chosen],
        None if labels is None else [labels[i] for i in chosen],
        notes=tuple(notes),
    )


class _Rows(Sequence[Mapping[str, Array]]):
    """Samples out of arrays whose first axis counts them."""

    def __init__(self, columns: Mapping[str, Array], specs: Mapping[str, TensorSpec]) -> None:
        self._columns, self._specs = columns, specs

    def __len__(self) -> int:
        return len(next(iter(self._columns.values())))

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        return {name: _sample(column, index, self._specs[name]) for name, column in self._columns.items()}


def _sample(column: Array, index: int, spec: TensorSpec) -> Array:
    keeps_axis = spec.shape is not None and column.ndim == len(spec.shape)
    row = column[index : index + 1] if keeps_axis else column[index]
    if spec.quantization is not None and row.dtype.kind == "f":
        return quantize(row, spec)
    dtype = spec.numpy_dtype
    return np.ascontiguousarray(row, row.dtype if dtype is None else dtype)


def _fitting(column: Array, spec: TensorSpec, path: Path) -> Array:
    """Checks the form of an array against its input once, so that every sample fits."""
    where = f"{path}: array for input {spec.name!r}"
    if spec.shape is not None:
        own = list(column.shape[1:])
        expected = list(spec.shape)
        if column.ndim == len(expected):
            if isinstance(expected[0], int) and expected[0] != 1:
                raise InputShapeError(
                    f"{where} has shape {list(column.shape)}; the model takes {expected[0]} at once: expected"
                    f" [samples, {', '.join('?' if d is None else str(d) for d in expected)}]"
                )
            expected = expected[1:]
        if len(own) != len(expected) or any(isinstance(d, int) and d != o for d, o in zip(expected, own, strict=True)):
            raise InputShapeError(
                f"{where} has shape {list(column.shape)}; expected one sample of {spec.describe()} an index of its"
                " first axis"
            )
    _check_dtype(column, spec, where)
    return column


def _check_dtype(column: Array, spec: TensorSpec, where: str) -> None:
    wanted = spec.numpy_dtype
    if wanted is None or wanted == column.dtype:
        return
    floats = column.dtype.kind == "f"
    if (floats and (spec.quantization is not None or wanted.kind == "f")) or (
        column.dtype.kind in "iub" and wanted.kind in "iu" and np.can_cast(column.dtype, wanted, "same_kind")
    ):
        return
    if column.dtype.kind in "iu" and wanted.kind in "iu" and _in_range(column, wanted):
        return
    hint = "; store what the network was trained on, such as pixels / 255" if wanted.kind == "f" else ""
    raise InputTypeError(f"{where} has dtype {column.dtype}, expected {spec.describe()}{hint}")


def _in_range(column: Array, dtype: np.dtype[Any]) -> bool:
    limits = np.iinfo(dtype)
    return bool(column.min(initial=0) >= limits.min and column.max(initial=0) <= limits.max)


def _roles(
    shapes: Mapping[str, tuple[int, ...]], inputs: Sequence[TensorSpec], path: Path
) -> tuple[dict[str, TensorSpec | None], tuple[str, ...]]:
    """Which array goes to which input; None stands for the labels."""
    specs = {spec.name: spec for spec in inputs}
    roles: dict[str, TensorSpec | None] = {name: specs[name] for name in shapes if name in specs}
    others = [name for name in shapes if name not in specs]
    labels = next((name for wanted in _LABEL_NAMES for name in others if name.lower() == wanted), None)
    notes: list[str] = []
    if not roles and len(inputs) == 1:
        fit = [name for name in others if name != labels]
        if len(fit) > 1:
            fit = [name for name in fit if _may_feed(shapes[name], inputs[0])]
        if len(fit) == 1:
            roles[fit[0]] = inputs[0]
            others.remove(fit[0])
            if fit[0]:
                notes.append(f"array {fit[0]!r} feeds input {inputs[0].name!r}")
    missing = [name for name in specs if specs[name] not in roles.values()]
    if missing:
        raise InputNameError(
            f"{path}: there is no array for input {missing[0]!r} ({specs[missing[0]].describe()});"
            f" found: {', '.join(repr(n) for n in shapes if n) or 'one array without a name'}; expected one named after"
            " each input"
        )
    if labels is None:
        one_a_sample = [name for name in others if len(shapes[name]) == 1]
        if len(one_a_sample) == 1:
            labels = one_a_sample[0]
            notes.append(f"array {labels!r} holds the labels")
    if labels is not None:
        roles[labels] = None
    return roles, tuple(notes)


def _may_feed(shape: tuple[int, ...], spec: TensorSpec) -> bool:
    return spec.shape is None or len(shape) in (len(spec.shape), len(spec.shape) + 1)


def _rows(shapes: Mapping[str, tuple[int, ...]], roles: Mapping[str, TensorSpec | None], path: Path) -> int:
    counts = {}
    for name in roles:
        if not shapes[name]:
            raise InputShapeError(f"{path}: array {name!r} is a single number; expected samples along its first axis")
        counts[name] = shapes[name][0]
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name!r} {count}" for name, count in counts.items())
        raise InputShapeError(f"{path}: the arrays differ in their number of samples: {told}")
    return next(iter(counts.values()))


def _labels(column: Array, path: Path, name: str) -> list[Any]:
    if column.dtype.kind not in "biufUS":
        raise InputTypeError(f"{path}: labels {name!r} have dtype {column.dtype}, expected numbers or text")
    if column.ndim == 2 and column.shape[1] == 1:
        column = column[:, 0]
    if column.ndim == 2 and column.shape[1] > 1 and _one_hot(column):
        column = column.argmax(axis=1)
    if column.ndim == 1:
        whole = column.dtype.kind == "f" and bool(np.all(column == np.rint(column)))
        return [int(v) for v in column] if whole or column.dtype.kind in "biu" else column.tolist()
    return list(column)


def _one_hot(column: Array) -> bool:
    if column.dtype.kind not in "biuf":
        return False
    return bool(((column == 0) | (column == 1)).all() and (column.sum(axis=1) == 1).all())


class _Npz:
    """An .npz archive, read row by row: the whole of it may be larger than the memory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._members: dict[str, str] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                if member.endswith(".npy"):
                    name = member[: -len(".npy")]
                    with archive.open(member) as stream:
                        self.shapes[name] = _header(stream, path, name)[0]
                    self._members[name] = member

    def take(self, names: Sequence[str], rows: Sequence[int]) -> dict[str, Array]:
        """Those rows of those arrays."""
        with zipfile.ZipFile(self._path) as archive:
            columns = {}
            for name in names:
                with archive.open(self._members[name]) as stream:
                    columns[name] = self._column(stream, name, rows)
            return columns

    def _column(self, stream: IO[bytes], name: str, rows: Sequence[int]) -> Array:
        shape, by_column, dtype = _header(stream, self._path, name)
        row_bytes = dtype.itemsize * int(np.prod(shape[1:], dtype=object))
        kept = row_bytes * (shape[0] if by_column else len(rows))
        if kept > MAX_KEPT_BYTES:
            raise UnreadableInput(
                f"{self._path}: array {name!r} would take {kept >> 20} MB, the limit is {MAX_KEPT_BYTES >> 20} MB; take"
                " fewer samples"
            )
        if by_column:
            whole = np.frombuffer(_exactly(stream, kept), dtype).reshape(shape[::-1]).T
            return np.ascontiguousarray(whole[list(rows)])
        wanted = set(rows)
        column = np.empty((len(rows), *shape[1:]), dtype)
        flat = column.reshape(len(rows), -1).view(np.uint8) if column.size else column
        at = 0
        for row in range(max(rows, default=-1) + 1):
            content = _exactly(stream, row_bytes)
            if row in wanted and column.size:
                flat[at] = np.frombuffer(content, np.uint8)
                at += 1
        return column


class _Npy:
    """An .npy file, mapped: rows are read when they are used."""

    def __init__(self, path: Path) -> None:
        with open(path, "rb") as stream:
            self.shapes = {"": _header(stream, path, "")[0]}
        self._path = path

    def take(self, names: Sequence[str], rows: Sequence[int]) -> dict[str, Array]:
        """Those rows, still on the disk where all are taken."""
        array = np.load(self._path, mmap_mode="r", allow_pickle=False)
        return {name: array if len(rows) == len(array) else array[list(rows)] for name in names}


def _header(stream: IO[bytes], path: Path, name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether columns come first, and dtype. Objects are refused: reading them runs code."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, by_column, dtype = read(stream)
    if dtype.hasobject or dtype.kind not in "biufcUS":
        raise UnreadableInput(f"{path}: array {name!r} holds {dtype}, expected plain numbers; pickled objects run code")
    if any(size < 0 for size in shape):
        raise UnreadableInput(f"{path}: array {name!r} claims the shape {list(shape)}")
    return tuple(shape), bool(by_column) and len(shape) > 1, dtype


def _exactly(stream: IO[bytes], count: int) -> bytes:
    content = stream.read(count)
    if len(content) < count:
        raise EOFError("the file ends before its array does")
    return content

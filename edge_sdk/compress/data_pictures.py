"""Samples from pictures: which files there are, what they show, and how they become feeds.

What a picture shows is told by the folder it lies in, by `labels.csv` (`file,label`) or `labels.txt` (`file label`), by
COCO's `annotations.json` (boxes), or by a folder `masks/` of grey PNG files of the same name (a class a pixel).
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_sdk.compress.data import Data, spread
from edge_sdk.compress.data_boxes import ANNOTATIONS, read_boxes
from edge_sdk.errors import EdgeError, InputError, InputNameError, InputValueError, UnreadableInput
from edge_sdk.storage import read_whole
from edge_sdk.tensors import Array, TensorSpec

if TYPE_CHECKING:
    from edge_sdk.vision import Detector, Preprocessing

__all__ = ["picture_settings", "read_pictures"]

MASKS = "masks"
CACHE_BYTES = 256 << 20
_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".png", ".gif", ".bmp", ".dib", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"}
)
_TABLES = ("labels.csv", "labels.txt")
_MAX_TABLE_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class _Picture:
    """One file and what is known of it: a class name or index, or nothing."""

    path: Path
    label: str | None = None


def read_pictures(
    path: Path,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    samples: int | None,
    classes: tuple[str, ...],
    settings: Mapping[str, Any],
) -> Data:
    """Reads a picture or a folder of them. Files are decoded when a sample is asked for.

    Raises:
        UnreadableInput: no picture there, or a table of labels that cannot be read.
        InputError: the model takes no picture, or a label is none of its classes.
        MissingExtra: OpenCV is not installed.
    """
    if len(inputs) != 1:
        told = ", ".join(f"{s.name!r} ({s.describe()})" for s in inputs) or "none"
        raise InputNameError(
            f"{path}: pictures feed one input, the model has {told}; give an .npz file with an array for each"
        )
    preprocessing, detector = picture_settings(inputs[0], outputs, settings)
    found = _found(path)
    chosen = [found[i] for i in spread(len(found), samples)]
    feeds = _PictureFeeds([p.path for p in chosen], inputs[0].name, preprocessing)
    notes = [f"pictures fed as {preprocessing.explain()}"]
    labels: list[Any] | None = None
    if path.is_dir() and (path / ANNOTATIONS).is_file():
        names = classes or (detector.labels if detector is not None else ())
        labels = read_boxes(path / ANNOTATIONS, [p.path for p in chosen], preprocessing, names, notes)
    elif path.is_dir() and (path / MASKS).is_dir():
        labels = [_mask(path / MASKS, p.path, preprocessing) for p in chosen]
    elif any(p.label is not None for p in chosen):
        classes = classes or _class_names(found, notes)
        labels = [_index(p, classes) for p in chosen]
    if len(chosen) < len(found):
        notes.append(f"{len(chosen)} of {len(found)} pictures, evenly spread")
    return Data(path.name or str(path), feeds, labels, classes, preprocessing, detector, tuple(notes))


def picture_settings(
    spec: TensorSpec, outputs: Sequence[TensorSpec], settings: Mapping[str, Any]
) -> tuple[Preprocessing, Detector | None]:
    """How pictures go into an input, and the detector the model is, where it is a known one: as `edge-sdk run` does.

    Raises:
        InputError: the input takes no picture, or a setting contradicts it.
    """
    from edge_sdk.vision import Preprocessing, recognise

    preprocessing = Preprocessing.for_input(spec, **settings)
    detector = recognise(outputs, preprocessing.height, preprocessing.width)
    if detector is not None:
        usual = {name: value for name, value in detector.preprocessing.items() if name not in settings}
        if {"mean", "scale"} & settings.keys() or preprocessing.quantization is not None:
            usual = {name: value for name, value in usual.items() if name not in ("mean", "scale")}
        if usual:
            told = f"{', '.join(sorted(usual))} as {detector.name} needs"
            kept = tuple(n for n in preprocessing.notes if "mean" not in usual or not n.startswith("pixels"))
            preprocessing = preprocessing.with_settings(**usual, notes=(*kept, told))
    return preprocessing, detector


class _PictureFeeds(Sequence[Mapping[str, Array]]):
    """Samples decoded when they are asked for; the first ones are kept, as every variant asks for all of them."""

    def __init__(self, paths: Sequence[Path], name: str, preprocessing: Preprocessing) -> None:
        self._paths, self._name, self._preprocessing = list(paths), name, preprocessing
        self._kept: dict[int, Array] = {}
        self._kept_bytes = 0

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        if (tensor := self._kept.get(index)) is None:
            from edge_sdk.vision import prepare, read_image

            tensor = prepare(read_image(self._paths[index]), self._preprocessing)
            if self._kept_bytes + tensor.nbytes <= CACHE_BYTES:
                tensor.setflags(write=False)
                self._kept[index] = tensor
                self._kept_bytes += tensor.nbytes
        return {self._name: tensor}


def _found(path: Path) -> list[_Picture]:
    if not path.is_dir():
        return [_Picture(path)]
    entries = _listed(path)
    table = next((path / name for name in _TABLES if (path / name).is_file()), None)
    if table is not None and (rows := _table(table)):
        return rows
    files = [entry for entry in entries if _is_picture(entry)]
    if files:
        return [_Picture(file) for file in files]
    folders = [entry for entry in entries if entry.is_dir()]
    pictures = [_Picture(file, folder.name) for folder in folders for file in _listed(folder) if _is_picture(file)]
    if not pictures:
        raise UnreadableInput(
            f"{path}: there is no picture in it; expected pictures, one subfolder of them a class, or .npz files"
        )
    return pictures


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted((p for p in folder.iterdir() if not p.name.startswith(".")), key=_natural)
    except OSError as error:
        raise UnreadableInput(f"{folder}: cannot be listed: {error.strerror or error}") from None


def _natural(path: Path) -> list[tuple[int, int, str]]:
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p.lower()) for p in re.split(r"(\d{1,18})", path.name) if p]


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in _SUFFIXES and path.is_file()


def _table(path: Path) -> list[_Picture]:
    """Rows `file,label` of a table; none where a labels.txt holds class names and no files."""
    try:
        text = read_whole(path, _MAX_TABLE_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableInput(f"{path}: byte {error.start} is not UTF-8 text; expected file,label a line") from None
    try:
        rows = _csv_rows(text) if path.suffix == ".csv" else [line.split(None, 1) for line in text.splitlines()]
    except csv.Error as error:
        raise UnreadableInput(f"{path}: {error}; expected file,label a line") from None
    rows = [row for row in rows if row and any(cell.strip() for cell in row)]
    if rows and not (path.parent / rows[0][0].strip()).is_file():
        if path.suffix == ".txt":
            return []
        rows = rows[1:]  # a line of headings
    pictures = []
    for row in rows:
        file = path.parent / row[0].strip()
        if len(row) < 2 or not row[1].strip():
            raise UnreadableInput(f"{path}: the line {','.join(row)[:80]!r} has no label; expected file,label")
        if not file.is_file():
            raise UnreadableInput(f"{path}: names {row[0].strip()!r}, which is not in {path.parent}")
        pictures.append(_Picture(file, row[1].strip()))
    if not pictures:
        raise UnreadableInput(f"{path}: there is no line in it; expected file,label a line")
    return pictures


def _csv_rows(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline=""), strict=True))


def _class_names(pictures: Sequence[_Picture], notes: list[str]) -> tuple[str, ...]:
    """Class names in the order their indices are assumed to have: numbers as they are, names by alphabet."""
    names = {p.label for p in pictures if p.label is not None}
    if all(name.isdecimal() and len(name) < 8 for name in names):
        return ()
    notes.append("classes are numbered in the order of their names; give --labels where the model has another order")
    return tuple(sorted(names))


def _index(picture: _Picture, classes: Sequence[str]) -> int:
    label = picture.label
    if label is None:
        raise InputValueError(f"{picture.path}: has no label, while others have; expected one for each picture")
    if label in classes:
        return classes.index(label)
    if label.isdecimal() and len(label) < 8:
        return int(label)
    folded = [_folded(name) for name in classes]
    if _folded(label) in folded:
        return folded.index(_folded(label))
    named = [place for place, name in enumerate(classes) if _folded(label) in map(_folded, name.split(","))]
    if len(named) == 1:  # "hotdog, hot dog, red hot": a class with several names
        return named[0]
    import difflib

    close = difflib.get_close_matches(label, classes, 1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise InputValueError(f"{picture.path}: its label {label!r} is none of the {len(classes)} classes{hint}")


def _folded(name: str) -> str:
    return re.sub(r"[\W_]+", " ", name).strip().lower()


def _mask(folder: Path, picture: Path, preprocessing: Preprocessing) -> Array:
    """The class of each pixel of the input, uint8 [height, width]; 255 where there is none."""
    import numpy as np

    from edge_sdk.vision import load_cv2

    file = folder / f"{picture.stem}.png"
    cv2 = load_cv2()
    encoded = np.frombuffer(read_whole(file, 1 << 28), np.uint8)
    mask = _decoded(lambda: cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED), cv2.error, file)
    if mask.ndim != 2 or mask.dtype != np.uint8:
        raise UnreadableInput(
            f"{file}: is {mask.dtype}{list(mask.shape)}; expected a grey PNG of 8 bits, a class a pixel"
        )
    place = preprocessing.geometry(*mask.shape)
    top, left, bottom, right = place.source
    size = (place.target_width, place.target_height)
    part = cv2.resize(mask[top:bottom, left:right], size, interpolation=cv2.INTER_NEAREST)
    whole = np.full((preprocessing.height, preprocessing.width), 255, np.uint8)
    whole[place.target_top : place.target_top + size[1], place.target_left : place.target_left + size[0]] = part
    return whole


def _decoded(decode: Callable[[], Any], failure: type[BaseException], file: Path) -> Any:
    try:
        decoded = decode()
    except (EdgeError, InputError):
        raise
    except (failure, MemoryError):
        decoded = None
    if decoded is None:
        raise UnreadableInput(f"{file}: is no picture that can be read; expected a grey PNG, a class a pixel")
    return decoded

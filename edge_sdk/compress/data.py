"""Calibration and evaluation data: samples as feeds, with labels where there are any.

`read_data` takes what people have: an .npz file with arrays by input name, an .npy file, a folder of pictures (one
subfolder a class, or with labels beside them), or a folder of .npy and .npz files. Pictures are decoded when they are
asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_sdk.errors import InputValueError, UnreadableInput
from edge_sdk.tensors import Array, TensorSpec

if TYPE_CHECKING:
    from edge_sdk.vision import Detector, Preprocessing

__all__ = ["Data", "read_data", "spread"]


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """Samples for a model.

    Attributes:
        name: what reports call it.
        feeds: one mapping from input name to array a sample, shaped and typed as the source model takes it.
        labels: what each sample is, as long as `feeds`; None where nobody told. An int is a class, `scores.BoxTruth`
            the boxes in a picture, an int array the class of each pixel.
        classes: names by index, where the data tells them.
        preprocessing: how pictures became feeds.
        detector: what the boxes are read with, where the model is a known detector.
        notes: what was assumed while reading, one line each.
    """

    name: str
    feeds: Sequence[Mapping[str, Array]]
    labels: Sequence[Any] | None = None
    classes: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None
    detector: Detector | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not len(self.feeds):
            raise InputValueError(f"{self.name}: there is no sample in it; expected at least one")
        if self.labels is not None and len(self.labels) != len(self.feeds):
            raise InputValueError(
                f"{self.name}: {len(self.labels)} labels for {len(self.feeds)} samples; expected one a sample"
            )


def read_data(
    path: str | Path,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec] = (),
    *,
    samples: int | None = None,
    classes: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
) -> Data:
    """Reads samples for a model.

    Args:
        path: an .npz or .npy file, a picture, or a folder; see docs/build.md.
        inputs: what the model takes; those with a default left out.
        outputs: what it gives, to tell a detector by.
        samples: the most to take, spread evenly over all there are; None for all.
        classes: names of the classes by index, to find the names of folders and labels in.
        settings: of `Preprocessing.for_input`, where pictures need others than the model tells.

    Raises:
        UnreadableInput: missing, damaged, or nothing to read.
        InputError: what is there does not fit the model.
        MissingExtra: pictures without OpenCV.
    """
    path = Path(path)
    if samples is not None and samples < 1:
        raise InputValueError(f"{path}: samples is {samples}; expected 1 or more")
    try:
        is_folder = path.is_dir()
    except (OSError, ValueError) as error:
        raise UnreadableInput(f"{path}: cannot be read: {error}") from None
    if not is_folder and path.suffix.lower() in (".npz", ".npy"):
        from edge_sdk.compress.data_arrays import read_array_file

        return read_array_file(path, inputs, samples)
    if is_folder and _holds_arrays(path):
        from edge_sdk.compress.data_arrays import read_array_folder

        return read_array_folder(path, inputs, samples)
    if not is_folder and not path.exists():
        raise UnreadableInput(f"{path}: there is no such file or folder; expected an .npz file or a folder of samples")
    from edge_sdk.compress.data_pictures import read_pictures

    return read_pictures(path, inputs, outputs, samples, tuple(classes), dict(settings or {}))


def spread(count: int, samples: int | None) -> list[int]:
    """Indices of `samples` out of `count`, evenly spread, so that data sorted by class gives some of each."""
    if samples is None or samples >= count:
        return list(range(count))
    return [int(index) for index in np.linspace(0, count - 1, samples).round()] if samples > 1 else [0]


def _holds_arrays(folder: Path) -> bool:
    try:
        return any(entry.suffix.lower() in (".npy", ".npz") for entry in folder.iterdir() if entry.is_file())
    except OSError as error:
        raise UnreadableInput(f"{folder}: cannot be listed: {error.strerror or error}") from None

"""Class scores to named answers."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_sdk.errors import InputShapeError, InputTypeError, InputValueError, UnreadableInput
from edge_sdk.tensors import Array

__all__ = ["ScoredLabel", "read_labels", "top_k"]

_MAX_FILE_BYTES = 16 << 20
_MAX_INDEX = 1_000_000
_NUMBERED = re.compile(r"(\d{1,7})(?:\s*[:,=]\s*|\s+)(\S.*)")
_WORDNET = re.compile(r"n\d{8}[\s,:]+(\S.*)")


@dataclass(frozen=True, slots=True)
class ScoredLabel:
    """One class and its score.

    Attributes:
        index: of the class in the model's output.
        label: its name; None where no label file was given or it has no such line.
        score: as the model gives it (dequantised, but no softmax is applied); None where it is not a number.
    """

    index: int
    label: str | None
    score: float | None


def read_labels(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Reads a label file: one label a line, in the order of the model's classes.

    Where every line begins with a number of its own (`0: cat`, `17 dog`), the numbers are the indices, and classes that
    are left out get an empty label. A WordNet id before the label (`n02124075 Egyptian cat`) is dropped.

    Args:
        path: a UTF-8 text file.

    Raises:
        UnreadableInput: missing, not UTF-8 text, empty, or with an index above one million.
    """
    where = os.fspath(path)
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableInput(f"{where}: not a label file: byte {error.start} is not UTF-8 text") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UnreadableInput(f"{where}: the labels cannot be read: {reason}") from None
    if len(data) > _MAX_FILE_BYTES or "\0" in text:
        raise UnreadableInput(f"{where}: not a label file; expected one label a line")
    lines = [line.strip() for line in text.rstrip().split("\n")]
    if lines == [""]:
        raise UnreadableInput(f"{where}: the label file is empty; expected one label a line")
    return tuple(_without_wordnet_id(label) for label in _by_number(lines, where))


def _by_number(lines: list[str], where: str) -> list[str]:
    matches = [_NUMBERED.fullmatch(line) for line in lines if line]
    numbers = [int(match[1]) for match in matches if match]
    if len(numbers) < len(matches) or len(set(numbers)) < len(numbers):
        return lines
    if max(numbers) > _MAX_INDEX:
        raise UnreadableInput(f"{where}: index {max(numbers)} is above {_MAX_INDEX}; expected one label a line")
    labels = [""] * (max(numbers) + 1)
    for number, match in zip(numbers, matches, strict=True):
        labels[number] = match[2] if match else ""
    return labels


def _without_wordnet_id(label: str) -> str:
    match = _WORDNET.fullmatch(label)
    return match[1] if match else label


def top_k(scores: Array, k: int = 3, labels: Sequence[str] | None = None) -> tuple[ScoredLabel, ...]:
    """The `k` classes with the highest scores, highest first; of equal scores the lower index first.

    Args:
        scores: one picture's class scores, [classes] or with dimensions of one around it, any numeric dtype.
        k: how many; fewer where there are fewer classes.
        labels: the classes' names, by index.

    Raises:
        InputShapeError: more than one dimension is larger than one, or there is no class.
        InputTypeError: the scores are not numbers.
        InputValueError: k is below 1.
    """
    if k < 1:
        raise InputValueError(f"top: {k} asked for, expected at least 1")
    array = np.asarray(scores)
    if array.dtype.kind not in "biuf":
        raise InputTypeError(f"scores: expected numbers, given dtype {array.dtype}")
    if array.size == 0 or array.size != max(array.shape, default=1):
        raise InputShapeError(f"scores: expected one row of class scores, given shape {list(array.shape)}")
    flat = array.reshape(-1).astype(np.float64)
    ranked = np.where(np.isnan(flat), -np.inf, flat)
    order = np.argsort(-ranked, kind="stable")[:k]
    return tuple(
        ScoredLabel(
            int(index),
            (labels[index] or None) if labels is not None and index < len(labels) else None,
            float(array.reshape(-1)[index]) if np.isfinite(flat[index]) else None,
        )
        for index in order
    )

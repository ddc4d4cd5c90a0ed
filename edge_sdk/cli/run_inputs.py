"""Which files to run on, which input of the model they go to, and what else is fed."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edge_sdk.errors import InputNameError, InputTypeError, InputValueError, UnreadableInput
from edge_sdk.formats.array_files import read_array
from edge_sdk.tensors import Array, TensorSpec

__all__ = ["FeedPlan", "InputFile", "input_files", "plan_feeds"]

_PICTURES = {".jpg", ".jpeg", ".jpe", ".png", ".gif", ".bmp", ".dib", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"}
_SUFFIX_KINDS = {".npy": "array", ".npz": "array", ".wav": "sound"} | dict.fromkeys(_PICTURES, "picture")
_RATE_NAMES = {"sr", "sample_rate", "sampling_rate", "samplerate"}


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file to run on: "picture", "sound" or "array", told by its content, else by its suffix."""

    path: Path
    kind: str


def input_files(paths: Iterable[str]) -> list[InputFile]:
    """The files named, and of folders what can be read in them, in natural order (2 before 10); hidden files are left
    out, and so is what is neither by content nor by suffix a picture, sound or array.

    Raises:
        UnreadableInput: no such file or folder, or nothing to read in a folder.
    """
    files: list[InputFile] = []
    for name in paths:
        path = Path(name)
        try:
            entries = sorted(path.iterdir(), key=_natural) if path.is_dir() else None
        except (OSError, ValueError) as error:
            raise UnreadableInput(f"{name}: cannot be listed: {_reason(error)}") from None
        if entries is None:
            files.append(InputFile(path, _kind(path) or "picture"))
            continue
        found = [(e, _kind(e)) for e in entries if not e.name.startswith(".") and e.is_file()]
        readable = [InputFile(entry, kind) for entry, kind in found if kind is not None]
        if not readable:
            raise UnreadableInput(f"{name}: there is no picture, .npy, .npz or .wav file in this folder")
        files += readable
    return files


def _natural(path: Path) -> list[tuple[int, int, str]]:
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p.lower()) for p in re.split(r"(\d{1,18})", path.name) if p]


def _kind(path: Path) -> str | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            head = os.read(fd, 16)
        finally:
            os.close(fd)
    except (OSError, ValueError):
        head = b""
    if head.startswith(b"\x93NUMPY"):
        return "array"
    if head.startswith(b"RIFF") and head[8:12] == b"WAVE":
        return "sound"
    if head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"BM", b"II*\0", b"MM\0*")) or head[8:12] == b"WEBP":
        return "picture"
    return _SUFFIX_KINDS.get(path.suffix.lower())


@dataclass(frozen=True, slots=True)
class FeedPlan:
    """Which input takes the files, and what the others are fed with.

    Attributes:
        model: its name, for messages.
        inputs: what must be fed, in the model's order.
        outputs: what comes back.
        fixed: fed with every request.
        state: input name to the output it continues from.
    """

    model: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    fixed: Mapping[str, Any]
    state: Mapping[str, str]

    def for_session(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> FeedPlan:
        """The same plan with inputs and outputs as a session has them."""
        return replace(self, inputs=tuple(inputs), outputs=tuple(outputs))

    @property
    def open_inputs(self) -> tuple[TensorSpec, ...]:
        """Inputs that are neither fixed nor state."""
        return tuple(s for s in self.inputs if s.name not in self.fixed and s.name not in self.state)

    @property
    def rate_input(self) -> TensorSpec | None:
        """The input that takes a recording's sampling rate, where there is one by name."""
        for spec in self.inputs:
            integer = spec.numpy_dtype is not None and spec.numpy_dtype.kind in "iu"
            if spec.name.lower() in _RATE_NAMES and integer and spec.name not in self.state:
                return spec
        return None

    @property
    def needs_sample(self) -> bool:
        """Whether made-up feeds would say little: open sizes, or values given by hand."""
        sizes = [d for spec in self.inputs for d in (spec.shape or (None,)) if not isinstance(d, int)]
        return bool(sizes or self.fixed)

    def main_input(self, what: str) -> TensorSpec:
        """The one input that a picture, a recording or an array goes to.

        Raises:
            InputNameError: there is none left, or more than one.
        """
        open_inputs = self.open_inputs
        if what == "sound" and len(open_inputs) > 1 and self.rate_input in open_inputs:
            open_inputs = tuple(s for s in open_inputs if s is not self.rate_input)
        if len(open_inputs) == 1:
            return open_inputs[0]
        if not open_inputs:
            raise InputNameError(f"{self.model}: no input is left to take the {what}: --feed and --state fill them all")
        names = ", ".join(f"{s.name!r} ({s.describe()})" for s in open_inputs)
        raise InputNameError(
            f"{self.model}: one {what} cannot fill {len(open_inputs)} inputs: {names};"
            " give the others with --feed NAME=VALUE or --state IN=OUT, or all of them as one .npz file"
        )


def plan_feeds(
    model: str,
    taken: Sequence[TensorSpec],
    given: Sequence[TensorSpec],
    feeds: Sequence[tuple[str, str]],
    state: Sequence[tuple[str, str]],
) -> FeedPlan:
    """Reads `--feed` and `--state` against what the model takes and gives.

    Raises:
        InputNameError: a name is none of the model's.
        InputValueError: a value is no number, JSON list or .npy file.
    """
    inputs = {spec.name: spec for spec in taken}
    outputs = {spec.name for spec in given}
    fixed = {}
    for name, text in feeds:
        if name not in inputs:
            raise InputNameError(f"--feed {name}={text}: there is no input {name!r}; inputs: {', '.join(inputs)}")
        fixed[name] = _parse_value(inputs[name], text)
    carried = {}
    for first, second in state:
        # An input and an output rarely share a name, so either order can be understood.
        if first in inputs and second in outputs:
            carried[first] = second
        elif first in outputs and second in inputs:
            carried[second] = first
        else:
            raise InputNameError(
                f"--state {first}={second}: expected an input and an output;"
                f" inputs: {', '.join(inputs)}; outputs: {', '.join(sorted(outputs))}"
            )
    return FeedPlan(model, tuple(inputs.values()), tuple(given), fixed, carried)


def _parse_value(spec: TensorSpec, text: str) -> Any:
    if text.endswith(".npy"):
        return read_array(Path(text))
    if spec.dtype == "string":
        return np.array(text, dtype=object).reshape((1,) * len(spec.shape or ()))
    try:
        value = json.loads(text)
        array = np.asarray(value)
    except (ValueError, RecursionError):
        array = np.asarray(None)
    if array.dtype.kind not in "biuf":
        raise InputValueError(
            f"--feed {spec.name}={text}: expected a number, a JSON list or a .npy file, for {spec.describe()}"
        )
    if array.ndim == 0 and spec.shape:
        return np.reshape(_as(spec, array), (1,) * len(spec.shape))
    return _as(spec, array)


def _as(spec: TensorSpec, array: Array) -> Array:
    """Numbers typed by hand take the input's dtype where none of them changes."""
    dtype = spec.numpy_dtype
    if dtype is None:
        return array
    with np.errstate(all="ignore"):
        converted = array.astype(dtype)
    if dtype.kind in "iu" and not np.array_equal(converted, array):
        raise InputTypeError(f"--feed {spec.name}: {array.tolist()} does not fit {spec.describe()}")
    return converted


def _reason(error: BaseException) -> str:
    return (getattr(error, "strerror", None) or str(error)) or type(error).__name__

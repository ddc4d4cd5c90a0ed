"""The variants that can be made of a source model, by name."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from edge_sdk.compress.data import Data
from edge_sdk.compress.guard import Guard
from edge_sdk.compress.making import KINDS, Kind, Made, kind_of
from edge_sdk.errors import CompressionError
from edge_sdk.formats import open_model

if TYPE_CHECKING:
    from edge_sdk.compress.onnx_making import OnnxMaker
    from edge_sdk.compress.tflite_making import TfliteMaker

__all__ = ["KINDS", "Kind", "Made", "Maker", "available", "make"]

_USUAL_SHARE = "50"


def available(source: Path) -> tuple[str, ...]:
    """Names of the variants a build makes of this source unasked, in order. Some need data; `Maker.make` says so.

    Raises:
        ModelError: the source cannot be read.
    """
    with open_model(source) as model:
        info = model.describe()
    if _quantised(info.precision):
        return ("source",)
    usual = [kind.name for kind in KINDS.values() if kind.usual and info.format in kind.formats]
    return tuple(name.replace("-N", f"-{_USUAL_SHARE}") for name in usual)


class Maker:
    """Makes variants of one source. What several need is done once, so make all of a source through one of these.

    A context manager: files on the way lie in a folder that goes with it.

    Args:
        source: the model file.
        calibration: samples as the source takes them; never made up.
        guard: judges the ways to make a variant, so that the best is kept; by default one over `calibration`.

    Raises:
        ModelError: the source cannot be read.
    """

    def __init__(self, source: Path, calibration: Data | None = None, guard: Guard | None = None) -> None:
        self.source = Path(source)
        self.calibration = calibration if calibration is not None and len(calibration.feeds) else None
        self.guard = guard
        if guard is None and self.calibration is not None:
            self.guard = Guard(self.source, self.calibration)
        with open_model(self.source) as model:
            model.check()
            self._info = model.describe()
        self._between = tempfile.TemporaryDirectory(prefix="edge-sdk-")
        self._workshop: OnnxMaker | TfliteMaker | None = None

    def __enter__(self) -> Maker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Removes the files on the way. Idempotent."""
        self._between.cleanup()

    def make(self, name: str, folder: Path) -> Made:
        """Makes one variant.

        Args:
            name: of `available`, or several joined by "+" ("pruned-50+int8-static").
            folder: where the file is put, as NAME.onnx or NAME.tflite; created where it is missing.

        Raises:
            CompressionError: it cannot be made of this model, or would bring nothing; the message says why.
            MissingExtra: a package for building is not installed.
            ModelError, EngineError, InputError: from the guard, where a way cannot be judged.
        """
        for part in name.split("+"):
            try:
                self._check(part)
            except CompressionError as error:
                raise CompressionError(str(error) if str(error).startswith(name) else f"{name}: {error}") from None
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / f"{name}.{self._info.format}"
        if name == "source":
            return self._as_it_is(target)
        return self._maker().make(name, target)

    def _check(self, part: str) -> None:
        kind, info = kind_of(part), self._info
        if info.format not in kind.formats:
            raise CompressionError(f"it is made of {' or '.join(sorted(kind.formats))} sources, not of {info.format}")
        if kind.name != "source" and _quantised(info.precision):
            raise CompressionError(
                f"the source is {info.precision} already ({info.precision_reason}): nothing to do; make variants of the"
                " float32 model it came from"
            )
        if kind.needs_data and self.calibration is None:
            raise CompressionError("it needs calibration data: give real inputs, they are not made up")

    def _as_it_is(self, target: Path) -> Made:
        for name in self._info.external_files:
            beside = target.parent / name
            beside.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.source.parent / name, beside)
        shutil.copyfile(self.source, target)
        return Made("source", target, self._info.format, self._info.precision, {"source": "as it is"})

    def _maker(self) -> OnnxMaker | TfliteMaker:
        if self._workshop is None:
            folder = Path(self._between.name)
            if self._info.format == "onnx":
                from edge_sdk.compress.onnx_making import OnnxMaker

                self._workshop = OnnxMaker(self.source, self.calibration, self.guard, folder)
            else:
                from edge_sdk.compress.tflite_making import TfliteMaker

                self._workshop = TfliteMaker(self.source, self.calibration, self.guard, folder)
        return self._workshop


def make(source: Path, name: str, folder: Path, calibration: Data | None = None, guard: Guard | None = None) -> Made:
    """Makes one variant of a source; see `Maker`."""
    with Maker(source, calibration, guard) as maker:
        return maker.make(name, folder)


def _quantised(precision: str) -> bool:
    """Whether a model of this precision holds anything but float32."""
    return bool(precision) and precision != "float32"

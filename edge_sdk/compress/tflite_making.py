"""From a TFLite source to one variant file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from edge_sdk.compress.data import Data
from edge_sdk.compress.guard import Guard, Verdict
from edge_sdk.compress.making import Made, kind_of
from edge_sdk.compress.picking import spread
from edge_sdk.compress.searching import better, fewest, quick_guard
from edge_sdk.compress.tflite_quantising import METHODS, calibrated, prepared, quantised, recipe_for
from edge_sdk.errors import CompressionError
from edge_sdk.formats import open_model
from edge_sdk.storage import write_whole

__all__ = ["TfliteMaker"]

_CALIBRATION_SAMPLES = 256
_MOST_FLOAT = 0.75
_STATIC = "int8-static"
_WEIGHTS = {"fp16": "float16", "int4-weights": "int4 of fully connected layers, int8 of others"}


@dataclass(frozen=True, slots=True)
class _Static:
    """Static int8 in one way.

    Attributes:
        ranges: of the activations.
        content: the file.
        told: how it was calibrated.
        verdict: what the guard said.
    """

    ranges: Any
    content: bytes
    told: str
    verdict: Verdict


class TfliteMaker:
    """Makes variants of one TFLite file.

    Args:
        source: the file.
        data, guard: calibration data and judge; None where there are none.
        folder: for files on the way.
    """

    def __init__(self, source: Path, data: Data | None, guard: Guard | None, folder: Path) -> None:
        self._source, self._data, self._guard, self._folder = source, data, guard, folder

    def make(self, name: str, target: Path) -> Made:
        """See `variants.Maker.make`."""
        if "+" in name:
            raise CompressionError(
                f"{name}: variants of a TFLite file are not combined; start from the ONNX file it came from"
            )
        if name == "fp32":
            write_whole(target, self._source.read_bytes())
            return Made(name, target, "tflite", "float32", {"clean-up": "none: the file as it is"})
        recipe = {"method": f"ai-edge-quantizer {_version()}", "weights": _WEIGHTS.get(name, "int8 per channel")}
        try:
            if name in (_STATIC, "int8-mixed"):
                recipe |= {"activations": "int8 per tensor", "calibration": self._static.told}
                content, float_layers = (self._static.content, []) if name == _STATIC else self._mixed()
                if float_layers:
                    recipe["float layers"] = ", ".join(float_layers)
            elif name == "int4-weights":
                content = self._int4()
            else:
                content = quantised(self._content, recipe_for(name))
        except CompressionError as error:
            raise CompressionError(f"{name}: {error}") from None
        write_whole(target, content)
        precision = open_model(content).describe().precision or kind_of(name).precision
        return Made(name, target, "tflite", precision, recipe)

    @cached_property
    def _content(self) -> bytes:
        return prepared(self._source)

    @cached_property
    def _static(self) -> _Static:
        """Static int8 by the calibration method whose result is best."""
        data, guard = self._judged()
        quick = quick_guard(guard)
        feeds = spread(data.feeds, _CALIBRATION_SAMPLES)
        found = []
        for method in METHODS:
            ranges = calibrated(self._content, recipe_for(_STATIC), method, feeds)
            content = quantised(self._content, recipe_for(_STATIC), ranges)
            told = f"{method} on {len(feeds)} samples of {data.name}"
            found.append(_Static(ranges, content, told, self._verdict(content, quick)))
        best = found[0]
        for trial in found[1:]:
            best = trial if better(trial.verdict, best.verdict) else best
        return best if quick is guard else replace(best, verdict=self._verdict(best.content, guard))

    def _int4(self) -> bytes:
        """By blocks; by channels where a length is no multiple of a block."""
        try:
            content = quantised(self._content, recipe_for("int4-weights"))
        except CompressionError:
            content = quantised(self._content, recipe_for("int4-weights", blocks=False))
        if "int4" not in open_model(content).describe().precision:
            raise CompressionError("it holds no fully connected layer or embedding: others gain nothing from 4 bits")
        return content

    def _judged(self) -> tuple[Data, Guard]:
        assert self._data is not None and self._guard is not None, "checked before: this variant needs data"
        return self._data, self._guard

    def _mixed(self) -> tuple[bytes, list[str]]:
        """Int8 with the fewest layers left in float that the guard passes, those that add most error first."""
        _, guard = self._judged()
        start = self._static
        if start.verdict.passed:
            raise CompressionError(f"int8 throughout is within the bound already: {start.verdict.why}")
        write_whole(self._trial_file, start.content)
        ordered = list(dict.fromkeys(layer.tensor for layer in guard.layers(self._trial_file)))
        tried: dict[int, tuple[bytes, Verdict]] = {}

        def passes(count: int) -> bool:
            try:
                content = quantised(self._content, recipe_for(_STATIC, ordered[:count]), start.ranges)
            except CompressionError:
                return False  # nothing was left to quantise
            tried[count] = content, self._verdict(content, guard)
            return tried[count][1].passed

        most = int(len(ordered) * _MOST_FLOAT)
        count = fewest(most, passes)
        if count is None:
            why = tried[most][1].why if most in tried else start.verdict.why
            raise CompressionError(f"even with {most} of {len(ordered)} layers left in float int8 fails: {why}")
        return tried[count][0], ordered[:count]

    def _verdict(self, content: bytes, guard: Guard) -> Verdict:
        write_whole(self._trial_file, content)
        return guard.judge(self._trial_file)

    @property
    def _trial_file(self) -> Path:
        return self._folder / "trial.tflite"


def _version() -> str:
    from importlib.metadata import version

    return version("ai-edge-quantizer")

"""From an ONNX source to one variant file, step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from edge_sdk.compress.data import Data
from edge_sdk.compress.guard import Guard
from edge_sdk.compress.making import Made, kind_of, share_of
from edge_sdk.compress.onnx_cleanup import Cleaned, clean, trial_feeds
from edge_sdk.compress.onnx_files import save
from edge_sdk.compress.onnx_int8_ways import Int8Trial, best_static_int8, mixed_int8
from edge_sdk.compress.onnx_prepare import prepare
from edge_sdk.compress.onnx_running import run_samples
from edge_sdk.compress.onnx_shaping import best_low_rank, best_pruned, faster_with_zeros
from edge_sdk.compress.onnx_weights import dynamic_int8, float16, int4_weights
from edge_sdk.errors import CompressionError
from edge_sdk.tensors import Array

__all__ = ["OnnxMaker"]


@dataclass(slots=True)
class _Work:
    """A model on its way.

    Attributes:
        model: as it is now.
        precision: of its arithmetic.
        shaped: whether it is no longer the source's network (pruned, factored).
        recipe: what was done so far.
    """

    model: Any
    precision: str = "float32"
    shaped: bool = False
    recipe: dict[str, str] = field(default_factory=dict)


class OnnxMaker:
    """Makes variants of one ONNX file.

    Args:
        source: the file.
        data, guard: calibration data and judge; None where there are none.
        folder: for files on the way.
    """

    def __init__(self, source: Path, data: Data | None, guard: Guard | None, folder: Path) -> None:
        self._source, self._data, self._guard, self._folder = source, data, guard, folder
        self._feeds: Sequence[Mapping[str, Array]] = data.feeds if data is not None else ()

    def make(self, name: str, target: Path) -> Made:
        """See `variants.Maker.make`."""
        work = _Work(self._cleaned.model, recipe=dict(self._cleaned.recipe))
        try:
            for part in name.split("+"):
                if work.precision != "float32":
                    raise CompressionError(f"{part} cannot follow what ends in {work.precision}; put that last")
                self._step(part, work)
            save(work.model, target)
            list(run_samples(target, self._samples))
        except CompressionError as error:
            target.unlink(missing_ok=True)
            raise CompressionError(f"{name}: {error}") from None
        return Made(name, target, "onnx", work.precision, work.recipe, self._cleaned.notes + self._caution(work))

    @cached_property
    def _cleaned(self) -> Cleaned:
        return clean(self._source, self._feeds)

    @cached_property
    def _samples(self) -> Sequence[Mapping[str, Array]]:
        return trial_feeds(self._source, self._feeds)

    @cached_property
    def _prepared(self) -> Any:
        return prepare(self._cleaned.model, self._samples)

    @cached_property
    def _static(self) -> Int8Trial:
        return best_static_int8(self._prepared, *self._judged(), self._folder)

    def _caution(self, work: _Work) -> tuple[str, ...]:
        """What to know where weights were fitted to the very samples that judge them."""
        if not work.shaped or self._data is None or self._guard is None or self._guard.data.feeds is not self._feeds:
            return ()
        return ("its weights were fitted to the samples that judge it: keep others aside for an honest figure",)

    def _judged(self) -> tuple[Data, Guard]:
        assert self._data is not None and self._guard is not None, "checked before: this variant needs data"
        return self._data, self._guard

    def _ready(self, work: _Work) -> Any:
        """The model as quantizers and pruning want it."""
        if not work.shaped:
            return self._prepared
        return work.model

    def _step(self, part: str, work: _Work) -> None:
        kind = kind_of(part)
        if kind.name == "fp16":
            work.model, recipe = float16(work.model)
        elif kind.name == "int8-dynamic":
            work.model, recipe = dynamic_int8(self._ready(work))
        elif kind.name == "int4-weights":
            work.model, recipe = int4_weights(self._ready(work))
        elif kind.name in ("int8-static", "int8-mixed"):
            work.model, recipe = self._int8(kind.name, work)
        elif kind.name == "pruned-N":
            work.model, recipe = best_pruned(self._ready(work), share_of(part), *self._judged(), self._folder)
        elif kind.name == "low-rank":
            work.model, recipe = best_low_rank(self._ready(work), *self._judged(), self._folder)
        elif kind.name == "sparse-N":
            work.model, recipe = faster_with_zeros(self._ready(work), share_of(part), self._samples[0])
        else:
            recipe = {}
        work.recipe |= recipe
        work.precision = kind.precision or work.precision
        work.shaped = work.shaped or kind.name in ("pruned-N", "low-rank", "sparse-N")

    def _int8(self, name: str, work: _Work) -> tuple[Any, dict[str, str]]:
        trial = best_static_int8(work.model, *self._judged(), self._folder) if work.shaped else self._static
        if name == "int8-mixed":
            trial = mixed_int8(trial, *self._judged(), self._folder)
        return trial.quantised, trial.recipe

"""How well a model does its task: top-1, mean average precision, intersection over union, or a function of the user's.

Every metric is between 0 and 1 where 1 is best, and is counted sample by sample.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_sdk.compress.precision_recall import average_precision
from edge_sdk.errors import EdgeError, InputError, InputNameError, InputShapeError, InputTypeError, InputValueError
from edge_sdk.tensors import Array

if TYPE_CHECKING:
    from edge_sdk.compress.data import Data
    from edge_sdk.vision import Detector
    from edge_sdk.vision.geometry import Geometry

__all__ = ["METRICS", "BoxTruth", "Metric", "Tally", "best_class", "class_scores", "metric_for", "user_metric"]

METRICS = ("top1", "top5", "map", "map50", "iou")
LEAST_CONFIDENCE = 0.01
"""Boxes below it hardly change an average precision and cost most of its time."""
_IGNORED_PIXEL = 255
_COCO_OVERLAPS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))


@dataclass(frozen=True, slots=True, eq=False)
class BoxTruth:
    """The boxes that are in a picture.

    Attributes:
        boxes: float64 (n, 4), [x1, y1, x2, y2] in pixels of the picture.
        class_ids: int64 (n,), as the model counts its classes.
        crowd: bool (n,): boxes around many at once, which neither count as found nor as missed.
        geometry: where the picture lies in the model's input.
    """

    boxes: Array
    class_ids: Array
    crowd: Array
    geometry: Geometry


class Tally(ABC):
    """A metric being counted."""

    @abstractmethod
    def add(self, outputs: Mapping[str, Array], label: Any) -> None:
        """Counts one sample: the model's outputs as real numbers, and what the sample is.

        Raises:
            InputError: the outputs or the label are not what the metric is made for.
        """

    @abstractmethod
    def result(self) -> float:
        """The metric over all samples counted."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A way to score a model.

    Attributes:
        name: what reports call it: "top-1", "mAP", "mIoU", or the user's own.
        start: begins a tally.
    """

    name: str
    start: Callable[[], Tally]


def metric_for(data: Data, wanted: str | None = None) -> Metric | None:
    """The metric that fits the labels, or the one asked for; None where there are no labels.

    Args:
        data: the labels tell: whole numbers are classes, `BoxTruth` boxes, arrays masks.
        wanted: one of `METRICS`, or `module:function` or `file.py:function`; see `user_metric`.

    Raises:
        InputError: the metric does not fit the labels, or there is none of that name.
    """
    if data.labels is None:
        if wanted is not None:
            raise InputValueError(f"{data.name}: metric {wanted!r} needs labels, and there are none in the data")
        return None
    if wanted is not None and ":" in wanted:
        return user_metric(wanted)
    if wanted is not None and wanted not in METRICS:
        raise InputValueError(f"metric {wanted!r} is not known; expected {', '.join(METRICS)} or module:function")
    label = data.labels[0]
    if isinstance(label, BoxTruth):
        return _box_metric(data, wanted or "map")
    if isinstance(label, np.ndarray) and label.ndim == 2:
        return Metric("mIoU", _Overlap) if wanted in (None, "iou") else _refused(data, wanted, "masks", "iou")
    if isinstance(label, (int, np.integer)):
        if wanted not in (None, "top1", "top5"):
            return _refused(data, wanted, "classes", "top1 or top5")
        most = 5 if wanted == "top5" else 1
        return Metric(f"top-{most}", lambda: _Top(most))
    raise InputTypeError(
        f"{data.name}: labels are {type(label).__name__}, for which there is no metric here; give module:function"
    )


def _refused(data: Data, wanted: str | None, kind: str, fitting: str) -> Metric:
    raise InputValueError(f"{data.name}: metric {wanted!r} does not fit labels that are {kind}; expected {fitting}")


def _box_metric(data: Data, wanted: str) -> Metric:
    if wanted not in ("map", "map50"):
        return _refused(data, wanted, "boxes", "map or map50")
    detector = data.detector
    if detector is None:
        raise InputValueError(
            f"{data.name}: holds boxes, but the model is no detector that is known here; give module:function as metric"
        )
    overlaps = _COCO_OVERLAPS if wanted == "map" else (0.5,)
    return Metric("mAP" if wanted == "map" else "mAP at 0.5", lambda: _Boxes(detector, overlaps))


class _Top(Tally):
    """Share of samples whose class is among the `most` best scored."""

    def __init__(self, most: int) -> None:
        self._most, self._right, self._count = most, 0, 0

    def add(self, outputs: Mapping[str, Array], label: Any) -> None:
        scores = class_scores(outputs)
        if scores is None:
            told = ", ".join(f"{name!r} {list(array.shape)}" for name, array in outputs.items())
            raise InputShapeError(f"top-{self._most} needs one output of class scores; the model gives {told}")
        classes = max(2, scores.size)
        if not 0 <= label < classes:
            raise InputValueError(f"label {label} is none of the model's {classes} classes, 0 to {classes - 1}")
        self._count += 1
        if self._most == 1 or scores.size == 1:
            self._right += best_class(scores) == label
        else:
            self._right += label in np.argsort(-_ranked(scores), kind="stable")[: self._most]

    def result(self) -> float:
        return self._right / self._count if self._count else 0.0


class _Boxes(Tally):
    """Mean average precision as COCO counts it: over classes, and over overlaps."""

    def __init__(self, detector: Detector, overlaps: Sequence[float]) -> None:
        self._detector, self._overlaps = detector, overlaps
        self._found: list[Any] = []
        self._truth: list[BoxTruth] = []

    def add(self, outputs: Mapping[str, Array], label: Any) -> None:
        if not isinstance(label, BoxTruth):
            raise InputTypeError(f"mAP needs boxes as labels, given {type(label).__name__}")
        self._found.append(self._detector.detections(outputs, label.geometry, confidence=LEAST_CONFIDENCE))
        self._truth.append(label)

    def result(self) -> float:
        classes = sorted({int(c) for truth in self._truth for c in truth.class_ids[~truth.crowd]})
        figures = []
        for index in classes:
            found = [(d.boxes[d.class_ids == index], d.scores[d.class_ids == index]) for d in self._found]
            truth = [(t.boxes[t.class_ids == index], t.crowd[t.class_ids == index]) for t in self._truth]
            figures.append(average_precision(found, truth, self._overlaps))
        return float(np.mean(figures)) if figures else 0.0


class _Overlap(Tally):
    """Intersection over union of the pixels of each class, mean over the classes that occur."""

    def __init__(self) -> None:
        self._counts: Array = np.zeros((_IGNORED_PIXEL, _IGNORED_PIXEL), np.int64)

    def add(self, outputs: Mapping[str, Array], label: Any) -> None:
        truth = np.asarray(label)
        found = _pixel_classes(next(iter(outputs.values())), truth.shape)
        rows = (np.arange(found.shape[0]) + 0.5) * truth.shape[0] / found.shape[0]
        columns = (np.arange(found.shape[1]) + 0.5) * truth.shape[1] / found.shape[1]
        truth = truth[rows.astype(int)][:, columns.astype(int)]
        known = (truth >= 0) & (truth < _IGNORED_PIXEL) & (found < _IGNORED_PIXEL)
        pairs = truth[known].astype(np.int64) * _IGNORED_PIXEL + found[known]
        self._counts += np.bincount(pairs, minlength=self._counts.size).reshape(self._counts.shape)

    def result(self) -> float:
        both = np.diag(self._counts)
        either = self._counts.sum(axis=0) + self._counts.sum(axis=1) - both
        occurs = self._counts.sum(axis=1) > 0
        return float((both[occurs] / either[occurs]).mean()) if occurs.any() else 0.0


def _pixel_classes(output: Array, shape: tuple[int, ...]) -> Array:
    """The class of each pixel: the largest along the axis of classes, or the numbers themselves."""
    array = output[0] if output.ndim in (3, 4) and output.shape[0] == 1 else output
    if array.ndim == 3 and 1 in (array.shape[0], array.shape[2]):
        array = array[0] if array.shape[0] == 1 else array[..., 0]
    if array.ndim == 2:
        if array.dtype.kind in "iub":
            return array.astype(np.int64)
        # One channel of a single class: shares from 0 to 1, or their logits.
        shares = array.min() >= 0 and array.max() <= 1
        return (array > (0.5 if shares else 0)).astype(np.int64)
    if array.ndim != 3:
        raise InputShapeError(
            "mIoU needs an output [1, classes, height, width], [1, height, width, classes] or [1, height, width]; the"
            f" model gives {list(output.shape)}"
        )
    return np.asarray(array.argmax(axis=_class_axis(array.shape, shape)))


def _class_axis(shape: tuple[int, ...], mask: tuple[int, ...]) -> int:
    """First or last: where the other two are in the proportion of the mask; where both are, the shorter one."""
    first = shape[1] * mask[1] == shape[2] * mask[0]
    last = shape[0] * mask[1] == shape[1] * mask[0]
    return 0 if first and (not last or shape[0] <= shape[2]) else 2


def class_scores(outputs: Mapping[str, Array]) -> Array | None:
    """The one output that is a row of scores, flattened; None where there is none or more than one.

    Of several the only one with more than one score counts, so that a class index beside the scores does not disturb.
    """
    rows = [
        array.reshape(-1)
        for array in outputs.values()
        if array.dtype.kind == "f" and array.ndim >= 1 and array.size == max(array.shape) and array.size
    ]
    if len(rows) > 1:
        rows = [row for row in rows if row.size > 1]
    return rows[0] if len(rows) == 1 else None


def best_class(scores: Array) -> int:
    """Index of the highest score, the lowest index of equal ones; of a single score whether it is above one half."""
    return int(scores[0] > 0.5) if scores.size == 1 else int(_ranked(scores).argmax())


def _ranked(scores: Array) -> Array:
    return np.asarray(np.where(np.isnan(scores), -np.inf, scores))


class _User(Tally):
    """Mean of what the user's function gives for each sample."""

    def __init__(self, name: str, function: Callable[[Mapping[str, Array], Any], Any]) -> None:
        self._name, self._function = name, function
        self._figures: list[float] = []

    def add(self, outputs: Mapping[str, Array], label: Any) -> None:
        where = f"metric {self._name!r}, sample {len(self._figures)}"
        try:
            figure = float(self._function(outputs, label))
        except EdgeError:
            raise
        except Exception as error:
            raise InputError(f"{where}: {type(error).__name__}: {error}") from error
        if not np.isfinite(figure):
            raise InputValueError(f"{where}: gave {figure}, expected a finite number")
        self._figures.append(figure)

    def result(self) -> float:
        return float(np.mean(self._figures)) if self._figures else 0.0


def user_metric(name: str) -> Metric:
    """A metric of the user's own, `function(outputs, label) -> float` for one sample, larger being better.

    Args:
        name: `module:function`, looked up in the current folder too, or `path/to/file.py:function`.

    Raises:
        InputError: no such module or function.
    """
    home, _, attribute = name.rpartition(":")
    module = _module(home, name)
    function = getattr(module, attribute, None)
    if not callable(function):
        raise InputNameError(f"metric {name!r}: {home} has no function {attribute!r}")
    return Metric(attribute, lambda: _User(name, function))


def _module(home: str, name: str) -> Any:
    import importlib
    import importlib.util
    import os
    import sys

    try:
        if home.endswith(".py"):
            spec = importlib.util.spec_from_file_location(os.path.basename(home)[:-3], home)
            if spec is None or spec.loader is None:
                raise InputNameError(f"metric {name!r}: {home} is no Python file")
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
        sys.path.insert(0, os.getcwd())
        try:
            return importlib.import_module(home)
        finally:
            sys.path.remove(os.getcwd())
    except EdgeError:
        raise
    except Exception as error:
        raise InputNameError(
            f"metric {name!r}: {home or 'no module'} cannot be imported: {type(error).__name__}: {error}; expected"
            " module:function or file.py:function"
        ) from error

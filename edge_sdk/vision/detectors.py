"""Raw outputs of common detectors to boxes.

A detector is recognised by the shapes of its outputs and the number of its anchors, which its input size fixes:

- ultraface: boxes [1, N, 4] as corners or as offsets from priors, scores [1, N, 2]
  (Linzaer/Ultra-Light-Fast-Generic-Face-Detector-1MB);
- ssd: boxes [1, N, 4], classes [1, N], scores [1, N], count [1] (TFLite_Detection_PostProcess of TensorFlow);
- yolov5: [1, N, 5 + classes], three anchors a cell (ultralytics/yolov5, WongKinYiu/yolov7);
- yolov8: [1, 4 + classes, N], one a cell (ultralytics/ultralytics 8, 9, 11);
- yolov10: [1, N <= 1000, 6], already chosen (THU-MIG/yolov10).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from edge_sdk.errors import InputShapeError
from edge_sdk.tensors import Array, TensorSpec
from edge_sdk.vision.detections import Detections, nms
from edge_sdk.vision.geometry import Geometry

__all__ = ["Detector", "recognise"]

_Raw = tuple[Array, Array, Array]
"""boxes (n, 4) as corners in pixels of the input, scores (n,), class ids (n,)."""
_Decode = Callable[[Sequence[Array], int, int, float], _Raw]

_PRIOR_SIDES = ((10, 16, 24), (32, 48), (64, 96), (128, 192, 256))
_PRIOR_STRIDES = (8, 16, 32, 64)
_YOLO_STRIDES = (8, 16, 32)


@dataclass(frozen=True, slots=True)
class Detector:
    """A recognised kind of detector.

    Attributes:
        name: "ultraface", "ssd", "yolov5", "yolov8" or "yolov10".
        height, width: of the input, in pixels.
        confidence: the least score of a box, as in the detector's own code.
        iou: the largest overlap of two boxes kept; None where the model has chosen already.
        labels: its own class names, where it has a fixed set.
        preprocessing: settings that pictures for it need, for `Preprocessing.for_input`.
    """

    name: str
    height: int
    width: int
    confidence: float
    iou: float | None
    decode: _Decode = field(repr=False, compare=False)
    labels: tuple[str, ...] = ()
    preprocessing: Mapping[str, Any] = field(default_factory=dict)

    def detections(
        self,
        outputs: Mapping[str, Array],
        geometry: Geometry,
        *,
        confidence: float | None = None,
        iou: float | None = None,
        labels: Sequence[str] | None = None,
    ) -> Detections:
        """Boxes in pixels of the picture, best score first.

        Args:
            outputs: of one request, dequantised, in the model's order.
            geometry: where the picture lay in the input.
            confidence: the least score; None for the detector's own.
            iou: the largest overlap; None for the detector's own.
            labels: class names; None for the detector's own.

        Raises:
            InputShapeError: the outputs are not what the detector was recognised by.
        """
        least = self.confidence if confidence is None else confidence
        arrays = [np.asarray(array, np.float32) for array in outputs.values()]
        boxes, scores, class_ids = self.decode(arrays, self.height, self.width, least)
        good = np.isfinite(boxes).all(axis=1) & np.isfinite(scores) & (scores >= least)
        boxes, scores, class_ids = geometry.to_image(boxes[good]), scores[good], class_ids[good].astype(np.int64)
        ordered = (boxes[:, 2] >= boxes[:, 0]) & (boxes[:, 3] >= boxes[:, 1])
        boxes, scores, class_ids = boxes[ordered], scores[ordered], class_ids[ordered]
        overlap = self.iou if iou is None else iou
        kept = np.argsort(-scores, kind="stable") if overlap is None else nms(boxes, scores, class_ids, iou=overlap)
        names = self.labels if labels is None else tuple(labels)
        return Detections(boxes[kept], scores[kept], class_ids[kept], names)


def recognise(outputs: Sequence[TensorSpec], height: int, width: int) -> Detector | None:
    """Finds which known detector a model is.

    Args:
        outputs: the model's outputs.
        height: of its input, in pixels.
        width: of its input, in pixels.

    Returns:
        The detector, or None where the outputs fit none of them.
    """
    shapes = [spec.shape for spec in outputs]
    if _is_ssd(outputs):
        return Detector("ssd", height, width, 0.5, None, _decode_ssd)
    if len(shapes) == 2 and _is_boxes_and_scores(shapes, height, width):
        settings = {"mean": (127.0,), "scale": (128.0,), "resize": "stretch"}
        return Detector("ultraface", height, width, 0.7, 0.3, _decode_ultraface, ("background", "face"), settings)
    first = shapes[0] if shapes else None
    if first is None or len(first) != 3 or not isinstance(first[1], int) or not isinstance(first[2], int):
        return None
    rows, columns = first[1], first[2]
    cells = sum(math.ceil(height / s) * math.ceil(width / s) for s in _YOLO_STRIDES)
    settings = {"resize": "letterbox"}
    if columns == cells and rows >= 5:
        return Detector("yolov8", height, width, 0.25, 0.45, _decode_yolov8, (), settings)
    if rows == 3 * cells and columns >= 6:
        return Detector("yolov5", height, width, 0.25, 0.45, _decode_yolov5, (), settings)
    if columns == 6 and 10 <= rows <= 1000 and len(shapes) == 1:
        return Detector("yolov10", height, width, 0.25, None, _decode_yolov10, (), settings)
    return None


def _is_ssd(outputs: Sequence[TensorSpec]) -> bool:
    if len(outputs) != 4:
        return False
    if any("Detection_PostProcess" in spec.name for spec in outputs):
        return True
    shapes = [tuple(spec.shape or ()) for spec in outputs]
    boxes = [s for s in shapes if len(s) == 3 and s[2] == 4 and s[0] == 1]
    flat = [s for s in shapes if len(s) == 2 and s[0] == 1 and boxes and s[1] == boxes[0][1]]
    return len(boxes) == 1 and len(flat) == 2 and (1,) in shapes


def _is_boxes_and_scores(shapes: Sequence[tuple[int | str | None, ...] | None], height: int, width: int) -> bool:
    if any(shape is None or len(shape) != 3 for shape in shapes):
        return False
    known = [shape for shape in shapes if shape is not None]
    if sorted(str(shape[2]) for shape in known) != ["2", "4"]:
        return False
    count = len(_priors(height, width))
    return all(not isinstance(shape[1], int) or shape[1] == count for shape in known)


@lru_cache(maxsize=16)
def _priors(height: int, width: int) -> Array:
    """Anchor boxes of UltraFace: (N, 4), [centre x, centre y, width, height] as fractions of the input."""
    rows = []
    for stride, sides in zip(_PRIOR_STRIDES, _PRIOR_SIDES, strict=True):
        y, x, side = np.meshgrid(
            np.arange(math.ceil(height / stride)),
            np.arange(math.ceil(width / stride)),
            np.asarray(sides),
            indexing="ij",
        )
        centres = ((x + 0.5) * stride / width, (y + 0.5) * stride / height)
        rows.append(np.stack([*centres, side / width, side / height], axis=-1).reshape(-1, 4))
    priors: Array = np.clip(np.concatenate(rows), 0, 1).astype(np.float32)
    priors.setflags(write=False)
    return priors


def _decode_ultraface(outputs: Sequence[Array], height: int, width: int, confidence: float) -> _Raw:
    rows = {array.shape[-1]: array.reshape(-1, array.shape[-1]) for array in outputs if array.ndim == 3}
    priors = _priors(height, width)
    if set(rows) != {2, 4} or len(rows[2]) != len(priors) or len(rows[4]) != len(priors):
        raise _unexpected("ultraface", outputs, f"[1, {len(priors)}, 4] and [1, {len(priors)}, 2]")
    boxes = rows[4]
    # Exports with and without the decoding step have the same shapes. Decoded corners are always in order; raw offsets
    # are not, for any picture, over thousands of priors.
    if (boxes[:, 2:] < boxes[:, :2]).any():
        boxes = _from_offsets(boxes, priors)
    return boxes * np.array([width, height, width, height], np.float32), rows[2][:, 1], np.ones(len(boxes), np.int64)


def _from_offsets(offsets: Array, priors: Array) -> Array:
    """Corners from offsets to priors (Liu et al., SSD, 2016; variances 0.1 and 0.2)."""
    centres = offsets[:, :2] * 0.1 * priors[:, 2:] + priors[:, :2]
    sizes = np.exp(np.clip(offsets[:, 2:] * 0.2, -20, 20)) * priors[:, 2:]
    corners: Array = np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1)
    return corners


def _decode_ssd(outputs: Sequence[Array], height: int, width: int, confidence: float) -> _Raw:
    boxes = next(
        (a.reshape(-1, 4) for a in outputs if a.ndim >= 2 and a.shape[-1] == 4 and a.size // 4 * 4 == a.size), None
    )
    if boxes is None:
        raise _unexpected("ssd", outputs, "[1, N, 4], [1, N], [1, N] and [1]")
    flat = [a.reshape(-1) for a in outputs if a.ndim < 3 and a.size == len(boxes) and a.ndim == 2]
    counts = [a.reshape(-1) for a in outputs if a.size == 1 and a.ndim < 2]
    if len(flat) != 2:
        raise _unexpected("ssd", outputs, "[1, N, 4], [1, N], [1, N] and [1]")
    # Exporters differ in the order. Classes are whole numbers; scores are sorted and within 0..1.
    classes, scores = flat if not _look_like_scores(flat[0]) or _look_like_scores(flat[1]) else flat[::-1]
    count = len(boxes)
    if counts and math.isfinite(counts[0][0]):
        count = min(count, max(0, int(counts[0][0])))
    corners = boxes[:, [1, 0, 3, 2]] * np.array([width, height, width, height], np.float32)
    classes = np.where(np.isfinite(classes), classes, -1)
    return corners[:count], scores[:count], classes[:count]


def _look_like_scores(values: Array) -> bool:
    return bool((values != np.rint(values)).any())


def _decode_yolov5(outputs: Sequence[Array], height: int, width: int, confidence: float) -> _Raw:
    rows = _single(outputs, "yolov5")
    rows = rows[rows[:, 4] >= confidence]
    scores = rows[:, 5:] * rows[:, 4:5]
    return _from_centres(rows[:, :4], scores, height, width)


def _decode_yolov8(outputs: Sequence[Array], height: int, width: int, confidence: float) -> _Raw:
    rows = _single(outputs, "yolov8").T
    # Segmentation and pose models carry further figures after the classes only in other outputs or shapes.
    rows = rows[rows[:, 4:].max(axis=1) >= confidence]
    return _from_centres(rows[:, :4], rows[:, 4:], height, width)


def _decode_yolov10(outputs: Sequence[Array], height: int, width: int, confidence: float) -> _Raw:
    rows = _single(outputs, "yolov10")
    return _in_pixels(rows[:, :4], height, width), rows[:, 4], np.where(np.isfinite(rows[:, 5]), rows[:, 5], -1)


def _single(outputs: Sequence[Array], name: str) -> Array:
    if not outputs or outputs[0].ndim != 3 or outputs[0].shape[0] != 1:
        raise _unexpected(name, outputs, "[1, rows, columns]")
    rows: Array = outputs[0][0]
    return rows


def _from_centres(boxes: Array, scores: Array, height: int, width: int) -> _Raw:
    boxes = _in_pixels(boxes, height, width)
    corners = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], axis=1)
    class_ids = scores.argmax(axis=1) if len(scores) else np.empty(0, np.int64)
    return corners, scores[np.arange(len(scores)), class_ids], class_ids


def _in_pixels(boxes: Array, height: int, width: int) -> Array:
    """TFLite exports give fractions of the input, ONNX exports pixels: never are all figures of these below two."""
    if len(boxes) and np.nanmax(np.abs(boxes), initial=0) <= 2:
        return boxes * np.array([width, height, width, height], np.float32)
    return boxes


def _unexpected(name: str, outputs: Sequence[Array], expected: str) -> InputShapeError:
    given = ", ".join(str(list(array.shape)) for array in outputs)
    return InputShapeError(f"detector {name}: outputs have shapes {given}, expected {expected}")

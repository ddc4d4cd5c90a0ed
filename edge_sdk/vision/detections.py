"""Boxes found in a picture, and the choice among overlapping ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_sdk.errors import InputShapeError, InputValueError
from edge_sdk.tensors import Array

__all__ = ["Detections", "intersection_over_union", "nms"]


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """What a detector found in one picture.

    Attributes:
        boxes: float32 (n, 4), [x1, y1, x2, y2] in pixels of the original picture, x1 <= x2 and y1 <= y2.
        scores: float32 (n,).
        class_ids: int64 (n,).
        labels: names of the classes by id; may be shorter than the ids need.
    """

    boxes: Array
    scores: Array
    class_ids: Array
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.boxes)
        for name, dtype, shape in (
            ("boxes", np.float32, (count, 4)),
            ("scores", np.float32, (count,)),
            ("class_ids", np.int64, (count,)),
        ):
            array = np.array(getattr(self, name), dtype=dtype)
            if array.shape != shape:
                raise InputShapeError(f"detections: {name} has shape {list(array.shape)}, expected {list(shape)}")
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        if not (np.isfinite(self.boxes).all() and np.isfinite(self.scores).all()):
            raise InputValueError("detections: boxes and scores must be finite")
        if count and (self.boxes[:, :2] > self.boxes[:, 2:]).any():
            raise InputValueError("detections: boxes must be [x1, y1, x2, y2] with x1 <= x2 and y1 <= y2")

    @classmethod
    def none(cls, labels: Sequence[str] = ()) -> Detections:
        """No box at all."""
        return cls(np.empty((0, 4)), np.empty(0), np.empty(0, np.int64), tuple(labels))

    def __len__(self) -> int:
        return len(self.boxes)

    def label(self, class_id: int) -> str | None:
        """Name of a class, None where it has none."""
        return (self.labels[class_id] or None) if 0 <= class_id < len(self.labels) else None

    def records(self) -> list[dict[str, Any]]:
        """One `{"box": [x1, y1, x2, y2], "score", "index", "label"}` a box, of plain Python values."""
        return [
            {
                "box": [round(float(v), 2) for v in box],
                "score": float(score),
                "index": int(index),
                "label": self.label(int(index)),
            }
            for box, score, index in zip(self.boxes, self.scores, self.class_ids, strict=True)
        ]


def intersection_over_union(box: Array, boxes: Array) -> Array:
    """Overlap of one box with each of many: area of the intersection over area of the union.

    Args:
        box: (4,), [x1, y1, x2, y2].
        boxes: (n, 4).

    Returns:
        (n,), 0 to 1.
    """
    # Written out by column: np.prod and np.clip over rows of two take longer than all of this.
    x1, y1, x2, y2 = boxes.T
    width = np.minimum(box[2], x2) - np.maximum(box[0], x1)
    height = np.minimum(box[3], y2) - np.maximum(box[1], y1)
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    union = (x2 - x1) * (y2 - y1) + (box[2] - box[0]) * (box[3] - box[1]) - shared
    overlap: Array = np.divide(shared, union, out=np.zeros(len(boxes)), where=union > 0)
    return overlap


def nms(boxes: Array, scores: Array, class_ids: Array | None = None, *, iou: float = 0.5, limit: int = 300) -> Array:
    """Greedy non-maximum suppression: of boxes of one class that overlap by more than `iou`, the best scored stays.

    Args:
        boxes: (n, 4), [x1, y1, x2, y2].
        scores: (n,).
        class_ids: (n,); None where there is one class.
        iou: the largest intersection over union that two kept boxes of one class may have.
        limit: the most boxes to keep.

    Returns:
        int64 (m,), indices of the boxes kept, best score first.
    """
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    left = np.asarray(boxes, np.float64).reshape(-1, 4)[order]
    if class_ids is not None and left.size:
        # Each class is moved to a place of its own, where it meets no other.
        reach = left.max() - min(0.0, left.min()) + 1
        left = left + (np.asarray(class_ids, np.float64)[order] * reach)[:, None]
    kept: list[int] = []
    while order.size and len(kept) < limit:
        kept.append(int(order[0]))
        apart = intersection_over_union(left[0], left[1:]) <= iou
        order, left = order[1:][apart], left[1:][apart]
    return np.asarray(kept, np.int64)

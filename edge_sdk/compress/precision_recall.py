"""Average precision of boxes of one class, as COCO counts it.

Source: the evaluation of https://cocodataset.org/#detection-eval (Lin et al., Microsoft COCO, 2014): per picture at
most 100 boxes, matched greedily from the best score down to the box of the truth that overlaps most; precision made
monotone and read at 101 steps of recall.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edge_sdk.tensors import Array

__all__ = ["average_precision", "overlaps"]

MAX_BOXES = 100
_RECALLS = np.linspace(0, 1, 101)


def average_precision(
    found: Sequence[tuple[Array, Array]], truth: Sequence[tuple[Array, Array]], least_overlaps: Sequence[float]
) -> float:
    """Average precision, mean over `least_overlaps`.

    Args:
        found: per picture the boxes (n, 4), [x1, y1, x2, y2], and their scores (n,).
        truth: per picture the boxes (m, 4) and which of them stand for a crowd (m,).
        least_overlaps: the intersections over union from which on a box counts as found.
    """
    total = sum(int((~crowd).sum()) for _, crowd in truth)
    if not total:
        return 0.0
    scores: list[Array] = []
    right: list[Array] = []
    counted: list[Array] = []
    for (boxes, box_scores), (true_boxes, crowd) in zip(found, truth, strict=True):
        order = np.argsort(-box_scores, kind="stable")[:MAX_BOXES]
        shared = overlaps(boxes[order], true_boxes, crowd)
        matched, ignored = _matched(shared, crowd, least_overlaps)
        scores.append(box_scores[order])
        right.append(matched)
        counted.append(~ignored)
    order = np.argsort(-np.concatenate(scores), kind="stable")
    all_right = np.concatenate(right, axis=1)[:, order]
    all_counted = np.concatenate(counted, axis=1)[:, order]
    return float(np.mean([_area(r[c], total) for r, c in zip(all_right, all_counted, strict=True)]))


def overlaps(boxes: Array, others: Array, crowd: Array | None = None) -> Array:
    """Intersection over union of each box with each other one, (n, m); for a crowd over the box's own area.

    Args:
        boxes: (n, 4), [x1, y1, x2, y2].
        others: (m, 4).
        crowd: (m,), bool.
    """
    one, two = np.asarray(boxes, np.float64).reshape(-1, 1, 4), np.asarray(others, np.float64).reshape(1, -1, 4)
    sides = np.minimum(one[..., 2:], two[..., 2:]) - np.maximum(one[..., :2], two[..., :2])
    shared = np.clip(sides, 0, None).prod(axis=-1)
    own = (one[..., 2:] - one[..., :2]).prod(axis=-1)
    union = own + (two[..., 2:] - two[..., :2]).prod(axis=-1) - shared
    if crowd is not None:
        union = np.where(np.asarray(crowd, bool)[None, :], own, union)
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)  # type: ignore[no-any-return]


def _matched(shared: Array, crowd: Array, least_overlaps: Sequence[float]) -> tuple[Array, Array]:
    """For each least overlap and box: whether it is right, and whether it lies in a crowd and does not count."""
    right = np.zeros((len(least_overlaps), len(shared)), bool)
    ignored = np.zeros_like(right)
    for place, least in enumerate(least_overlaps):
        free = ~crowd
        for box, row in enumerate(shared):
            best = np.where(free & (row >= min(least, 1 - 1e-10)), row, -1)
            if best.size and best.max() >= 0:
                # Of equal overlaps the last one: as the reference implementation has it.
                free[len(best) - 1 - int(best[::-1].argmax())] = False
                right[place, box] = True
            elif (crowd & (row >= least)).any():
                ignored[place, box] = True
    return right, ignored


def _area(right: Array, total: int) -> float:
    """Precision at 101 steps of recall, mean. `right` is ordered by score, best first."""
    if not len(right):
        return 0.0
    hits = np.cumsum(right)
    recall = hits / total
    precision = hits / np.arange(1, len(right) + 1)
    monotone = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(recall, _RECALLS, side="left")
    reached = at < len(monotone)
    return (
        float(np.where(reached, monotone[np.minimum(at, max(0, len(monotone) - 1))], 0).mean()) if len(right) else 0.0
    )

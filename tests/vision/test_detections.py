"""Boxes: what a `Detections` holds, and which of overlapping ones stays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.errors import InputShapeError, InputValueError
from edge_sdk.vision import Detections, draw, intersection_over_union, nms, top_k


def test_fields_are_typed_and_cannot_be_changed() -> None:
    found = Detections([[0, 0, 2, 2]], [0.5], [1], ("cat", "dog"))  # type: ignore[arg-type]
    assert found.boxes.dtype == np.float32 and found.scores.dtype == np.float32 and found.class_ids.dtype == np.int64
    assert len(found) == 1 and len(Detections.none()) == 0
    assert found.records() == [{"box": [0.0, 0.0, 2.0, 2.0], "score": 0.5, "index": 1, "label": "dog"}]
    with pytest.raises(ValueError, match="read-only"):
        found.boxes[0, 0] = 9


@pytest.mark.parametrize(
    ("boxes", "scores", "ids", "error"),
    [
        ([[0, 0, 2]], [0.5], [1], InputShapeError),
        ([[0, 0, 2, 2]], [0.5, 0.5], [1], InputShapeError),
        ([[0, 0, 2, 2]], [0.5], [], InputShapeError),
        ([[3, 0, 2, 2]], [0.5], [1], InputValueError),
        ([[0, 0, np.nan, 2]], [0.5], [1], InputValueError),
        ([[0, 0, 2, 2]], [np.inf], [1], InputValueError),
    ],
)
def test_what_contradicts_itself_is_refused(
    boxes: list[list[float]], scores: list[float], ids: list[int], error: type[Exception]
) -> None:
    with pytest.raises(error, match="detections"):
        Detections(np.array(boxes), np.array(scores), np.array(ids))


def test_intersection_over_union() -> None:
    boxes = np.array([[0, 0, 2, 2], [1, 0, 3, 2], [5, 5, 6, 6], [1, 1, 1, 1]], float)
    assert np.allclose(intersection_over_union(boxes[0], boxes), [1, 1 / 3, 0, 0])


def test_the_best_of_overlapping_boxes_stays() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60]], float)
    assert nms(boxes, np.array([0.8, 0.9, 0.1]), iou=0.5).tolist() == [1, 2]


def test_boxes_of_other_classes_do_not_count() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 10]], float)
    assert nms(boxes, np.array([0.8, 0.9]), np.array([0, 1])).tolist() == [1, 0]
    assert nms(boxes, np.array([0.8, 0.9]), np.array([1, 1])).tolist() == [1]


def test_the_number_kept_is_limited() -> None:
    boxes = np.array([[i * 20, 0, i * 20 + 10, 10] for i in range(50)], float)
    assert len(nms(boxes, np.linspace(0, 1, 50), limit=7)) == 7
    assert nms(np.empty((0, 4)), np.empty(0)).shape == (0,)


@settings(max_examples=80)
@given(st.integers(0, 2**32 - 1), st.integers(0, 40), st.floats(0, 1))
def test_kept_boxes_of_a_class_never_overlap_more_and_every_dropped_one_does(seed: int, count: int, iou: float) -> None:
    generator = np.random.default_rng(seed)
    corner = generator.integers(0, 20, (count, 2))
    boxes = np.concatenate([corner, corner + generator.integers(1, 15, (count, 2))], axis=1).astype(float)
    scores, classes = generator.random(count), generator.integers(0, 3, count)
    kept = nms(boxes, scores, classes, iou=iou)
    assert (np.diff(scores[kept]) <= 0).all()
    for index in range(count):
        rivals = [k for k in kept if classes[k] == classes[index] and k != index]
        overlap = intersection_over_union(boxes[index], boxes[rivals])
        if index in kept:
            assert (overlap <= iou).all()
        else:
            assert (overlap[scores[rivals] >= scores[index]] > iou).any()


def test_drawing_marks_a_copy() -> None:
    pytest.importorskip("cv2")
    image = np.zeros((60, 80, 3), np.uint8)
    found = Detections(np.array([[10, 20, 50, 50]]), np.array([0.9]), np.array([0]), ("cät",))
    drawn = draw(image, found)
    assert drawn.shape == image.shape and not image.any()
    assert drawn[50, 30].any() and not drawn[35, 30].any()
    assert draw(image, top_k(np.array([0.1, 0.9]), 1, ("a", "b")))[:20].any()
    assert draw(image[..., 0], Detections.none()).shape == (60, 80, 3)

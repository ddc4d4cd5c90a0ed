"""Raw outputs of known detectors are recognised and become boxes in pixels of the picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.errors import InputShapeError
from edge_sdk.tensors import TensorSpec
from edge_sdk.vision import Preprocessing, recognise
from edge_sdk.vision.detectors import Detector


def floats(name: str, *shape: int | None) -> TensorSpec:
    return TensorSpec(name, "float32", shape)


def known(outputs: list[TensorSpec], height: int, width: int) -> Detector:
    found = recognise(outputs, height, width)
    assert found is not None
    return found


YOLO_CELLS = 80 * 80 + 40 * 40 + 20 * 20


def test_yolov8_has_one_row_a_cell_with_centre_and_size_in_pixels() -> None:
    detector = known([floats("output0", 1, 84, YOLO_CELLS)], 640, 640)
    assert detector.name == "yolov8" and detector.preprocessing == {"resize": "letterbox"}
    raw = np.zeros((1, 84, YOLO_CELLS), np.float32)
    raw[0, :4, 100] = (320, 320, 64, 32)
    raw[0, 4 + 17, 100] = 0.9
    raw[0, :4, 101] = (322, 320, 64, 32)
    raw[0, 4 + 17, 101] = 0.6
    place = Preprocessing(640, 640, resize="letterbox").geometry(480, 640)
    found = detector.detections({"output0": raw}, place)
    assert found.boxes.tolist() == [[288, 224, 352, 256]]  # 80 rows of filling above the picture
    assert found.class_ids.tolist() == [17] and found.scores.tolist() == pytest.approx([0.9])


def test_fractions_of_the_input_are_understood_too() -> None:
    detector = known([floats("out", 1, 84, YOLO_CELLS)], 640, 640)
    raw = np.zeros((1, 84, YOLO_CELLS), np.float32)
    raw[0, :5, 3] = (0.5, 0.5, 0.1, 0.1, 0.8)
    found = detector.detections({"out": raw}, Preprocessing(640, 640).geometry(640, 640))
    assert np.allclose(found.boxes, [[288, 288, 352, 352]], atol=1e-3)


def test_yolov5_multiplies_class_and_object_scores() -> None:
    detector = known([floats("output", 1, 3 * YOLO_CELLS, 85)], 640, 640)
    assert detector.name == "yolov5"
    raw = np.zeros((1, 3 * YOLO_CELLS, 85), np.float32)
    raw[0, 7, :5] = (100, 100, 20, 40, 0.8)
    raw[0, 7, 5 + 2] = 0.5
    found = detector.detections({"output": raw}, Preprocessing(640, 640).geometry(640, 640))
    assert found.boxes.tolist() == [[90, 80, 110, 120]]
    assert found.scores.tolist() == pytest.approx([0.4]) and found.class_ids.tolist() == [2]


def test_yolov10_has_chosen_already() -> None:
    detector = known([floats("output0", 1, 300, 6)], 640, 640)
    raw = np.zeros((1, 300, 6), np.float32)
    raw[0, 0] = (10, 20, 110, 220, 0.9, 5)
    raw[0, 1] = (11, 20, 110, 220, 0.8, 5)
    found = detector.detections({"output0": raw}, Preprocessing(640, 640).geometry(640, 640))
    assert len(found) == 2 and found.class_ids.tolist() == [5, 5]


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (2, 0, 1, 3), (1, 3, 0, 2)])
def test_ssd_outputs_are_told_apart_in_any_order(order: tuple[int, ...]) -> None:
    arrays = [
        np.array([[[0.1, 0.2, 0.5, 0.6], [0, 0, 1, 1], [0, 0, 0, 0]]], np.float32),
        np.array([[16.0, 0.0, 0.0]], np.float32),
        np.array([[0.95, 0.55, 0.0]], np.float32),
        np.array([2.0], np.float32),
    ]
    specs = [floats(f"TFLite_Detection_PostProcess{':' + str(i) if i else ''}", *a.shape) for i, a in enumerate(arrays)]
    detector = known([specs[i] for i in order], 300, 300)
    found = detector.detections({specs[i].name: arrays[i] for i in order}, Preprocessing(300, 300).geometry(100, 200))
    assert np.allclose(found.boxes, [[40, 10, 120, 50], [0, 0, 200, 100]], atol=1e-3)
    assert found.class_ids.tolist() == [16, 0] and found.scores.tolist() == pytest.approx([0.95, 0.55])


def ultraface_outputs(count: int = 4420) -> tuple[Any, Any]:
    boxes = np.tile(np.array([0.1, 0.1, 0.2, 0.2], np.float32), (1, count, 1))
    scores = np.tile(np.array([1.0, 0.0], np.float32), (1, count, 1))
    scores[0, 5] = (0.1, 0.9)
    return boxes, scores


def test_ultraface_corners_are_taken_as_they_are() -> None:
    boxes, scores = ultraface_outputs()
    detector = known([floats("scores", 1, 4420, 2), floats("boxes", 1, 4420, 4)], 240, 320)
    assert detector.preprocessing["mean"] == (127.0,) and detector.preprocessing["scale"] == (128.0,)
    found = detector.detections({"scores": scores, "boxes": boxes}, Preprocessing(240, 320).geometry(100, 200))
    assert np.allclose(found.boxes, [[20, 10, 40, 20]], atol=1e-3) and found.records()[0]["label"] == "face"


def test_ultraface_offsets_are_added_to_their_priors() -> None:
    boxes, scores = ultraface_outputs()
    boxes[:] = (0, 0, 0, -1)  # the last figure below the second: no corner
    boxes[0, 5] = (0, 0, 0, 0)
    detector = known([floats("a", None, None, 4), floats("b", None, None, 2)], 240, 320)
    found = detector.detections({"a": boxes, "b": scores}, Preprocessing(240, 320).geometry(240, 320))
    # Prior 5 is the third of the second cell: 24 pixels around (12, 4), clipped to the picture.
    assert np.allclose(found.boxes, [[0, 0, 24, 16]], atol=1e-3)


@pytest.mark.parametrize(
    "outputs",
    [
        [floats("y", 1, 1001)],
        [floats("y", 1, 84, 100)],
        [floats("boxes", 1, 100, 4), floats("scores", 1, 100, 2)],
        [TensorSpec("y", "float32", None)],
        [],
    ],
)
def test_other_models_are_no_detector(outputs: list[TensorSpec]) -> None:
    assert recognise(outputs, 640, 640) is None


DETECTORS = [
    ([floats("o", 1, 7, 84)], (64, 64)),
    ([floats("o", 1, 252, 9)], (64, 64)),
    ([floats("o", 1, 20, 6)], (64, 64)),
    ([floats(f"Detection_PostProcess{i}", *s) for i, s in enumerate([(1, 5, 4), (1, 5), (1, 5), (1,)])], (64, 64)),
    ([floats("b", 1, 4420, 4), floats("s", 1, 4420, 2)], (240, 320)),
]


@settings(max_examples=60)
@given(
    which=st.sampled_from(DETECTORS),
    seed=st.integers(0, 2**32 - 1),
    spread=st.sampled_from([1.0, 1e3, 1e38]),
    hole=st.sampled_from([None, np.nan, np.inf, -np.inf]),
)
def test_any_figures_give_valid_boxes_within_the_picture(
    which: tuple[list[TensorSpec], tuple[int, int]], seed: int, spread: float, hole: float | None
) -> None:
    specs, size = which
    generator = np.random.default_rng(seed)
    outputs = {}
    for s in specs:
        sizes = [d for d in s.shape or () if isinstance(d, int)]
        array = np.clip(generator.standard_normal(sizes) * spread, -3e38, 3e38).astype(np.float32)
        if hole is not None:
            array[generator.random(array.shape) < 0.1] = hole
        outputs[s.name] = array
    with np.errstate(all="ignore"):
        found = known(specs, *size).detections(outputs, Preprocessing(*size).geometry(30, 50), confidence=0.0)
    assert (found.boxes >= 0).all() and (found.boxes <= (50, 30, 50, 30)).all()


def test_outputs_of_another_shape_are_refused() -> None:
    detector = known([floats("b", None, None, 4), floats("s", None, None, 2)], 240, 320)
    wrong = {"b": np.zeros((1, 10, 4)), "s": np.zeros((1, 10, 2))}
    with pytest.raises(InputShapeError, match=r"4420"):
        detector.detections(wrong, Preprocessing(240, 320).geometry(240, 320))


def test_the_same_faces_come_from_onnx_and_tflite(assets: Path) -> None:
    """Scores agree within 1e-3 and every box has its like."""
    import edge_sdk
    from edge_sdk.vision import prepare, read_image

    images = {name: read_image(assets / "photos" / name) for name in ("faces_1.jpg", "faces_2.jpg")}
    found: dict[str, list[Any]] = {name: [] for name in images}
    for suffix in ("onnx", "tflite"):
        with edge_sdk.load(assets / "models" / f"ultraface_rfb320.{suffix}", threads=1) as session:
            detector = known(list(session.outputs), 240, 320)
            preprocessing = Preprocessing.for_input(session.inputs[0], **detector.preprocessing)
            for name, image in images.items():
                outputs = session.run(prepare(image, preprocessing))
                found[name].append(detector.detections(outputs, preprocessing.geometry(*image.shape[:2])))
    for first, second in found.values():
        assert len(first) == len(second) >= 40
        assert np.abs(first.scores - second.scores).max() < 1e-3
        assert np.abs(first.boxes - second.boxes).max() < 0.5

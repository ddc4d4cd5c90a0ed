"""Metrics against known values: top-1, COCO's average precision, intersection over union, a function of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sdk.compress.data import Data
from edge_sdk.compress.precision_recall import average_precision, overlaps
from edge_sdk.compress.scores import BoxTruth, best_class, class_scores, metric_for, user_metric
from edge_sdk.errors import InputError, InputNameError, InputShapeError, InputTypeError, InputValueError
from edge_sdk.vision import Detections
from edge_sdk.vision.geometry import geometry

COCO_OVERLAPS = [round(0.5 + 0.05 * step, 2) for step in range(10)]


def scored(data: Data, outputs: list[dict[str, Any]], metric: str | None = None) -> float:
    found = metric_for(data, metric)
    assert found is not None and data.labels is not None
    tally = found.start()
    for output, label in zip(outputs, data.labels, strict=True):
        tally.add(output, label)
    return tally.result()


def labelled(*labels: Any) -> Data:
    return Data("data", [{} for _ in labels], list(labels))


def scores(*rows: list[float]) -> list[dict[str, Any]]:
    return [{"y": np.array([row], np.float32)} for row in rows]


# --- classes ---


def test_top_1_is_the_share_of_right_answers() -> None:
    outputs = scores([0.1, 0.8, 0.1], [0.6, 0.3, 0.1], [0.2, 0.2, 0.6], [0.9, 0.0, 0.1])
    assert scored(labelled(1, 0, 2, 1), outputs) == 0.75
    assert scored(labelled(1, 0, 2, 1), outputs, "top1") == 0.75


def test_top_5_counts_the_five_best() -> None:
    row = [0.1 * index for index in range(8)]
    assert scored(labelled(3, 2), scores(row, row), "top5") == 0.5


def test_one_score_says_yes_above_a_half() -> None:
    assert scored(labelled(1, 0, 1), scores([0.9], [0.2], [0.4])) == pytest.approx(2 / 3)


def test_scores_are_found_beside_a_class_index() -> None:
    outputs = {"label": np.array([4], np.int64), "shares": np.array([[0.1, 0.9]], np.float32)}
    found = class_scores(outputs)
    assert found is not None and best_class(found) == 1
    assert class_scores({"map": np.zeros((2, 2), np.float32)}) is None


def test_what_is_no_class_is_told() -> None:
    with pytest.raises(InputValueError, match="label 3 is none of the model's 3 classes"):
        scored(labelled(3), scores([0, 0, 1]))
    with pytest.raises(InputShapeError, match="one output of class scores"):
        scored(labelled(0), [{"map": np.zeros((1, 2, 2), np.float32)}])
    with pytest.raises(InputValueError, match="expected top1"):
        metric_for(labelled(0), "iou")
    with pytest.raises(InputValueError, match="is not known"):
        metric_for(labelled(0), "f1")
    with pytest.raises(InputTypeError, match="labels are str"):
        metric_for(labelled("cat"))
    assert metric_for(Data("data", [{}])) is None
    with pytest.raises(InputValueError, match="needs labels"):
        metric_for(Data("data", [{}]), "top1")


# --- boxes ---


def coco_case(seed: int, crowd: bool) -> tuple[list[Any], list[Any]]:
    """Twelve pictures with up to five boxes, found with errors of some pixels, and some found where nothing is."""
    rng = np.random.default_rng(seed)
    found, truth = [], []
    for _ in range(12):
        n = int(rng.integers(0, 6))
        corner = rng.integers(0, 150, (n, 2))
        size = rng.integers(8, 60, (n, 2))
        boxes = np.concatenate([corner, corner + size], 1).astype(float)
        is_crowd = rng.random(n) < (0.2 if crowd else 0.0)
        jitter = rng.normal(0, 5, (n, 4))
        kept = rng.random(n) < 0.85
        guesses = np.sort((boxes + jitter)[kept].reshape(-1, 2, 2), axis=1).reshape(-1, 4)
        extra = int(rng.integers(0, 3))
        corner = rng.integers(0, 150, (extra, 2))
        size = rng.integers(8, 60, (extra, 2))
        guesses = np.concatenate([guesses, np.concatenate([corner, corner + size], 1).astype(float)])
        found.append((guesses, rng.random(len(guesses))))
        truth.append((boxes, is_crowd))
    return found, truth


@pytest.mark.parametrize(
    ("seed", "crowd", "over_all", "at_half", "at_three_quarters"),
    [
        (0, False, 0.14632544, 0.4857515, 0.04423201),
        (1, False, 0.07916927, 0.24832754, 0.01605566),
        (2, True, 0.11197355, 0.33020183, 0.01529532),
        (3, True, 0.12666304, 0.43581292, 0.04769173),
    ],
)
def test_average_precision_is_what_pycocotools_gives(
    seed: int, crowd: bool, over_all: float, at_half: float, at_three_quarters: float
) -> None:
    # The expected figures are COCOeval.stats[:3] of pycocotools 2.0 on these very boxes.
    found, truth = coco_case(seed, crowd)
    assert average_precision(found, truth, COCO_OVERLAPS) == pytest.approx(over_all, abs=1e-7)
    assert average_precision(found, truth, [0.5]) == pytest.approx(at_half, abs=1e-7)
    assert average_precision(found, truth, [0.75]) == pytest.approx(at_three_quarters, abs=1e-7)


def test_average_precision_at_its_ends() -> None:
    box, nothing = np.array([[0.0, 0, 10, 10]]), np.empty((0, 4))
    one, none = np.array([False]), np.empty(0, bool)
    assert average_precision([(box, np.array([0.9]))], [(box, one)], COCO_OVERLAPS) == 1
    assert average_precision([(nothing, np.empty(0))], [(box, one)], COCO_OVERLAPS) == 0
    assert average_precision([(box, np.array([0.9]))], [(nothing, none)], COCO_OVERLAPS) == 0


def test_overlaps_of_boxes() -> None:
    shared = overlaps(np.array([[0, 0, 2, 2]]), np.array([[1, 1, 3, 3], [0, 0, 2, 2], [5, 5, 6, 6]]))
    np.testing.assert_allclose(shared, [[1 / 7, 1, 0]])
    in_crowd = overlaps(np.array([[0, 0, 2, 2]]), np.array([[0, 0, 100, 100]]), np.array([True]))
    assert in_crowd.tolist() == [[1.0]]


class FindsWhatItIsTold:
    """A detector whose outputs are the boxes themselves."""

    labels = ("background", "face")

    def detections(self, outputs: Any, _place: Any, *, confidence: float | None = None, **_: Any) -> Detections:
        return Detections(outputs["boxes"], outputs["scores"], np.ones(len(outputs["scores"]), np.int64))


def test_map_goes_through_the_detector() -> None:
    place = geometry(32, 32, 32, 32, "stretch")
    truth = BoxTruth(np.array([[0.0, 0, 10, 10], [20, 20, 30, 30]]), np.array([1, 1]), np.zeros(2, bool), place)
    data = Data("faces", [{}], [truth], detector=FindsWhatItIsTold())  # type: ignore[arg-type]
    both = {"boxes": truth.boxes, "scores": np.array([0.9, 0.8])}
    one = {"boxes": truth.boxes[:1], "scores": np.array([0.9])}
    assert scored(data, [both]) == 1
    assert scored(data, [one], "map50") == pytest.approx(51 / 101)
    with pytest.raises(InputValueError, match="no detector that is known here"):
        metric_for(Data("faces", [{}], [truth]))
    with pytest.raises(InputValueError, match="map or map50"):
        metric_for(data, "top1")


# --- masks ---


@pytest.mark.parametrize("channels_first", [True, False])
def test_iou_of_masks_is_the_mean_over_the_classes_that_occur(channels_first: bool) -> None:
    truth = np.array([[0, 0, 1, 1], [0, 0, 1, 255]], np.uint8)
    answer = np.array([[0, 1, 1, 1], [0, 0, 1, 0]])
    shares = np.eye(3, dtype=np.float32)[answer][None]
    output = np.moveaxis(shares, 3, 1) if channels_first else shares
    # Class 0: 3 of 4, class 1: 3 of 4; the pixel of 255 does not count, and class 2 does not occur.
    assert scored(labelled(truth), [{"y": output}]) == pytest.approx(0.75)
    assert scored(labelled(truth), [{"y": answer[None]}], "iou") == pytest.approx(0.75)


def test_a_smaller_output_is_compared_at_its_own_size() -> None:
    truth = np.repeat(np.repeat(np.array([[0, 1]], np.uint8), 4, axis=0), 4, axis=1)
    assert scored(labelled(truth), [{"y": np.array([[[0, 1]]])}]) == 1


def test_one_channel_is_a_yes_or_no() -> None:
    truth = np.array([[0, 1]], np.uint8)
    assert scored(labelled(truth), [{"y": np.array([[[[0.2, 0.7]]]], np.float32)}]) == 1
    assert scored(labelled(truth), [{"y": np.array([[[[-3.0, 7.0]]]], np.float32)}]) == 1


# --- a metric of one's own ---


def test_a_function_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def near(outputs, label):\n    return 1 - abs(float(outputs['y']) - label)\n")
    metric = user_metric(f"{tmp_path}/mine.py:near")
    assert metric.name == "near"
    tally = metric.start()
    tally.add({"y": np.array(0.5)}, 1.0)
    tally.add({"y": np.array(1.0)}, 1.0)
    assert tally.result() == 0.75
    assert metric_for(labelled("text"), f"{tmp_path}/mine.py:near") is not None


def test_a_function_from_a_module_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_metric_module.py").write_text("def bad(outputs, label):\n    raise KeyError('y')\n")
    monkeypatch.chdir(tmp_path)
    tally = user_metric("own_metric_module:bad").start()
    with pytest.raises(InputError, match=r"metric 'own_metric_module:bad', sample 0: KeyError: 'y'"):
        tally.add({}, 1)


@pytest.mark.parametrize("name", ["nowhere_to_be_found:f", "math:nothing", ":f", "none.py:f"])
def test_a_function_that_is_not_there(name: str) -> None:
    with pytest.raises(InputNameError, match="metric"):
        user_metric(name)


def test_a_function_must_give_a_number(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def f(outputs, label):\n    return float('nan')\n")
    with pytest.raises(InputValueError, match="finite"):
        user_metric(f"{tmp_path}/mine.py:f").start().add({}, 1)

"""Calibration and evaluation data: what people have becomes samples as feeds, and what does not fit is told."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_sdk.compress.data import Data, read_data, spread
from edge_sdk.compress.scores import BoxTruth
from edge_sdk.errors import (
    EdgeError,
    InputNameError,
    InputShapeError,
    InputTypeError,
    InputValueError,
    UnreadableInput,
)
from edge_sdk.tensors import Quantization, TensorSpec

DIGITS = (TensorSpec("picture", "float32", ("N", 1, 8, 8)),)
COLOURS = (TensorSpec("image", "float32", (1, 3, 16, 16)),)


def saved(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def drawn(path: Path, value: int = 100, size: tuple[int, int] = (16, 16)) -> Path:
    """A PNG picture of one colour."""
    cv2 = pytest.importorskip("cv2")
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((*size, 3), value, np.uint8))
    return path


# --- arrays ---


def test_an_npz_holds_samples_along_the_first_axis_and_labels_beside_them(tmp_path: Path) -> None:
    pictures = np.arange(5 * 64, dtype=np.float32).reshape(5, 1, 8, 8)
    data = read_data(saved(tmp_path / "d.npz", picture=pictures, labels=[3, 1, 4, 1, 5]), DIGITS)
    assert (data.name, len(data.feeds), data.labels) == ("d.npz", 5, [3, 1, 4, 1, 5])
    assert [feed["picture"].shape for feed in data.feeds] == [(1, 1, 8, 8)] * 5
    np.testing.assert_array_equal(data.feeds[2]["picture"], pictures[2:3])
    np.testing.assert_array_equal(data.feeds[-1]["picture"], pictures[4:5])
    assert len(data.feeds[1:3]) == 2


def test_a_lone_array_feeds_the_only_input_whatever_it_is_called(tmp_path: Path) -> None:
    data = read_data(saved(tmp_path / "d.npz", x_test=np.zeros((4, 1, 8, 8), np.float32), digit=np.arange(4)), DIGITS)
    assert data.labels == [0, 1, 2, 3]
    assert data.notes == ("array 'x_test' feeds input 'picture'", "array 'digit' holds the labels")


def test_samples_may_lack_the_batch_axis_or_bring_one_of_their_own(tmp_path: Path) -> None:
    one = (TensorSpec("x", "float32", (1, 3)),)
    plain = read_data(saved(tmp_path / "a.npz", x=np.ones((4, 3), np.float32)), one)
    own = read_data(saved(tmp_path / "b.npz", x=np.ones((4, 1, 3), np.float32)), one)
    assert plain.feeds[0]["x"].shape == own.feeds[0]["x"].shape == (1, 3)


def test_labels_may_be_one_hot_or_a_column(tmp_path: Path) -> None:
    pictures = np.zeros((3, 1, 8, 8), np.float32)
    one_hot = read_data(saved(tmp_path / "a.npz", picture=pictures, y=np.eye(10)[[7, 0, 9]]), DIGITS)
    column = read_data(saved(tmp_path / "b.npz", picture=pictures, y=[[7], [0], [9]]), DIGITS)
    assert one_hot.labels == column.labels == [7, 0, 9]


def test_few_samples_are_spread_over_all_there_are(tmp_path: Path) -> None:
    path = saved(tmp_path / "d.npz", picture=np.zeros((100, 1, 8, 8), np.float32), labels=np.arange(100) // 10)
    data = read_data(path, DIGITS, samples=10)
    assert data.labels == list(range(10))
    assert data.notes == ("10 of 100 samples, evenly spread",)
    assert spread(5, None) == [0, 1, 2, 3, 4]
    assert spread(5, 1) == [0]


def test_real_numbers_are_quantised_for_a_quantised_input(tmp_path: Path) -> None:
    stored = (TensorSpec("x", "int8", (1, 2), quantization=Quantization((0.5,), (3,))),)
    data = read_data(saved(tmp_path / "d.npz", x=np.array([[1.0, -1.0]], np.float32)), stored)
    np.testing.assert_array_equal(data.feeds[0]["x"], np.array([[5, 1]], np.int8))


def test_two_inputs_are_read_by_name(tmp_path: Path) -> None:
    both = (TensorSpec("a", "float32", (1, 2)), TensorSpec("b", "int64", (1,)))
    data = read_data(saved(tmp_path / "d.npz", a=np.ones((3, 2)), b=np.arange(3)), both)
    assert data.feeds[2]["a"].dtype == np.float32
    np.testing.assert_array_equal(data.feeds[2]["b"], [2])


def test_a_folder_of_arrays_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    for index in range(3):
        np.save(tmp_path / f"{index}.npy", np.full((1, 1, 8, 8), index, np.float32))
    data = read_data(tmp_path, DIGITS)
    assert [feed["picture"][0, 0, 0, 0] for feed in data.feeds] == [0, 1, 2]
    assert data.labels is None


def test_columns_first_arrays_are_read_too(tmp_path: Path) -> None:
    pictures = np.arange(3 * 64, dtype=np.float32).reshape(3, 1, 8, 8)
    data = read_data(saved(tmp_path / "d.npz", picture=np.asfortranarray(pictures)), DIGITS, samples=2)
    np.testing.assert_array_equal(data.feeds[1]["picture"], pictures[2:3])


@pytest.mark.parametrize(
    ("arrays", "error", "told"),
    [
        ({"picture": np.zeros((3, 3, 8, 8), np.float32)}, InputShapeError, "float32['N', 1, 8, 8]".replace("'", "")),
        ({"picture": np.zeros((3, 1, 8, 8), np.uint8)}, InputTypeError, "pixels / 255"),
        ({"picture": np.float32(1)}, InputShapeError, "a single number"),
        ({"picture": np.zeros((2, 1, 8, 8), np.float32), "labels": [1]}, InputShapeError, "differ in their number"),
        ({"a": np.zeros(2), "b": np.zeros(2)}, InputNameError, "no array for input 'picture'"),
        ({"picture": np.zeros((0, 1, 8, 8), np.float32)}, InputValueError, "there is no sample"),
        ({"picture": np.array([None, {}], object)}, UnreadableInput, "pickled objects run code"),
    ],
)
def test_what_does_not_fit_is_told(tmp_path: Path, arrays: Any, error: type[EdgeError], told: str) -> None:
    with pytest.raises(error) as caught:
        read_data(saved(tmp_path / "d.npz", **arrays), DIGITS)
    assert told in str(caught.value)
    assert "d.npz" in str(caught.value)


def test_a_model_that_takes_four_at_once_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputShapeError, match="takes 4 at once"):
        read_data(saved(tmp_path / "d.npz", x=np.zeros((8, 3), np.float32)), (TensorSpec("x", "float32", (4, 3)),))


def test_a_claim_of_terabytes_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 20, 1, 8, 1 << 20)}
    )
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("x.npy", header.getvalue())
    with pytest.raises(UnreadableInput, match="the limit is 4096 MB"):
        read_data(tmp_path / "d.npz", (TensorSpec("x", "float32", None),))


def test_nothing_there_and_nothing_in_it(tmp_path: Path) -> None:
    with pytest.raises(UnreadableInput, match="no such file"):
        read_data(tmp_path / "none.npz", DIGITS)
    with pytest.raises(UnreadableInput, match="no such file"):
        read_data(tmp_path / "none", DIGITS)
    with pytest.raises(UnreadableInput, match="there is no picture"):
        read_data(tmp_path, DIGITS)
    with pytest.raises(InputValueError, match="1 or more"):
        read_data(tmp_path, DIGITS, samples=0)
    with pytest.raises(InputValueError, match="2 labels for 1 sample"):
        Data("d", [{}], [1, 2])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_file_is_an_error_of_ours_or_still_samples(tmp_path: Path, data: Any) -> None:
    path = tmp_path / "d.npz"
    np.savez_compressed(path, picture=np.zeros((2, 1, 8, 8), np.float32), labels=[1, 2])
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        assert len(read_data(path, DIGITS).feeds) >= 1
    except EdgeError as error:
        assert "d.npz" in str(error)


# --- pictures ---


def test_a_folder_of_pictures_becomes_feeds(tmp_path: Path) -> None:
    drawn(tmp_path / "b10.png", 255)
    drawn(tmp_path / "b2.png", 0)
    data = read_data(tmp_path, COLOURS)
    assert data.labels is None
    assert data.preprocessing is not None
    assert [feed["image"].shape for feed in data.feeds] == [(1, 3, 16, 16)] * 2
    assert [float(feed["image"].max()) for feed in data.feeds] == [0.0, 1.0]  # 2 comes before 10
    assert data.feeds[0]["image"] is data.feeds[0]["image"]  # decoded once


def test_one_subfolder_a_class(tmp_path: Path) -> None:
    for name in ("dog", "cat"):
        drawn(tmp_path / name / "1.png")
        drawn(tmp_path / name / "2.png")
    data = read_data(tmp_path, COLOURS)
    assert data.labels == [0, 0, 1, 1]
    assert data.classes == ("cat", "dog")
    assert any("in the order of their names" in note for note in data.notes)
    given = read_data(tmp_path, COLOURS, classes=("dog", "bird", "cat"))
    assert given.labels == [2, 2, 0, 0]
    synonyms = read_data(tmp_path, COLOURS, classes=("hotdog, hot dog", "hound, Dog", "cat, tabby"))
    assert synonyms.labels == [2, 2, 1, 1]


def test_subfolders_with_numbers_are_indices(tmp_path: Path) -> None:
    for name in ("10", "2"):
        drawn(tmp_path / name / "1.png")
    assert read_data(tmp_path, COLOURS).labels == [2, 10]


@pytest.mark.parametrize(
    ("name", "content"), [("labels.csv", "file,label\na.png,1\nb.png,0\n"), ("labels.txt", "a.png 1\nb.png 0\n")]
)
def test_a_table_names_the_labels(tmp_path: Path, name: str, content: str) -> None:
    drawn(tmp_path / "a.png")
    drawn(tmp_path / "b.png")
    (tmp_path / name).write_text(content)
    assert read_data(tmp_path, COLOURS).labels == [1, 0]


def test_a_labels_txt_of_class_names_is_no_table(tmp_path: Path) -> None:
    drawn(tmp_path / "a.png")
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    assert read_data(tmp_path, COLOURS).labels is None


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("file,label\n", "no line in it"),
        ("a.png\n", "has no label"),
        ("a.png,1\nc.png,1\n", "names 'c.png'"),
        ('a.png,"1\n', "expected file,label"),
        ("a.png,dgo\n", "did you mean 'dog'"),
    ],
)
def test_a_table_that_does_not_hold_is_told(tmp_path: Path, content: str, told: str) -> None:
    drawn(tmp_path / "a.png")
    (tmp_path / "labels.csv").write_text(content)
    with pytest.raises(EdgeError) as caught:
        read_data(tmp_path, COLOURS, classes=("cat", "dog"))
    assert told in str(caught.value)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(("labels.csv", "labels.txt", "annotations.json")), st.binary(max_size=80) | st.text(max_size=80))
def test_a_table_of_anything_is_an_error_of_ours_or_labels(tmp_path: Path, name: str, content: bytes | str) -> None:
    drawn(tmp_path / "a.png")
    for other in ("labels.csv", "labels.txt", "annotations.json"):
        (tmp_path / other).unlink(missing_ok=True)
    prefix = b"a.png," if name == "labels.csv" else b"a.png " if name == "labels.txt" else b""
    raw = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
    (tmp_path / name).write_bytes(prefix + raw)
    try:
        assert len(read_data(tmp_path, COLOURS).feeds) >= 1
    except EdgeError as error:
        assert "\n" not in str(error) or "\n" in str(tmp_path)


def test_boxes_come_from_a_coco_file(tmp_path: Path) -> None:
    drawn(tmp_path / "a.png", size=(32, 64))
    content = {
        "images": [{"id": 7, "file_name": "a.png", "width": 64, "height": 32, "licence": 1}],
        "annotations": [{"image_id": 7, "category_id": 18, "bbox": [2, 3, 10, 20], "area": 200}],
        "categories": [{"id": 18, "name": "Face"}, {"id": 3, "name": "background"}],
    }
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    truth = (read_data(tmp_path, COLOURS, classes=("background", "face")).labels or [None])[0]
    assert isinstance(truth, BoxTruth)
    assert truth.boxes.tolist() == [[2, 3, 12, 23]]
    assert truth.class_ids.tolist() == [1]
    assert (truth.geometry.image_height, truth.geometry.image_width) == (32, 64)
    with pytest.raises(InputValueError, match="'Face' is none of the model's classes"):
        read_data(tmp_path, COLOURS, classes=("background",))
    content["images"] = []
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    with pytest.raises(UnreadableInput, match=r"does not name the picture 'a\.png'"):
        read_data(tmp_path, COLOURS)
    (tmp_path / "annotations.json").write_text("[")
    with pytest.raises(UnreadableInput, match="COCO"):
        read_data(tmp_path, COLOURS)


def test_masks_come_to_lie_where_the_picture_does(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    drawn(tmp_path / "a.png", size=(8, 16))
    (tmp_path / "masks").mkdir()
    mask = np.zeros((8, 16), np.uint8)
    mask[:, 8:] = 5
    cv2.imwrite(str(tmp_path / "masks" / "a.png"), mask)
    truth = (read_data(tmp_path, COLOURS, settings={"resize": "letterbox"}).labels or [None])[0]
    assert truth is not None
    assert truth.shape == (16, 16)
    assert (truth[0] == 255).all()  # the bars above and below the picture are no class
    assert truth[8].tolist() == [0] * 8 + [5] * 8
    cv2.imwrite(str(tmp_path / "masks" / "a.png"), np.zeros((8, 16, 3), np.uint8))
    with pytest.raises(UnreadableInput, match="grey PNG"):
        read_data(tmp_path, COLOURS)


def test_pictures_for_a_model_that_takes_none(tmp_path: Path) -> None:
    drawn(tmp_path / "a.png")
    two = (*COLOURS, TensorSpec("size", "int64", (2,)))
    with pytest.raises(InputNameError, match="pictures feed one input"):
        read_data(tmp_path, two)
    with pytest.raises(InputTypeError, match="does not take pictures"):
        read_data(tmp_path, (TensorSpec("words", "string", (1,)),))

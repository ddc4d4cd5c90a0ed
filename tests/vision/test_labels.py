"""Scores become named classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_sdk.errors import EdgeError, InputError, UnreadableInput
from edge_sdk.tensors import Quantization, TensorSpec, dequantize
from edge_sdk.vision import ScoredLabel, read_labels, top_k


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("background\ncat\ndog\n", ("background", "cat", "dog")),
        ("background\r\ncat\r\ndog", ("background", "cat", "dog")),
        ("\ufeffcat\nhot dog\n\n\n", ("cat", "hot dog")),
        ("cat\n\ndog", ("cat", "", "dog")),
        ("0: cat\n1: dog", ("cat", "dog")),
        ("0 cat\n2  dog", ("cat", "", "dog")),
        ("1,dog\n0,cat", ("cat", "dog")),
        ("n02124075 Egyptian cat\nn07697537 hotdog, hot dog", ("Egyptian cat", "hotdog, hot dog")),
        ("0 n02124075 Egyptian cat", ("Egyptian cat",)),
        ("7 up\n7 down", ("7 up", "7 down")),
        ("0\n1\n2", ("0", "1", "2")),
        ("été\n日本", ("été", "日本")),
    ],
)
def test_label_files_of_every_usual_form(tmp_path: Path, text: str, labels: tuple[str, ...]) -> None:
    path = tmp_path / "labels.txt"
    path.write_text(text, encoding="utf-8", newline="")
    assert read_labels(path) == labels


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot be read"),
        (b"", "empty"),
        (b" \n \n", "empty"),
        (b"cat\n\xff\xfe", "not UTF-8"),
        (b"\0\0\0", "not a label file"),
        (b"9999999 cat", "above"),
    ],
)
def test_what_is_no_label_file_is_refused(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "labels.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UnreadableInput, match=reason) as caught:
        read_labels(path)
    assert "labels.txt" in str(caught.value)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=60) | st.text("0123456789 :,n\ncat", max_size=60).map(str.encode))
def test_any_file_gives_labels_or_a_clear_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(content)
    try:
        labels = read_labels(path)
    except EdgeError as error:
        assert "labels.txt" in str(error) and "\n" not in str(error)
    else:
        assert labels and all(isinstance(label, str) for label in labels)


def test_the_best_classes_come_first_and_ties_in_order() -> None:
    scores = np.array([[0.1, 0.7, 0.1, 0.1]], np.float32)
    found = top_k(scores, 3, ("a", "b", "c"))
    assert [(e.index, e.label) for e in found] == [(1, "b"), (0, "a"), (2, "c")]
    assert found[0].score == pytest.approx(0.7)


def test_a_class_without_a_label_is_told_by_its_index() -> None:
    assert top_k(np.array([0, 1]), 1, ("only one",)) == (ScoredLabel(1, None, 1.0),)
    assert top_k(np.array([0, 1]), 1) == (ScoredLabel(1, None, 1.0),)


def test_what_is_not_a_number_comes_last_and_has_no_score() -> None:
    found = top_k(np.array([np.nan, 0.2, np.inf]), 3)
    assert [e.index for e in found] == [2, 1, 0]
    assert found[2].score is None and found[0].score is None


@pytest.mark.parametrize("scores", [np.zeros((2, 3)), np.zeros((1, 0)), np.array(["a"]), np.zeros((1, 2, 2))])
def test_what_is_no_row_of_scores_is_refused(scores: np.ndarray) -> None:
    with pytest.raises(InputError, match="scores"):
        top_k(scores, 1)
    with pytest.raises(InputError, match="top"):
        top_k(np.zeros(3), 0)


def test_stored_numbers_become_what_they_stand_for() -> None:
    whole = TensorSpec("y", "uint8", (1, 3), quantization=Quantization((0.5,), (10,)))
    assert dequantize(np.array([[10, 12, 8]], np.uint8), whole).tolist() == [[0, 1, -1]]
    by_channel = TensorSpec("y", "int8", (2, 2), quantization=Quantization((1.0, 2.0), (0, 1), axis=1))
    assert dequantize(np.array([[1, 1], [3, 3]], np.int8), by_channel).tolist() == [[1, 0], [3, 4]]
    plain = np.ones(3, np.float32)
    assert dequantize(plain, whole) is plain

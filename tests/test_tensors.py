"""Feeds are checked against the model's inputs before an engine sees them."""

from __future__ import annotations

import numpy as np
import pytest

from edge_sdk.errors import InputError, InputNameError, InputShapeError, InputTypeError
from edge_sdk.tensors import FeedCheck, Quantization, TensorSpec

PICTURE = TensorSpec("picture", "float32", ("N", 3, 4, 4))
RATE = TensorSpec("rate", "int64", ())


def test_arrays_that_fit_pass_untouched() -> None:
    picture = np.zeros((2, 3, 4, 4), np.float32)
    checked = FeedCheck([PICTURE])({"picture": picture})
    assert checked["picture"] is picture


def test_one_array_is_enough_where_there_is_one_input() -> None:
    picture = np.zeros((1, 3, 4, 4), np.float32)
    assert FeedCheck([PICTURE])(picture)["picture"] is picture
    assert FeedCheck([PICTURE, RATE], frozenset({"rate"}))(picture)["picture"] is picture


def test_one_array_for_two_inputs_names_what_is_expected() -> None:
    with pytest.raises(InputNameError, match=r"'picture': float32\[N, 3, 4, 4\], 'rate': int64\[\]"):
        FeedCheck([PICTURE, RATE])(np.zeros(3))


def test_numbers_and_lists_take_the_dtype_where_nothing_is_lost() -> None:
    checked = FeedCheck([RATE])({"rate": 16000})
    assert checked["rate"].dtype == np.int64
    assert checked["rate"].shape == ()
    small = TensorSpec("x", "uint8", (3,))
    assert FeedCheck([small])([1, 2, 255])["x"].dtype == np.uint8
    with pytest.raises(InputTypeError):
        FeedCheck([small])([1, 2, 256])
    with pytest.raises(InputTypeError):
        FeedCheck([RATE])({"rate": 1.5})


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (np.zeros((1, 3, 4, 4)), InputTypeError, ["float64", "float32[N, 3, 4, 4]", 'astype("float32")']),
        (np.zeros((3, 4, 4), np.float32), InputShapeError, ["[3, 4, 4]", "float32[N, 3, 4, 4]"]),
        (np.zeros((1, 4, 4, 3), np.float32), InputShapeError, ["[1, 4, 4, 3]"]),
        ([[1, 2], [3]], InputShapeError, ["regular array"]),
        ("text", InputTypeError, ["float32"]),
    ],
)
def test_a_misfit_says_what_was_given_and_what_is_expected(value: object, error: type, words: list[str]) -> None:
    with pytest.raises(error) as caught:
        FeedCheck([PICTURE], where="m.onnx")({"picture": value})
    assert isinstance(caught.value, InputError)
    for word in ["m.onnx", "picture", *words]:
        assert word in str(caught.value)


def test_unknown_and_missing_names() -> None:
    check = FeedCheck([PICTURE, RATE], where="m.onnx")
    with pytest.raises(InputNameError, match=r"no input 'image'; expected 'picture'"):
        check({"image": 1})
    with pytest.raises(InputNameError, match=r"'rate'.*is missing; given: 'picture'"):
        check({"picture": np.zeros((1, 3, 4, 4), np.float32)})


def test_float_for_a_quantised_input_points_to_float_io() -> None:
    stored = TensorSpec("x", "uint8", (2,), quantization=Quantization((0.5,), (3,)))
    with pytest.raises(InputTypeError, match="float_io=True"):
        FeedCheck([stored])(np.zeros(2, np.float32))


def test_strings_of_either_kind_are_accepted() -> None:
    words = TensorSpec("words", "string", (None,))
    assert FeedCheck([words])(np.array(["a", "b"]))["words"].dtype == object
    assert FeedCheck([words])(["a", "b"])["words"].tolist() == ["a", "b"]
    with pytest.raises(InputTypeError):
        FeedCheck([words])(np.zeros(2))


def test_an_unknown_rank_takes_any_shape() -> None:
    anything = TensorSpec("x", "float32", None)
    assert FeedCheck([anything])(np.zeros((1, 2, 3), np.float32))["x"].shape == (1, 2, 3)

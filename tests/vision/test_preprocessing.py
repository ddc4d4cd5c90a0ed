"""A picture becomes the tensor that the model's input describes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.errors import InputError, InputShapeError, InputTypeError, InputValueError
from edge_sdk.tensors import Quantization, TensorSpec
from edge_sdk.vision import Preprocessing, prepare

pytest.importorskip("cv2")


def spec(dtype: str, *shape: int | str | None, scale: float = 0.0, zero: int = 0) -> TensorSpec:
    return TensorSpec("x", dtype, shape, quantization=Quantization((scale,), (zero,)) if scale else None)


def picture(height: int = 6, width: int = 8) -> Any:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def one_colour(red: int, green: int, blue: int, height: int = 6, width: int = 8) -> Any:
    return np.full((height, width, 3), (red, green, blue), np.uint8)


def test_a_float_input_gets_pixels_between_0_and_1() -> None:
    image = picture()
    found = Preprocessing.for_input(spec("float32", 1, 6, 8, 3))
    assert (found.layout, found.channels, found.shape) == ("NHWC", "rgb", (1, 6, 8, 3))
    assert np.allclose(prepare(image, found), image[None] / 255, atol=1e-6)
    assert "assumed" in found.explain()


def test_channels_come_first_where_the_shape_says_so() -> None:
    image = picture()
    tensor = prepare(image, Preprocessing.for_input(spec("float32", "batch", 3, 6, 8)))
    assert tensor.shape == (1, 3, 6, 8) and tensor.flags.c_contiguous
    assert np.allclose(tensor, image.transpose(2, 0, 1)[None] / 255, atol=1e-6)


@pytest.mark.parametrize(("scale", "zero"), [(2 / 255, 127), (1 / 128, 128), (1 / 255, 0), (1.0, 0), (0.0186, 114)])
def test_a_uint8_input_gets_the_pictures_bytes_whatever_they_stand_for(scale: float, zero: int) -> None:
    image = picture()
    found = Preprocessing.for_input(spec("uint8", 1, 6, 8, 3, scale=scale, zero=zero))
    assert np.array_equal(prepare(image, found), image[None])
    assert "pixels as they are" in found.explain()


@pytest.mark.parametrize(("scale", "zero"), [(1.0, -128), (2 / 255, 0), (1 / 255, -128)])
def test_an_int8_input_gets_the_bytes_minus_128(scale: float, zero: int) -> None:
    image = picture()
    tensor = prepare(image, Preprocessing.for_input(spec("int8", 1, 6, 8, 3, scale=scale, zero=zero)))
    assert tensor.dtype == np.int8
    assert np.array_equal(tensor[0].astype(int), image.astype(int) - 128)


def test_mean_and_scale_go_through_the_inputs_quantisation_and_saturate() -> None:
    image = picture()
    found = Preprocessing.for_input(spec("uint8", 1, 6, 8, 3, scale=0.02, zero=128), mean=(127.5,), scale=(50.0,))
    expected = np.clip(np.rint((image - 127.5) / 50 / 0.02 + 128), 0, 255)
    assert np.array_equal(prepare(image, found)[0], expected)


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "int8", "uint8", "int16", "uint16", "int32"])
def test_a_mean_a_channel_in_every_dtype(layout: str, dtype: str) -> None:
    image = picture()
    shape = (1, 6, 8, 3) if layout == "NHWC" else (1, 3, 6, 8)
    mean, scale = (123.7, 116.3, 103.5), (58.4, 57.1, 57.4)
    tensor = prepare(image, Preprocessing.for_input(spec(dtype, *shape), mean=mean, scale=scale))
    real = (image.astype(np.float64) - mean) / scale
    if np.dtype(dtype).kind in "iu":
        real = np.clip(np.rint(real), np.iinfo(dtype).min, np.iinfo(dtype).max)
    expected = real if layout == "NHWC" else real.transpose(2, 0, 1)
    assert tensor.dtype == dtype
    assert np.allclose(tensor[0], expected, atol=2e-3 if dtype == "float16" else 1e-6)


def test_blue_first_where_asked() -> None:
    found = Preprocessing.for_input(spec("uint8", 1, 6, 8, 3), channels="bgr")
    assert (prepare(one_colour(1, 2, 3), found) == (3, 2, 1)).all()


@pytest.mark.parametrize("shape", [(1, 1, 6, 8), (1, 6, 8, 1), (6, 8), (1, 6, 8), (6, 8, 1)])
def test_an_input_of_one_channel_gets_grey(shape: tuple[int, ...]) -> None:
    found = Preprocessing.for_input(spec("uint8", *shape))
    assert found.channels == "gray" and found.shape == shape
    assert (prepare(one_colour(255, 0, 0), found) == 76).all()  # 0.299 of 255, ITU-R BT.601
    assert (prepare(np.full((6, 8), 9, np.uint8), found) == 9).all()


def test_a_grey_picture_fills_three_channels() -> None:
    found = Preprocessing.for_input(spec("uint8", 1, 3, 6, 8))
    assert (prepare(np.full((6, 8), 9, np.uint8), found) == 9).all()


def test_a_plain_number_serves_all_channels() -> None:
    found = Preprocessing.for_input(spec("float32", 1, 6, 8, 3), mean=127, scale=np.float32(128))
    assert (found.mean, found.scale) == ((127.0,), (128.0,))
    assert np.allclose(prepare(one_colour(255, 127, 63), found), (1, 0, -0.5))


def test_letterbox_keeps_the_shape_and_fills_around_it() -> None:
    found = Preprocessing.for_input(spec("uint8", 1, 100, 100, 3), resize="letterbox")
    tensor = prepare(one_colour(200, 200, 200, 50, 100), found)[0]
    assert (tensor[25:75] == 200).all()
    assert (tensor[:25] == 114).all() and (tensor[75:] == 114).all()


def test_center_crop_takes_the_middle() -> None:
    image = one_colour(0, 0, 0, 100, 200)
    image[:, 50:150] = 255
    found = Preprocessing.for_input(spec("uint8", 1, 40, 40, 3), resize="center-crop", crop_fraction=1.0)
    assert (prepare(image, found) == 255).all()


@settings(max_examples=60)
@given(
    image_size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    input_size=st.tuples(st.integers(1, 64), st.integers(1, 64)),
    resize=st.sampled_from(["stretch", "letterbox", "center-crop"]),
)
def test_any_picture_fits_any_input_and_boxes_find_their_way_back(
    image_size: tuple[int, int], input_size: tuple[int, int], resize: str
) -> None:
    found = Preprocessing.for_input(spec("uint8", 1, *input_size, 3), resize=resize)
    assert prepare(np.zeros((*image_size, 3), np.uint8), found).shape == (1, *input_size, 3)
    place = found.geometry(*image_size)
    top, left, bottom, right = place.source
    assert 0 <= top < bottom <= image_size[0] and 0 <= left < right <= image_size[1]
    filled = np.array(
        [
            [
                place.target_left,
                place.target_top,
                place.target_left + place.target_width,
                place.target_top + place.target_height,
            ]
        ]
    )
    assert np.allclose(place.to_image(filled)[0], [left, top, right, bottom], atol=1e-3)


def test_boxes_are_clipped_to_the_picture() -> None:
    place = Preprocessing(100, 100).geometry(50, 200)
    assert np.allclose(place.to_image(np.array([[-10, -10, 500, 500]])), [[0, 0, 200, 50]])


def test_the_callers_array_is_written_into() -> None:
    image = picture()
    for shape in ((1, 6, 8, 3), (1, 3, 6, 8)):
        for dtype in ("uint8", "int8", "float32"):
            found = Preprocessing.for_input(spec(dtype, *shape))
            out = np.empty(shape, dtype)
            assert prepare(image, found, out=out) is out
            assert np.array_equal(out, prepare(image, found))
    with pytest.raises(InputShapeError, match="out"):
        prepare(image, found, out=np.empty((1, 6, 8, 3), np.float32))


def test_the_picture_stays_as_it_was() -> None:
    image = picture()
    before = image.copy()
    tensor = prepare(image, Preprocessing.for_input(spec("uint8", 1, 6, 8, 3)))
    tensor[:] = 0
    assert np.array_equal(image, before)


def test_an_open_size_must_be_given() -> None:
    open_size = spec("float32", "n", 3, "height", "width")
    with pytest.raises(InputShapeError, match="leaves its size open"):
        Preprocessing.for_input(open_size)
    assert Preprocessing.for_input(open_size, size=(6, 8)).shape == (1, 3, 6, 8)
    with pytest.raises(InputShapeError, match="fixed size"):
        Preprocessing.for_input(spec("float32", 1, 3, 6, 8), size=(7, 8))


@pytest.mark.parametrize(
    ("wrong", "error", "reason"),
    [
        (spec("float32", 1, 10), InputShapeError, "leaves its size|not a picture|1x10"),
        (spec("float32", 1, 4, 6, 8, 3), InputShapeError, "not a picture"),
        (spec("float32", 1, 7, 6, 8), InputShapeError, "1 or 3"),
        (spec("float32", 4, 3, 6, 8), InputShapeError, "4 pictures at once"),
        (spec("string", 1, 3, 6, 8), InputTypeError, "does not take pictures"),
        (spec("int4", 1, 3, 6, 8), InputTypeError, "does not take pictures"),
        (TensorSpec("x", "float32", None), InputShapeError, "give a layout"),
    ],
)
def test_inputs_that_are_no_picture_are_refused_by_name(
    wrong: TensorSpec, error: type[InputError], reason: str
) -> None:
    if wrong.shape == (1, 10):
        # Two plain dimensions may be a grey picture of one row: only the rank decides.
        assert Preprocessing.for_input(wrong).shape == (1, 10)
        return
    with pytest.raises(error, match=reason) as caught:
        Preprocessing.for_input(wrong)
    assert "'x'" in str(caught.value)


@pytest.mark.parametrize(
    "settings_given",
    [
        {"resize": "squash"},
        {"channels": "rgba"},
        {"mean": (1.0, 2.0)},
        {"mean": (float("nan"),)},
        {"scale": (0.0,)},
        {"scale": "wide"},
        {"mean": None},
        {"size": 6},
        {"size": "ab"},
        {"size": (0, 5)},
        {"crop_fraction": 0.0},
        {"colour": "rgb"},
    ],
)
def test_settings_that_make_no_sense_are_refused(settings_given: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="preprocessing"):
        Preprocessing.for_input(spec("float32", 1, "h", "w", 3), **{"size": (6, 8), **settings_given})


def test_what_is_no_picture_is_refused() -> None:
    found = Preprocessing(6, 8)
    with pytest.raises(InputTypeError, match="uint8"):
        prepare(picture().astype(np.float32), found)
    with pytest.raises(InputShapeError, match="height, width, 3"):
        prepare(np.zeros((6, 8, 4), np.uint8), found)
    with pytest.raises(InputShapeError):
        prepare(np.zeros((0, 8, 3), np.uint8), found)
    with pytest.raises(InputValueError):
        Preprocessing(0, 8)

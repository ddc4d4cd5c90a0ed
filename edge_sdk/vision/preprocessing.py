"""From a picture to the tensor a model takes.

A model file tells the shape and quantisation of its input, but not the order of channels nor what was subtracted and
divided by in training. `Preprocessing.for_input` reads the first, assumes the second, and `explain` says which is
which.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from edge_sdk.errors import InputShapeError, InputTypeError, InputValueError
from edge_sdk.tensors import Array, Quantization, TensorSpec
from edge_sdk.vision.geometry import Geometry, ResizeMode, geometry
from edge_sdk.vision.opencv import load_cv2
from edge_sdk.vision.pictures import check_image

__all__ = ["Channels", "Interpolation", "Layout", "Preprocessing", "prepare"]

Layout = Literal["NHWC", "NCHW"]
Channels = Literal["rgb", "bgr", "gray"]
Interpolation = Literal["nearest", "linear", "cubic", "area"]

_CHOICES: dict[str, tuple[str, ...]] = {
    "layout": ("NHWC", "NCHW"),
    "channels": ("rgb", "bgr", "gray"),
    "resize": ("stretch", "letterbox", "center-crop"),
    "interpolation": ("nearest", "linear", "cubic", "area"),
}
_MAX_SIDE = 16384


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How a picture becomes an input: `stored = quantise((pixel - mean) / scale)`, pixels counted from 0 to 255.

    Attributes:
        height: of the input, in pixels.
        width: of the input, in pixels.
        layout: "NHWC" or "NCHW".
        channels: "rgb", "bgr" or "gray".
        mean: subtracted from each pixel; one figure, or one a channel in the order of `channels`. A plain number may be
            given; it is kept as a tuple.
        scale: what the difference is then divided by; as `mean`.
        resize: "stretch" to the input's size; "letterbox": whole picture, shape kept, the rest filled with `fill`;
            "center-crop": the middle of the picture in the input's shape.
        interpolation: "linear" is fast and what most models were exported with; "area" is smoother on large photographs
            and many times slower.
        crop_fraction: of "center-crop": the part of the shorter side that is kept (0.875 is 224 of 256).
        fill: of "letterbox": the pixel value around the picture.
        dtype: numpy dtype name of the input.
        quantization: how the input stores real numbers; None where it takes them as they are.
        rank: 4 with a leading batch of one, 3 without it; 2 for a grey [height, width].
        notes: what was read from the model, what was assumed, for `explain`.
    """

    height: int
    width: int
    layout: Layout = "NHWC"
    channels: Channels = "rgb"
    mean: tuple[float, ...] = (0.0,)
    scale: tuple[float, ...] = (255.0,)
    resize: ResizeMode = "stretch"
    interpolation: Interpolation = "linear"
    crop_fraction: float = 0.875
    fill: int = 114
    dtype: str = "float32"
    quantization: Quantization | None = None
    rank: int = 4
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise InputValueError(
                    f"preprocessing: {name} is {getattr(self, name)!r}, expected one of {', '.join(choices)}"
                )
        if not (1 <= self.height <= _MAX_SIDE and 1 <= self.width <= _MAX_SIDE):
            raise InputValueError(
                f"preprocessing: size {self.height}x{self.width} is not within 1..{_MAX_SIDE} pixels a side"
            )
        if not 0 < self.crop_fraction <= 1 or not 0 <= self.fill <= 255:
            raise InputValueError("preprocessing: crop_fraction must be within (0, 1] and fill within 0..255")
        for name in ("mean", "scale"):
            figures = _as_figures(name, getattr(self, name))
            object.__setattr__(self, name, figures)
            if len(figures) not in (1, self.depth) or not all(math.isfinite(f) for f in figures):
                raise InputValueError(
                    f"preprocessing: {name} {figures} must be one finite figure, or {self.depth}: one a channel"
                )
        if 0.0 in self.scale:
            raise InputValueError("preprocessing: scale is what pixels are divided by and cannot be 0")

    @property
    def depth(self) -> int:
        """Number of channels: 1 or 3."""
        return 1 if self.channels == "gray" else 3

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor that `prepare` makes."""
        if self.rank == 2:
            return (self.height, self.width)
        plain = (
            (self.height, self.width, self.depth) if self.layout == "NHWC" else (self.depth, self.height, self.width)
        )
        return (1, *plain) if self.rank == 4 else plain

    @classmethod
    def for_input(cls, spec: TensorSpec, **overrides: Any) -> Preprocessing:
        """Works out how pictures are to be fed to one input of a model.

        Shape, layout, grey or colour, dtype and quantisation come from `spec`. A quantised input takes the picture's
        bytes as they are (int8: minus 128), which is how quantised networks are trained and exported; a float input
        takes pixels divided by 255. Colours are RGB.

        Args:
            spec: the input.
            **overrides: any attribute of this class, and `size=(height, width)` where the model leaves them open.

        Raises:
            InputShapeError: the input does not look like a picture, or leaves its size open and no `size` is given.
            InputTypeError: the input takes strings or a dtype that numpy lacks.
            InputValueError: an override is not allowed.
        """
        size = overrides.pop("size", None)
        unknown = overrides.keys() - set(cls.__dataclass_fields__)
        if unknown:
            raise InputValueError(f"preprocessing: there is no setting {sorted(unknown)[0]!r}")
        if spec.numpy_dtype is None or spec.numpy_dtype.kind not in "iuf":
            raise InputTypeError(
                f"input {spec.name!r} ({spec.describe()}) does not take pictures; feed a .npy or .npz file"
            )
        settings, notes = _from_shape(spec, size, overrides.get("layout"))
        settings.update(_from_values(spec, overrides, notes))
        settings.update(overrides)
        if settings.get("channels", "rgb") != "gray" and "channels" not in overrides:
            notes.append("channel order rgb (assumed)")
        if overrides:
            notes.append(f"{', '.join(sorted(overrides))} as given")
        return cls(**{**settings, "notes": tuple(notes)})

    def with_settings(self, **changes: Any) -> Preprocessing:
        """A copy with some attributes changed, checked again."""
        return replace(self, **changes)

    def geometry(self, image_height: int, image_width: int) -> Geometry:
        """Where a picture of this size comes to lie in the input."""
        return geometry(image_height, image_width, self.height, self.width, self.resize, self.crop_fraction)

    def explain(self) -> str:
        """One line: what is done to a picture, and what of it was assumed."""
        how = f"{self.height}x{self.width} {self.channels} {self.layout}, {self.resize} ({self.interpolation})"
        if self.quantization is not None and _is_identity(self):
            what = "pixels as they are" if self.dtype == "uint8" else "pixels minus 128"
        else:
            what = f"(pixel - {_figures(self.mean)}) / {_figures(self.scale)}"
        notes = f" [{'; '.join(self.notes)}]" if self.notes else ""
        return f"{how}, {what} as {self.dtype}{notes}"


def prepare(image: Array, preprocessing: Preprocessing, out: Array | None = None) -> Array:
    """Turns a picture into the tensor a model takes.

    Args:
        image: uint8 [height, width, 3] RGB, or [height, width] grey.
        preprocessing: what to do.
        out: an array of `preprocessing.shape` and dtype, C-contiguous, to write into.

    Returns:
        The tensor, of `preprocessing.shape` and `preprocessing.dtype`; `out` where it was given.

    Raises:
        InputError: `image` or `out` has another dtype or shape.
        MissingExtra: OpenCV is not installed.
    """
    check_image(image)
    dtype = np.dtype(preprocessing.dtype)
    if out is None:
        out = np.empty(preprocessing.shape, dtype)
    elif out.shape != preprocessing.shape or out.dtype != dtype or not out.flags.c_contiguous:
        raise InputShapeError(
            f"out: expected a C-contiguous {dtype}{list(preprocessing.shape)}, given {out.dtype}{list(out.shape)}"
        )
    cv2 = load_cv2()
    pixels = _reordered(cv2, _resized(cv2, image, preprocessing), preprocessing.channels)
    if preprocessing.layout == "NHWC" or preprocessing.depth == 1:
        _store(cv2, pixels, _table(preprocessing), out.reshape(pixels.shape))
    else:
        _store_planes(cv2, pixels, _table(preprocessing), out.reshape(3, preprocessing.height, preprocessing.width))
    return out


def _resized(cv2: Any, image: Array, preprocessing: Preprocessing) -> Array:
    place = preprocessing.geometry(*image.shape[:2])
    top, left, bottom, right = place.source
    part = image if (top, left, bottom, right) == (0, 0, *image.shape[:2]) else image[top:bottom, left:right]
    size = (place.target_width, place.target_height)
    if part.shape[:2] != (size[1], size[0]):
        flag = getattr(cv2, "INTER_" + preprocessing.interpolation.upper())
        part = cv2.resize(part, size, interpolation=flag)
    if size == (preprocessing.width, preprocessing.height):
        return part
    canvas: Array = np.full((preprocessing.height, preprocessing.width, *image.shape[2:]), preprocessing.fill, np.uint8)
    canvas[place.target_top : place.target_top + size[1], place.target_left : place.target_left + size[0]] = part
    return canvas


def _reordered(cv2: Any, image: Array, channels: Channels) -> Array:
    if channels == "gray":
        return image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    if image.ndim == 2:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)  # type: ignore[no-any-return]
    return cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if channels == "bgr" else image


def _store(cv2: Any, pixels: Array, table: Array, out: Array) -> None:
    """Writes `table[pixel]` for each pixel; `table` is [256] or [256, 3]."""
    if table.dtype == np.uint8 and table.ndim == 1 and np.array_equal(table, _BYTES):
        np.copyto(out, pixels)
    elif table.dtype == np.int8 and table.ndim == 1 and np.array_equal(table, _SIGNED_BYTES):
        np.bitwise_xor(pixels, np.uint8(128), out=out.view(np.uint8))
    elif table.dtype.name in ("uint8", "int8", "float32", "float64"):
        # One look-up a pixel covers subtracting, dividing, quantising and clipping in a single pass.
        made = cv2.LUT(np.ascontiguousarray(pixels), table.reshape(1, 256, *table.shape[1:]), dst=out)
        if made is not out and not np.shares_memory(made, out):
            np.copyto(out, made.reshape(out.shape))
    elif table.ndim == 1:
        np.take(table, pixels, out=out)
    else:
        for channel in range(3):
            out[..., channel] = table[:, channel][pixels[..., channel]]


def _store_planes(cv2: Any, pixels: Array, table: Array, out: Array) -> None:
    planes: Array = np.empty(out.shape, np.uint8)
    cv2.split(pixels, list(planes))
    if table.ndim == 1:
        _store(cv2, planes.reshape(-1, planes.shape[2]), table, out.reshape(-1, planes.shape[2]))
        return
    for channel in range(3):
        _store(cv2, planes[channel], np.ascontiguousarray(table[:, channel]), out[channel])


_BYTES = np.arange(256, dtype=np.uint8)
_SIGNED_BYTES = np.arange(-128, 128, dtype=np.int8)


@lru_cache(maxsize=64)
def _table(preprocessing: Preprocessing) -> Array:
    """What is stored for each pixel value: [256], or [256, 3] where channels differ."""
    pixel = np.arange(256, dtype=np.float64)[:, None]
    real = (pixel - np.asarray(preprocessing.mean)) / np.asarray(preprocessing.scale)
    dtype = np.dtype(preprocessing.dtype)
    if preprocessing.quantization is not None:
        real = real / preprocessing.quantization.scales[0] + preprocessing.quantization.zero_points[0]
    if dtype.kind in "iu":
        bounds = np.iinfo(dtype)
        real = np.clip(np.rint(real), bounds.min, bounds.max)
    table = real.astype(dtype)
    if (table == table[:, :1]).all():
        table = table[:, 0]
    table = np.ascontiguousarray(table)
    table.setflags(write=False)
    return table


def _is_identity(preprocessing: Preprocessing) -> bool:
    table = _table(preprocessing)
    expected = {"uint8": _BYTES, "int8": _SIGNED_BYTES}.get(preprocessing.dtype)
    return expected is not None and table.ndim == 1 and np.array_equal(table, expected)


def _as_figures(name: str, given: Any) -> tuple[float, ...]:
    """A number, or several in any sequence, as a tuple: what a caller writes most easily."""
    try:
        return tuple(float(f) for f in np.atleast_1d(given))
    except (TypeError, ValueError):
        raise InputValueError(f"preprocessing: {name} is {given!r}, expected a number, or one a channel") from None


def _as_size(given: Any) -> tuple[int, int]:
    try:
        height, width = (int(side) for side in given)
    except (TypeError, ValueError):
        raise InputValueError(f"preprocessing: size is {given!r}, expected (height, width) in pixels") from None
    return height, width


def _figures(figures: tuple[float, ...]) -> str:
    text = ", ".join(f"{f:.6g}" for f in figures)
    return text if len(figures) == 1 else f"[{text}]"


def _from_shape(spec: TensorSpec, size: Any, layout: Any) -> tuple[dict[str, Any], list[str]]:
    """Rank, layout, size and grey or colour, from the input's shape."""
    notes: list[str] = []
    guessed: Layout | None
    shape: tuple[int | str | None, ...] = (None, None, None, None) if spec.shape is None else spec.shape
    if len(shape) == 4 and isinstance(shape[0], int) and shape[0] != 1:
        raise InputShapeError(
            f"input {spec.name!r} ({spec.describe()}) takes {shape[0]} pictures at once; feed a .npy file"
        )
    plain = shape[1:] if len(shape) == 4 else shape
    if len(plain) == 2:
        guessed, height, width, depth = "NHWC", plain[0], plain[1], 1
    elif len(plain) == 3:
        guessed = layout or _guess_layout(plain)
        if guessed is None:
            raise InputShapeError(
                f"input {spec.name!r} ({spec.describe()}) has no dimension of 1 or 3"
                " channels; give a layout, or feed a .npy file"
            )
        place, height, width = (plain[2], plain[0], plain[1]) if guessed == "NHWC" else plain
        depth = place if isinstance(place, int) else 3
    else:
        raise InputShapeError(f"input {spec.name!r} ({spec.describe()}) is not a picture; feed a .npy or .npz file")
    if depth not in (1, 3):
        raise InputShapeError(
            f"input {spec.name!r} ({spec.describe()}) has {depth} channels in {guessed}, and pictures have 1 or 3"
        )
    if size is not None:
        asked = _as_size(size)
        for fixed, given in zip((height, width), asked, strict=True):
            if isinstance(fixed, int) and fixed != given:
                raise InputShapeError(
                    f"input {spec.name!r} ({spec.describe()}) has a fixed size, and {asked[0]}x{asked[1]} is another"
                )
        height, width = asked
        notes.append("size as given")
    if not isinstance(height, int) or not isinstance(width, int):
        raise InputShapeError(
            f"input {spec.name!r} ({spec.describe()}) leaves its size open; give the size (height, width)"
        )
    settings = {"height": height, "width": width, "layout": guessed, "dtype": spec.dtype, "rank": len(shape)}
    if depth == 1:
        settings["channels"] = "gray"
    return settings, notes


def _guess_layout(plain: tuple[int | str | None, ...]) -> Layout | None:
    first, last = plain[0] in (1, 3), plain[2] in (1, 3)
    if first and last:
        return "NHWC" if plain[2] == 3 and plain[0] == 1 else "NCHW"
    if first or last:
        return "NCHW" if first else "NHWC"
    return None


def _from_values(spec: TensorSpec, overrides: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    """Mean and scale, from dtype and quantisation."""
    quantization = spec.quantization
    if quantization is not None and (len(quantization.scales) != 1 or not quantization.scales[0] > 0):
        quantization = None
    settings: dict[str, Any] = {"quantization": quantization}
    if "mean" in overrides or "scale" in overrides:
        settings.update(mean=(0.0,), scale=(1.0,))
    elif quantization is not None and spec.dtype in ("uint8", "int8"):
        # Chosen so that the stored byte is the pixel itself: real = q * (stored - zero point).
        zero = quantization.zero_points[0] + (128 if spec.dtype == "int8" else 0)
        step = quantization.scales[0]
        settings.update(mean=(float(zero),), scale=(1.0 / step,))
        notes.append(f"quantised input: 0..255 stand for {-zero * step:.4g}..{(255 - zero) * step:.4g}")
    elif np.dtype(spec.dtype).kind == "f" or quantization is not None:
        settings.update(mean=(0.0,), scale=(255.0,))
        notes.append("pixels / 255 (assumed)")
    elif spec.dtype == "int8":
        settings.update(mean=(128.0,), scale=(1.0,))
        notes.append("pixels - 128 (assumed)")
    else:
        settings.update(mean=(0.0,), scale=(1.0,))
        notes.append("pixels as they are (assumed)")
    return settings

"""Picture files to arrays and back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from edge_sdk.errors import InputShapeError, InputTypeError, InputValueError, UnreadableInput
from edge_sdk.storage import read_whole, write_whole
from edge_sdk.tensors import Array
from edge_sdk.vision.headers import BadHeader, read_header
from edge_sdk.vision.opencv import load_cv2

__all__ = ["MAX_PIXELS", "check_image", "decode_image", "read_image", "write_image"]

MAX_PIXELS = 100_000_000
"""Larger pictures are refused unless the caller allows more: a file of a few kilobytes can claim gigabytes."""
_MAX_FILE_BYTES = 1 << 30
_WRITABLE = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}


def read_image(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> Array:
    """Reads a picture file, told by its content: JPEG, PNG, GIF, BMP, WebP, TIFF or Netpbm.

    It is turned as its EXIF orientation says. Grey becomes three equal channels, CMYK becomes RGB, 16 bits become 8,
    transparency is dropped (the colours beneath it stay), and of an animation the first frame is taken.

    Args:
        path: the file.
        max_pixels: the most pixels (width times height) to decode.

    Returns:
        uint8 [height, width, 3], RGB.

    Raises:
        UnreadableInput: missing, not a picture, truncated, damaged, or too large.
        MissingExtra: OpenCV is not installed.
    """
    return decode_image(read_whole(path, _MAX_FILE_BYTES), where=os.fspath(path), max_pixels=max_pixels)


def decode_image(data: bytes, *, where: str = "picture", max_pixels: int = MAX_PIXELS) -> Array:
    """Decodes a picture held in memory; the rest is as for `read_image`.

    Args:
        data: the whole file.
        where: what messages call it.
        max_pixels: the most pixels (width times height) to decode.

    Returns:
        uint8 [height, width, 3], RGB.

    Raises:
        UnreadableInput: not a picture, truncated, damaged, or too large.
        MissingExtra: OpenCV is not installed.
    """
    try:
        header = read_header(data)
    except BadHeader as error:
        raise UnreadableInput(f"{where}: {error}") from None
    if header.width * header.height > max_pixels:
        raise UnreadableInput(
            f"{where}: the {header.kind} claims {header.width}x{header.height} pixels, more than the limit of"
            f" {max_pixels}; scale it down, or pass a larger max_pixels"
        )
    image = _decode(load_cv2(), np.frombuffer(data, np.uint8))
    if image is None or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise UnreadableInput(
            f"{where}: the {header.kind} ({header.width}x{header.height}) is damaged, truncated or of an unusual kind;"
            " save it again as JPEG or PNG"
        )
    return image


def _decode(cv2: Any, data: Array) -> Array | None:
    try:
        if hasattr(cv2, "IMREAD_COLOR_RGB"):
            return cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)  # type: ignore[no-any-return]
        image = cv2.imdecode(data, cv2.IMREAD_COLOR)
        return None if image is None else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    except (cv2.error, MemoryError):
        return None


def write_image(path: str | os.PathLike[str], image: Array) -> None:
    """Writes a picture whole, as the suffix says: .jpg, .jpeg, .png, .bmp or .webp.

    Args:
        path: the file; its folder must exist.
        image: uint8 [height, width, 3] RGB, or [height, width] grey.

    Raises:
        InputError: `image` is no such array, or the suffix is another.
        StorageError: the file cannot be written.
        MissingExtra: OpenCV is not installed.
    """
    check_image(image)
    suffix = Path(path).suffix.lower()
    if suffix not in _WRITABLE:
        raise InputValueError(
            f"{os.fspath(path)}: pictures are written as {', '.join(sorted(_WRITABLE))}, not {suffix!r}"
        )
    cv2 = load_cv2()
    stored = image if image.ndim == 2 else cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2BGR)
    try:
        done, encoded = cv2.imencode(suffix, stored)
    except cv2.error as error:
        raise InputValueError(f"{os.fspath(path)}: {image.shape} cannot be encoded as {suffix}: {error.err}") from None
    if not done:
        raise InputValueError(f"{os.fspath(path)}: this OpenCV cannot encode {suffix}; use .png")
    write_whole(path, encoded.tobytes())


def check_image(image: Array) -> None:
    """Checks that `image` is uint8 [height, width, 3] or [height, width], and not empty.

    Raises:
        InputTypeError: another dtype.
        InputShapeError: another shape.
    """
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        kind = image.dtype.name if isinstance(image, np.ndarray) else type(image).__name__
        raise InputTypeError(f"picture: expected a uint8 array [height, width, 3] in RGB, given {kind}")
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3) or 0 in image.shape:
        raise InputShapeError(
            f"picture: expected uint8 [height, width, 3] or [height, width], given shape {list(image.shape)}"
        )

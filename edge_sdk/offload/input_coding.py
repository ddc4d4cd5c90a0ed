"""Inputs of a model as files while they travel: pictures as JPEG or WebP, sound as FLAC.

    "jpeg@80", "webp@75"   quality 1 to 100, of uint8[1, H, W, 3], [1, 3, H, W], with 1 channel too, or without the 1
    "flac"                 of int16[1, N] or [N]; without loss

What comes from elsewhere is decoded only where its header tells the very sizes that the tensor has: those were checked
against the limits before.
"""

from __future__ import annotations

import importlib
import io
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_sdk.errors import EdgeError, InputError, MissingExtra, WireError
from edge_sdk.tensors import Array
from edge_sdk.wire.datatypes import datatype_of
from edge_sdk.wire.encoded import Encoded
from edge_sdk.wire.limits import Limits
from edge_sdk.wire.tensor_data import checked_count

__all__ = ["SOUND", "check_coding", "decode", "encode", "may_travel_as"]

SOUND = "flac"
_PICTURE = re.compile(r"(jpeg|webp)@([1-9][0-9]?|100)", re.ASCII)
_KINDS = {"jpeg": ("JPEG", ".jpg", "IMWRITE_JPEG_QUALITY"), "webp": ("WebP", ".webp", "IMWRITE_WEBP_QUALITY")}
_EXPECTED = "expected jpeg@1 to jpeg@100, webp@1 to webp@100, or flac"
_RATE_HZ = 16000
"""A FLAC file tells one; it changes no sample."""
_LONGEST_SIDE = 16383
"""Of WebP; JPEG could have four times that."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """How a tensor holds a picture."""

    height: int
    width: int
    channels: int
    channels_first: bool


def check_coding(coding: str) -> None:
    """Refuses what is no coding.

    Raises:
        InputError: says which there are.
    """
    if coding != SOUND and _PICTURE.fullmatch(coding) is None:
        raise InputError(f"input coding {coding[:40]!r} is not known; {_EXPECTED}")


def may_travel_as(coding: str, dtype: str, shape: tuple[int, ...]) -> bool:
    """Whether tensors of this dtype and shape are such pictures or such sound.

    Raises:
        InputError: there is no such coding.
    """
    check_coding(coding)
    if coding == SOUND:
        return dtype == "int16" and _samples(shape) > 0
    return dtype == "uint8" and _layout(shape) is not None


def encode(array: Array, coding: str) -> Encoded:
    """The tensor as it is to travel.

    Raises:
        InputError: there is no such coding, or the tensor is none for it.
        MissingExtra: OpenCV, or soundfile for sound, is not installed.
    """
    if not may_travel_as(coding, array.dtype.name, array.shape):
        takes = "int16[1, N]" if coding == SOUND else "uint8[1, H, W, 3] or uint8[1, 3, H, W]"
        raise InputError(f"{array.dtype.name}{list(array.shape)} cannot travel as {coding}; expected {takes}")
    content = _sound(array) if coding == SOUND else _picture(array, coding)
    return Encoded(content, datatype_of(array, coding), array.shape, coding)


def decode(encoded: Encoded, tensor: str, limits: Limits) -> Array:
    """The tensor that was encoded; read-only.

    Args:
        encoded: as it came, from whomever.
        tensor: its name, for messages.
        limits: that its shape is held to.

    Raises:
        WireError: `.status` 415 where there is no such coding or what decodes it is not installed, 413 where it is too
            large, 400 where it is broken or another than its head says.
    """
    where = f"tensor {tensor!r}"
    dtype = "int16" if encoded.coding == SOUND else "uint8"
    try:
        fits = may_travel_as(encoded.coding, dtype, encoded.shape)
    except InputError as error:
        raise WireError(f"{where}: {error}", 415) from None
    checked_count(tensor, encoded.shape, encoded.datatype, limits)
    if not fits or encoded.datatype != dtype.upper():
        raise WireError(f"{where}: {encoded.datatype}{list(encoded.shape)} cannot travel as {encoded.coding}")
    try:
        array = _read_sound(encoded, where) if encoded.coding == SOUND else _read_picture(encoded, where)
    except MissingExtra as error:
        raise WireError(f"{where}: {encoded.coding} cannot be decoded here: {error}", 415) from None
    array.flags.writeable = False
    return array


# --- pictures ---


def _layout(shape: tuple[int, ...]) -> _Layout | None:
    sizes = shape[1:] if len(shape) == 4 and shape[0] == 1 else shape
    if len(sizes) == 2:
        layout = _Layout(*sizes, 1, channels_first=False)
    elif len(sizes) == 3 and sizes[2] in (1, 3):
        layout = _Layout(*sizes, channels_first=False)
    elif len(sizes) == 3 and sizes[0] in (1, 3):
        layout = _Layout(*sizes[1:], sizes[0], channels_first=True)
    else:
        return None
    return layout if 0 < layout.height <= _LONGEST_SIDE and 0 < layout.width <= _LONGEST_SIDE else None


def _picture(array: Array, coding: str) -> bytes:
    layout = _layout(array.shape)
    assert layout is not None
    from edge_sdk.vision.opencv import load_cv2

    _, suffix, setting = _KINDS[coding.partition("@")[0]]
    cv2 = load_cv2()
    if layout.channels == 1:
        pixels = array.reshape(layout.height, layout.width)
    elif layout.channels_first:
        # Most models take red first, OpenCV blue; either way the same comes back.
        pixels = array.reshape(3, layout.height, layout.width)[::-1].transpose(1, 2, 0)
    else:
        pixels = array.reshape(layout.height, layout.width, 3)[..., ::-1]
    quality = [getattr(cv2, setting), int(coding.partition("@")[2])]
    try:
        done, content = cv2.imencode(suffix, np.ascontiguousarray(pixels), quality)
    except cv2.error as error:
        raise InputError(f"a picture cannot travel as {coding}: {' '.join(str(error).split())[:200]}") from None
    if not done:
        raise InputError(f"a picture cannot travel as {coding}: OpenCV has no encoder for it")
    encoded: bytes = content.tobytes()
    return encoded


def _read_picture(encoded: Encoded, where: str) -> Array:
    # These take a while to import, and most splits send no pictures.
    from edge_sdk.vision.headers import BadHeader, read_header
    from edge_sdk.vision.opencv import load_cv2

    layout = _layout(encoded.shape)
    assert layout is not None
    kind = _KINDS[encoded.coding.partition("@")[0]][0]
    try:
        header = read_header(encoded.content)
    except BadHeader as error:
        raise WireError(f"{where}: no {kind}: {error}") from None
    # Of WebP only the simple forms: the extended one may hold frames of other sizes than it tells.
    if header.kind != kind or (kind == "WebP" and encoded.content[12:16] == b"VP8X"):
        raise WireError(f"{where}: a {header.kind} of another form came, expected a plain {kind}")
    if (header.height, header.width) != (layout.height, layout.width):
        raise WireError(
            f"{where}: the {kind} has {header.height}x{header.width} pixels, its head tells {list(encoded.shape)}"
        )
    cv2 = load_cv2()
    way = cv2.IMREAD_GRAYSCALE if layout.channels == 1 else cv2.IMREAD_COLOR
    try:
        pixels = cv2.imdecode(np.frombuffer(encoded.content, np.uint8), way | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        pixels = None
    if pixels is None or pixels.shape[:2] != (layout.height, layout.width):
        raise WireError(f"{where}: the {kind} is damaged, or OpenCV here cannot read it")
    if layout.channels == 3:
        pixels = pixels[..., ::-1]
        pixels = pixels.transpose(2, 0, 1) if layout.channels_first else pixels
    array: Array = np.ascontiguousarray(pixels).reshape(encoded.shape)
    return array


# --- sound ---


def _samples(shape: tuple[int, ...]) -> int:
    if len(shape) == 1:
        return shape[0]
    return shape[1] if len(shape) == 2 and shape[0] == 1 else 0


def _sound(array: Array) -> bytes:
    soundfile, file = _soundfile(), io.BytesIO()
    soundfile.write(file, array.reshape(-1), _RATE_HZ, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def _read_sound(encoded: Encoded, where: str) -> Array:
    if not encoded.content.startswith(b"fLaC"):
        raise WireError(f"{where}: no FLAC came")
    soundfile, count = _soundfile(), _samples(encoded.shape)
    try:
        with soundfile.SoundFile(io.BytesIO(encoded.content)) as sound:
            told = f"{sound.format} {sound.subtype}, {sound.channels} channels, {sound.frames} samples"
            if (sound.format, sound.subtype, sound.channels, sound.frames) != ("FLAC", "PCM_16", 1, count):
                raise WireError(f"{where}: {told} came, expected FLAC of 16 bits, 1 channel and {count} samples")
            samples: Array = sound.read(count, dtype="int16")
    except EdgeError:
        raise
    except (soundfile.SoundFileError, RuntimeError, ValueError, OSError) as error:
        raise WireError(f"{where}: the FLAC is damaged: {' '.join(str(error).split())[:200]}") from None
    if samples.shape != (count,):
        raise WireError(f"{where}: the FLAC ends after {len(samples)} of {count} samples")
    return samples.reshape(encoded.shape)


def _soundfile() -> Any:
    try:
        return importlib.import_module("soundfile")
    except (ImportError, OSError) as error:
        raise MissingExtra(f"FLAC needs soundfile ({error}); pip install 'edge-sdk[sound]'") from None

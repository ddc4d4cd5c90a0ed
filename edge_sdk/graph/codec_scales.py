"""How whole numbers stand for the values of a cut's tensors, from their ranges, and as text in the name of a tail."""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
import re
import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeAlias

from edge_sdk.errors import ModelError

__all__ = [
    "CHANNEL_CODECS",
    "CODECS",
    "LEVELS",
    "SCALED_CODECS",
    "Range",
    "Scale",
    "Scales",
    "channel_scales",
    "coding_mark",
    "coding_text",
    "read_coding",
    "tensor_scale",
]

CODECS = ("none", "fp16", "int8", "int8c", "int4", "int4c", "int16")
SCALED_CODECS = ("int8", "int8c", "int4", "int4c", "int16")
"""Those whose tail must know scales."""
CHANNEL_CODECS = {"int8c": "int8", "int4c": "int4"}
"""Those with scales a channel, each with its twin that has one scale a tensor."""
LEVELS = {"int8": 255, "int4": 15}
"""The largest whole number; the smallest is 0."""

_LARGEST_FLOAT32 = float.fromhex("0x1.fffffep127")
_LARGEST_INT16 = 32767
_SOUND_SCALE = 2.0**-15
"""Of 16-bit sound as floats from -1 to 1: with it the very samples of a recording travel."""
_QUIETEST_SOUND = 2.0**-6
_FARTHEST_ZERO = 112
"""Of 4 bits, in steps: zero may lie beside the 16 levels, since values behind ReLU6 or of uint8 do not surround it."""
_SCALE = re.compile(r"([0-9a-f]{8}):(-?[0-9]{1,3})")
_CHANNELS = re.compile(r"(-?[0-9]{1,3})\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]*)")
_MARK_CHARS = 64
_MANTISSA_BITS, _OCTAVES = 4, 16
_EXPONENTS = range(-149 + _OCTAVES - 1, 123 + 1)
"""Of the largest scale of a channel: the smallest is then a float32 too."""

Range: TypeAlias = tuple[float, float]
"""Smallest and largest value."""


class Scale(NamedTuple):
    """How whole numbers stand for values: value = scale · (number − zero_point).

    Attributes:
        scale: a float32, above 0.
        zero_point: 0 to 255 with 8 bits, -128 to 127 with 4, 0 with 16.
    """

    scale: float
    zero_point: int


Scales: TypeAlias = "Scale | tuple[Scale, ...]"
"""Of a tensor: one, or one for each of its channels."""


def tensor_scale(name: str, found: Range, codec: str) -> Scale:
    """The scale with which a range just fits.

    Args:
        name: of the tensor, for messages.
        found: its range.
        codec: "int8" (holds 0 exactly, as padding and ReLU want), "int4" or "int16".

    Raises:
        ModelError: the range is none.
    """
    scale, low = _raw_scale(name, found, codec)
    # Rounded as files hold it, so that whoever is told the scale makes the very same file.
    scale = _float32(scale) or 1.0
    return Scale(scale, _zero_point(low, scale, codec))


def channel_scales(name: str, found: Sequence[Range], codec: str) -> tuple[Scale, ...]:
    """Scales of all channels of a tensor, each rounded up so that a byte of text tells it: up to a 16th.

    Args:
        name: of the tensor, for messages.
        found: range of each channel.
        codec: "int8" or "int4".

    Raises:
        ModelError: a range is none.
    """
    raw = [_raw_scale(name, one, codec) for one in found]
    top = max((_rounded_up(scale)[1] for scale, _ in raw if scale > 0), default=0)
    top = min(max(top, _EXPONENTS.start), _EXPONENTS.stop - 1)
    scales = []
    for scale, low in raw:
        number, exponent = _rounded_up(max(scale, math.ldexp(1 << _MANTISSA_BITS, top - _OCTAVES + 1)))
        rounded = math.ldexp(number, exponent)
        scales.append(Scale(rounded, _zero_point(low, rounded, codec)))
    return tuple(scales)


def _raw_scale(name: str, found: Range, codec: str) -> tuple[float, float]:
    """The scale before rounding, and the smallest value."""
    low, high = found
    largest = max(-low, high)
    if not (math.isfinite(low) and math.isfinite(high)) or low > high or largest > _LARGEST_FLOAT32:
        raise ModelError(f"the range of {name!r} is {low} to {high}; expected finite float32, the smaller one first")
    if codec == "int16":
        return _scale_of_sound(largest), low
    if codec == "int8":
        low, high = min(low, 0.0), max(high, 0.0)
        return (high - low) / LEVELS[codec], low
    return max((high - low) / LEVELS[codec], max(abs(low), abs(high)) / _FARTHEST_ZERO), low


def _scale_of_sound(largest: float) -> float:
    """A power of two, so that recordings stay what they are. Samples may be quieter than what comes later."""
    if not largest or _QUIETEST_SOUND <= largest <= 1:
        return _SOUND_SCALE
    return math.ldexp(1.0, max(math.frexp(largest / _LARGEST_INT16)[1], -149))


def _zero_point(low: float, scale: float, codec: str) -> int:
    if codec == "int16":
        return 0
    least, most = (-128, 127) if codec == "int4" else (0, LEVELS[codec])
    return min(max(round(-low / scale), least), most)


def _rounded_up(scale: float) -> tuple[int, int]:
    """A number from 16 to 31 and an exponent of 2 that give a scale, or a little more."""
    mantissa, exponent = math.frexp(scale)
    bits = _MANTISSA_BITS + 1
    number = math.ceil(math.ldexp(mantissa, bits))
    return (number >> 1, exponent - bits + 1) if number == 1 << bits else (number, exponent - bits)


def _float32(number: float) -> float:
    rounded: float = struct.unpack("<f", struct.pack("<f", number))[0]
    return rounded


def coding_text(codec: str, scales: Sequence[Scales] = ()) -> str:
    """A codec with all that whoever makes the other part must know: "none", "fp16", or "int8=SCALE:ZERO,…".

    A tensor's one scale stands as the 8 hexadecimal digits of a float32 and its zero point in decimal. Scales of
    channels stand as `EXPONENT.SCALES.ZEROS`: base64 of a byte a channel, four bits of mantissa above how many octaves
    it is below the largest; then of the zero points, empty where all are 0.
    """
    if not scales:
        return codec
    return f"{codec}=" + ",".join(_one_text(one) for one in scales)


def coding_mark(codec: str, scales: Sequence[Scales] = ()) -> str:
    """What tells a codec with its scales from another: its text, or a hash of that where it is long.

    It travels with each answer, which scales of channels would make larger than many an answer is.
    """
    text = coding_text(codec, scales)
    return text if len(text) <= _MARK_CHARS else f"{codec}#{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _one_text(one: Scales) -> str:
    if isinstance(one, Scale):
        return f"{struct.pack('>f', one.scale).hex()}:{one.zero_point}"
    parts = [_rounded_up(scale.scale) for scale in one]
    top = max(_EXPONENTS.start, *(exponent for _, exponent in parts))
    codes = bytes((number & 15) << 4 | top - exponent for number, exponent in parts)
    zeros = bytes(scale.zero_point & 255 for scale in one)
    return f"{top}.{_base64(codes)}.{_base64(zeros) if any(zeros) else ''}"


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def read_coding(text: str, most: int = 256) -> tuple[str, tuple[Scales, ...]] | None:
    """What `coding_text` wrote; None where it is of another form, or a scale can be none.

    Args:
        text: any text.
        most: of how many tensors there may be scales.
    """
    codec, equals, listed = text.partition("=")
    if codec not in CODECS:
        return None
    if not equals:
        return codec, ()
    if codec not in SCALED_CODECS or listed.count(",") >= most:
        return None
    scales = []
    for one in listed.split(","):
        scale = _read_channels(one, codec) if codec in CHANNEL_CODECS and "." in one else _read_scale(one, codec)
        if scale is None:
            return None
        scales.append(scale)
    return codec, tuple(scales)


def _read_scale(text: str, codec: str) -> Scale | None:
    match = _SCALE.fullmatch(text)
    if match is None or not match[2].isascii():
        return None
    scale = Scale(struct.unpack(">f", bytes.fromhex(match[1]))[0], int(match[2]))
    if not (0 < scale.scale < math.inf) or not _fits(scale.zero_point, codec) or _one_text(scale) != text:
        return None
    return scale


def _fits(zero_point: int, codec: str) -> bool:
    if codec == "int16":
        return zero_point == 0
    return -128 <= zero_point <= 127 if CHANNEL_CODECS.get(codec, codec) == "int4" else 0 <= zero_point <= 255


def _read_channels(text: str, codec: str) -> tuple[Scale, ...] | None:
    match = _CHANNELS.fullmatch(text)
    if match is None or not match[1].isascii() or int(match[1]) not in _EXPONENTS:
        return None
    try:
        codes, zeros = (base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in match.groups()[1:])
    except binascii.Error:
        return None
    if len(zeros) not in (0, len(codes)):
        return None
    signed = CHANNEL_CODECS[codec] == "int4"
    scales = tuple(_channels(int(match[1]), codes, zeros or bytes(len(codes)), signed))
    return scales if _one_text(scales) == text else None


def _channels(top: int, codes: bytes, zeros: bytes, signed: bool) -> Iterable[Scale]:
    for code, zero in zip(codes, zeros, strict=True):
        scale = math.ldexp(16 + (code >> 4), top - (code & 15))
        yield Scale(scale, zero - 256 if signed and zero > 127 else zero)

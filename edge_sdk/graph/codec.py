"""How the tensors of a cut travel: the codec is part of head and tail, so any server can run the tail.

A head ends in what encodes, its tail begins with what decodes. "fp16" halves float32; "int8" makes bytes of floats with
a scale and a zero point for each tensor, from ranges seen on samples. What is no float32 travels as it is.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from edge_sdk.errors import DamagedModel, ModelError
from edge_sdk.graph.flow import Cut
from edge_sdk.graph.view import Graph

if TYPE_CHECKING:
    from edge_sdk.formats import ModelFile

__all__ = [
    "CODECS",
    "RECORD_KEY",
    "Coded",
    "Scale",
    "SplitRecord",
    "coded_tensors",
    "coding_text",
    "read_coding",
    "read_record",
    "wire_bytes",
]

CODECS = ("none", "fp16", "int8")
RECORD_KEY = "edge_sdk.split"
"""Under this name head and tail carry a `SplitRecord` as JSON in their metadata."""
_LEVELS = 255
_LARGEST_FLOAT32 = float.fromhex("0x1.fffffep127")
_SCALE = re.compile(r"([0-9a-f]{8}):([0-9]{1,3})")


class SplitRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a head or tail says of itself.

    Attributes:
        schema: version of this form.
        part: "head" or "tail".
        source: fingerprint of the whole model file, `ModelFile.fingerprint`.
        cut: id of the cut.
        tensors: of the cut, as the whole calls them.
        codec: how they travel.
        sent: names under which they travel: the tail's inputs, in its order.
    """

    schema: int = 1
    part: str
    source: str
    cut: str
    tensors: tuple[str, ...]
    codec: str
    sent: tuple[str, ...]


class Scale(NamedTuple):
    """How bytes stand for floats: value = scale · (byte − zero_point).

    Attributes:
        scale: a float32, above 0.
        zero_point: 0 to 255.
    """

    scale: float
    zero_point: int


@dataclass(frozen=True, slots=True)
class Coded:
    """How one tensor of a cut travels.

    Attributes:
        name: the tensor, as the whole calls it.
        codec: "none", "fp16" or "int8".
        sent: the name under which it travels: its own with codec "none".
        scale, zero_point: of "int8", as `Scale` has them.
    """

    name: str
    codec: str
    sent: str
    scale: float = 1.0
    zero_point: int = 0


def coded_tensors(
    graph: Graph,
    cut: Cut,
    codec: str,
    ranges: Mapping[str, tuple[float, float]],
    taken: Iterable[str] = (),
    scales: Sequence[Scale] = (),
) -> tuple[Coded, ...]:
    """How each tensor of a cut travels, in the cut's order.

    Args:
        graph: that is cut.
        cut: where.
        codec: one of `CODECS`.
        ranges: smallest and largest value of each float32 tensor; for "int8" only.
        taken: names that no new tensor may have, besides those of the graph.
        scales: instead of ranges, of each float32 tensor in the cut's order; for "int8" only.

    Raises:
        ModelError: there is no such codec, a range is missing or none, or there are more or fewer scales than tensors.
    """
    if codec not in CODECS:
        raise ModelError(f"there is no codec {codec!r}; expected one of {', '.join(CODECS)}")
    known = {*graph.tensors, *taken}
    floats = [name for name in cut.tensors if graph.tensors[name].dtype == "float32"]
    if scales and (codec != "int8" or len(scales) != len(floats)):
        raise ModelError(
            f"{len(scales)} scales are given with codec {codec}; the cut has {len(floats)} float32 tensors"
        )
    given = dict(zip(floats, scales, strict=True)) if scales else {}
    return tuple(_coded(graph, name, codec, ranges, given, known) for name in cut.tensors)


def _coded(
    graph: Graph,
    name: str,
    codec: str,
    ranges: Mapping[str, tuple[float, float]],
    scales: Mapping[str, Scale],
    known: set[str],
) -> Coded:
    if codec == "none" or graph.tensors[name].dtype != "float32":
        return Coded(name, "none", name)
    sent = base = f"{name}.{'float16' if codec == 'fp16' else 'uint8'}"
    number = 1
    while sent in known:
        number += 1
        sent = f"{base}{number}"
    known.add(sent)
    if codec == "fp16":
        return Coded(name, codec, sent)
    if name in scales:
        return Coded(name, codec, sent, *scales[name])
    if name not in ranges:
        raise ModelError(f"codec int8 needs the range of {name!r}; run the head on samples, or take codec fp16")
    return Coded(name, codec, sent, *_scale(name, *ranges[name]))


def _scale(name: str, low: float, high: float) -> Scale:
    """Of bytes that hold a range, with 0 held exactly."""
    if not (math.isfinite(low) and math.isfinite(high)) or low > high or max(-low, high) > _LARGEST_FLOAT32:
        raise ModelError(f"the range of {name!r} is {low} to {high}; expected finite float32, the smaller one first")
    low, high = min(low, 0.0), max(high, 0.0)
    # Rounded as files hold it, so that whoever is told the scale makes the very same file.
    scale = _float32((high - low) / _LEVELS) or 1.0
    return Scale(scale, min(max(round(-low / scale), 0), _LEVELS))


def _float32(number: float) -> float:
    rounded: float = struct.unpack("<f", struct.pack("<f", number))[0]
    return rounded


def coding_text(codec: str, scales: Sequence[Scale] = ()) -> str:
    """A codec with all that whoever makes the other part must know: "none", "fp16", or "int8=SCALE:ZERO,…" with each
    scale as the 8 hexadecimal digits of a float32 and each zero point in decimal."""
    if not scales:
        return codec
    return f"{codec}=" + ",".join(f"{struct.pack('>f', one.scale).hex()}:{one.zero_point}" for one in scales)


def read_coding(text: str, most: int = 256) -> tuple[str, tuple[Scale, ...]] | None:
    """What `coding_text` wrote; None where it is of another form, or a scale can be none.

    Args:
        text: any text.
        most: how many scales there may be.
    """
    codec, equals, listed = text.partition("=")
    if codec not in CODECS:
        return None
    if not equals:
        return codec, ()
    if codec != "int8" or listed.count(",") >= most:
        return None
    scales = []
    for one in listed.split(","):
        match = _SCALE.fullmatch(one)
        if match is None:
            return None
        scale = Scale(struct.unpack(">f", bytes.fromhex(match[1]))[0], int(match[2]))
        if not (0 < scale.scale < math.inf) or scale.zero_point > _LEVELS:
            return None
        scales.append(scale)
    return codec, tuple(scales)


def wire_bytes(graph: Graph, cut: Cut, codec: str) -> int | None:
    """What travels for one request, in bytes, before entropy coding; None where a size is unknown."""
    shares = {"none": 1, "fp16": 2, "int8": 4}
    total = 0
    for name in cut.tensors:
        tensor = graph.tensors[name]
        if tensor.bytes is None:
            return None
        total += tensor.bytes // shares[codec] if tensor.dtype == "float32" else tensor.bytes
    return total


def read_record(model: ModelFile) -> SplitRecord | None:
    """What a file says of itself if it is a head or a tail; None where it is neither. Needs no extra.

    Raises:
        ModelError: the file is damaged.
    """
    content = _record_content(model)
    if content is None:
        return None
    try:
        return msgspec.json.decode(content, type=SplitRecord)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DamagedModel(f"{model.name}: what it says of its cut cannot be read: {error}; split again") from None


def _record_content(model: ModelFile) -> bytes | None:
    if model.format == "onnx":
        text = model.describe().metadata.get(RECORD_KEY)
        return None if text is None else text.encode(errors="surrogateescape")
    from edge_sdk.formats import tflite_reader

    model.check()
    with model.content() as content:
        held = tflite_reader.read_model(content, model.name)
        for name, place in held.metadata:
            if name == RECORD_KEY and 0 < place < len(held.buffers):
                buffer = held.buffers[place]
                return bytes(content[buffer.start : buffer.start + buffer.size])
    return None

"""How the tensors of a cut travel: the codec is part of head and tail, so any server can run the tail.

A head ends in what encodes, its tail begins with what decodes. "fp16" halves float32; "int8" makes bytes of floats with
a scale and a zero point for each tensor, from ranges seen on samples. What is no float32 travels as it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from edge_sdk.errors import DamagedModel, ModelError
from edge_sdk.graph.flow import Cut
from edge_sdk.graph.view import Graph

if TYPE_CHECKING:
    from edge_sdk.formats import ModelFile

__all__ = ["CODECS", "RECORD_KEY", "Coded", "SplitRecord", "coded_tensors", "read_record", "wire_bytes"]

CODECS = ("none", "fp16", "int8")
RECORD_KEY = "edge_sdk.split"
"""Under this name head and tail carry a `SplitRecord` as JSON in their metadata."""
_LEVELS = 255


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


@dataclass(frozen=True, slots=True)
class Coded:
    """How one tensor of a cut travels.

    Attributes:
        name: the tensor, as the whole calls it.
        codec: "none", "fp16" or "int8".
        sent: the name under which it travels: its own with codec "none".
        scale, zero_point: of "int8": value = scale · (byte − zero_point), bytes from 0 to 255.
    """

    name: str
    codec: str
    sent: str
    scale: float = 1.0
    zero_point: int = 0


def coded_tensors(
    graph: Graph, cut: Cut, codec: str, ranges: Mapping[str, tuple[float, float]], taken: Iterable[str] = ()
) -> tuple[Coded, ...]:
    """How each tensor of a cut travels, in the cut's order.

    Args:
        graph: that is cut.
        cut: where.
        codec: one of `CODECS`.
        ranges: smallest and largest value of each float32 tensor; for "int8" only.
        taken: names that no new tensor may have, besides those of the graph.

    Raises:
        ModelError: there is no such codec, or a range is missing or none.
    """
    if codec not in CODECS:
        raise ModelError(f"there is no codec {codec!r}; expected one of {', '.join(CODECS)}")
    known = {*graph.tensors, *taken}
    return tuple(_coded(graph, name, codec, ranges, known) for name in cut.tensors)


def _coded(graph: Graph, name: str, codec: str, ranges: Mapping[str, tuple[float, float]], known: set[str]) -> Coded:
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
    if name not in ranges:
        raise ModelError(f"codec int8 needs the range of {name!r}; run the head on samples, or take codec fp16")
    scale, zero_point = _quantisation(name, *ranges[name])
    return Coded(name, codec, sent, scale, zero_point)


def _quantisation(name: str, low: float, high: float) -> tuple[float, int]:
    """Scale and zero point of bytes that hold a range, with 0 held exactly."""
    if not (math.isfinite(low) and math.isfinite(high)) or low > high:
        raise ModelError(f"the range of {name!r} is {low} to {high}; expected finite numbers, the smaller one first")
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / _LEVELS or 1.0
    return scale, min(max(round(-low / scale), 0), _LEVELS)


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

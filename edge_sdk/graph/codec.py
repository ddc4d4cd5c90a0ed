"""How the tensors of a cut travel: the codec is part of head and tail, so any server can run the tail.

A head ends in what encodes, its tail begins with what decodes. "fp16" halves float32; "int8" makes bytes of floats with
a scale and a zero point for each tensor, "int8c" for each channel; "int4" and "int4c" put two values into a byte, of
tensors that are bytes already too; "int16" is for sound. Ranges come from samples. What is of another dtype travels as
it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec

from edge_sdk.errors import DamagedModel, ModelError
from edge_sdk.graph.codec_scales import (
    CHANNEL_CODECS,
    CODECS,
    SCALED_CODECS,
    Range,
    Scale,
    Scales,
    channel_scales,
    coding_mark,
    coding_text,
    read_coding,
    tensor_scale,
)
from edge_sdk.graph.flow import Cut
from edge_sdk.graph.view import Graph, Tensor

if TYPE_CHECKING:
    from edge_sdk.formats import ModelFile

__all__ = [
    "CODECS",
    "RECORD_KEY",
    "SCALED_CODECS",
    "Coded",
    "Range",
    "Scale",
    "Scales",
    "SplitRecord",
    "coded_tensors",
    "coding_mark",
    "coding_text",
    "effective_codec",
    "packed_sizes",
    "read_coding",
    "read_record",
    "scaled_as",
    "wire_bytes",
]

RECORD_KEY = "edge_sdk.split"
"""Under this name head and tail carry a `SplitRecord` as JSON in their metadata."""
_SENT = {"fp16": "float16", "int8": "uint8", "int4": "uint4", "int16": "int16"}
_BYTES = ("uint8", "int8")
_LEAST_VALUES_A_CHANNEL = 16
"""With fewer, scales of channels would weigh more in the tail's name than they save."""


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
        mark: the codec with its scales, `coding_mark`; "" in files of before.
    """

    schema: int = 1
    part: str
    source: str
    cut: str
    tensors: tuple[str, ...]
    codec: str
    sent: tuple[str, ...]
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Coded:
    """How one tensor of a cut travels.

    Attributes:
        name: the tensor, as the whole calls it.
        codec: "none", "fp16", "int8", "int4" or "int16".
        sent: the name under which it travels: its own with codec "none".
        scale, zero_point: as `Scale` has them, where there is one of the tensor.
        channels: instead of these, one of each index of `axis`.
        axis: of the channels.
        dtype: of the tensor, as the whole has it.
        shape: likewise, open dimensions with the sizes that the graph assumes.
    """

    name: str
    codec: str
    sent: str
    scale: float = 1.0
    zero_point: int = 0
    channels: tuple[Scale, ...] = ()
    axis: int = 0
    dtype: str = "float32"
    shape: tuple[int, ...] = ()

    @property
    def scales(self) -> Scales | None:
        """What whoever makes the other part must know; None where that is nothing."""
        if self.codec not in SCALED_CODECS:
            return None
        return self.channels or Scale(self.scale, self.zero_point)


def coded_tensors(
    graph: Graph,
    cut: Cut,
    codec: str,
    ranges: Mapping[str, Range | tuple[Range, ...]],
    taken: Iterable[str] = (),
    scales: Sequence[Scales] = (),
) -> tuple[Coded, ...]:
    """How each tensor of a cut travels, in the cut's order.

    Args:
        graph: that is cut.
        cut: where.
        codec: one of `CODECS`.
        ranges: of each tensor that `scaled_as` names, one of the tensor or one a channel.
        taken: names that no new tensor may have, besides those of the graph.
        scales: instead of ranges, of each of these tensors in the cut's order.

    Raises:
        ModelError: there is no such codec, a range is missing or none, or there are more or fewer scales than tensors
            or channels.
    """
    if codec not in CODECS:
        raise ModelError(f"there is no codec {codec!r}; expected one of {', '.join(CODECS)}")
    known = {*graph.tensors, *taken}
    scaled = scaled_as(graph, cut, codec)
    if scales and len(scales) != len(scaled):
        raise ModelError(
            f"{len(scales)} scales are given with codec {codec}; the cut has {len(scaled)} tensors that it scales"
        )
    given = dict(zip(scaled, scales, strict=True)) if scales else {}
    coded = []
    for name in cut.tensors:
        tensor = graph.tensors[name]
        if name not in scaled and not (codec == "fp16" and tensor.dtype == "float32"):
            coded.append(Coded(name, "none", name, dtype=tensor.dtype, shape=tensor.shape or ()))
            continue
        plain, axis = scaled.get(name, ("fp16", None))
        one = Coded(name, plain, _sent(name, plain, known), dtype=tensor.dtype, shape=tensor.shape or ())
        coded.append(one if plain == "fp16" else _scaled(one, axis, ranges, given.get(name)))
    return tuple(coded)


def effective_codec(graph: Graph, cut: Cut, codec: str) -> str:
    """The codec, or "none" where it changes nothing: what it codes is not among the cut's tensors."""
    if codec == "fp16":
        return codec if any(graph.tensors[name].dtype == "float32" for name in cut.tensors) else "none"
    return codec if scaled_as(graph, cut, codec) else "none"


def scaled_as(graph: Graph, cut: Cut, codec: str) -> dict[str, tuple[str, int | None]]:
    """The tensors of a cut whose values a codec scales, in the cut's order.

    Returns:
        For each "int8", "int4" or "int16", and the axis of its channels where each has a scale of its own.
    """
    if codec not in SCALED_CODECS:
        return {}
    plain = CHANNEL_CODECS.get(codec, codec)
    able = ("float32", *_BYTES) if plain == "int4" else ("float32",)
    names = [name for name in cut.tensors if graph.tensors[name].dtype in able]
    return {n: (plain, _channel_axis(graph, n) if codec in CHANNEL_CODECS else None) for n in names}


def _channel_axis(graph: Graph, name: str) -> int | None:
    """Where a tensor has its channels; None where it has none, or they hold few values each."""
    shape = graph.tensors[name].shape or ()
    if len(shape) < 2:
        return None
    axis = 1 if graph.format == "onnx" and (len(shape) > 3 or _is_of_conv(graph, name)) else len(shape) - 1
    values = math.prod(size for place, size in enumerate(shape) if place not in (0, axis))
    return axis if values >= _LEAST_VALUES_A_CHANNEL else None


def _is_of_conv(graph: Graph, name: str) -> bool:
    return any("conv" in op.kind for op in graph.ops if name in op.outputs or name in op.inputs)


def _sent(name: str, codec: str, known: set[str]) -> str:
    sent = base = f"{name}.{_SENT[codec]}"
    number = 1
    while sent in known:
        number += 1
        sent = f"{base}{number}"
    known.add(sent)
    return sent


def _scaled(
    one: Coded, axis: int | None, ranges: Mapping[str, Range | tuple[Range, ...]], given: Scales | None
) -> Coded:
    if given is None:
        if one.name not in ranges:
            raise ModelError(
                f"codec {one.codec} needs the range of {one.name!r}; run the head on samples, or take codec fp16"
            )
        given = _made(one, axis, ranges[one.name])
    count = 0 if isinstance(given, Scale) else len(given)
    if count != (0 if axis is None else one.shape[axis]):
        told = "one scale" if not count else f"{count} scales of channels"
        expected = "one" if axis is None else f"{one.shape[axis]}, one a channel"
        raise ModelError(f"{told} given for {one.name!r}; expected {expected}")
    if isinstance(given, Scale):
        return replace(one, scale=given.scale, zero_point=given.zero_point)
    return replace(one, channels=given, axis=axis or 0)


def _made(one: Coded, axis: int | None, found: Range | tuple[Range, ...]) -> Scales:
    pairs = tuple(pair for pair in found if isinstance(pair, tuple))
    if axis is not None and len(pairs) == len(found):
        return channel_scales(one.name, pairs, one.codec)
    low, high = found
    if axis is not None or isinstance(low, tuple) or isinstance(high, tuple):
        expected = "one" if axis is None else "one of each channel"
        raise ModelError(f"the range of {one.name!r} is {str(found)[:100]}; expected {expected}")
    return tensor_scale(one.name, (low, high), one.codec)


def wire_bytes(graph: Graph, cut: Cut, codec: str) -> int | None:
    """What travels for one request, in bytes, before entropy coding; None where a size is unknown."""
    total = 0
    scaled = scaled_as(graph, cut, codec)
    for name in cut.tensors:
        tensor = graph.tensors[name]
        if tensor.bytes is None:
            return None
        plain = scaled[name][0] if name in scaled else codec if codec == "fp16" else "none"
        total += _coded_bytes(tensor, tensor.bytes, plain)
    return total


def _coded_bytes(tensor: Tensor, size_bytes: int, codec: str) -> int:
    if codec == "int4":
        first, rest = packed_sizes(tensor.shape or ())
        return first * -(-rest // 2)
    return size_bytes // {"fp16": 2, "int16": 2, "int8": 4}.get(codec, 1) if tensor.dtype == "float32" else size_bytes


def packed_sizes(shape: Sequence[int]) -> tuple[int, int]:
    """How a tensor of 4-bit values is laid out before packing: the first dimension, which may be open, and the rest."""
    return (shape[0], math.prod(shape[1:])) if len(shape) > 1 else (1, math.prod(shape))


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

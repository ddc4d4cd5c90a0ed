"""What encodes and decodes a tensor, as a chain of steps that both formats have ops for in every engine.

Values of 4 bits travel two to a byte, the former of a pair in the lower half: ONNX Runtime hands out no 4-bit tensors
in Python. They are packed and unpacked by sums of small whole numbers, which float32 holds exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_sdk.graph.codec import Coded, packed_sizes
from edge_sdk.graph.codec_scales import LEVELS
from edge_sdk.tensors import Array

__all__ = ["Step", "decoding", "encoding", "has_steps"]

_INT16 = (-32768.0, 32767.0)


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One step.

    Attributes:
        op: "cast", "mul", "add", "round", "clip", "reshape"; "pad" and "drop" append a 0 to the last axis and take the
            last one off; "pack" makes one number of each two along the last axis; "unpack" puts a last axis of two in.
        dtype: that a cast gives.
        constant: that is multiplied or added, float32, and broadcasts.
        bounds: of a clip.
        shape: of what a step gives, where that is another than it takes; -1 first where that size may be open.
    """

    op: str
    dtype: str = ""
    constant: Array | None = None
    bounds: tuple[float, float] = (0.0, 0.0)
    shape: tuple[int, ...] = ()


def has_steps(one: Coded) -> bool:
    """Whether a tensor is coded by these steps: not by one op that does it alone."""
    return one.codec in ("int4", "int16") or bool(one.channels)


def encoding(one: Coded) -> list[Step]:
    """From the tensor to what travels."""
    scale, zero = _constants(one)
    inverse = np.minimum(1 / scale.astype(np.float64), np.finfo(np.float32).max).astype(np.float32)
    steps = [] if one.dtype == "float32" else [Step("cast", dtype="float32")]
    steps.append(Step("mul", constant=inverse))
    if one.codec == "int16":
        return [*steps, Step("round"), Step("clip", bounds=_INT16), Step("cast", dtype="int16")]
    steps += [Step("add", constant=zero), Step("round"), Step("clip", bounds=(0.0, float(LEVELS[one.codec])))]
    if one.codec == "int4":
        rest = packed_sizes(one.shape)[1]
        half = -(-rest // 2)
        if rest % 2:
            steps += [Step("reshape", shape=(-1, rest)), Step("pad", shape=(-1, rest + 1))]
        steps += [Step("reshape", shape=(-1, half, 2)), Step("pack", shape=(-1, half, 1))]
        steps.append(Step("reshape", shape=(-1, half)))
    return [*steps, Step("cast", dtype="uint8")]


def decoding(one: Coded) -> list[Step]:
    """From what travels to the tensor."""
    scale, zero = _constants(one)
    steps = [Step("cast", dtype="float32")]
    if one.codec == "int4":
        rest = packed_sizes(one.shape)[1]
        half = -(-rest // 2)
        steps += [Step("unpack", shape=(-1, half, 2)), Step("reshape", shape=(-1, 2 * half))]
        if rest % 2:
            steps.append(Step("drop", shape=(-1, rest)))
        steps.append(Step("reshape", shape=(-1, *one.shape[1:]) if len(one.shape) > 1 else one.shape))
    if one.codec != "int16":
        steps.append(Step("add", constant=-zero))
    steps.append(Step("mul", constant=scale))
    if one.dtype != "float32":
        held = np.iinfo(one.dtype)
        steps += [Step("round"), Step("clip", bounds=(float(held.min), float(held.max))), Step("cast", dtype=one.dtype)]
    return steps


def _constants(one: Coded) -> tuple[Array, Array]:
    """Scale and zero point, shaped so that they broadcast along the axis of the channels."""
    if not one.channels:
        return np.array(one.scale, np.float32), np.array(one.zero_point, np.float32)
    shape = (-1,) + (1,) * (len(one.shape) - one.axis - 1)
    scales, zeros = zip(*one.channels, strict=True)
    return np.array(scales, np.float32).reshape(shape), np.array(zeros, np.float32).reshape(shape)

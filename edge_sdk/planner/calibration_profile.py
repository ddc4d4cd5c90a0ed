"""ONNX Runtime's own profile of a run, read as kernels with their work and their time.

The profiler writes one event for each kernel of each run, with the shapes of what went in and came out. Its own work is
inside the times it writes: some microseconds a kernel, more with several threads.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_sdk.graph.onnx_kinds import kind_of
from edge_sdk.planner.cost_work import Work, class_by, conv_sort, gemm_sort, padded_macs, sort_of

__all__ = ["KernelTime", "class_of_event", "read_profile", "work_of_event"]

_SUFFIX = "_kernel_time"
_REORDERS = ("ReorderInput", "ReorderOutput")
_NUMBER = re.compile(r"[kv](\d+)")
_BYTES = {"float": 4, "double": 8, "float16": 2, "int64": 8, "int32": 4, "int8": 1, "uint8": 1, "bool": 1}
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class KernelTime:
    """One kernel of a profiled model.

    Attributes:
        name: of its node, as the engine calls it.
        event: the profiler's facts about it (`args`).
        ms: its time in one run, the profiler's own work in it.
    """

    name: str
    event: Mapping[str, Any]
    ms: float


def read_profile(path: Path, chosen: Sequence[int]) -> tuple[KernelTime, ...]:
    """The kernels in a profile file, each with its mean time over some of the runs.

    Args:
        path: what `InferenceSession.end_profiling` wrote.
        chosen: which runs count, in the order they were made.
    """
    events = json.loads(path.read_bytes())
    runs = sorted((e for e in events if e.get("name") == "model_run"), key=lambda e: e["ts"])
    spans = [(runs[number]["ts"], runs[number]["ts"] + runs[number]["dur"]) for number in chosen if number < len(runs)]
    found: dict[tuple[str, str], tuple[Mapping[str, Any], list[float]]] = {}
    for event in events:
        if event.get("cat") != "Node" or not event["name"].endswith(_SUFFIX):
            continue
        if any(start <= event["ts"] <= end for start, end in spans):
            key = event["args"].get("node_index", ""), event["name"]
            found.setdefault(key, (event["args"], []))[1].append(event["dur"])
    return tuple(
        KernelTime(name.removesuffix(_SUFFIX), args, sum(times) / len(spans) / 1e3)
        for (_, name), (args, times) in found.items()
    )


def work_of_event(kernel: KernelTime, weights: Mapping[int, tuple[Shape, ...]], block: int) -> Work:
    """The work of a kernel of a calibration network.

    Args:
        kernel: from `read_profile`.
        weights: see `OnnxWriter.weights`.
        block: the engine's channel block.
    """
    op = str(kernel.event["op_name"])
    inputs, outputs = _tensors(kernel.event["input_type_shape"]), _tensors(kernel.event["output_type_shape"])
    kind = _kind(op)
    if op in _REORDERS:
        return Work("reorder", "float32", 0.0, _size(inputs[:1]), _size(outputs), 0.0)
    match = _NUMBER.search(kernel.name)
    # What was joined bears the name of its first op or of its last result: the weights are at that number or just
    # below.
    number = int(match[1]) if match else -1
    if kind == "conv":
        number = max((n for n in weights if n <= number), default=-1)
    known = weights.get(number, ())
    return (
        _weighted(op, kind, inputs, outputs, known, block)
        if known and kind in _WEIGHTED
        else _plain(op, kind, inputs, outputs)
    )


def class_of_event(kernel: KernelTime) -> str:
    """The class (`cost_work.CLASSES`) of a kernel of any model."""
    op = str(kernel.event["op_name"])
    kind = _kind(op)
    inputs, outputs = _tensors(kernel.event["input_type_shape"]), _tensors(kernel.event["output_type_shape"])
    if kind not in _WEIGHTED or not inputs or not outputs:
        return class_by(sort_of(kind, [op], op not in _REORDERS), "", False, None)
    integer = inputs[0][0] in ("uint8", "int8")
    data, out = inputs[0][1], outputs[0][1]
    sort = kind
    rows = math.prod(out[:-1])
    if kind == "conv":
        channels, weights = (data[-1] if integer else data[1]), inputs[1][1] if len(inputs) > 1 else ()
        sort = "depthwise_conv" if len(weights) > 2 and weights[1] == 1 and channels > 1 else kind
        rows = math.prod(out) // max(1, out[-1] if integer else out[1])
    shared = kind == "matmul" and len(inputs) > 1 and len(inputs[1][1]) > 2
    return class_by(sort, "int8" if integer else "float32", True, None if shared else rows)


def _kind(op: str) -> str:
    return next((k for k in (kind_of(op)[0], kind_of(f"com.microsoft.{op}")[0]) if k != "other"), "other")


_WEIGHTED = frozenset({"conv", "conv_transpose", "gemm", "matmul", "recurrent"})
Tensors = list[tuple[str, Shape]]


def _weighted(op: str, kind: str, inputs: Tensors, outputs: Tensors, weights: tuple[Shape, ...], block: int) -> Work:
    dtype, data = inputs[0]
    precision = "int8" if dtype in ("uint8", "int8") else "float32"
    size = 1 if precision == "int8" else 4
    count = sum(math.prod(shape) for shape in weights)
    out = outputs[0][1]
    moved = _size(inputs[:1]), _size(outputs)
    if kind == "recurrent":
        return Work(op.lower(), precision, float(data[0] * data[1] * count), *moved, float(size * count))
    if kind == "conv":
        shape = weights[0]
        plain = 0 if precision == "int8" else block
        channels = data[-1] if precision == "int8" else data[1]
        group = max(1, _real(channels, shape[1]) // shape[1])
        into = group * shape[1]
        macs = float(math.prod(out) // (out[-1] if precision == "int8" else out[1]) * count)
        sort = conv_sort(shape[2:], _stride(data, out, precision == "int8"), into, shape[0], group, plain)
        if sort not in ("conv_plain", "depthwise_plain"):
            macs = padded_macs(macs, into, shape[0], group, plain)
        return Work(sort, precision, macs, *moved, float(size * count))
    if kind == "conv_transpose":
        return Work(kind, precision, float(math.prod(data) * count / weights[0][0]), *moved, float(size * count))
    macs = float(math.prod(out) * count / out[-1])
    return Work(gemm_sort(macs, size * count, size), precision, macs, *moved, float(size * count))


def _stride(data: Shape, out: Shape, channels_last: bool) -> int:
    axis = 1 if channels_last else 2
    return max(1, round(data[axis] / max(1, out[axis])))


def _real(channels: int, each: int) -> int:
    """Channels without the padding to a block."""
    return channels if channels % each == 0 else channels // each * each or each


def _plain(op: str, kind: str, inputs: Tensors, outputs: Tensors) -> Work:
    dtype = next((d for d, shape in inputs if len(shape) > 1), "float")
    precision = "int8" if dtype in ("uint8", "int8") or kind == "quantize" else "float32"
    macs = 0.0
    if kind in ("matmul", "gemm") and inputs and outputs:
        macs = float(math.prod(outputs[0][1]) * inputs[0][1][-1])
    data = [tensor for tensor in inputs if len(tensor[1]) > 1]
    return Work(sort_of(kind, [op]), precision, macs, _size(data), _size(outputs), 0.0)


def _tensors(described: Sequence[Mapping[str, Sequence[int]]]) -> Tensors:
    return [(dtype, tuple(shape)) for tensor in described for dtype, shape in tensor.items()]


def _size(tensors: Tensors) -> float:
    return float(sum(_BYTES.get(dtype, 4) * math.prod(shape) for dtype, shape in tensors))

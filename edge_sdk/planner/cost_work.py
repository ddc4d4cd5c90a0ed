"""The work of one kernel as the cost model sees it: what sort of kernel, how much it computes, how much it moves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edge_sdk.graph.kernels import FusedGroup
from edge_sdk.graph.view import Graph, Op

__all__ = [
    "CLASSES",
    "FEATURES",
    "Work",
    "class_by",
    "class_of",
    "conv_sort",
    "gemm_sort",
    "padded_macs",
    "sort_of",
    "works_of",
]

_TRANSCENDENTAL = frozenset({"Erf", "Exp", "Log", "Pow", "Sin", "Cos", "Tan", "Mish", "Softplus"})
_SIGMOIDS = frozenset({"Sigmoid", "Tanh", "QuickGelu", "Gelu", "FastGelu", "BiasGelu", "LOGISTIC", "TANH", "GELU"})
FEW_ROWS = 6
FEATURES = ("calls", "macs", "input_bytes", "output_bytes", "parameter_bytes")
"""What a rate is given for, in the order of `Work.features`."""
CLASSES = ("products", "products_int8", "depthwise", "stream", "map", "recurrent", "light")
"""How kernels take to more threads: products split well, a stream of weights waits for memory, a map over numbers
splits where it is long, a recurrent layer goes step by step, and what only moves data stays on one thread."""
_MAPS = frozenset({"arithmetic", "sigmoid", "transcendental", "softmax", "normalization", "pool", "global_pool",
                   "reduce", "resize", "reorder", "quantize", "dequantize"})  # fmt: skip
_BYTES = ("int8", "uint8")
STREAM_ROWS = 64
"""Where each weight makes fewer products than this, reading weights is much of the time."""


@dataclass(frozen=True, slots=True)
class Work:
    """One kernel.

    Attributes:
        sort: finer than `FusedGroup.kind` where kernels of one kind differ in speed: "conv_1x1", "conv", "conv_first",
            "depthwise_conv", "conv_plain" (not in blocked layout), "sigmoid", "reorder", …
        precision: "float32", "int8", …; "uint8" for TFLite ops on unsigned bytes: engines have slower kernels for them.
        macs: multiply-accumulates that are carried out: channels are padded to the engine's block.
        input_bytes, output_bytes: activations.
        parameter_bytes: weights.
    """

    sort: str
    precision: str
    macs: float
    input_bytes: float
    output_bytes: float
    parameter_bytes: float

    @property
    def features(self) -> tuple[float, ...]:
        """As `FEATURES` says."""
        return (1.0, self.macs, self.input_bytes, self.output_bytes, self.parameter_bytes)


def class_of(work: Work) -> str:
    """Which of `CLASSES` a kernel belongs to."""
    size = 1 if work.precision.startswith(_BYTES) else 2 if work.precision.endswith("16") else 4
    weights = work.parameter_bytes / size
    rows = int(work.macs / weights) if weights else None
    return class_by(work.sort, work.precision, bool(work.macs), rows)


def class_by(sort: str, precision: str, products: bool, rows: int | None) -> str:
    """Which of `CLASSES` a kernel belongs to.

    Args:
        sort, precision: as of `Work`.
        products: whether it makes any.
        rows: how many products each weight makes; None where it has no weights.
    """
    if sort in ("lstm", "gru", "rnn", "recurrent"):
        return "recurrent"
    if not products:
        return "map" if sort in _MAPS else "light"
    if sort.startswith("depthwise"):
        return "depthwise"
    if rows is not None and rows < STREAM_ROWS:
        return "stream"
    return "products_int8" if precision.startswith(_BYTES) else "products"


def conv_sort(kernel: Sequence[int], stride: int, into: int, out: int, group: int, block: int) -> str:
    """The sort of a convolution: kernel sizes, stride, channels in and out of all groups, and the engine's channel
    block."""
    if group > 1 and into == group:
        return "depthwise_conv" if len(kernel) > 1 or not block else "depthwise_plain"
    if len(kernel) < 2 or group > 1:
        return "conv_plain" if block else "conv"
    if into < 16:
        return "conv_first"
    if math.prod(kernel) == 1:
        return "conv_1x1"
    # Engines have shorter ways to convolve by 3x3 at stride 1.
    return "conv" if stride == 1 and max(kernel) <= 3 else "conv_strided"


def padded_macs(macs: float, into: int, out: int, group: int, block: int) -> float:
    """The products that a kernel in blocks of channels really makes."""
    if not block or macs <= 0:
        return macs
    pad_out = -(-out // block) * block / max(1, out)
    if group > 1:
        return macs * pad_out
    pad_in = -(-into // block) * block / into if into >= block else 1.0
    return macs * pad_in * pad_out


def works_of(graph: Graph, groups: Sequence[FusedGroup], block: int) -> tuple[Work, ...]:
    """The work of each kernel of a graph; those that move nothing and compute nothing too, since each has its call."""
    ops = {op.name: op for op in graph.ops}
    return tuple(_work(group, ops, _precision(group, ops, graph), block) for group in groups)


def _precision(group: FusedGroup, ops: Mapping[str, Op], graph: Graph) -> str:
    lead = ops.get(group.lead)
    if graph.format == "tflite" and lead is not None and group.precision == "int8":
        taken = next((graph.tensors[name] for name in lead.inputs if name in graph.tensors), None)
        return "uint8" if taken is not None and taken.dtype == "uint8" else "int8"
    return {"int8 (dynamic)": "int8_dynamic"}.get(group.precision, group.precision.split(" ")[0])


def _work(group: FusedGroup, ops: Mapping[str, Op], precision: str, block: int) -> Work:
    lead = ops.get(group.lead)
    types = [ops[name].type.rpartition(".")[2] for name in group.ops]
    macs = float(group.macs or 0)
    if group.kind in ("conv", "depthwise_conv") and lead is not None and "in_channels" in lead.attributes:
        kernel = tuple(lead.attributes.get("kernel", (1, 1)))
        into, out, groups = (int(lead.attributes[key]) for key in ("in_channels", "out_channels", "group"))
        real = block if precision == "float32" else 0
        stride = max(lead.attributes.get("strides", (1,)), default=1)
        sort = conv_sort(kernel, stride, into, out, groups, block if precision == "float32" else 0)
        macs = padded_macs(macs, into, out, groups, real if sort not in ("conv_plain", "depthwise_plain") else 0)
    else:
        sort = sort_of(group.kind, types, bool(group.ops))
    parameter_bytes = float(group.parameter_bytes) if group.macs else 0.0
    if sort == "gemm" and parameter_bytes:
        sort = gemm_sort(macs, parameter_bytes, 1 if precision in _BYTES else 4)
    return Work(sort, precision, macs, group.input_bytes, group.output_bytes, parameter_bytes)


def gemm_sort(macs: float, parameter_bytes: float, weight_bytes: int) -> str:
    """With few rows each weight is read for little work, and reading is what takes the time."""
    return "gemv" if macs * weight_bytes < FEW_ROWS * parameter_bytes else "gemm"


def sort_of(kind: str, types: Sequence[str], of_model: bool = True) -> str:
    """The sort of a kernel that is no convolution.

    Args:
        kind: as `FusedGroup.kind`.
        types: types of the ops in it, without their domain.
        of_model: False for a reordering that the engine added.
    """
    if not of_model:
        return "reorder"
    if kind in ("elementwise", "activation"):
        if any(name in _SIGMOIDS or name == "QLinearSigmoid" for name in types):
            return "sigmoid"
        return "transcendental" if any(name in _TRANSCENDENTAL for name in types) else "arithmetic"
    if kind == "pool" and any("Global" in name for name in types):
        return "global_pool"
    if kind == "recurrent":
        return types[0].lower() if types else kind
    return kind

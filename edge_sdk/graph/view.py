"""One view of an ONNX or TFLite file: ops in the order they run, tensors, and what each op costs.

Costs are counts, not times: multiply-accumulates and bytes. What they mean in milliseconds on a device is the planner's
affair.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Graph", "Op", "Tensor"]


@dataclass(frozen=True, slots=True)
class Tensor:
    """A value that flows between ops, or a weight.

    Attributes:
        name: unique within the graph.
        dtype: "float32", "int8", …; "" where no source tells.
        shape: sizes; None where it could not be inferred even for the assumed input sizes.
        constant: whether it is a weight, or computed from weights alone.
        bytes: size in memory (4-bit types two to a byte); None where `shape` or `dtype` is unknown.
    """

    name: str
    dtype: str
    shape: tuple[int, ...] | None
    constant: bool
    bytes: int | None


@dataclass(frozen=True, slots=True)
class Op:
    """One operator, subgraphs of control flow counted into it once.

    Attributes:
        name: unique within the graph.
        type: as the file spells it ("Conv", "CONV_2D", "com.microsoft.FusedConv").
        kind: the same word for both formats: "conv", "depthwise_conv", "conv_transpose", "gemm" (a product with
            weights), "matmul" (of two activations), "elementwise", "activation", "softmax", "normalization", "pool",
            "reduce", "reshape" (no data moves), "transpose", "concat", "slice", "gather", "resize", "pad", "quantize",
            "dequantize", "recurrent", "attention", "control", "other".
        inputs, outputs: names of tensors; "" where an optional input is left out. An op of control flow has what its
            subgraphs take from around it behind its own inputs.
        attributes: what shapes the cost: "kernel", "strides", "group", "in_channels" of convolutions; "batch", "m",
            "n", "k" of products; "steps", "hidden_size" of recurrent layers; "activation" where it is part of the op.
        macs: multiply-accumulates; None where no rule covers the op or a shape is unknown (`counted` is then False).
            Only products that are summed up count: elementwise arithmetic, normalisation and pooling have 0.
        parameters: number of weights it reads; 0 for an op that only prepares weights (`Tensor.constant` outputs).
        parameter_bytes, input_bytes, output_bytes: what it reads and writes; activations apart from weights, which are
            counted as the file stores them, and of a table only the rows looked up.
        precision: what it computes in: "float32", "float16", "int8", "int8 (dynamic)", "int8 (weights only)",
            "int4 (weights only)", …
        counted: whether `macs` is known.
    """

    name: str
    type: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    macs: int | None = None
    parameters: int = 0
    parameter_bytes: int = 0
    input_bytes: int = 0
    output_bytes: int = 0
    precision: str = "float32"
    counted: bool = True


@dataclass(frozen=True, slots=True)
class Graph:
    """A model file as a graph.

    Attributes:
        format: "onnx" or "tflite".
        ops: in an order in which they can run. ONNX `Constant` nodes are no ops: they are weights.
        tensors: by name.
        inputs, outputs: names of tensors, in the file's order; initialisers listed as inputs are constants, not inputs.
        assumed: sizes taken for open dimensions, by their name or "input[axis]".
        macs: sum over counted ops.
        parameters, parameter_bytes: weights, each counted once even where several ops read it.
        activation_bytes: sum of all activations.
        peak_activation_bytes: the most that lives at one moment when ops run in order and each tensor is freed after
            its last reader (inputs and outputs included, a reshaped tensor counted once). An engine's plan may differ.
        uncounted: how often each op type without a cost rule occurs.
    """

    format: str
    ops: tuple[Op, ...]
    tensors: Mapping[str, Tensor]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    assumed: Mapping[str, int]
    macs: int
    parameters: int
    parameter_bytes: int
    activation_bytes: int
    peak_activation_bytes: int
    uncounted: Mapping[str, int]

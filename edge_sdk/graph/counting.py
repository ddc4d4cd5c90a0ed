"""How many multiply-accumulates an op takes, by the form of its operands: what both formats' rules are made of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Cost", "Operands", "Shape", "conv_cost", "conv_transpose_cost", "matmul_cost", "recurrent_cost"]

Shape = tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class Operands:
    """One op as its rule sees it.

    Attributes:
        type: as the file spells it.
        inputs, outputs: shapes; None where unknown or left out.
        constant: which inputs are weights.
        options: the file's own attributes or options, by name.
    """

    type: str
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]
    constant: tuple[bool, ...]
    options: Mapping[str, Any]

    def input(self, index: int) -> Shape:
        """Shape of an input; None where unknown or left out."""
        return self.inputs[index] if index < len(self.inputs) else None

    def output(self) -> Shape:
        """Shape of the first output; None where unknown."""
        return self.outputs[0] if self.outputs else None

    def is_constant(self, index: int) -> bool:
        """Whether an input is a weight."""
        return index < len(self.constant) and self.constant[index]


@dataclass(frozen=True, slots=True)
class Cost:
    """What a rule finds: multiply-accumulates (None where shapes are missing), and what shapes them.

    `kind` is set where it depends on the shapes.
    """

    macs: int | None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    kind: str = ""


def conv_cost(
    output: Shape, kernel: tuple[int, ...] | None, in_channels: int, out_channels: int, group: int, **attributes: Any
) -> Cost:
    """A convolution: every output element is a sum over the kernel and its group's input channels.

    Args:
        output: shape of the output, batch and channels included in any order.
        kernel: its spatial sizes.
        in_channels, out_channels: of all groups together.
        group: number of groups.
        attributes: handed on.
    """
    if output is None or kernel is None or group < 1:
        return Cost(None, attributes)
    macs = math.prod(output) * math.prod(kernel) * (in_channels // group)
    depthwise = group > 1 and group == in_channels
    shaped = {"kernel": kernel, "in_channels": in_channels, "out_channels": out_channels, "group": group}
    return Cost(macs, {**shaped, **attributes}, "depthwise_conv" if depthwise else "conv")


def conv_transpose_cost(
    input: Shape, kernel: tuple[int, ...] | None, in_channels: int, out_channels: int, group: int, **attributes: Any
) -> Cost:
    """A transposed convolution: every input element is spread over the kernel and its group's output channels."""
    if input is None or kernel is None or group < 1:
        return Cost(None, attributes)
    macs = math.prod(input) * math.prod(kernel) * (out_channels // group)
    shaped = {"kernel": kernel, "in_channels": in_channels, "out_channels": out_channels, "group": group}
    return Cost(macs, {**shaped, **attributes})


def matmul_cost(output: Shape, k: int | None, constant: bool) -> Cost:
    """A matrix product: every output element is a sum over `k`. With a constant matrix it is of kind "gemm"."""
    kind = "gemm" if constant else "matmul"
    if output is None or k is None:
        return Cost(None, {}, kind)
    n = output[-1] if output else 1
    m = output[-2] if len(output) > 1 else 1
    batch = math.prod(output[:-2])
    return Cost(batch * m * n * k, {"batch": batch, "m": m, "n": n, "k": k}, kind)


def recurrent_cost(steps: int, batch: int, input_size: int, hidden_size: int, gates: int, directions: int = 1) -> Cost:
    """A recurrent layer: every gate multiplies input and state, at every step."""
    macs = steps * batch * directions * gates * hidden_size * (input_size + hidden_size)
    attributes = {
        "steps": steps, "batch": batch, "input_size": input_size, "hidden_size": hidden_size, "gates": gates,
        "directions": directions,
    }  # fmt: skip
    return Cost(macs, attributes)

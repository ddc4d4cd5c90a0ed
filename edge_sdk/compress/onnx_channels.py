"""Which channels of an ONNX model hang together: what must go when one convolution loses an output channel.

Every channel of every activation is traced to the units it is made of. A convolution makes new units; a depthwise
convolution, a normalisation or an activation passes them on; a sum ties them pairwise; a concatenation lines them
up. What no rule covers holds its units fast, so that an unknown op costs pruning, never correctness. The idea is
that of Fang et al., "DepGraph: Towards Any Structural Pruning" (2023).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from edge_sdk.compress.onnx_graphs import attribute, initializers, read_by
from edge_sdk.compress.onnx_units import Channels, Cut, Producer, Reader
from edge_sdk.compress.tools import needed
from edge_sdk.tensors import Array

__all__ = ["trace"]

_SAME = frozenset(
    (
        "Relu", "Clip", "LeakyRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Elu", "Selu", "Celu", "Softplus",
        "Softsign", "Erf", "Sqrt", "Abs", "Neg", "Exp", "Gelu", "Mish", "Identity", "Dropout", "ThresholdedRelu",
        "MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool",
    )
)  # fmt: skip
_PAIRWISE = frozenset({"Add", "Sub", "Mul", "Div", "Max", "Min"})


def trace(model: Any) -> Channels:
    """Traces the channels of a prepared `ModelProto` with inferred shapes."""
    return _Tracer(model).run()


class _Tracer:
    """Walks the graph once in the order it runs."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.found = Channels()
        self.units: dict[str, Array] = {}
        self.weights = initializers(model)
        self.shapes = dict(_shapes(model))
        self.readers: dict[str, int] = {}
        for node in model.graph.node:
            for name in read_by(node):
                self.readers[name] = self.readers.get(name, 0) + 1

    def run(self) -> Channels:
        for node in self.model.graph.node:
            rule = _RULES.get(node.op_type) if node.domain in ("", "ai.onnx") else None
            if node.op_type in _SAME:
                rule = _Tracer.same
            elif node.op_type in _PAIRWISE:
                rule = _Tracer.pairwise
            if rule is None or not rule(self, node):
                self.hold(read_by(node))
        self.hold(entry.name for entry in self.model.graph.output)
        return self.found

    def hold(self, names: Any) -> None:
        for name in names:
            if name in self.units:
                self.found.held.update(int(unit) for unit in self.units[name])

    def fresh(self, count: int) -> Array:
        first = len(self.found.parents)
        self.found.parents.extend(range(first, first + count))
        return np.arange(first, first + count, dtype=np.int64)

    def own(self, name: str, dimensions: int | None = None) -> Any | None:
        """A weight that nothing else reads."""
        weight = self.weights.get(name)
        if weight is None or self.readers.get(name) != 1:
            return None
        return weight if dimensions is None or len(weight.dims) == dimensions else None

    # --- rules: each returns whether it covers the node; nothing was changed where it does not ---

    def same(self, node: Any) -> bool:
        if node.input[0] not in self.units:
            return True
        if any(name in self.units for name in read_by(node)[1:]):
            return False
        for name in node.output[:1]:
            self.units[name] = self.units[node.input[0]]
        return True

    def conv(self, node: Any) -> bool:
        kernel = self.own(node.input[1])
        bias = node.input[2] if len(node.input) > 2 else ""
        if kernel is None or (bias and self.own(bias, 1) is None):
            return False
        given = self.units.get(node.input[0])
        group, outputs = attribute(node, "group", 1), kernel.dims[0]
        if group > 1 and given is not None and group == len(given) and kernel.dims[1] == 1 and outputs % group == 0:
            units = np.repeat(given, outputs // group)
            self.found.grouped.append((node, units))
            self.found.cuts.append(Cut(kernel.name, 0, units))
        elif group == 1:
            units = self.made(node, kernel.name, 0, outputs)
            self.read(node, kernel.name, 1, given, units)
        else:
            return False
        if bias:
            self.found.cuts.append(Cut(bias, 0, units))
        self.units[node.output[0]] = units
        return True

    def conv_transpose(self, node: Any) -> bool:
        kernel = self.own(node.input[1])
        bias = node.input[2] if len(node.input) > 2 else ""
        if kernel is None or (bias and self.own(bias, 1) is None) or attribute(node, "group", 1) != 1:
            return False
        units = self.made(node, kernel.name, 1, kernel.dims[1])
        self.read(node, kernel.name, 0, self.units.get(node.input[0]), units)
        if bias:
            self.found.cuts.append(Cut(bias, 0, units))
        self.units[node.output[0]] = units
        return True

    def product(self, node: Any) -> bool:
        """Gemm and MatMul of a matrix of samples by features with constant weights."""
        gemm = node.op_type == "Gemm"
        matrix = self.own(node.input[1], 2)
        shape = self.shapes.get(node.input[0])
        bias = node.input[2] if len(node.input) > 2 else ""
        if matrix is None or shape is None or len(shape) != 2 or (gemm and attribute(node, "transA", 0)):
            return False
        outward = 0 if gemm and attribute(node, "transB", 0) else 1
        shrinking = None if not bias else self.own(bias)
        if bias and (shrinking is None or shrinking.dims[-1:] != [matrix.dims[outward]]):
            return False
        units = self.made(node, matrix.name, outward, matrix.dims[outward])
        self.read(node, matrix.name, 1 - outward, self.units.get(node.input[0]), units)
        if shrinking is not None:
            self.found.cuts.append(Cut(bias, len(shrinking.dims) - 1, units))
        self.units[node.output[0]] = units
        return True

    def normalisation(self, node: Any) -> bool:
        given = self.units.get(node.input[0])
        if given is None:
            return True
        if any(self.own(name, 1) is None for name in node.input[1:]) or len(node.output) > 1:
            return False
        self.found.cuts.extend(Cut(name, 0, given) for name in node.input[1:])
        self.units[node.output[0]] = given
        return True

    def pairwise(self, node: Any) -> bool:
        if len(node.input) != 2:
            return not any(name in self.units for name in node.input)
        rank = len(self.shapes.get(node.output[0], ()))
        known = [name for name in node.input if name in self.units]
        if not known:
            return True
        if len(known) == 2:
            one, other = (self.units[name] for name in node.input)
            if any(len(self.shapes.get(name, ())) != rank for name in node.input) or rank < 2:
                return False
            if len(one) == len(other):
                self.tie(one, other)
            elif 1 not in (len(one), len(other)):
                return False
            self.units[node.output[0]] = one if len(one) >= len(other) else other
            return True
        given = self.units[known[0]]
        other_name = node.input[1] if known[0] == node.input[0] else node.input[0]
        if len(self.shapes.get(known[0], ())) != rank or rank < 2:
            return False
        if not self.constant_operand(other_name, given, rank):
            return False
        self.units[node.output[0]] = given
        return True

    def constant_operand(self, name: str, given: Array, rank: int) -> bool:
        """Whether a constant may stand beside a traced tensor; one with a value a channel shrinks with it."""
        weight = self.weights.get(name)
        if weight is None or len(weight.dims) > rank:
            return False
        axis = 1 - (rank - len(weight.dims))
        if axis < 0 or weight.dims[axis] == 1:
            return True
        if weight.dims[axis] != len(given) or self.own(name) is None:
            return False
        self.found.cuts.append(Cut(name, axis, given))
        return True

    def slope(self, node: Any) -> bool:
        given = self.units.get(node.input[0])
        if given is None:
            return True
        if not self.constant_operand(node.input[1], given, len(self.shapes.get(node.input[0], ()))):
            return False
        self.units[node.output[0]] = given
        return True

    def concat(self, node: Any) -> bool:
        parts = []
        if not any(name in self.units for name in node.input):
            return True
        for name in node.input:
            shape = self.shapes.get(name)
            if shape is None or len(shape) < 2 or attribute(node, "axis", 0) not in (1, 1 - len(shape)):
                return False
            if name not in self.units:
                if shape[1] is None:
                    return False
                self.units[name] = self.fresh(shape[1])
                self.hold([name])
            parts.append(self.units[name])
        self.units[node.output[0]] = np.concatenate(parts)
        return True

    def split(self, node: Any) -> bool:
        given = self.units.get(node.input[0])
        if given is None:
            return True
        shape = self.shapes.get(node.input[0])
        sizes = [self.shapes.get(name) for name in node.output]
        if shape is None or attribute(node, "axis", 0) not in (1, 1 - len(shape)):
            return False
        counts = [size[1] for size in sizes if size is not None and len(size) > 1 and size[1] is not None]
        if len(counts) != len(sizes) or sum(counts) != len(given):
            return False
        parts = np.split(given, np.cumsum(counts)[:-1])
        self.units.update(zip(node.output, parts, strict=True))
        self.found.splits.append((node, parts))
        return True

    def flatten(self, node: Any) -> bool:
        given = self.units.get(node.input[0])
        if given is None:
            return True
        before, after = self.shapes.get(node.input[0]), self.shapes.get(node.output[0])
        if before is None or after is None or len(after) != 2 or any(size is None for size in before[1:]):
            return False
        features = math.prod(size or 0 for size in before[1:])
        if after[1] != features or (before[0] != after[0] and before[0] is not None and after[0] is not None):
            return False
        if node.op_type == "Flatten" and attribute(node, "axis", 1) != 1:
            return False
        if node.op_type == "Reshape":
            self.found.flattened.append(node)
        self.units[node.output[0]] = np.repeat(given, features // len(given))
        return True

    def spatial(self, node: Any) -> bool:
        """Ops that leave samples and channels where they are: Pad, Resize by scales, reductions and squeezes of
        pictures."""
        given = self.units.get(node.input[0])
        if given is None:
            return True
        before, after = self.shapes.get(node.input[0]), self.shapes.get(node.output[0])
        if before is None or after is None or len(after) < 2 or after[1] != len(given) or before[1] != len(given):
            return False
        if before[0] != after[0] or len(before) < 3:
            return False
        if node.op_type == "Resize" and len(node.input) > 3 and node.input[3]:
            return False
        axes = self.axes(node)
        if node.op_type in ("ReduceMean", "ReduceMax", "Squeeze") and (
            axes is None or {axis % len(before) for axis in axes} & {0, 1}
        ):
            return False
        self.units[node.output[0]] = given
        return True

    def axes(self, node: Any) -> list[int] | None:
        if (
            len(node.input) > 1
            and node.input[1] in self.weights
            and node.op_type in ("ReduceMean", "ReduceMax", "Squeeze")
        ):
            return [int(a) for a in needed("onnx").numpy_helper.to_array(self.weights[node.input[1]]).reshape(-1)]
        listed = attribute(node, "axes", None)
        return None if listed is None else [int(axis) for axis in listed]

    # --- records ---

    def made(self, node: Any, weight: str, axis: int, count: int) -> Array:
        units = self.fresh(count)
        self.found.producers.append(Producer(node, weight, axis, units))
        self.found.cuts.append(Cut(weight, axis, units))
        return units

    def read(self, node: Any, weight: str, axis: int, units: Array | None, made: Array) -> None:
        if units is not None:
            self.found.readers.append(Reader(node, weight, axis, units, made))
            self.found.cuts.append(Cut(weight, axis, units))

    def tie(self, one: Sequence[int] | Array, other: Sequence[int] | Array) -> None:
        for first, second in zip(one, other, strict=True):
            low, high = sorted((self.found.root(int(first)), self.found.root(int(second))))
            self.found.parents[high] = low


_Rule = Callable[[_Tracer, Any], bool]
_RULES: dict[str, _Rule] = {
    "Conv": _Tracer.conv,
    "ConvTranspose": _Tracer.conv_transpose,
    "Gemm": _Tracer.product,
    "MatMul": _Tracer.product,
    "BatchNormalization": _Tracer.normalisation,
    "InstanceNormalization": _Tracer.normalisation,
    "PRelu": _Tracer.slope,
    "Concat": _Tracer.concat,
    "Split": _Tracer.split,
    "Flatten": _Tracer.flatten,
    "Reshape": _Tracer.flatten,
    "Pad": _Tracer.spatial,
    "Resize": _Tracer.spatial,
    "ReduceMean": _Tracer.spatial,
    "ReduceMax": _Tracer.spatial,
    "Squeeze": _Tracer.spatial,
}


def _shapes(model: Any) -> Iterator[tuple[str, tuple[int | None, ...]]]:
    """Shapes of activations; None where a size is open."""
    graph = model.graph
    for entry in [*graph.input, *graph.value_info, *graph.output]:
        if entry.type.HasField("tensor_type") and entry.type.tensor_type.HasField("shape"):
            dims = entry.type.tensor_type.shape.dim
            yield entry.name, tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in dims)

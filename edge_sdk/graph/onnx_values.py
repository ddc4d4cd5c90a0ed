"""Small values that a graph computes from shapes and constants, told without running the model."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from edge_sdk.graph.onnx_nodes import BRIDGE_ERRORS, required_onnx
from edge_sdk.tensors import Array

__all__ = ["SmallValues"]

_log = logging.getLogger(__name__)

_MAX_ELEMENTS = 1024
# Ops whose outputs are no larger than what they take, and which shape computations are made of.
_EVALUATED = frozenset(
    {
        "Abs", "Add", "And", "Cast", "CastLike", "Ceil", "Clip", "Compress", "Concat", "CumSum", "Div", "Equal",
        "Exp", "Flatten", "Floor", "Gather", "GatherElements", "GatherND", "Greater", "GreaterOrEqual", "Identity",
        "Less", "LessOrEqual", "Log", "Max", "Min", "Mod", "Mul", "Neg", "NonZero", "Not", "Or", "Pow",
        "Reciprocal", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "Reshape", "Round",
        "ScatterElements", "ScatterND", "Sign", "Slice", "Split", "Sqrt", "Squeeze", "Sub", "Sum", "Transpose",
        "Unsqueeze", "Where", "Xor"
    }
)  # fmt: skip
_SIZED_BY_VALUES = frozenset({"ConstantOfShape", "Expand", "Range", "Tile"})
"""These too, but what they give may be large."""


class SmallValues:
    """The values of one graph that can be told, each worked out when asked for and then kept.

    Args:
        graph: a `GraphProto` whose nodes are in order.
        shape: tells the shape of a value.
        outer: the values of the graph around this one.
        opset: version by domain.
    """

    def __init__(
        self,
        graph: Any,
        shape: Callable[[str], tuple[int, ...] | None],
        outer: SmallValues | None,
        opset: Mapping[str, int],
    ) -> None:
        self._shape = shape
        self._outer = outer
        self._version = opset.get("ai.onnx", 1)
        self._makers = {output: node for node in graph.node for output in node.output if output}
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._inputs = {value.name for value in graph.input}
        self._known: dict[str, Array | None] = {}

    def get(self, name: str) -> Array | None:
        """The value; None where it depends on what is fed, or is large."""
        waiting = [name]
        while waiting:
            current = waiting[-1]
            if current in self._known:
                waiting.pop()
                continue
            missing = [other for other in self._needs(current) if other not in self._known]
            if missing:
                waiting += missing
            else:
                self._known[current] = self._told(current)
        return self._known[name]

    def _needs(self, name: str) -> list[str]:
        """The values that have to be told first."""
        node = self._makers.get(name)
        if node is None or node.op_type not in _EVALUATED | _SIZED_BY_VALUES or node.domain not in ("", "ai.onnx"):
            return []
        shape = self._shape(name)
        if shape is not None and math.prod(shape) > _MAX_ELEMENTS:
            return []
        return [other for other in node.input if other]

    def _told(self, name: str) -> Array | None:
        node = self._makers.get(name)
        if node is None:
            if name in self._constants:
                return _small_array(self._constants[name])
            return self._outer.get(name) if self._outer is not None and name not in self._inputs else None
        if node.domain not in ("", "ai.onnx"):
            return None
        if node.op_type == "Constant":
            return _constant(node)
        if node.op_type in ("Shape", "Size"):
            return self._measured(node)
        if node.op_type not in _EVALUATED | _SIZED_BY_VALUES:
            return None
        taken = {other: self._known.get(other) for other in node.input if other}
        if any(value is None for value in taken.values()) or not self._is_small(node, taken):
            return None
        return self._evaluated(node, taken, name)

    def _measured(self, node: Any) -> Array | None:
        shape = self._shape(node.input[0])
        if shape is None:
            return None
        if node.op_type == "Size":
            return np.asarray(math.prod(shape), np.int64)
        ends: dict[str, int] = {attribute.name: attribute.i for attribute in node.attribute}
        return np.asarray(shape[ends.get("start", 0) : ends.get("end", len(shape))], np.int64)

    def _is_small(self, node: Any, taken: Mapping[str, Array | None]) -> bool:
        """Whether the outcome is known to be small before it is worked out."""
        if node.op_type not in _SIZED_BY_VALUES:
            return True
        numbers = [value for name in node.input if name and (value := taken[name]) is not None]
        if node.op_type == "Range":
            if len(numbers) != 3 or any(value.size != 1 for value in numbers):
                return False
            start, limit, delta = (float(value.reshape(-1)[0]) for value in numbers)
            return math.isfinite(start + limit + delta) and delta != 0 and abs((limit - start) / delta) <= _MAX_ELEMENTS
        sizes = [max(int(size), 0) for size in numbers[-1].reshape(-1)[:64]]
        before = numbers[0].size if len(numbers) > 1 else 1
        return math.prod(max(size, 1) for size in sizes) * before <= _MAX_ELEMENTS * 64

    def _evaluated(self, node: Any, taken: Mapping[str, Array | None], name: str) -> Array | None:
        onnx = required_onnx()
        from onnx.reference import ReferenceEvaluator

        try:
            inputs = [onnx.helper.make_tensor_value_info(key, 0, None) for key in taken]
            outputs = [onnx.helper.make_tensor_value_info(key, 0, None) for key in node.output if key]
            graph = onnx.helper.make_graph([node], "one", inputs, outputs)
            model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", self._version)])
            with np.errstate(all="ignore"):
                given: Any = ReferenceEvaluator(model).run([name], dict(taken))
        except (*BRIDGE_ERRORS, OverflowError, ArithmeticError, onnx.checker.ValidationError) as error:
            _log.debug("node %s: not worked out: %s", node.name or node.op_type, error)
            return None
        value = np.asarray(given[0])
        return value if value.size <= _MAX_ELEMENTS else None


def _small_array(tensor: Any) -> Array | None:
    onnx = required_onnx()
    if math.prod(tensor.dims) > _MAX_ELEMENTS or tensor.data_location == onnx.TensorProto.EXTERNAL:
        return None
    try:
        array: Array = onnx.numpy_helper.to_array(tensor)
    except BRIDGE_ERRORS as error:
        _log.debug("constant %s: not read: %s", tensor.name, error)
        return None
    return array


def _constant(node: Any) -> Array | None:
    for attribute in node.attribute:
        match attribute.name:
            case "value":
                return _small_array(attribute.t)
            case "value_int":
                return np.asarray(attribute.i, np.int64)
            case "value_ints":
                return np.asarray(attribute.ints, np.int64) if len(attribute.ints) <= _MAX_ELEMENTS else None
            case "value_float":
                return np.asarray(attribute.f, np.float32)
            case "value_floats":
                return np.asarray(attribute.floats, np.float32) if len(attribute.floats) <= _MAX_ELEMENTS else None
    return None

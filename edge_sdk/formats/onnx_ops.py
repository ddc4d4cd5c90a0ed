"""Settings of ONNX ops that engines divide by or count with before they look at them."""

from __future__ import annotations

from collections.abc import Callable

from edge_sdk.formats.onnx_reader import Attribute, Node

__all__ = ["Constant", "check_node"]

Constant = Callable[[str], "list[int] | None"]
"""The integers that stand under a name, where they are few and known from the file."""

_POSITIVE = frozenset({"group", "num_groups", "blocksize", "num_outputs"})
_ALL_POSITIVE = frozenset({"strides", "dilations", "kernel_shape"})
_DIVISIONS = frozenset({"Div", "Mod"})
_MAX = 1 << 31
"""Sizes and counts beyond 32 bits are no sizes."""
_MAX_ELEMENTS = 1 << 33


def check_node(node: Node, constant: Constant) -> str | None:
    """What is wrong with the settings of a node, or None."""
    if node.domain not in ("", "ai.onnx", "com.microsoft"):
        return None  # what names mean there is not known
    for attribute in node.attributes:
        problem = _check_attribute(attribute)
        if problem:
            return problem
    if node.op_type in _DIVISIONS and len(node.inputs) == 2 and 0 in (constant(node.inputs[1]) or ()):
        return "divides integers by a constant 0"
    if node.op_type == "SplitToSequence" and len(node.inputs) == 2:
        parts = constant(node.inputs[1])
        if parts is not None and (min(parts) < 0 or parts == [0]):
            return f"splits into parts of {parts[:8]}, expected positive sizes"
    if node.op_type in ("ConstantOfShape", "Expand") and node.inputs:
        shape = constant(node.inputs[-1]) or []
        if _elements(shape) > _MAX_ELEMENTS:
            return f"makes a tensor of shape {shape[:8]}"
    return None


def _elements(shape: list[int]) -> int:
    product = 1
    for size in shape:
        product *= max(size, 1)
    return product


def _check_attribute(attribute: Attribute) -> str | None:
    name, value = attribute.name, attribute.i
    if name in _POSITIVE and value is not None and not 0 < value < _MAX:
        return f"attribute {name!r} is {value}, expected a positive number"
    if name in _ALL_POSITIVE and not all(0 < v < _MAX for v in attribute.ints):
        return f"attribute {name!r} is {attribute.ints}, expected positive numbers"
    if name == "pads" and not all(-_MAX < v < _MAX for v in attribute.ints):
        return f"attribute {name!r} is {attribute.ints}"
    return None

"""Attributes of ONNX ops that engines divide by or count with before they look at them."""

from __future__ import annotations

from edge_sdk.formats.onnx_reader import Attribute, Node

__all__ = ["check_node"]

_POSITIVE = frozenset(
    {"group", "num_groups", "blocksize", "block_size", "num_heads", "kv_num_heads", "hidden_size", "num_outputs"}
)
_ALL_POSITIVE = frozenset({"strides", "dilations", "kernel_shape"})
_MAX = 1 << 31
"""Sizes and counts beyond 32 bits are no sizes."""


def check_node(node: Node) -> str | None:
    """What is wrong with the attributes of a node, or None."""
    for attribute in node.attributes:
        problem = _check(attribute)
        if problem:
            return problem
    return None


def _check(attribute: Attribute) -> str | None:
    name, value = attribute.name, attribute.i
    if name in _POSITIVE and value is not None and not 0 < value < _MAX:
        return f"attribute {name!r} is {value}, expected a positive number"
    if name in _ALL_POSITIVE and not all(0 < v < _MAX for v in attribute.ints):
        return f"attribute {name!r} is {attribute.ints}, expected positive numbers"
    if name == "pads" and not all(-_MAX < v < _MAX for v in attribute.ints):
        return f"attribute {name!r} is {attribute.ints}"
    return None

"""Options and operands of TFLite ops that engines divide by or index with before they look at them."""

from __future__ import annotations

from edge_sdk.formats.tflite_reader import Model, Operator, SubGraph

__all__ = ["check_operator"]


def check_operator(model: Model, graph: SubGraph, operator: Operator) -> str | None:
    """What is wrong with an operator whose tensors are in range, or None."""
    return None

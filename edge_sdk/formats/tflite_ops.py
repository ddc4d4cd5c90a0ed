"""Options and operands of TFLite ops that engines divide by or index with before they look at them."""

from __future__ import annotations

from edge_sdk.formats.tflite_reader import Model, Operator, SubGraph

__all__ = ["check_operator"]

# Ops some of whose inputs may be left out (-1), and how many of the first ones may not. All others need every input.
_OPTIONAL_FROM = {
    "CONV_2D": 2, "DEPTHWISE_CONV_2D": 2, "FULLY_CONNECTED": 2, "CONV_3D": 2, "TRANSPOSE_CONV": 3,
    "CONV_3D_TRANSPOSE": 3, "SVDF": 3, "LSH_PROJECTION": 2, "LSTM": 1, "UNIDIRECTIONAL_SEQUENCE_LSTM": 1,
    "BIDIRECTIONAL_SEQUENCE_LSTM": 1, "BIDIRECTIONAL_SEQUENCE_RNN": 1, "CUSTOM": 0, "DELEGATE": 0,
    "STABLEHLO_COMPOSITE": 0, "STABLEHLO_CUSTOM_CALL": 0,
}  # fmt: skip
_CUSTOM = "CUSTOM"


def check_operator(model: Model, graph: SubGraph, operator: Operator) -> str | None:
    """What is wrong with an operator whose tensors are in range, or None."""
    code = model.opcodes[operator.code]
    op = _CUSTOM if code.custom else code.name
    needed = _OPTIONAL_FROM.get(op, len(operator.inputs))
    if -1 in operator.inputs[:needed]:
        return f"input {operator.inputs.index(-1)} is left out, but this op needs it"
    if -1 in operator.outputs and op != _CUSTOM:
        return f"output {operator.outputs.index(-1)} is left out"
    return None

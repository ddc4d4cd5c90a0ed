"""What TFLite ops need of their operands: engines index with these before they look.

Source: the kernels of the TFLite runtime (number of inputs and outputs each asks for, and which inputs may be -1).
"""

from __future__ import annotations

import functools

from edge_sdk.formats.tflite_reader import Model, Operator, SubGraph, Tensor

__all__ = ["called_subgraphs", "check_operator"]

_NEEDED_INPUTS = {
    0: "CUSTOM DELEGATE CALL CALL_ONCE WHILE VAR_HANDLE HASHTABLE",
    2: "ADD SUB MUL DIV FLOOR_DIV FLOOR_MOD POW MAXIMUM MINIMUM LESS LESS_EQUAL GREATER GREATER_EQUAL EQUAL NOT_EQUAL "
    "LOGICAL_AND LOGICAL_OR SQUARED_DIFFERENCE ATAN2 BITWISE_XOR RIGHT_SHIFT PRELU GATHER GATHER_ND MEAN SUM "
    "REDUCE_PROD REDUCE_MAX REDUCE_MIN REDUCE_ANY REDUCE_ALL PAD MIRROR_PAD TRANSPOSE TILE EXPAND_DIMS FILL TOPK_V2 "
    "SPLIT ARG_MAX ARG_MIN BROADCAST_TO BROADCAST_ARGS REVERSE_V2 REVERSE_SEQUENCE RESIZE_BILINEAR "
    "RESIZE_NEAREST_NEIGHBOR BATCH_MATMUL CUMSUM EMBEDDING_LOOKUP RFFT2D SEGMENT_SUM MULTINOMIAL MATRIX_SET_DIAG "
    "CONV_2D DEPTHWISE_CONV_2D CONV_3D FULLY_CONNECTED LSH_PROJECTION ASSIGN_VARIABLE",
    3: "SPACE_TO_BATCH_ND BATCH_TO_SPACE_ND SELECT SELECT_V2 SLICE PADV2 TRANSPOSE_CONV CONV_3D_TRANSPOSE SPLIT_V "
    "RANGE SCATTER_ND DYNAMIC_UPDATE_SLICE HASHTABLE_LOOKUP HASHTABLE_FIND HASHTABLE_IMPORT UNSORTED_SEGMENT_PROD "
    "UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_MIN UNSORTED_SEGMENT_SUM",
    4: "STRIDED_SLICE ONE_HOT SPARSE_TO_DENSE",
    5: "EMBEDDING_LOOKUP_SPARSE SVDF RNN UNIDIRECTIONAL_SEQUENCE_RNN LSTM NON_MAX_SUPPRESSION_V4",
    6: "NON_MAX_SUPPRESSION_V5",
    12: "BIDIRECTIONAL_SEQUENCE_RNN",
    20: "UNIDIRECTIONAL_SEQUENCE_LSTM",
    35: "BIDIRECTIONAL_SEQUENCE_LSTM",
}
"""Ops by the least number of inputs; all others need one."""
_NEEDED_OUTPUTS = {
    0: "CUSTOM DELEGATE CALL CALL_ONCE WHILE IF ASSIGN_VARIABLE HASHTABLE_IMPORT",
    2: "TOPK_V2 UNIQUE NON_MAX_SUPPRESSION_V4",
    3: "NON_MAX_SUPPRESSION_V5",
}
"""Ops by the least number of outputs; all others have one."""
_OPTIONAL_FROM = {
    "CONV_2D": 2, "DEPTHWISE_CONV_2D": 2, "FULLY_CONNECTED": 2, "CONV_3D": 2, "TRANSPOSE_CONV": 3,
    "CONV_3D_TRANSPOSE": 3, "SVDF": 3, "LSH_PROJECTION": 2, "LSTM": 1, "UNIDIRECTIONAL_SEQUENCE_LSTM": 1,
    "BIDIRECTIONAL_SEQUENCE_LSTM": 1, "BIDIRECTIONAL_SEQUENCE_RNN": 1, "CUSTOM": 0, "DELEGATE": 0,
}  # fmt: skip
"""How many of the first inputs must be there, for ops of which later ones may be left out (-1)."""
_SCALED = (
    "ADD SUB MUL DIV SQUARED_DIFFERENCE LEAKY_RELU PRELU HARD_SWISH LOGISTIC TANH SOFTMAX LOG_SOFTMAX CONV_2D "
    "DEPTHWISE_CONV_2D TRANSPOSE_CONV FULLY_CONNECTED"
)
"""Ops that divide by the scales of integer operands."""
_SUBGRAPH_OPTIONS = (
    "then_subgraph_index", "else_subgraph_index", "cond_subgraph_index", "body_subgraph_index", "init_subgraph_index",
    "decomposition_subgraph_index", "comparator_subgraph_index", "update_computation_subgraph_index", "subgraph",
)  # fmt: skip


@functools.cache
def _needed(outputs: bool) -> dict[str, int]:
    table = _NEEDED_OUTPUTS if outputs else _NEEDED_INPUTS
    return {op: count for count, ops in table.items() for op in ops.split()}


@functools.cache
def _scaled() -> frozenset[str]:
    return frozenset(_SCALED.split())


def check_operator(model: Model, graph: SubGraph, operator: Operator) -> str | None:
    """What is wrong with an operator whose tensors are in range, or None."""
    code = model.opcodes[operator.code]
    op = "CUSTOM" if code.custom else code.name
    free = op.startswith("STABLEHLO_")
    needed = 0 if free else _needed(False).get(op, 1)
    if len(operator.inputs) < needed:
        return f"has {len(operator.inputs)} inputs, expected at least {needed}"
    needed = 0 if free else _needed(True).get(op, 1)
    if len(operator.outputs) < needed:
        return f"has {len(operator.outputs)} outputs, expected at least {needed}"
    first = 0 if free else _OPTIONAL_FROM.get(op, len(operator.inputs))
    if -1 in operator.inputs[:first]:
        return f"input {operator.inputs.index(-1)} is left out, but this op needs it"
    if -1 in operator.outputs and op != "CUSTOM":
        return f"output {operator.outputs.index(-1)} is left out"
    for index in operator.outputs:
        if index >= 0 and graph.tensors[index].buffer and model.buffers[graph.tensors[index].buffer].size:
            return f"makes tensor {graph.tensors[index].name!r}, which is a constant"
    if op in _scaled():
        operands = [graph.tensors[i] for i in (*operator.inputs[:2], *operator.outputs[:1]) if i >= 0]
        problem = _check_scales(op, operands)
        if problem:
            return problem
    for name, index in _subgraph_options(operator):
        if not 0 < index < len(model.subgraphs):
            return f"{name} is {index} of {len(model.subgraphs)}"
    return None


def _check_scales(op: str, operands: list[Tensor]) -> str | None:
    """Whether all narrow integers among the operands of an op have scales. Only int16 computes without any, too."""
    narrow = [tensor for tensor in operands if tensor.dtype in ("int8", "uint8", "int16")]
    if all(tensor.dtype == "int16" and not tensor.scales for tensor in narrow):
        return None
    if narrow[0] is not operands[0]:
        return None  # integer weights under floats, whose scales the engine asks for itself
    bare = next((tensor for tensor in narrow if not tensor.scales), None)
    if bare is not None:
        return f"operand {bare.name!r} ({bare.dtype}) has no scale"
    # Sums are computed with so many bits more; where they do not suffice the engine ends the process.
    bits = 15 if narrow[0].dtype == "int16" else 20
    *inputs, output = (max(tensor.scales) for tensor in narrow)
    if op in ("ADD", "SUB") and inputs and 2 * max(inputs) >= output * 2**bits:
        return f"scales {inputs} of the inputs are too large for scale {output} of the output"
    return None


def called_subgraphs(operator: Operator) -> set[int]:
    """The subgraphs that an operator runs."""
    return {index for _, index in _subgraph_options(operator)}


def _subgraph_options(operator: Operator) -> list[tuple[str, int]]:
    options = operator.options
    if options is None:
        return []
    return [(name, options.integer(name)) for name in _SUBGRAPH_OPTIONS if name in options.slots]

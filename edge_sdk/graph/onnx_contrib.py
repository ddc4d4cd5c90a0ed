"""Shapes of what the ops give that ONNX Runtime adds to the standard.

Most are standard ops with something more: a node of the standard op stands in for them. For the others the shape is
worked out here. Ops in the layout of one kind of processor, which ONNX Runtime writes into files it keeps for itself,
are left unknown.

Source: ContribOperators.md of ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from edge_sdk.graph.counting import Shape
from edge_sdk.graph.onnx_nodes import required_onnx

__all__ = ["contrib_shapes", "dtype_source", "stand_in"]

_DOMAIN = "com.microsoft"
# Ops whose first output has the form of the first input.
_LIKE_FIRST = frozenset(
    {
        "BiasDropout", "BiasGelu", "FastGelu", "Gelu", "GroupNorm", "QLinearLeakyRelu", "QLinearSigmoid",
        "QLinearSoftmax", "QOrderedGelu", "QuickGelu", "RotaryEmbedding",
        "SimplifiedLayerNormalization", "SkipGroupNorm", "SkipLayerNormalization",
        "SkipSimplifiedLayerNormalization",
    }
)  # fmt: skip
# The standard op that gives the same form, and which inputs it takes; its attributes are handed on.
_STANDARD: Mapping[str, tuple[str, tuple[int, ...]]] = {
    "DynamicQuantizeMatMul": ("MatMul", (0, 1)),
    "FusedConv": ("Conv", (0, 1, 2)),
    "FusedGemm": ("Gemm", (0, 1, 2)),
    "MatMulIntegerToFloat": ("MatMul", (0, 1)),
    "QGemm": ("Gemm", (0, 3)),
    "QLinearAdd": ("Add", (0, 3)),
    "QLinearAveragePool": ("AveragePool", (0,)),
    "QLinearGlobalAveragePool": ("GlobalAveragePool", (0,)),
    "QLinearMul": ("Mul", (0, 3)),
}


def stand_in(node: Any) -> Any:
    """A standard node whose first output has the shape of this one's; the node itself where none is needed or known.

    What it takes counts as float32 in shape inference, whatever it is: the standard op knows no other types.
    """
    if node.domain != _DOMAIN or _integer(node, "channels_last"):
        return node
    if node.op_type in _LIKE_FIRST:
        return _node(node, "Identity", (0,), False)
    if node.op_type == "QLinearConcat":
        return _node(node, "Concat", tuple(range(2, len(node.input), 3)), True)
    found = _STANDARD.get(node.op_type)
    return node if found is None else _node(node, found[0], found[1], True)


def dtype_source(node: Any) -> int | None:
    """Which input of a node that something stands in for has the dtype of its output; None where that is float32."""
    if node.op_type == "QLinearConcat":
        return 2
    scaled = node.op_type == "QGemm" and not (len(node.input) > 7 and node.input[7])
    return None if scaled or node.op_type == "MatMulIntegerToFloat" else 0


def contrib_shapes(node: Any, shape: Callable[[str], Shape]) -> dict[str, tuple[int, ...]]:
    """Shapes of outputs that have the dtype of the first input, for the ops that no standard op stands in for."""
    rule = _RULES.get(node.op_type) if node.domain == _DOMAIN else None
    if rule is None:
        return {}
    given = rule(node, [shape(name) if name else None for name in node.input])
    return {name: found for name, found in zip(node.output, given, strict=False) if name and found is not None}


def _matmul_n_bits(node: Any, inputs: list[Shape]) -> list[Shape]:
    columns = _integer(node, "N")
    return [(*inputs[0][:-1], columns) if inputs and inputs[0] and columns else None]


def _fused_matmul(node: Any, inputs: list[Shape]) -> list[Shape]:
    if len(inputs) < 2 or inputs[0] is None or inputs[1] is None or len(inputs[0]) < 2 or len(inputs[1]) < 2:
        return [None]
    a, b = inputs[0], inputs[1]
    rows = a[-1] if _integer(node, "transA") else a[-2]
    columns = b[-2] if _integer(node, "transB") else b[-1]
    batches = a[:-2] if len(a) >= len(b) else b[:-2]
    return [(*batches, rows, columns)]


def _attention(node: Any, inputs: list[Shape]) -> list[Shape]:
    if len(inputs) < 2 or not inputs[0] or inputs[1] is None or len(inputs[1]) != 2:
        return [None]
    return [(*inputs[0][:-1], inputs[1][1] // 3)]


def _multi_head_attention(node: Any, inputs: list[Shape]) -> list[Shape]:
    if not inputs or inputs[0] is None or len(inputs[0]) != 3:
        return [None]
    value = inputs[2] if len(inputs) > 2 else None
    return [(*inputs[0][:2], value[2] if value is not None and len(value) == 3 else inputs[0][2])]


def _group_query_attention(node: Any, inputs: list[Shape]) -> list[Shape]:
    return [inputs[0] if inputs else None]


def _dynamic_lstm(node: Any, inputs: list[Shape]) -> list[Shape]:
    hidden = _integer(node, "hidden_size")
    if len(inputs) < 2 or inputs[0] is None or len(inputs[0]) != 3 or not inputs[1] or not hidden:
        return [None]
    steps, batch, _ = inputs[0]
    directions = inputs[1][0]
    return [(steps, directions, batch, hidden), (directions, batch, hidden), (directions, batch, hidden)]


_RULES: Mapping[str, Callable[[Any, list[Shape]], list[Shape]]] = {
    "Attention": _attention,
    "QAttention": _attention,
    "DynamicQuantizeLSTM": _dynamic_lstm,
    "FusedMatMul": _fused_matmul,
    "TransposeMatMul": _fused_matmul,
    "GroupQueryAttention": _group_query_attention,
    "MatMulBnb4": _matmul_n_bits,
    "MatMulNBits": _matmul_n_bits,
    "MultiHeadAttention": _multi_head_attention,
}


def _node(node: Any, op_type: str, inputs: tuple[int, ...], attributes: bool) -> Any:
    onnx = required_onnx()
    taken = [node.input[i] for i in inputs if i < len(node.input)]
    made = onnx.helper.make_node(op_type, taken, list(node.output[:1]))
    if attributes:
        known = onnx.defs.get_schema(op_type).attributes
        made.attribute.extend(attribute for attribute in node.attribute if attribute.name in known)
    return made


def _integer(node: Any, name: str) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == name), 0)

"""Rules that count the multiply-accumulates of ONNX ops. An op of known kind without a rule here takes none.

Only products that are summed up count, as in published figures: a convolution, a matrix product, a recurrent layer, an
attention. Elementwise arithmetic, normalisation and pooling take 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from edge_sdk.graph.counting import (
    Cost,
    Operands,
    Shape,
    conv_cost,
    conv_transpose_cost,
    matmul_cost,
    recurrent_cost,
)

__all__ = ["RULES"]


def _conv(op: Operands, weight: int = 1) -> Cost:
    data, kernel = op.input(0), op.input(weight)
    if data is None or kernel is None or len(kernel) < 3 or len(data) < 2:
        return Cost(None)
    group = int(op.options.get("group", 1))
    # The kernel tells the channels: of the data they may be laid out otherwise.
    return conv_cost(op.output(), kernel[2:], kernel[1] * group, kernel[0], group, **_window(op, len(kernel) - 2))


def _conv_transpose(op: Operands, weight: int = 1) -> Cost:
    data, kernel = op.input(0), op.input(weight)
    if data is None or kernel is None or len(kernel) < 3:
        return Cost(None)
    group = int(op.options.get("group", 1))
    window = _window(op, len(kernel) - 2)
    return conv_transpose_cost(data, kernel[2:], kernel[0], kernel[1] * group, group, **window)


def _deform_conv(op: Operands) -> Cost:
    cost = _conv(op)
    return Cost(cost.macs, cost.attributes, "conv")


def _window(op: Operands, dimensions: int) -> dict[str, Any]:
    ones = (1,) * dimensions
    return {
        "strides": tuple(op.options.get("strides", ones)),
        "dilations": tuple(op.options.get("dilations", ones)),
        "pads": tuple(op.options.get("pads", ())),
    }


def _gemm(op: Operands, b: int = 1) -> Cost:
    a = op.input(0)
    if a is None or len(a) != 2:
        return Cost(None)
    cost = matmul_cost(op.output(), a[0] if op.options.get("transA", 0) else a[1], op.is_constant(b))
    return Cost(cost.macs, cost.attributes, "gemm")


def _matmul(op: Operands, b: int = 1) -> Cost:
    a, other = op.input(0), op.input(b)
    if a is None or not a:
        return Cost(None)
    transposed = op.options.get("transA", 0) and len(a) > 1
    output = op.output()
    if output is not None and other is not None:
        # A vector stands for a matrix of one row or column, which the output does not show.
        output = (*output, 1) if len(other) == 1 else output
        output = (*output[:-1], 1, output[-1]) if len(a) == 1 and output else output
    return matmul_cost(output, a[-2] if transposed else a[-1], op.is_constant(b))


def _matmul_n_bits(op: Operands) -> Cost:
    return matmul_cost(op.output(), int(op.options.get("K", 0)) or None, True)


def _linear_model(op: Operands) -> Cost:
    data = op.input(0)
    coefficients = op.options.get("coefficients", ())
    rows = data[0] if data is not None and len(data) > 1 else 1
    return Cost(rows * len(coefficients) if data is not None else None)


def _einsum(op: Operands) -> Cost:
    """Every combination of all indices takes one product, and one more for each operand beyond two."""
    equation = op.options.get("equation", b"")
    text = (equation.decode("ascii", "replace") if isinstance(equation, bytes) else str(equation)).replace(" ", "")
    terms = text.split("->")[0].split(",")
    shapes = op.inputs
    if len(terms) != len(shapes) or any(shape is None for shape in shapes):
        return Cost(None)
    sizes: dict[str, int] = {}
    wide: Shape = ()
    for term, shape in zip(terms, shapes, strict=True):
        assert shape is not None
        before, dots, after = term.partition("...")
        if dots:
            rest = shape[len(before) : len(shape) - len(after)]
            wide = rest if len(rest) >= len(wide or ()) else wide
        elif len(term) != len(shape):
            return Cost(None)
        ends = shape[len(shape) - len(after) :] if after else ()
        for letter, size in zip(before + after, (*shape[: len(before)], *ends), strict=False):
            sizes[letter] = max(sizes.get(letter, 1), size)
    products = len(terms) - 1
    return Cost(math.prod(sizes.values()) * math.prod(wide or ()) * products)


def _recurrent(gates: int) -> Callable[[Operands], Cost]:
    def rule(op: Operands) -> Cost:
        data, recurrence = op.input(0), op.input(2)
        if data is None or recurrence is None or len(data) != 3 or len(recurrence) != 3:
            return Cost(None)
        steps, batch = (data[1], data[0]) if op.options.get("layout", 0) else (data[0], data[1])
        # The last axis of R is the state; the quantised form has it transposed, so the option decides.
        hidden = int(op.options.get("hidden_size", 0)) or recurrence[-1]
        return recurrent_cost(steps, batch, data[2], hidden, gates, recurrence[0])

    return rule


def _attention(op: Operands) -> Cost:
    """The standard's Attention: scores and their product with the values."""
    query, key, value = op.input(0), op.input(1), op.input(2)
    past = op.input(4)
    if query is None or key is None or value is None:
        return Cost(None)
    before = past[2] if past is not None and len(past) == 4 else 0
    if len(query) == 4 and len(key) == 4 and len(value) == 4:
        batch, heads, steps, size = query
        return _attended(batch, heads, steps, key[2] + before, size, value[3])
    heads = int(op.options.get("q_num_heads", 0))
    kv_heads = int(op.options.get("kv_num_heads", 0)) or heads
    if len(query) != 3 or len(key) != 3 or len(value) != 3 or not heads:
        return Cost(None)
    return _attended(query[0], heads, query[1], key[1] + before, query[2] // heads, value[2] // kv_heads)


def _attended(batch: int, heads: int, steps: int, seen: int, key_size: int, value_size: int) -> Cost:
    attributes = {"heads": heads, "steps": steps, "seen": seen, "head_size": key_size}
    return Cost(batch * heads * steps * seen * (key_size + value_size), attributes)


def _fused_attention(op: Operands) -> Cost:
    """ONNX Runtime's Attention: projection to query, key and value by one matrix, then attention."""
    data, weights = op.input(0), op.input(1)
    heads = int(op.options.get("num_heads", 0))
    if data is None or weights is None or len(data) != 3 or len(weights) != 2 or not heads:
        return Cost(None)
    batch, steps, _ = data
    hidden = weights[1] // 3
    attended = _attended(batch, heads, steps, steps, hidden // heads, hidden // heads)
    assert attended.macs is not None
    return Cost(attended.macs + batch * steps * math.prod(weights), attended.attributes)


def _multi_head_attention(op: Operands) -> Cost:
    query, key = op.input(0), op.input(1)
    heads = int(op.options.get("num_heads", 0))
    if query is None or len(query) != 3 or not heads:
        return Cost(None)
    seen = key[1] if key is not None and len(key) == 3 else query[1]
    return _attended(query[0], heads, query[1], seen, query[2] // heads, query[2] // heads)


def _linear_attention(op: Operands) -> Cost:
    """State of head size by head size, written and read at every step."""
    query, value, output = op.input(0), op.input(2), op.output()
    heads = int(op.options.get("q_num_heads", 0))
    if query is None or value is None or output is None or len(query) != 3 or len(value) != 3 or not heads:
        return Cost(None)
    kv_heads = int(op.options.get("kv_num_heads", 0)) or heads
    key_size, value_size = query[2] // heads, value[2] // kv_heads
    return Cost(2 * query[0] * query[1] * heads * key_size * value_size)


def _pool(op: Operands) -> Cost:
    kernel = tuple(op.options.get("kernel_shape", ()))
    data = op.input(0)
    if not kernel and data is not None and "Global" in op.type:
        kernel = data[2:]
    return Cost(0, {"kernel": kernel, **_window(op, len(kernel))})


def _transpose(op: Operands) -> Cost:
    return Cost(0, {"perm": tuple(op.options.get("perm", ()))} if op.options.get("perm") else {})


def _axis(op: Operands) -> Cost:
    return Cost(0, {"axis": int(op.options["axis"])} if "axis" in op.options else {})


def _resize(op: Operands) -> Cost:
    mode = op.options.get("mode", b"nearest")
    return Cost(0, {"mode": mode.decode("ascii", "replace") if isinstance(mode, bytes) else str(mode)})


RULES: Mapping[str, Callable[[Operands], Cost]] = {
    "Conv": _conv,
    "ConvInteger": _conv,
    "CausalConvWithState": _conv,
    "QLinearConv": lambda op: _conv(op, 3),
    "DeformConv": _deform_conv,
    "com.microsoft.FusedConv": _conv,
    "com.microsoft.nchwc.Conv": _conv,
    "com.microsoft.QLinearConv": lambda op: _conv(op, 3),
    "com.ms.internal.nhwc.QLinearConv": lambda op: _conv(op, 3),
    "com.microsoft.NhwcFusedConv": _conv,
    "ConvTranspose": _conv_transpose,
    "com.microsoft.QLinearConvTranspose": lambda op: _conv_transpose(op, 3),
    "Gemm": _gemm,
    "com.microsoft.FusedGemm": _gemm,
    "com.microsoft.QGemm": lambda op: _gemm(op, 3),
    "com.microsoft.MatMulNBits": _matmul_n_bits,
    "com.microsoft.MatMulBnb4": _matmul_n_bits,
    "ai.onnx.ml.LinearClassifier": _linear_model,
    "ai.onnx.ml.LinearRegressor": _linear_model,
    "MatMul": _matmul,
    "MatMulInteger": _matmul,
    "QLinearMatMul": lambda op: _matmul(op, 3),
    "com.microsoft.FusedMatMul": _matmul,
    "com.microsoft.TransposeMatMul": _matmul,
    "com.microsoft.DynamicQuantizeMatMul": _matmul,
    "com.microsoft.MatMulIntegerToFloat": _matmul,
    "com.microsoft.MatMulInteger16": _matmul,
    "Einsum": _einsum,
    "RNN": _recurrent(1),
    "GRU": _recurrent(3),
    "LSTM": _recurrent(4),
    "com.microsoft.DynamicQuantizeLSTM": _recurrent(4),
    "Attention": _attention,
    "ai.onnx.preview.FlexAttention": _attention,
    "LinearAttention": _linear_attention,
    "com.microsoft.Attention": _fused_attention,
    "com.microsoft.QAttention": _fused_attention,
    "com.microsoft.MultiHeadAttention": _multi_head_attention,
    "com.microsoft.GroupQueryAttention": _multi_head_attention,
    **dict.fromkeys(("AveragePool", "MaxPool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"), _pool),
    "com.microsoft.QLinearAveragePool": _pool,
    "com.microsoft.QLinearGlobalAveragePool": _pool,
    "Transpose": _transpose,
    **dict.fromkeys(("Concat", "Gather", "Softmax", "LogSoftmax", "Split", "LayerNormalization"), _axis),
    "Resize": _resize,
    "Upsample": _resize,
}
"""Rules by op type, as `view.Op.type` spells it."""

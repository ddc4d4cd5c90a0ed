"""What each op of an ONNX graph computes in, read from its dtypes and the quantising ops around it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

__all__ = ["PrecisionReader"]

_LABELS = {"uint8": "int8", "uint4": "int4", "uint2": "int2", "uint16": "int16"}
_FLOATS = ("float32", "float16", "bfloat16", "float64")
_DYNAMIC = frozenset(
    {
        "ConvInteger", "DynamicQuantizeLSTM", "DynamicQuantizeLinear", "DynamicQuantizeMatMul", "MatMulInteger",
        "MatMulIntegerToFloat"
    }
)  # fmt: skip
_QUANTISED = frozenset({"QGemm", "QAttention"})
_WEIGHTS_ONLY = {"MatMulNBits": 4, "GatherBlockQuantized": 4, "MatMulBnb4": 4, "MatMulFpQ4": 4}
_THROUGH = frozenset({"Relu", "Clip"})
"""What may stand between an op and the quantising of its output: the range of the quantised type does their work."""
_PREPARING = frozenset({"Transpose", "Reshape", "Identity", "Squeeze", "Unsqueeze", "Flatten"})


class PrecisionReader:
    """Names the precision of the nodes of one graph.

    Args:
        nodes: in order.
        dtype: of a value, "" where unknown.
        constants: names of weights and of what is computed from weights alone.
        outputs: of the graph.
    """

    def __init__(
        self, nodes: Sequence[Any], dtype: Callable[[str], str], constants: Collection[str], outputs: Collection[str]
    ) -> None:
        self._dtype = dtype
        self._constants = constants
        self._outputs = frozenset(outputs)
        self._makers = {output: node for node in nodes for output in node.output if output}
        self._readers: dict[str, list[Any]] = {}
        for node in nodes:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
        self._integer: dict[str, str] = {}

    def precision(self, node: Any) -> str:
        """What a node computes in. Nodes must be asked about in order."""
        op = node.op_type
        if op in _DYNAMIC:
            return "int8 (dynamic)"
        if op in _WEIGHTS_ONLY:
            return f"int{_bits(node) or _WEIGHTS_ONLY[op]} (weights only)"
        if op in ("QuantizeLinear", "DequantizeLinear"):
            return _label(self._dtype(node.output[0] if op == "QuantizeLinear" else node.input[0]))
        if op.startswith("QLinear") or op in _QUANTISED:
            return _label(self._dtype(node.input[0])) or "int8"
        flowing = [name for name in node.input if name and name not in self._constants]
        own = self._own(node, flowing)
        if own not in _FLOATS:
            return own
        integer = self._quantised(node, flowing)
        if integer:
            for name in node.output:
                self._integer[name] = integer
            return integer
        stored = {kept for name in node.input if name in self._constants and (kept := self._stored(name))}
        return f"{min(stored)} (weights only)" if stored and flowing else own

    def _own(self, node: Any, flowing: Sequence[str]) -> str:
        dtypes = [self._dtype(name) for name in (*flowing, *node.output) if name]
        return _label(next((d for d in dtypes if d in _FLOATS), next((d for d in dtypes if d), "")))

    def _quantised(self, node: Any, flowing: Sequence[str]) -> str:
        """The integer type a node computes in between dequantising its inputs and quantising its outputs, or ""."""
        found = ""
        for name in flowing:
            if self._dtype(name) not in _FLOATS:
                continue
            maker = self._makers.get(name)
            if maker is not None and maker.op_type == "DequantizeLinear":
                found = found or _label(self._dtype(maker.input[0]))
            elif node.op_type in _THROUGH and name in self._integer:
                found = found or self._integer[name]
            else:
                return ""
        # A matrix product of integers can hand out floats as it stands.
        ready = node.op_type in ("MatMul", "Gemm") or all(self._goes_to_integers(name) for name in node.output if name)
        return found if ready else ""

    def _goes_to_integers(self, name: str, through: bool = True) -> bool:
        readers = self._readers.get(name, [])
        if not readers or name in self._outputs:
            return False
        return all(
            node.op_type == "QuantizeLinear"
            or (through and node.op_type in _THROUGH and self._goes_to_integers(node.output[0], False))
            for node in readers
        )

    def _stored(self, name: str) -> str:
        """The narrower type a weight is kept in, where an op widens it before use; "" otherwise."""
        for _ in range(8):
            maker = self._makers.get(name)
            if maker is None or not maker.input:
                return ""
            if maker.op_type in ("DequantizeLinear", "Cast"):
                before = _label(self._dtype(maker.input[0]))
                return before if before in ("int8", "int4", "int2", "int16", "float16", "bfloat16") else ""
            if maker.op_type not in _PREPARING:
                return ""
            name = maker.input[0]
        return ""


def _bits(node: Any) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == "bits"), 0)


def _label(dtype: str) -> str:
    return _LABELS.get(dtype, dtype)

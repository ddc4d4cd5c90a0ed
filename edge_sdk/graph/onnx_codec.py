"""The ops of ONNX that encode what a head gives and decode what a tail takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from edge_sdk.errors import ModelError
from edge_sdk.formats.onnx_types import DTYPES
from edge_sdk.graph.codec import Coded, packed_sizes
from edge_sdk.graph.codec_steps import Step, decoding, encoding, has_steps
from edge_sdk.tensors import Array

__all__ = ["codec_nodes", "least_opset", "sent_value"]

_CODES = {name: code for code, name in DTYPES.items()}
_SENT = {"fp16": "float16", "int8": "uint8", "int4": "uint8", "int16": "int16"}
_LEAST_OPSET = 10
"""The first with QuantizeLinear and DequantizeLinear."""
_LEAST_OPSET_OF_STEPS = 13
"""The first in which all ops of the steps take their settings as they do since."""


def least_opset(coded: Sequence[Coded]) -> int:
    """That a file must have for these codecs; 0 for any."""
    if any(has_steps(one) for one in coded):
        return _LEAST_OPSET_OF_STEPS
    return _LEAST_OPSET if any(one.codec != "none" for one in coded) else 0


def sent_value(onnx: Any, value: Any, one: Coded) -> Any:
    """Name, dtype and shape of a tensor as it travels, from its ValueInfoProto.

    Raises:
        ModelError: it cannot be packed, since sizes behind its first are open.
    """
    sent = onnx.ValueInfoProto()
    sent.CopyFrom(value)
    sent.name = one.sent
    if one.codec == "none":
        return sent
    sent.type.tensor_type.elem_type = _CODES[_SENT[one.codec]]
    if one.codec == "int4":
        sizes = value.type.tensor_type.shape.dim
        if len(sizes) != len(one.shape) or any(not size.HasField("dim_value") for size in sizes[1:]):
            raise ModelError(f"{one.name!r} has open sizes and cannot be packed to 4 bits; take codec int8")
        first = [sizes[0]] if len(sizes) > 1 else []
        sent.type.tensor_type.ClearField("shape")
        shape = sent.type.tensor_type.shape
        shape.dim.extend(first)
        if not first:
            shape.dim.add().dim_value = 1
        shape.dim.add().dim_value = -(-packed_sizes(one.shape)[1] // 2)
    return sent


def codec_nodes(
    onnx: Any, coded: Sequence[Coded], new: Callable[[str], str], *, encode: bool
) -> tuple[list[Any], list[Any]]:
    """Nodes that encode or decode, and their constants.

    Args:
        onnx: the module.
        coded: the tensors.
        new: gives a name that the graph does not have, from one that it may have.
        encode: whether they stand in a head.
    """
    helper, types = onnx.helper, onnx.TensorProto
    nodes: list[Any] = []
    constants: list[Any] = []
    for one in coded:
        way = (one.name, one.sent) if encode else (one.sent, one.name)
        if one.codec == "fp16":
            nodes.append(helper.make_node("Cast", way[:1], way[1:], to=types.FLOAT16 if encode else types.FLOAT))
        elif has_steps(one):
            chain = _Chain(onnx, one.sent, new, way[0])
            for step in encoding(one) if encode else decoding(one):
                chain.add(step)
            chain.end(way[1])
            nodes += chain.nodes
            constants += chain.constants
        elif one.codec == "int8":
            scale, zero = new(f"{one.sent}.scale"), new(f"{one.sent}.zero_point")
            constants.append(helper.make_tensor(scale, types.FLOAT, [], [one.scale]))
            constants.append(helper.make_tensor(zero, types.UINT8, [], [one.zero_point]))
            op = "QuantizeLinear" if encode else "DequantizeLinear"
            nodes.append(helper.make_node(op, [way[0], scale, zero], way[1:]))
    return nodes, constants


class _Chain:
    """Nodes one behind the other, from the tensor `start` on."""

    def __init__(self, onnx: Any, prefix: str, new: Callable[[str], str], start: str) -> None:
        self._onnx, self._prefix, self._new = onnx, prefix, new
        self._at = start
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, step: Step) -> None:
        """One step more."""
        if step.op == "unpack":
            self._unpack(step)
        else:
            op, constants, settings = self._op(step)
            self._at = self._node(op, [self._at, *constants], **settings)

    def end(self, name: str) -> None:
        """Has the last node give `name`."""
        self.nodes[-1].output[0] = name

    def _op(self, step: Step) -> tuple[str, list[str], dict[str, Any]]:
        floats, whole = self._floats, self._whole
        if step.op == "cast":
            return "Cast", [], {"to": _CODES[step.dtype]}
        if step.op in ("mul", "add"):
            assert step.constant is not None
            return step.op.capitalize(), [self._array(step.constant)], {}
        if step.op == "round":
            return "Round", [], {}
        if step.op == "clip":
            return "Clip", [floats([], step.bounds[:1]), floats([], step.bounds[1:])], {}
        if step.op == "reshape":
            return "Reshape", [whole(step.shape)], {}
        if step.op == "pack":
            return "MatMul", [floats([2, 1], [1.0, 16.0])], {}
        if step.op == "pad":
            return "Pad", [whole((0, 0, 0, 1))], {}
        assert step.op == "drop"
        return "Slice", [whole((0,)), whole((-1,)), whole((1,))], {}

    def _unpack(self, step: Step) -> None:
        """Sixteenths rounded down are the upper half, and what is left is the lower."""
        sixteen = self._floats([], [16.0])
        upper = self._node("Floor", [self._node("Mul", [self._at, self._floats([], [1 / 16])])])
        lower = self._node("Sub", [self._at, self._node("Mul", [upper, sixteen])])
        shape = self._whole((*step.shape[:-1], 1))
        pair = [self._node("Reshape", [half, shape]) for half in (lower, upper)]
        self._at = self._node("Concat", pair, axis=len(step.shape) - 1)

    def _node(self, op: str, taken: list[str], **settings: Any) -> str:
        given = self._new(f"{self._prefix}.{len(self.nodes)}")
        self.nodes.append(self._onnx.helper.make_node(op, taken, [given], **settings))
        return given

    def _array(self, array: Array) -> str:
        return self._floats(list(array.shape), array.ravel().tolist())

    def _floats(self, shape: Sequence[int], values: Sequence[float]) -> str:
        return self._constant(self._onnx.TensorProto.FLOAT, shape, values)

    def _whole(self, values: Sequence[int]) -> str:
        return self._constant(self._onnx.TensorProto.INT64, [len(values)], values)

    def _constant(self, kind: int, shape: Sequence[int], values: Sequence[float]) -> str:
        name = self._new(f"{self._prefix}.constant{len(self.constants)}")
        self.constants.append(self._onnx.helper.make_tensor(name, kind, shape, values))
        return name

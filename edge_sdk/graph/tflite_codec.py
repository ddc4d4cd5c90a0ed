"""The operators of TFLite for the steps that encode and decode a tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edge_sdk.errors import ModelError
from edge_sdk.graph.codec import Coded, packed_sizes
from edge_sdk.graph.codec_steps import Step, decoding, encoding
from edge_sdk.tensors import Array

__all__ = ["StepOperators", "sent_shape"]

_OPTIONS = {"ADD": "Add", "SUB": "Sub", "MUL": "Mul", "MAXIMUM": "MaximumMinimum", "MINIMUM": "MaximumMinimum",
            "CAST": "Cast", "RESHAPE": "Reshape", "FULLY_CONNECTED": "FullyConnected", "CONCATENATION": "Concatenation",
            "PAD": "Pad", "SLICE": "Slice"}  # fmt: skip
_TYPES = {"float32": "FLOAT32", "uint8": "UINT8", "int8": "INT8", "int16": "INT16"}


def sent_shape(one: Coded, shape: Sequence[int]) -> list[int]:
    """Sizes of a tensor as it travels, from its own or from its signature, where -1 is an open size.

    Raises:
        ModelError: it cannot be packed, since sizes behind its first are open.
    """
    if one.codec != "int4":
        return list(shape)
    if any(size < 0 for size in shape[1:]):
        raise ModelError(f"{one.name!r} has open sizes and cannot be packed to 4 bits; take codec int8")
    first, rest = packed_sizes(shape)
    return [first, -(-rest // 2)]


class StepOperators:
    """Operators one behind the other; what they need is added to the model.

    Args:
        schema: module of the schema.
        model: the part in the making: gets operator codes, buffers, and tensors in its first subgraph.
        one: the tensor that is encoded or decoded.
        start, end: places of the tensor before and after.
        first: the first size of the tensor, and -1 where that is open.
    """

    def __init__(self, schema: Any, model: Any, one: Coded, start: int, end: int, first: tuple[int, int]) -> None:
        self._schema, self._model, self._one = schema, model, one
        self._at, self._end, self._first = start, end, first
        self._shape: tuple[int, ...] = ()
        self.operators: list[Any] = []

    def build(self, *, encode: bool) -> list[Any]:
        """The operators, in order."""
        one = self._one
        packed = (-1, -(-packed_sizes(one.shape)[1] // 2))
        self._shape = (-1, *one.shape[1:]) if len(one.shape) > 1 else one.shape
        if not encode and one.codec == "int4":
            self._shape = packed if len(one.shape) > 1 else (1, packed[1])
        for step in encoding(one) if encode else decoding(one):
            self._add(step)
        self.operators[-1].outputs = [self._end]
        return self.operators

    def _add(self, step: Step) -> None:
        if step.shape:
            self._shape = step.shape
        elif step.op == "reshape":
            self._shape = ()
        if step.op == "unpack":
            self._unpack(step)
        elif step.op == "cast":
            self._at = self._operator("CAST", [self._at], dtype=step.dtype)
        elif step.op in ("mul", "add"):
            assert step.constant is not None
            self._at = self._operator(step.op.upper(), [self._at, self._constant(step.constant)])
        elif step.op == "round":
            self._at = self._operator("ROUND", [self._at])
        elif step.op == "clip":
            low, high = (self._constant(np.array(bound, np.float32)) for bound in step.bounds)
            self._at = self._operator("MINIMUM", [self._operator("MAXIMUM", [self._at, low]), high])
        elif step.op == "reshape":
            self._at = self._reshaped(self._at, step.shape)
        elif step.op == "pack":
            weights = self._constant(np.array([[1, 16]], np.float32))
            self._at = self._operator("FULLY_CONNECTED", [self._at, weights, -1], keepNumDims=True)
        elif step.op == "pad":
            self._at = self._operator("PAD", [self._at, self._constant(np.array([[0, 0], [0, 1]], np.int32))])
        else:
            assert step.op == "drop"
            bounds = [self._constant(np.array(sizes, np.int32)) for sizes in ((0, 0), step.shape)]
            self._at = self._operator("SLICE", [self._at, *bounds])

    def _unpack(self, step: Step) -> None:
        """Sixteenths rounded down are the upper half, and what is left is the lower."""
        whole, self._shape = self._at, step.shape[:-1]
        parts = self._operator("MUL", [whole, self._constant(np.array(1 / 16, np.float32))])
        upper = self._operator("FLOOR", [parts])
        lifted = self._operator("MUL", [upper, self._constant(np.array(16, np.float32))])
        lower = self._operator("SUB", [whole, lifted])
        self._shape = (*step.shape[:-1], 1)
        pair = [self._reshaped(half, self._shape) for half in (lower, upper)]
        self._shape = step.shape
        self._at = self._operator("CONCATENATION", pair, axis=len(step.shape) - 1)

    def _reshaped(self, place: int, shape: tuple[int, ...]) -> int:
        return self._operator("RESHAPE", [place, self._constant(np.array(shape, np.int32))])

    def _operator(self, op: str, taken: list[int], dtype: str = "float32", **settings: Any) -> int:
        """Adds an operator; the place of what it gives, which has the present shape."""
        schema = self._schema
        code = getattr(schema.BuiltinOperator, op)
        entry = schema.OperatorCodeT()
        entry.builtinCode, entry.deprecatedBuiltinCode, entry.version = code, min(code, 127), 1
        self._model.operatorCodes.append(entry)
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs = len(self._model.operatorCodes) - 1, taken
        if op in _OPTIONS:
            name = f"{_OPTIONS[op]}Options"
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, name)
            operator.builtinOptions = getattr(schema, f"{name}T")()
        for key, value in settings.items():
            setattr(operator.builtinOptions, key, value)
        if op == "CAST":
            tensors = self._model.subgraphs[0].tensors
            operator.builtinOptions.inDataType = tensors[taken[0]].type
            operator.builtinOptions.outDataType = getattr(schema.TensorType, _TYPES[dtype])
        given = self._tensor(dtype, self._shape)
        operator.outputs = [given]
        self.operators.append(operator)
        return given

    def _tensor(self, dtype: str, shape: tuple[int, ...]) -> int:
        tensors = self._model.subgraphs[0].tensors
        tensor = self._schema.TensorT()
        tensor.name = f"{self._one.sent}.{len(tensors)}".encode()
        tensor.type = getattr(self._schema.TensorType, _TYPES[dtype])
        size, signed = self._first
        tensor.shape = [size if n < 0 else n for n in shape]
        tensor.shapeSignature = [signed if n < 0 else n for n in shape]
        tensor.hasRank, tensor.buffer = True, 0
        tensors.append(tensor)
        return len(tensors) - 1

    def _constant(self, array: Array) -> int:
        buffer = self._schema.BufferT()
        buffer.data = np.frombuffer(array.tobytes(), np.uint8)
        self._model.buffers.append(buffer)
        place = self._tensor("float32", array.shape)
        tensor = self._model.subgraphs[0].tensors[place]
        tensor.shapeSignature, tensor.buffer = None, len(self._model.buffers) - 1
        if array.dtype == np.int32:
            tensor.type = self._schema.TensorType.INT32
        return place

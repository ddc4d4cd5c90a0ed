"""Writes the small ONNX files that calibration runs, byte by byte: a device has no `onnx` package.

Source: onnx/onnx.proto3 and the protocol buffers encoding.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

from edge_sdk.formats.protobuf import encode_varint
from edge_sdk.tensors import Array

__all__ = ["OnnxWriter"]

Attribute = int | float | str | Sequence[int]

_DTYPES = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7, "float16": 10}  # TensorProto.DataType
_FLOAT, _INT, _STRING, _INTS = 1, 2, 3, 7  # AttributeProto.AttributeType
_IR_VERSION, _OPSET = 8, 17
_MICROSOFT = "com.microsoft"


def _field(number: int, value: int | bytes | str) -> bytes:
    if isinstance(value, int):
        return encode_varint(number << 3) + encode_varint(value & 0xFFFF_FFFF_FFFF_FFFF)
    content = value.encode() if isinstance(value, str) else value
    return encode_varint(number << 3 | 2) + encode_varint(len(content)) + content


def _attribute(name: str, value: Attribute) -> bytes:
    head = _field(1, name)
    if isinstance(value, int):
        return _field(5, head + _field(3, value) + _field(20, _INT))
    if isinstance(value, float):
        return _field(5, head + encode_varint(2 << 3 | 5) + struct.pack("<f", value) + _field(20, _FLOAT))
    if isinstance(value, str):
        return _field(5, head + _field(4, value) + _field(20, _STRING))
    return _field(5, head + b"".join(_field(8, item) for item in value) + _field(20, _INTS))


class OnnxWriter:
    """Collects nodes and constants, then gives the file. Values are known by their names.

    Attributes:
        weights: number in a node's name ("k12") to the shapes of the weights it reads, those with two axes or more: an
            engine that packs weights no longer tells their shapes.
    """

    def __init__(self) -> None:
        self._nodes: list[bytes] = []
        self._constants: list[bytes] = []
        self._inputs: list[bytes] = []
        self._outputs: list[bytes] = []
        self._count = 0
        self._shapes: dict[str, tuple[int, ...]] = {}
        self.weights: dict[int, tuple[tuple[int, ...], ...]] = {}

    def input(self, name: str, shape: Sequence[int], dtype: str = "float32") -> str:
        """A graph input. Returns its name."""
        self._inputs.append(_field(11, self._value(name, shape, dtype)))
        return name

    def output(self, name: str, shape: Sequence[int] | None = None, dtype: str = "float32") -> None:
        """Makes a value an output of the graph; `shape` None where it is of no interest."""
        self._outputs.append(_field(12, self._value(name, shape, dtype)))

    def constant(self, array: Array) -> str:
        """A weight. Returns its name."""
        name = self._name("c")
        self._shapes[name] = array.shape
        dims = b"".join(_field(1, size) for size in array.shape)
        content = np.ascontiguousarray(array).tobytes()
        kind = _field(2, _DTYPES[array.dtype.name])
        self._constants.append(_field(5, dims + kind + _field(8, name) + _field(9, content)))
        return name

    def node(self, op: str, inputs: Sequence[str], domain: str = "", **attributes: Attribute) -> str:
        """A node with one output. Returns the output's name."""
        return self.nodes(op, inputs, 1, domain, **attributes)[0]

    def nodes(
        self, op: str, inputs: Sequence[str], outputs: int, domain: str = "", **attributes: Attribute
    ) -> list[str]:
        """A node with several outputs. Returns their names."""
        names = [self._name("v") for _ in range(outputs)]
        shapes = tuple(self._shapes[name] for name in inputs if len(self._shapes.get(name, ())) > 1)
        if op == "DequantizeLinear" and shapes:
            self._shapes[names[0]] = shapes[0]
        elif shapes:
            self.weights[int(names[0][1:])] = shapes
        content = b"".join(_field(1, name) for name in inputs) + b"".join(_field(2, name) for name in names)
        content += _field(3, f"k{names[0][1:]}") + _field(4, op)
        content += b"".join(_attribute(name, value) for name, value in attributes.items())
        self._nodes.append(_field(1, content + (_field(7, domain) if domain else b"")))
        return names

    def content(self) -> bytes:
        """The file."""
        graph = b"".join(self._nodes) + _field(2, "calibration") + b"".join(self._constants)
        graph += b"".join(self._inputs) + b"".join(self._outputs)
        opsets = _field(8, _field(2, _OPSET)) + _field(8, _field(1, _MICROSOFT) + _field(2, 1))
        return _field(1, _IR_VERSION) + _field(2, "edge-sdk") + _field(7, graph) + opsets

    def _name(self, prefix: str) -> str:
        self._count += 1
        return f"{prefix}{self._count}"

    @staticmethod
    def _value(name: str, shape: Sequence[int] | None, dtype: str) -> bytes:
        sizes = b""
        if shape is not None:
            sizes = _field(2, b"".join(_field(1, _field(1, size)) for size in shape))
        return _field(1, name) + _field(2, _field(1, _field(1, _DTYPES[dtype]) + sizes))

"""The small models that prove an accelerator, made here byte by byte.

One 3x3 convolution with ReLU (and, in TFLite, an addition) on an 8x8 picture of 4 channels, in float32 and in int8:
ops that every GPU and NPU has. Neither `onnx` nor `flatbuffers` is in the base install, and the few fields needed take
little more than writing lengths and offsets.

Sources: onnx/onnx.proto3 and the protocol buffers encoding; tensorflow/lite/schema/schema.fbs and the FlatBuffers
binary format.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edge_sdk.tensors import Array

__all__ = ["ProofModel", "onnx_models", "tflite_models", "told_failures"]

_CHANNELS, _SIZE = 4, 8
_SCALE_IN, _SCALE_WEIGHT, _SCALE_OUT = 1 / 64, 1 / 128, 1 / 32


@dataclass(frozen=True, slots=True)
class ProofModel:
    """A model and what to feed it.

    Attributes:
        precision: "float32" or "int8".
        content: the file.
        sample: its one input: float32 or 8-bit, (1, 4, 8, 8) for ONNX and (1, 8, 8, 4) for TFLite.
        tolerance: how far a correct output may be from the CPU's: a share of the largest value for float32 (a GPU may
            compute in 16 bits), quantisation steps for int8.
    """

    precision: str
    content: bytes
    sample: Array
    tolerance: float

    def agrees(self, output: Array, expected: Array) -> bool:
        """Whether an output is the expected one within the tolerance."""
        if output.shape != expected.shape or output.dtype != expected.dtype:
            return False
        difference = np.abs(output.astype(np.float64) - expected.astype(np.float64)).max()
        largest = float(np.abs(expected).max()) if self.precision == "float32" else 1.0
        return bool(difference <= self.tolerance * largest)


def onnx_models() -> tuple[ProofModel, ...]:
    """The float32 and the int8 (QDQ) model as ONNX, opset 13."""
    picture, weights = _picture().transpose(0, 3, 1, 2), _weights().transpose(0, 3, 1, 2)
    return (
        ProofModel("float32", _onnx_float(weights), np.ascontiguousarray(picture), 0.02),
        ProofModel("int8", _onnx_int8(weights), _quantised(picture, _SCALE_IN, 128, np.uint8), 2.0),
    )


def tflite_models() -> tuple[ProofModel, ...]:
    """The float32 and the int8 model as TFLite."""
    picture = _picture()
    return (
        ProofModel("float32", _tflite(quantised=False), picture, 0.02),
        ProofModel("int8", _tflite(quantised=True), _quantised(picture, _SCALE_IN, 0, np.int8), 2.0),
    )


def told_failures(failures: Mapping[str, str]) -> str:
    """One line for why the models failed, by precision; a reason that all share is told once."""
    if len(set(failures.values())) == 1:
        return next(iter(failures.values()))
    return "; ".join(f"{precision}: {why}" for precision, why in failures.items())


def _picture() -> Array:
    """(1, 8, 8, 4), from -1 to 1, unlike in every row, column and channel."""
    numbers = np.arange(_SIZE * _SIZE * _CHANNELS, dtype=np.int64) * 37 % 129 - 64
    return (numbers / 64).astype(np.float32).reshape(1, _SIZE, _SIZE, _CHANNELS)


def _weights() -> Array:
    """(out, height, width, in) = (4, 3, 3, 4), from -0.25 to 0.25, exact in 8 bits."""
    numbers = np.arange(_CHANNELS * 9 * _CHANNELS, dtype=np.int64) * 23 % 65 - 32
    return (numbers / 128).astype(np.float32).reshape(_CHANNELS, 3, 3, _CHANNELS)


def _quantised(array: Array, scale: float, zero_point: int, dtype: type) -> Array:
    limits = np.iinfo(dtype)
    return np.ascontiguousarray(np.clip(np.rint(array / scale) + zero_point, limits.min, limits.max).astype(dtype))


# --- ONNX: protocol buffers -------------------------------------------------------------------------------------------

_FLOAT, _UINT8, _INT8 = 1, 2, 3  # TensorProto.DataType


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*out, number))


def _field(number: int, value: int | bytes | str) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    content = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _onnx_node(op: str, inputs: list[str], output: str, attributes: bytes = b"") -> bytes:
    names = b"".join(_field(1, name) for name in inputs)
    return _field(1, names + _field(2, output) + _field(3, output) + _field(4, op) + attributes)


def _onnx_ints(name: str, values: list[int]) -> bytes:
    content = _field(1, name) + b"".join(_field(8, value) for value in values) + _field(20, 7)
    return _field(5, content)


def _onnx_initializer(name: str, array: Array) -> bytes:
    kind = {"float32": _FLOAT, "uint8": _UINT8, "int8": _INT8}[array.dtype.name]
    dims = b"".join(_field(1, size) for size in array.shape)
    return _field(5, dims + _field(2, kind) + _field(8, name) + _field(9, array.tobytes()))


def _onnx_value(field: int, name: str, kind: int) -> bytes:
    shape = b"".join(_field(1, _field(1, size)) for size in (1, _CHANNELS, _SIZE, _SIZE))
    return _field(field, _field(1, name) + _field(2, _field(1, _field(1, kind) + _field(2, shape))))


def _onnx_model(nodes: bytes, initializers: bytes, kind: int) -> bytes:
    graph = nodes + _field(2, "proof") + initializers + _onnx_value(11, "x", kind) + _onnx_value(12, "y", kind)
    return _field(1, 8) + _field(2, "edge-sdk") + _field(7, graph) + _field(8, _field(2, 13))


_CONV = _onnx_ints("kernel_shape", [3, 3]) + _onnx_ints("pads", [1, 1, 1, 1])


def _onnx_float(weights: Array) -> bytes:
    nodes = _onnx_node("Conv", ["x", "w"], "c", _CONV) + _onnx_node("Relu", ["c"], "y")
    return _onnx_model(nodes, _onnx_initializer("w", weights), _FLOAT)


def _onnx_int8(weights: Array) -> bytes:
    nodes = (
        _onnx_node("DequantizeLinear", ["x", "xs", "xz"], "xf")
        + _onnx_node("DequantizeLinear", ["w", "ws", "wz"], "wf")
        + _onnx_node("Conv", ["xf", "wf"], "c", _CONV)
        + _onnx_node("Relu", ["c"], "r")
        + _onnx_node("QuantizeLinear", ["r", "ys", "yz"], "y")
    )
    tensors: dict[str, Array] = {
        "xs": np.array(_SCALE_IN, np.float32),
        "xz": np.array(128, np.uint8),
        "w": _quantised(weights, _SCALE_WEIGHT, 0, np.int8),
        "ws": np.array(_SCALE_WEIGHT, np.float32),
        "wz": np.array(0, np.int8),
        "ys": np.array(_SCALE_OUT, np.float32),
        "yz": np.array(0, np.uint8),
    }
    return _onnx_model(nodes, b"".join(_onnx_initializer(n, a) for n, a in tensors.items()), _UINT8)


# --- TFLite: FlatBuffers ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Scalar:
    code: str
    value: int | float


@dataclass(frozen=True, slots=True)
class _Vector:
    """Numbers as bytes, with their size and count."""

    content: bytes
    item_size: int
    count: int


class _Table(dict[int, "_Scalar | _Vector | _Table | list[_Table] | str"]):
    """Field number to value."""


def _ints(*values: int) -> _Vector:
    return _Vector(struct.pack(f"<{len(values)}i", *values), 4, len(values))


class _FlatWriter:
    """Lays out each object behind the one that refers to it, so that all offsets point forward as the format wants."""

    def __init__(self) -> None:
        self.out = bytearray(8)
        self.pending: list[tuple[int, _Vector | _Table | list[_Table] | str]] = []

    def write(self, root: _Table, identifier: bytes) -> bytes:
        self.out[4:8] = identifier
        self.pending.append((0, root))
        while self.pending:
            slot, value = self.pending.pop(0)
            struct.pack_into("<I", self.out, slot, self._place(value) - slot)
        return bytes(self.out)

    def _align(self, size: int, ahead: int = 0) -> None:
        self.out.extend(bytes(-(len(self.out) + ahead) % size))

    def _place(self, value: _Vector | _Table | list[_Table] | str) -> int:
        if isinstance(value, _Table):
            return self._place_table(value)
        if isinstance(value, str):
            value = _Vector(value.encode() + b"\0", 1, len(value.encode()))
        if isinstance(value, list):
            self._align(4)
            start = len(self.out)
            self.out.extend(struct.pack("<I", len(value)) + bytes(4 * len(value)))
            self.pending.extend((start + 4 + 4 * index, item) for index, item in enumerate(value))
            return start
        self._align(16, ahead=4)  # what follows the count is aligned for any number, as weights must be
        start = len(self.out)
        self.out.extend(struct.pack("<I", value.count) + value.content)
        return start

    def _place_table(self, table: _Table) -> int:
        slots = max(table, default=-1) + 1
        self._align(4)
        vtable = len(self.out)
        self.out.extend(bytes(4 + 2 * slots))
        self._align(4)
        start = len(self.out)
        self.out.extend(struct.pack("<i", start - vtable))
        for number, value in table.items():
            size = struct.calcsize(f"<{value.code}") if isinstance(value, _Scalar) else 4
            self._align(size)
            place = len(self.out)
            struct.pack_into("<H", self.out, vtable + 4 + 2 * number, place - start)
            if isinstance(value, _Scalar):
                self.out.extend(struct.pack(f"<{value.code}", value.value))
            else:
                self.out.extend(bytes(4))
                self.pending.append((place, value))
        struct.pack_into("<HH", self.out, vtable, 4 + 2 * slots, len(self.out) - start)
        return start


_CONV_2D, _ADD = 3, 0  # BuiltinOperator
_TYPE_FLOAT32, _TYPE_INT32, _TYPE_INT8 = 0, 2, 9  # TensorType


def _tflite(quantised: bool) -> bytes:
    plain = _TYPE_INT8 if quantised else _TYPE_FLOAT32
    bias = _TYPE_INT32 if quantised else _TYPE_FLOAT32
    weights = _quantised(_weights(), _SCALE_WEIGHT, 0, np.int8) if quantised else _weights()
    picture = (1, _SIZE, _SIZE, _CHANNELS)
    tensors = [
        _tensor("x", picture, plain, 0, _SCALE_IN if quantised else None),
        _tensor("w", weights.shape, plain, 1, _SCALE_WEIGHT if quantised else None),
        _tensor("b", (_CHANNELS,), bias, 2, _SCALE_IN * _SCALE_WEIGHT if quantised else None),
        _tensor("c", picture, plain, 0, _SCALE_OUT if quantised else None),
        _tensor("y", picture, plain, 0, _SCALE_OUT if quantised else None),
    ]
    conv = _Table({0: _Scalar("b", 0), 1: _Scalar("i", 1), 2: _Scalar("i", 1), 3: _Scalar("b", 1)})
    conv |= {4: _Scalar("i", 1), 5: _Scalar("i", 1)}
    operators = [
        _Table({0: _Scalar("I", 0), 1: _ints(0, 1, 2), 2: _ints(3), 3: _Scalar("B", 1), 4: conv}),
        _Table({0: _Scalar("I", 1), 1: _ints(3, 0), 2: _ints(4), 3: _Scalar("B", 11), 4: _Table()}),
    ]
    graph = _Table({0: tensors, 1: _ints(0), 2: _ints(4), 3: operators, 4: "proof"})
    biases = bytes(4 * _CHANNELS)
    buffers = [_Table(), _buffer(weights.tobytes()), _buffer(biases)]
    codes = [_operator_code(_CONV_2D, 3 if quantised else 1), _operator_code(_ADD, 2 if quantised else 1)]
    model = _Table({0: _Scalar("I", 3), 1: codes, 2: [graph], 3: "edge-sdk proof", 4: buffers})
    return _FlatWriter().write(model, b"TFL3")


def _tensor(name: str, shape: tuple[int, ...], kind: int, buffer: int, scale: float | None) -> _Table:
    table = _Table({0: _ints(*shape), 1: _Scalar("b", kind), 2: _Scalar("I", buffer), 3: name})
    if scale is not None:
        table[4] = _Table({2: _Vector(struct.pack("<f", scale), 4, 1), 3: _Vector(struct.pack("<q", 0), 8, 1)})
    return table


def _buffer(content: bytes) -> _Table:
    return _Table({0: _Vector(content, 1, len(content))})


def _operator_code(code: int, version: int) -> _Table:
    return _Table({0: _Scalar("b", code), 2: _Scalar("i", version), 3: _Scalar("i", code)})

"""The small TFLite networks that calibration runs, written byte by byte: each a chain of ops of one sort.

The engine tells no times of single ops, so a network holds one sort only and its time is shared by its ops.

Source: tensorflow/lite/schema/schema.fbs and the FlatBuffers binary format.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from edge_sdk.tensors import Array

__all__ = ["TfliteNetwork", "tflite_empty", "tflite_networks", "tflite_probe"]

_FLOAT32, _INT32, _UINT8, _INT8 = 0, 2, 3, 9  # TensorType
_ADD, _CONCAT, _CONV, _DEPTHWISE, _DENSE, _LOGISTIC, _MAX_POOL, _MUL, _SOFTMAX = 0, 2, 3, 4, 9, 14, 17, 18, 25
_NAMES_RELU = 1  # ActivationFunctionType
_POOL = np.random.default_rng(5).standard_normal(1 << 15).astype(np.float32)
_LENGTHS = (3, 5, 10, 20)
"""Ops in a chain: of several lengths, so that what a request costs shows apart from what an op costs, and as long as
models are: threads that wait for the next op need no waking."""
_FEWER = {"uint8": 4}
_KINDS = {"float32": _FLOAT32, "int8": _INT8, "uint8": _UINT8}


@dataclass(frozen=True, slots=True)
class TfliteNetwork:
    """One network.

    Attributes:
        name: the sort of its ops and its number.
        precision: "float32", "int8" or "uint8".
        content: the TFLite file.
    """

    name: str
    precision: str
    content: bytes


@dataclass(slots=True)
class _Table:
    """A table: field number to a number with its `struct` code, bytes of a vector with their item size, or tables."""

    numbers: dict[int, tuple[str, float]] = field(default_factory=dict)
    vectors: dict[int, tuple[bytes, int]] = field(default_factory=dict)
    tables: dict[int, _Table | list[_Table]] = field(default_factory=dict)


def _flatbuffer(root: _Table) -> bytes:
    """Each object stands behind the one that refers to it, since offsets point forward."""
    out = bytearray(8)
    out[4:8] = b"TFL3"
    pending: list[tuple[int, _Table | list[_Table] | tuple[bytes, int]]] = [(0, root)]
    while pending:
        slot, item = pending.pop(0)
        if isinstance(item, _Table):
            start = _place_table(out, item, pending)
        elif isinstance(item, list):
            out.extend(bytes(-len(out) % 4))
            start = len(out)
            out.extend(struct.pack("<I", len(item)) + bytes(4 * len(item)))
            pending.extend((start + 4 + 4 * index, table) for index, table in enumerate(item))
        else:
            content, size = item
            out.extend(bytes(-(len(out) + 4) % 16))
            start = len(out)
            out.extend(struct.pack("<I", len(content) // size) + content + b"\0")  # a string ends in a zero
        struct.pack_into("<I", out, slot, start - slot)
    return bytes(out)


def _place_table(
    out: bytearray, table: _Table, pending: list[tuple[int, _Table | list[_Table] | tuple[bytes, int]]]
) -> int:
    fields = {**table.numbers, **table.vectors, **table.tables}
    slots = max(fields, default=-1) + 1
    out.extend(bytes(-len(out) % 4))
    vtable = len(out)
    out.extend(bytes(4 + 2 * slots))
    out.extend(bytes(-len(out) % 4))
    start = len(out)
    out.extend(struct.pack("<i", start - vtable))
    for number in fields:
        code, value = table.numbers.get(number, ("I", 0))
        out.extend(bytes(-len(out) % struct.calcsize(f"<{code}")))
        struct.pack_into("<H", out, vtable + 4 + 2 * number, len(out) - start)
        if number not in table.numbers:
            pending.append((len(out), table.vectors.get(number) or table.tables[number]))
        out.extend(struct.pack(f"<{code}", value if code == "f" else int(value)))
    struct.pack_into("<HH", out, vtable, 4 + 2 * slots, len(out) - start)
    return start


def _ints(values: Sequence[int]) -> tuple[bytes, int]:
    return struct.pack(f"<{len(values)}i", *values), 4


class _Chain:
    """Ops one behind another, in NHWC."""

    def __init__(self, shape: tuple[int, ...], precision: str) -> None:
        self.kind, self.integer = _KINDS[precision], precision != "float32"
        self.tensors: list[_Table] = []
        self.buffers: list[_Table] = [_Table()]
        self.operators: list[_Table] = []
        self.codes: list[int] = []
        self.shape = shape
        self.at = self.tensor(shape)

    def tensor(self, shape: tuple[int, ...], data: Array | None = None, kind: int | None = None) -> int:
        """A tensor, a weight where `data` is given. Returns its index."""
        kind = kind if kind is not None else self.kind
        buffer = 0
        if data is not None:
            buffer = len(self.buffers)
            self.buffers.append(_Table(vectors={0: (data.tobytes(), 1)}))
        numbers: dict[int, tuple[str, float]] = {1: ("b", kind), 2: ("I", buffer)}
        name = f"t{len(self.tensors)}".encode()
        table = _Table(numbers, {0: _ints(shape), 3: (name, 1)})
        if self.integer:
            scale, zero = 1 / 65536 if kind == _INT32 else 1 / 256, 128 if kind == _UINT8 else 0
            table.tables[4] = _Table(vectors={2: (struct.pack("<f", scale), 4), 3: (struct.pack("<q", zero), 8)})
        self.tensors.append(table)
        return len(self.tensors) - 1

    def weight(self, *shape: int) -> int:
        """A weight of the chain's precision."""
        values = np.resize(_POOL, int(np.prod(shape)))
        if not self.integer:
            return self.tensor(shape, values * 0.05)
        values = np.clip(values * 40, -127, 127)
        return self.tensor(shape, (values + 128).astype(np.uint8) if self.kind == _UINT8 else values.astype(np.int8))

    def bias(self, count: int) -> int:
        """Zeros."""
        kind = _INT32 if self.integer else _FLOAT32
        return self.tensor((count,), np.zeros(count, np.int32 if self.integer else np.float32), kind)

    def then(
        self, code: int, others: Sequence[int], shape: tuple[int, ...], options: int = 0, **values: tuple[str, float]
    ) -> None:
        """One op more. `values`: fields of its options, "f0" for the first."""
        if code not in self.codes:
            self.codes.append(code)
        result = self.tensor(shape)
        inputs = [self.at, *others]
        numbers: dict[int, tuple[str, float]] = {0: ("I", self.codes.index(code))}
        table = _Table(numbers, {1: _ints(inputs), 2: _ints([result])})
        if options:
            numbers[3] = ("B", options)
            table.tables[4] = _Table({int(name[1:]): value for name, value in values.items()})
        self.operators.append(table)
        self.at, self.shape = result, shape

    def content(self) -> bytes:
        """The file."""
        codes = [_Table({0: ("b", code), 2: ("i", 3 if self.integer else 1), 3: ("i", code)}) for code in self.codes]
        lists: dict[int, _Table | list[_Table]] = {0: self.tensors, 3: self.operators}
        graph = _Table(vectors={1: _ints([0]), 2: _ints([self.at]), 4: (b"calibration", 1)}, tables=lists)
        parts: dict[int, _Table | list[_Table]] = {1: codes, 2: [graph], 4: self.buffers}
        return _flatbuffer(_Table({0: ("I", 3)}, {3: (b"edge-sdk calibration", 1)}, parts))

    def conv(self, out: int, kernel: int, stride: int = 1) -> None:
        """A convolution with ReLU."""
        n, height, width, into = self.shape
        shape = (n, -(-height // stride), -(-width // stride), out)
        sizes: dict[str, tuple[str, float]] = {"f0": ("b", 0), "f1": ("i", stride), "f2": ("i", stride)}
        others = [self.weight(out, kernel, kernel, into), self.bias(out)]
        self.then(_CONV, others, shape, 1, **sizes, f3=("b", _NAMES_RELU), f4=("i", 1), f5=("i", 1))

    def depthwise(self, kernel: int) -> None:
        """A depthwise convolution with ReLU."""
        channels = self.shape[-1]
        sizes: dict[str, tuple[str, float]] = {"f0": ("b", 0), "f1": ("i", 1), "f2": ("i", 1), "f3": ("i", 1)}
        others = [self.weight(1, kernel, kernel, channels), self.bias(channels)]
        self.then(_DEPTHWISE, others, self.shape, 2, **sizes, f4=("b", _NAMES_RELU), f5=("i", 1), f6=("i", 1))

    def dense(self, out: int) -> None:
        """A fully connected layer with ReLU."""
        others = [self.weight(out, self.shape[-1]), self.bias(out)]
        self.then(_DENSE, others, (self.shape[0], out), 8, f0=("b", _NAMES_RELU))


Maker = Callable[[_Chain, np.random.Generator], None]


def _between(rng: np.random.Generator, low: int, high: int) -> int:
    return round(float(np.exp(rng.uniform(np.log(low), np.log(high)))))


def _length(rng: np.random.Generator, most: int = max(_LENGTHS)) -> int:
    return min(most, int(rng.choice(_LENGTHS)))


def _convs(kernel: int, stride: int = 1) -> Maker:
    def make(chain: _Chain, rng: np.random.Generator) -> None:
        for _ in range(_length(rng, 20 if stride == 1 else 3)):
            top = max(16, int(rng.choice([2400, 7200])) // chain.shape[1] // kernel)
            chain.conv(max(16, _between(rng, max(8, top // 4), top) // 4 * 4), kernel, stride)

    return make


def _first(chain: _Chain, rng: np.random.Generator) -> None:
    chain.conv(_between(rng, 8, 32), 3, int(rng.integers(1, 3)))


def _depthwises(chain: _Chain, rng: np.random.Generator) -> None:
    for _ in range(_length(rng)):
        chain.depthwise(int(rng.choice([3, 3, 5])))


def _denses(chain: _Chain, rng: np.random.Generator) -> None:
    for _ in range(_length(rng, 5)):
        chain.dense(_between(rng, 64, 1600))


def _sums(chain: _Chain, rng: np.random.Generator) -> None:
    for number in range(_length(rng)):
        code, options = (_MUL, 21) if number % 3 == 1 else (_ADD, 11)
        chain.then(code, [chain.at], chain.shape, options, f0=("b", 0))


def _sigmoids(chain: _Chain, rng: np.random.Generator) -> None:
    for _ in range(_length(rng)):
        chain.then(_LOGISTIC, [], chain.shape)


def _pools(chain: _Chain, rng: np.random.Generator) -> None:
    sizes: dict[str, tuple[str, float]] = {"f1": ("i", 1), "f2": ("i", 1), "f3": ("i", 3), "f4": ("i", 3)}
    for _ in range(_length(rng)):
        chain.then(_MAX_POOL, [], chain.shape, 5, f0=("b", 0), **sizes)


def _softmaxes(chain: _Chain, rng: np.random.Generator) -> None:
    for _ in range(_length(rng)):
        chain.then(_SOFTMAX, [], chain.shape, 9, f0=("f", 1.0))


def _concats(chain: _Chain, rng: np.random.Generator) -> None:
    for _ in range(_length(rng, 4) - 1):
        shape = (*chain.shape[:-1], 2 * chain.shape[-1])
        chain.then(_CONCAT, [chain.at], shape, 10, f0=("i", len(shape) - 1))


_PICTURE, _ROWS, _ROW = "picture", "rows", "row"
_SORTS: tuple[tuple[str, Maker, str, int, tuple[str, ...]], ...] = (
    # sort, maker, what goes in, how many, precisions
    ("conv_1x1", _convs(1), _PICTURE, 7, ("float32", "int8", "uint8")),
    ("conv", _convs(3), _PICTURE, 7, ("float32", "int8", "uint8")),
    ("depthwise_conv", _depthwises, _PICTURE, 7, ("float32", "int8", "uint8")),
    ("conv_strided", _convs(3, 2), _PICTURE, 4, ("float32", "int8", "uint8")),
    ("conv_first", _first, "photo", 5, ("float32", "int8", "uint8")),
    ("gemv", _denses, _ROW, 6, ("float32", "int8", "uint8")),
    ("gemm", _denses, _ROWS, 6, ("float32", "int8")),
    ("arithmetic", _sums, _PICTURE, 4, ("float32", "int8")),
    ("sigmoid", _sigmoids, _PICTURE, 4, ("float32", "int8")),
    ("pool", _pools, _PICTURE, 4, ("float32", "int8")),
    ("concat", _concats, _PICTURE, 4, ("float32", "int8")),
    ("softmax", _softmaxes, _ROWS, 4, ("float32",)),
)


def _shape(what: str, rng: np.random.Generator) -> tuple[int, ...]:
    if what == _ROW:
        return 1, _between(rng, 32, 1500)
    if what == _ROWS:
        return _between(rng, 8, 300), _between(rng, 32, 400)
    size = int(rng.choice([112, 56, 40, 28, 20, 14, 10, 7]))
    if what == "photo":
        return 1, 2 * size, 2 * size, 3
    return 1, size, size, max(16, _between(rng, 400, 6000) // size // 4 * 4)


def tflite_networks() -> Iterator[TfliteNetwork]:
    """All of them, one of each sort after another, so that any part of them from the start covers all sorts."""
    for number in range(max(count for _, _, _, count, _ in _SORTS)):
        for place, (sort, make, what, count, precisions) in enumerate(_SORTS):
            for precision in precisions:
                if number < min(count, _FEWER.get(precision, count)):
                    rng = np.random.default_rng(1000 * place + number)
                    chain = _Chain(_shape(what, rng), precision)
                    make(chain, rng)
                    yield TfliteNetwork(f"{sort} {number}", precision, chain.content())


def tflite_empty() -> bytes:
    """One sum of a few numbers."""
    chain = _Chain((1, 4), "float32")
    chain.then(_ADD, [chain.at], chain.shape, 11, f0=("b", 0))
    return chain.content()


def tflite_probe() -> bytes:
    """The network whose time tells the machine's pace."""
    chain = _Chain((1, 28, 28, 24), "float32")
    for out in (32, 32):
        chain.conv(out, 3)
        chain.conv(3 * out, 1)
        chain.depthwise(3)
        chain.conv(out, 1)
    return chain.content()

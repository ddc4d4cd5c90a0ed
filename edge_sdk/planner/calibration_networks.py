"""The small ONNX networks that calibration runs: every kind of op over a wide range of sizes, in the company it has in
real networks.

Sizes are drawn from a fixed seed, evenly on a logarithmic scale. No network here is an architecture that anybody uses:
what is learnt from them is checked on those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from edge_sdk.planner.calibration_onnx import OnnxWriter
from edge_sdk.tensors import Array

__all__ = ["CalibrationNetwork", "networks", "probe_network"]

_POOL = np.random.default_rng(7).standard_normal(1 << 16).astype(np.float32)
_SCALE = 0.05


@dataclass(frozen=True, slots=True)
class CalibrationNetwork:
    """One network.

    Attributes:
        name: the family and its number.
        precision: "float32", "int8" (QDQ), or "int8 (dynamic)".
        content: the ONNX file; every input is float32 with fixed sizes.
        weights: see `OnnxWriter.weights`.
    """

    name: str
    precision: str
    content: bytes
    weights: Mapping[int, tuple[tuple[int, ...], ...]]


def _weights(*shape: int) -> Array:
    count = int(np.prod(shape))
    return np.resize(_POOL, count).reshape(shape) * np.float32(1 / np.sqrt(max(1, count // shape[0])))


class _Net:
    """A chain of ops: remembers the value at its end and that value's shape (NCHW, or rows of features)."""

    def __init__(self, seed: int, shape: tuple[int, ...], precision: str) -> None:
        self.rng = np.random.default_rng(seed)
        self.writer = OnnxWriter()
        self.shape = shape
        self.int8 = precision == "int8"
        self.value = self._grid(self.writer.input("x", shape))

    def choose(self, *options: int) -> int:
        return int(options[self.rng.integers(len(options))])

    def between(self, low: int, high: int, multiple: int = 1) -> int:
        """A size, evenly on a logarithmic scale."""
        drawn = float(np.exp(self.rng.uniform(np.log(low), np.log(high))))
        return max(multiple, round(drawn / multiple) * multiple)

    def then(
        self, op: str, *others: str, shape: tuple[int, ...] | None = None, domain: str = "", **attributes: object
    ) -> str:
        """The op on the chain's value (and others); its result is the new end, on the int8 grid where that is
        wanted."""
        plain = self.writer.node(op, [self.value, *others], domain, **attributes)  # type: ignore[arg-type]
        self.shape = shape or self.shape
        self.value = self._grid(plain)
        return self.value

    def _grid(self, name: str) -> str:
        if not self.int8:
            return name
        return self.dequantized(self.writer.node("QuantizeLinear", [name, *self._steps(_SCALE)]), _SCALE)

    def dequantized(self, name: str, scale: float) -> str:
        return self.writer.node("DequantizeLinear", [name, *self._steps(scale)])

    def _steps(self, scale: float) -> list[str]:
        return [self.writer.constant(np.array(scale, np.float32)), self.writer.constant(np.array(128, np.uint8))]

    def weight(self, array: Array, axis: int = 0) -> str:
        """A constant, in int8 with a scale per channel where that is wanted."""
        if not self.int8:
            return self.writer.constant(array)
        quantised = np.clip(np.rint(array * 60), -127, 127).astype(np.int8)
        count = array.shape[axis]
        steps = [
            self.writer.constant(np.full(count, 1 / 60, np.float32)),
            self.writer.constant(np.zeros(count, np.int8)),
        ]
        return self.writer.node("DequantizeLinear", [self.writer.constant(quantised), *steps], axis=axis)

    def bias(self, count: int) -> str:
        if not self.int8:
            return self.writer.constant(_weights(count))
        scale = self.writer.constant(np.full(count, _SCALE / 60, np.float32))
        zero = self.writer.constant(np.zeros(count, np.int32))
        constant = self.writer.constant(np.ones(count, np.int32))
        return self.writer.node("DequantizeLinear", [constant, scale, zero], axis=0)

    def conv(self, out: int, kernel: int, stride: int = 1, group: int = 1, act: str = "Relu") -> None:
        n, channels, *sizes = self.shape
        weights = self.weight(_weights(out, channels // group, *[kernel] * len(sizes)))
        pad = kernel // 2
        results = tuple((size + 2 * pad - kernel) // stride + 1 for size in sizes)
        bias = self.bias(out)
        self.then(
            "Conv",
            weights,
            bias,
            shape=(n, out, *results),
            kernel_shape=[kernel] * len(sizes),
            strides=[stride] * len(sizes),
            pads=[pad] * 2 * len(sizes),
            group=group,
        )
        self.activation(act)

    def activation(self, act: str) -> None:
        if act == "Relu" and self.int8:
            return  # quantisers leave it out: the lower end of the int8 grid does its work
        if act in ("Relu", "Sigmoid", "HardSwish", "HardSigmoid", "Tanh", "Gelu"):
            if act == "HardSwish":
                before = self.value
                self.then("HardSigmoid", alpha=1 / 6, beta=0.5)
                self.then("Mul", before)
            elif act == "Gelu":
                self.then("Gelu", domain="com.microsoft")
            else:
                self.then(act)
        elif act == "SiLU":
            before = self.value
            self.then("Sigmoid")
            self.then("Mul", before)

    def finish(self) -> OnnxWriter:
        self.writer.output(self.value)
        return self.writer


def _separable(seed: int, precision: str) -> OnnxWriter:
    """1×1 and depthwise convolutions, as in networks for phones."""
    rng = np.random.default_rng(seed)
    size = int(rng.choice([112, 56, 40, 28, 20, 14, 10, 7]))
    channels = int(rng.choice([1800, 3600])) // size // 8 * 8
    net = _Net(seed, (1, max(4, channels // 2 // 4 * 4), size, size), precision)
    for _ in range(5):
        wide = net.between(max(8, channels // 3), channels * 4, 8)
        net.conv(wide, 1, act="Relu" if net.choose(0, 1, 1) else "HardSwish")
        stride = 2 if net.shape[2] >= 14 and net.choose(0, 0, 1) else 1
        net.conv(wide, net.choose(3, 3, 5), stride, group=wide)
        net.conv(net.between(max(8, channels // 4), channels, 8), 1, act="none")
        before = net.value
        net.conv(net.shape[1], 1, act="Relu")
        net.then("Add", before)
    return net.finish()


def _dense(seed: int, precision: str) -> OnnxWriter:
    """k×k convolutions over all channels, with residuals and pooling."""
    rng = np.random.default_rng(seed)
    size = int(rng.choice([96, 64, 48, 32, 28, 16, 14, 8, 7]))
    top = max(24, int(rng.choice([1800, 3600])) // size)
    net = _Net(seed, (1, 3 if size > 40 else max(8, top // 2), size, size), precision)
    for _ in range(4):
        net.conv(
            net.between(max(8, top // 4), top, 8), net.choose(3, 3, 3, 5, 7) if net.shape[1] < 32 else 3, act="Relu"
        )
        before = net.value
        net.conv(net.shape[1], 3, act="none")
        net.then("Add", before)
        net.activation("Relu")
        if net.shape[2] >= 14:
            net.conv(net.between(max(8, top // 4), top, 8), 3, 2)
    if net.shape[2] >= 4:
        half = net.shape[2] // 2
        net.then("MaxPool", shape=(*net.shape[:2], half, half), kernel_shape=[2, 2], strides=[2, 2])
    net.then("GlobalAveragePool", shape=(*net.shape[:2], 1, 1))
    return net.finish()


def _pictures(seed: int, precision: str) -> OnnxWriter:
    """What stands between convolutions: squeeze and excite, SiLU, concat, resize, pools, transposed convolution."""
    rng = np.random.default_rng(seed)
    size = int(rng.choice([80, 56, 40, 28, 14, 10]))
    channels = max(16, int(rng.choice([1200, 3000])) // size // 8 * 8)
    net = _Net(seed, (1, channels // 2 // 4 * 4, size, size), precision)
    for _ in range(2):
        net.conv(net.between(channels // 2, channels, 8), 3, act="SiLU")
        full, shape = net.value, net.shape
        net.then("GlobalAveragePool", shape=(*shape[:2], 1, 1))
        net.conv(max(8, shape[1] // 4), 1, act="Relu")
        net.conv(shape[1], 1, act="Sigmoid" if net.choose(0, 1) else "HardSigmoid")
        net.then("Mul", full, shape=shape)
        left = net.value
        net.conv(shape[1], 1, act="SiLU")
        net.then("Concat", left, shape=(1, 2 * shape[1], *shape[2:]), axis=1)
        net.conv(shape[1], 1, act="HardSwish")
        net.then("MaxPool", shape=net.shape, kernel_shape=[5, 5], strides=[1, 1], pads=[2, 2, 2, 2])
        half = net.shape[2] // 2
        net.then("AveragePool", shape=(*net.shape[:2], half, half), kernel_shape=[2, 2], strides=[2, 2])
        scales = net.writer.constant(np.array([1, 1, 2, 2], np.float32))
        nearest = net.choose(0, 1)
        shape = (*net.shape[:2], half * 2, half * 2)
        how = {"mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
        net.then("Resize", "", scales, shape=shape, **(how if nearest else {"mode": "linear"}))
    weights = net.weight(_weights(net.shape[1], net.shape[1] // 2, 2, 2), axis=1)
    n, c, h, w = net.shape
    net.then("ConvTranspose", weights, shape=(n, c // 2, h * 2, w * 2), kernel_shape=[2, 2], strides=[2, 2])
    return net.finish()


def _attention(seed: int, precision: str) -> OnnxWriter:
    """Blocks of a transformer."""
    rng = np.random.default_rng(seed)
    net = _Net(
        seed,
        (1, int(np.exp(rng.uniform(np.log(16), np.log(400)))), int(rng.choice([64, 96, 128, 192, 256, 384]))),
        precision,
    )
    _, rows, width = net.shape
    heads = max(1, width // 32 if net.choose(0, 1) else width // 64)
    each = width // heads
    for _ in range(2):
        before = net.value
        _layer_norm(net)
        normal = net.value
        parts = []
        for part in range(3):
            net.value = normal
            net.shape = (1, rows, width)
            _linear(net, width)
            _reshape(net, (1, rows, heads, each))
            order = [0, 2, 3, 1] if part == 1 else [0, 2, 1, 3]
            net.then("Transpose", perm=order)
            parts.append(net.value)
        net.value = parts[0]
        net.then("MatMul", parts[1], shape=(1, heads, rows, rows))
        net.then("Mul", net.writer.constant(np.array(each**-0.5, np.float32)))
        net.then("Softmax", axis=-1)
        net.then("MatMul", parts[2], shape=(1, heads, rows, each))
        net.then("Transpose", perm=[0, 2, 1, 3], shape=(1, rows, heads, each))
        _reshape(net, (1, rows, width))
        _linear(net, width)
        net.then("Add", before)
        before = net.value
        _layer_norm(net)
        _linear(net, width * net.choose(2, 4))
        net.activation("Gelu" if net.choose(0, 1) else "Relu")
        _linear(net, width)
        net.then("Add", before)
    return net.finish()


def _layer_norm(net: _Net) -> None:
    width = net.shape[-1]
    scale, bias = net.writer.constant(np.ones(width, np.float32)), net.writer.constant(np.zeros(width, np.float32))
    net.then("LayerNormalization", scale, bias, axis=-1)


def _linear(net: _Net, out: int) -> None:
    weights = net.weight(_weights(net.shape[-1], out), axis=1)
    hold, net.int8 = net.int8, False
    shape = (*net.shape[:-1], out)
    net.then("MatMul", weights, shape=shape)
    net.int8 = hold
    net.then("Add", net.writer.constant(_weights(out)))


def _reshape(net: _Net, shape: tuple[int, ...]) -> None:
    hold, net.int8 = net.int8, False
    net.then("Reshape", net.writer.constant(np.array(shape, np.int64)), shape=shape)
    net.int8 = hold


def _perceptron(seed: int, precision: str) -> OnnxWriter:
    """Fully connected layers, from tiny to larger than the caches."""
    rng = np.random.default_rng(seed)
    net = _Net(seed, (int(rng.choice([1, 1, 1, 8, 32])), int(np.exp(rng.uniform(np.log(32), np.log(2000))))), precision)
    for index in range(5):
        out = net.between(16, 4000 if index == 2 else 1200, 4)
        weights = net.weight(_weights(out, net.shape[1]))
        bias = net.bias(out)
        hold, net.int8 = net.int8, False
        net.then("Gemm", weights, bias, shape=(net.shape[0], out), transB=1)
        net.int8 = hold
        net.activation("Relu")
    net.then("Softmax", axis=-1)
    return net.finish()


def _recurrent(seed: int, precision: str) -> OnnxWriter:
    """LSTM and GRU over sequences."""
    rng = np.random.default_rng(seed)
    steps, width = int(rng.choice([1, 10, 32, 64])), int(rng.choice([16, 40, 64, 128]))
    net = _Net(seed, (steps, 1, width), "float32")
    for op, gates in (("LSTM", 4), ("GRU", 3), ("LSTM", 4)):
        hidden = net.between(16, 256, 8)
        weights = net.writer.constant(_weights(1, gates * hidden, net.shape[2]))
        again = net.writer.constant(_weights(1, gates * hidden, hidden))
        net.then(op, weights, again, shape=(steps, 1, 1, hidden), hidden_size=hidden)
        net.then("Squeeze", net.writer.constant(np.array([1], np.int64)), shape=(steps, 1, hidden))
    return net.finish()


def _movement(seed: int, precision: str) -> OnnxWriter:
    """Ops that mostly move memory: transpose, slice, pad, split, gather, reductions, arithmetic with broadcasting."""
    rng = np.random.default_rng(seed)
    rows, width = int(np.exp(rng.uniform(np.log(8), np.log(800)))), int(np.exp(rng.uniform(np.log(8), np.log(500))))
    net = _Net(seed, (1, rows, width), precision)
    constant = net.writer.constant
    net.then("Transpose", perm=[0, 2, 1], shape=(1, width, rows))
    net.then("Add", constant(_weights(1, 1, rows)))
    net.then("Tanh")
    net.then("Mul", constant(_weights(1, width, 1)))
    net.then("Exp")
    net.then("Transpose", perm=[0, 2, 1], shape=(1, rows, width))
    before = net.value
    net.then("ReduceMean", axes=[-1], shape=(1, rows, 1))
    net.then("Sub", before, shape=(1, rows, width))
    net.then("Pad", constant(np.array([0, 1, 0, 0, 1, 0], np.int64)), shape=(1, rows + 2, width))
    ends = [constant(np.array(v, np.int64)) for v in ([1], [rows + 1], [1])]
    net.then("Slice", *ends, shape=(1, rows, width))
    net.then("Gather", constant(np.arange(rows - 1, -1, -1, dtype=np.int64)), axis=1)
    net.then("Div", constant(np.array(3, np.float32)))
    net.then("Sqrt")
    left = net.value
    net.then("Erf")
    net.then("Concat", left, axis=1, shape=(1, 2 * rows, width))
    net.then("ReduceMean", axes=[1], shape=(1, 1, width))
    return net.finish()


def _sequence(seed: int, precision: str) -> OnnxWriter:
    """Convolutions along time."""
    rng = np.random.default_rng(seed)
    net = _Net(seed, (1, int(rng.choice([16, 40, 64])), int(np.exp(rng.uniform(np.log(32), np.log(1000))))), precision)
    for _ in range(3):
        net.conv(net.between(16, 192, 8), net.choose(3, 5, 9), act="Relu")
        net.conv(net.shape[1], 3, group=net.shape[1])
        net.conv(net.between(16, 192, 8), 1)
    return net.finish()


_FAMILIES: tuple[tuple[str, Callable[[int, str], OnnxWriter], int, int], ...] = (
    # family, maker, how many in float32, how many in int8
    ("separable", _separable, 7, 5),
    ("dense", _dense, 7, 5),
    ("pictures", _pictures, 4, 3),
    ("attention", _attention, 5, 3),
    ("perceptron", _perceptron, 5, 3),
    ("movement", _movement, 3, 2),
    ("sequence", _sequence, 2, 2),
    ("recurrent", _recurrent, 3, 0),
)


def networks() -> Iterator[CalibrationNetwork]:
    """All of them, one of each family after another, so that any part of them from the start covers all kinds."""
    for number in range(max(max(floats, ints) for _, _, floats, ints in _FAMILIES)):
        for place, (family, make, floats, ints) in enumerate(_FAMILIES):
            for precision, count in (("float32", floats), ("int8", ints)):
                if number < count:
                    writer = make(1000 * place + number, precision)
                    yield CalibrationNetwork(f"{family} {number}", precision, writer.content(), writer.weights)


def probe_network() -> CalibrationNetwork:
    """The network whose time tells the machine's pace: some of all that costs time in others."""
    net = _Net(11, (1, 16, 28, 28), "float32")
    for out in (24, 32):
        net.conv(out, 3)
        net.conv(out * 3, 1)
        net.conv(out * 3, 3, group=out * 3)
        before = net.value
        net.conv(out * 3, 1, act="none")
        net.then("Add", before)
    net.conv(32, 1)
    net.then("GlobalAveragePool", shape=(1, 32, 1, 1))
    writer = net.finish()
    return CalibrationNetwork("probe", "float32", writer.content(), writer.weights)

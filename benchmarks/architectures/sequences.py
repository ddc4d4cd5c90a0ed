"""Networks over time or plain features: LSTM, GRU, temporal and keyword convolutions, CRNN, MLP, dense autoencoder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .writer import Writer


def recurrent(net: Writer, x: str, kind: str, hidden: int, both_ways: bool = False) -> str:
    """One recurrent layer over x[time, batch, features]: x[time, batch, hidden · directions]."""
    steps, _, features = net.shapes[x]
    directions, gates = 2 if both_ways else 1, 4 if kind == "LSTM" else 3
    weights = [net.drawn((directions, gates * hidden, size), size, 1.0) for size in (features, hidden)]
    bias = net.weight(net.random.normal(0, 0.1, (directions, 2 * gates * hidden)).astype(np.float32), "bias")
    attributes = {"hidden_size": hidden, "direction": "bidirectional" if both_ways else "forward"}
    if kind == "GRU":
        attributes["linear_before_reset"] = 1
    y = net.op(kind, x, *weights, bias, **attributes)
    return net.reshape(net.transpose(y, 0, 2, 1, 3), steps, -1, directions * hidden)


def recurrent_net(
    net: Writer,
    kind: str = "LSTM",
    steps: int = 50,
    features: int = 40,
    hidden: int = 64,
    layers: int = 2,
    both_ways: bool = False,
) -> None:
    """Layers over a window, then the last step classified."""
    x = net.transpose(net.input("window", [steps, features]), 1, 0, 2)
    for _ in range(layers):
        x = recurrent(net, x, kind, hidden, both_ways)
    last = net.op("Gather", x, net.weight(np.int64(-1), "last"), axis=0)
    net.output(net.op("Softmax", net.linear(last, 12, gemm=True), axis=-1), "probabilities")


def temporal(net: Writer, steps: int = 128, features: int = 16, width: int = 32, blocks: int = 4) -> None:
    """Bai et al. 2018: one-dimensional convolutions whose dilation doubles, beside shortcuts."""
    x = net.conv(net.input("signal", [features, steps]), width, 1)
    for level in range(blocks):
        y = net.conv(net.conv(x, width, 3, dilation=2**level), width, 3, dilation=2**level)
        x = net.activate(net.op("Add", x, y), "relu")
    x = net.op("ReduceMean", x, axes=[2], keepdims=0)
    net.output(net.linear(x, 6, gemm=True), "scores")


def wave(net: Writer, samples: int = 8000, width: int = 32) -> None:
    """Raw sound through wide strided one-dimensional convolutions (like M5, Dai et al. 2017)."""
    x = net.conv(net.input("sound", [1, samples]), width, 79, 4)
    for channels in (width, width * 2, width * 4, width * 8):
        x = net.conv(x, channels, 3)
        x = net.op("MaxPool", x, kernel_shape=[4], strides=[4])
    x = net.op("ReduceMean", x, axes=[2], keepdims=0)
    net.output(net.linear(x, 35, gemm=True), "scores")


def keywords(net: Writer, frames: int = 49, bands: int = 10, width: int = 64, blocks: int = 4) -> None:
    """Zhang et al. 2017 (DS-CNN): depthwise and 1×1 convolutions over a spectrogram."""
    x = net.conv(net.input("spectrogram", [1, frames, bands]), width, (11, 5), (2, 1))
    for _ in range(blocks):
        x = net.conv(net.conv(x, width, 3, groups=-1), width, 1)
    net.output(net.op("Softmax", net.classifier(x, 12), axis=1), "probabilities")


def crnn(net: Writer, height: int = 32, length: int = 128, width: int = 32, hidden: int = 64) -> None:
    """Shi et al. 2017: convolutions over a line of writing, then an LSTM both ways over its columns."""
    x = net.input("line", [1, height, length])
    for channels in (width, width * 2, width * 4):
        x = net.pool(net.conv(x, channels, 3))
    _, channels, rows, columns = net.shapes[x]
    x = net.reshape(net.transpose(x, 3, 0, 1, 2), columns, -1, channels * rows)
    x = recurrent(net, x, "LSTM", hidden, both_ways=True)
    net.output(net.op("LogSoftmax", net.linear(x, 37), axis=2), "columns")


def mlp(net: Writer, features: int = 64, widths: Sequence[int] = (256, 256, 128), classes: int = 10) -> None:
    """Dense layers with ReLU."""
    x = net.input("features", [features])
    for width in widths:
        x = net.linear(x, width, activation="relu", gemm=True)
    net.output(net.op("Softmax", net.linear(x, classes, gemm=True), axis=1), "probabilities")


def autoencoder(net: Writer, features: int = 640, width: int = 128, narrow: int = 8) -> None:
    """MLPerf Tiny's anomaly detector: dense layers to a narrow middle and back."""
    x = net.input("frames", [features])
    for size in (width, width, width, width, narrow, width, width, width, width):
        x = net.linear(x, size, activation="relu", gemm=True)
    net.output(net.linear(x, features, gemm=True), "restored")


def points(net: Writer, count: int = 512, width: int = 64, classes: int = 40) -> None:
    """Qi et al. 2017 (PointNet without its transforms): dense layers per point, the largest over all points."""
    x = net.input("points", [3, count])
    for channels in (width, width, width * 2, width * 8):
        x = net.conv(x, channels, 1)
    x = net.op("ReduceMax", x, axes=[2], keepdims=0)
    x = net.linear(x, width * 4, activation="relu", gemm=True)
    net.output(net.linear(x, classes, gemm=True), "scores")

"""Networks with attention or in its style: vision and text transformers, MobileViT, ConvNeXt, MLP-Mixer."""

from __future__ import annotations

import math

import numpy as np
from onnx import TensorProto

from .mobile import inverted_residual
from .writer import Writer


def attention(net: Writer, x: str, heads: int, mask: str = "") -> str:
    """Multi-head self-attention over x[batch, tokens, width] (Vaswani et al. 2017)."""
    _, tokens, width = net.shapes[x]
    depth = width // heads
    joined = net.reshape(net.linear(x, 3 * width), 0, tokens, 3, heads, depth)
    parts = net.ops("Split", [net.transpose(joined, 2, 0, 3, 1, 4), net.integers(1, 1, 1)], 3, axis=0)
    query, key, value = (net.op("Squeeze", part, net.integers(0)) for part in parts)
    weights = net.op("MatMul", query, net.transpose(key, 0, 1, 3, 2))
    weights = net.op("Mul", weights, net.scalar(1 / math.sqrt(depth)))
    if mask:
        weights = net.op("Add", weights, mask)
    mixed = net.op("MatMul", net.op("Softmax", weights, axis=-1), value)
    return net.linear(net.reshape(net.transpose(mixed, 0, 2, 1, 3), 0, tokens, width), width)


def block(net: Writer, x: str, heads: int, hidden: int, activation: str = "gelu") -> str:
    """Normalise, attend, add; normalise, two dense layers, add."""
    x = net.op("Add", x, attention(net, net.layer_norm(x), heads))
    y = net.linear(net.layer_norm(x), hidden, activation=activation)
    return net.op("Add", x, net.linear(y, net.shapes[x][2]))


def vit(
    net: Writer, size: int = 96, patch: int = 16, width: int = 192, depth: int = 4, heads: int = 3, classes: int = 100
) -> None:
    """Dosovitskiy et al. 2021: patches, a class token, blocks."""
    x = net.conv(net.input("image", [3, size, size]), width, patch, patch, pad=0, norm=False, activation=None)
    tokens = (size // patch) ** 2
    x = net.transpose(net.reshape(x, 0, width, tokens), 0, 2, 1)
    x = net.op("Add", x, net.weight(net.random.normal(0, 0.5, (1, tokens, width)).astype(np.float32), "positions"))
    for _ in range(depth):
        x = block(net, x, heads, width * 4)
    x = net.op("ReduceMean", net.layer_norm(x), axes=[1], keepdims=0)
    net.output(net.linear(x, classes, gemm=True), "scores")


def text(
    net: Writer, tokens: int = 64, width: int = 128, depth: int = 2, heads: int = 2, words: int = 8000, classes: int = 4
) -> None:
    """Like a small BERT: three embeddings, a mask, normalisation after each part, a pooled answer."""
    identifiers = net.input("input_ids", [tokens], TensorProto.INT64)
    attended = net.input("attention_mask", [tokens], TensorProto.INT64)
    table = net.drawn((words, width), 1, 1.0)
    x = net.op("Gather", table, identifiers, axis=0)
    x = net.op("Add", x, net.weight(net.random.normal(0, 0.3, (1, tokens, width)).astype(np.float32), "positions"))
    x = net.layer_norm(x)
    missing = net.op("Sub", net.scalar(1.0), net.op("Cast", attended, to=TensorProto.FLOAT))
    mask = net.op("Mul", net.op("Unsqueeze", missing, net.integers(1, 2)), net.scalar(-10000.0))
    for _ in range(depth):
        x = net.layer_norm(net.op("Add", x, attention(net, x, heads, mask)))
        y = net.linear(net.linear(x, width * 4, activation="gelu"), width)
        x = net.layer_norm(net.op("Add", x, y))
    first = net.op("Gather", x, net.weight(np.int64(0), "first"), axis=1)
    net.output(net.linear(net.linear(first, width, activation="tanh", gemm=True), classes, gemm=True), "scores")


def mobilevit(net: Writer, size: int = 128, width: int = 16, tokens_width: int = 64, classes: int = 1000) -> None:
    """Mehta and Rastegari 2022: inverted residuals, with transformers over the coarse maps between."""
    x = net.conv(net.input("image", [3, size, size]), width, 3, 2, activation="silu")
    for stage, channels in enumerate((width, width * 2, width * 3, width * 4)):
        x = inverted_residual(net, x, net.shapes[x][1] * 4, channels, 3, 2 if stage else 1, activation="silu")
        if stage < 2:
            continue
        _, _, height, across = net.shapes[x]
        y = net.conv(net.conv(x, channels, 3, activation="silu"), tokens_width, 1, norm=False, activation=None)
        y = net.transpose(net.reshape(y, 0, tokens_width, height * across), 0, 2, 1)
        for _ in range(2):
            y = block(net, y, 4, tokens_width * 2, "silu")
        y = net.reshape(net.transpose(net.layer_norm(y), 0, 2, 1), 0, tokens_width, height, across)
        y = net.conv(y, channels, 1, activation="silu")
        x = net.conv(net.op("Concat", x, y, axis=1), channels, 3, activation="silu")
    net.output(net.classifier(net.conv(x, width * 16, 1, activation="silu"), classes), "scores")


def convnext(net: Writer, size: int = 96, first: int = 32, repeats: tuple[int, ...] = (1, 1, 3, 1)) -> None:
    """Liu et al. 2022: depthwise 7×7, then layer normalisation and two dense layers over channels."""
    x = net.conv(net.input("image", [3, size, size]), first, 4, 4, pad=0, norm=False, activation=None)
    for stage, count in enumerate(repeats):
        channels = first * 2**stage
        if stage:
            x = net.conv(x, channels, 2, 2, pad=0, norm=False, activation=None)
        for _ in range(count):
            y = net.conv(x, channels, 7, groups=-1, norm=False, activation=None)
            y = net.layer_norm(net.transpose(y, 0, 2, 3, 1))
            y = net.linear(net.linear(y, channels * 4, activation="gelu"), channels)
            y = net.op("Mul", y, net.weight(np.full(channels, 0.3, np.float32), "layer_scale"))
            x = net.op("Add", x, net.transpose(y, 0, 3, 1, 2))
    x = net.layer_norm(net.op("ReduceMean", x, axes=[2, 3], keepdims=0))
    net.output(net.linear(x, 100, gemm=True), "scores")


def mixer(net: Writer, size: int = 96, patch: int = 12, width: int = 128, depth: int = 4) -> None:
    """Tolstikhin et al. 2021: dense layers over tokens and over channels in turn."""
    side = size // patch
    x = net.reshape(net.input("image", [3, size, size]), 0, 3, side, patch, side, patch)
    x = net.reshape(net.transpose(x, 0, 2, 4, 1, 3, 5), 0, side * side, 3 * patch * patch)
    x = net.linear(x, width)
    for _ in range(depth):
        y = net.transpose(net.layer_norm(x), 0, 2, 1)
        y = net.linear(net.linear(y, width // 2, activation="gelu"), side * side)
        x = net.op("Add", x, net.transpose(y, 0, 2, 1))
        y = net.linear(net.linear(net.layer_norm(x), width * 4, activation="gelu"), width)
        x = net.op("Add", x, y)
    x = net.op("ReduceMean", net.layer_norm(x), axes=[1], keepdims=0)
    net.output(net.linear(x, 100, gemm=True), "scores")

"""Networks with a value per pixel or box: U-Net, a small YOLO, SSD, autoencoder, super-resolution, segmentation."""

from __future__ import annotations

import numpy as np

from .mobile import inverted_residual
from .writer import Writer


def enlarged(net: Writer, x: str, factor: int = 2, mode: str = "nearest") -> str:
    """Resized by a whole factor over height and width."""
    scales = net.weight(np.array([1, 1, factor, factor], np.float32), "scales")
    how = {"nearest": ("asymmetric", "floor"), "linear": ("half_pixel", "round_prefer_floor")}[mode]
    return net.op("Resize", x, "", scales, mode=mode, coordinate_transformation_mode=how[0], nearest_mode=how[1])


def unet(net: Writer, size: int = 128, first: int = 16, depth: int = 3, transposed: bool = True) -> None:
    """Ronneberger et al. 2015: down, up again, with the way down at hand; up by ConvTranspose or by Resize."""
    x = net.input("image", [3, size, size])
    levels = []
    for level in range(depth):
        x = net.conv(net.conv(x, first * 2**level), first * 2**level)
        levels.append(x)
        x = net.pool(x)
    x = net.conv(net.conv(x, first * 2**depth), first * 2**depth)
    for level in reversed(range(depth)):
        channels, width = first * 2**level, net.shapes[x][1]
        if transposed:
            x = net.op(
                "ConvTranspose", x, net.drawn((width, channels, 2, 2), width), kernel_shape=[2, 2], strides=[2, 2]
            )
        else:
            x = net.conv(enlarged(net, x, mode="linear"), channels)
        x = net.conv(net.conv(net.op("Concat", x, levels[level], axis=1), channels), channels)
    net.output(net.activate(net.conv(x, 1, 1, norm=False, activation=None), "sigmoid"), "mask")


def yolo(net: Writer, size: int = 160, first: int = 16, activation: str = "silu", classes: int = 20) -> None:
    """Like YOLOv5n: cross-stage blocks, pyramid pooling, nearest resize, heads at two strides, boxes decoded."""

    def cross_stage(x: str, channels: int, repeats: int) -> str:
        y = net.conv(x, channels // 2, 1, activation=activation)
        for _ in range(repeats):
            inner = net.conv(y, channels // 2, 1, activation=activation)
            y = net.op("Add", y, net.conv(inner, channels // 2, 3, activation=activation))
        both = net.op("Concat", y, net.conv(x, channels // 2, 1, activation=activation), axis=1)
        return net.conv(both, channels, 1, activation=activation)

    x = net.conv(net.input("images", [3, size, size]), first, 3, 2, activation=activation)
    levels = []
    for level, repeats in enumerate((1, 2, 2, 1), 1):
        x = net.conv(x, first * 2**level, 3, 2, activation=activation)
        x = cross_stage(x, first * 2**level, repeats)
        levels.append(x)
    pooled = [net.conv(x, first * 8, 1, activation=activation)]
    for _ in range(3):
        pooled.append(net.pool(pooled[-1], kernel=5, stride=1, pad=2))
    deep = net.conv(net.op("Concat", *pooled, axis=1), first * 8, 1, activation=activation)
    fine = cross_stage(net.op("Concat", enlarged(net, deep), levels[2], axis=1), first * 8, 1)
    coarse = net.conv(fine, first * 8, 3, 2, activation=activation)
    coarse = cross_stage(net.op("Concat", coarse, deep, axis=1), first * 16, 1)
    boxes = [decoded(net, level, classes) for level in (fine, coarse)]
    net.output(net.op("Concat", *boxes, axis=1), "boxes")


def decoded(net: Writer, x: str, classes: int) -> str:
    """A head's map as rows of centre, size, confidence and classes."""
    _, _, height, width = net.shapes[x]
    fields, anchors = classes + 5, 3
    y = net.conv(x, anchors * fields, 1, norm=False, activation=None)
    y = net.transpose(net.reshape(y, 0, anchors, fields, height, width), 0, 1, 3, 4, 2)
    y = net.activate(y, "sigmoid")
    parts = net.ops("Split", [y, net.integers(2, 2, fields - 4)], 3, axis=4)
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32)
    centre = net.op("Add", net.op("Mul", parts[0], net.scalar(2.0)), net.weight(grid[None, None] - 0.5, "grid"))
    extent = net.op("Pow", net.op("Mul", parts[1], net.scalar(2.0)), net.scalar(2.0))
    return net.reshape(net.op("Concat", centre, extent, parts[2], axis=4), 0, -1, fields)


def ssd(net: Writer, size: int = 160, width: int = 16, classes: int = 21) -> None:
    """Inverted residuals with box and class heads at three strides (Liu et al. 2016)."""
    x = net.conv(net.input("image", [3, size, size]), width, 3, 2, activation="relu6")
    boxes: list[str] = []
    scores: list[str] = []
    for level, channels in enumerate((width, width * 2, width * 4, width * 6, width * 8)):
        x = inverted_residual(net, x, net.shapes[x][1] * 4, channels, 3, 2 if level else 1)
        x = inverted_residual(net, x, channels * 4, channels, 3, 1)
        if level >= 2:
            for rows, fields in ((boxes, 4), (scores, classes)):
                y = net.conv(x, net.shapes[x][1], 3, groups=-1, activation="relu6")
                y = net.transpose(net.conv(y, 4 * fields, 1, norm=False, activation=None), 0, 2, 3, 1)
                rows.append(net.reshape(y, 0, -1, fields))
    net.output(net.op("Concat", *boxes, axis=1), "boxes")
    net.output(net.op("Softmax", net.op("Concat", *scores, axis=1), axis=2), "scores")


def conv_autoencoder(net: Writer, size: int = 96, first: int = 16) -> None:
    """Strided convolutions down to a narrow middle and transposed ones up to the picture."""
    x = net.input("image", [1, size, size])
    for level in range(3):
        x = net.conv(x, first * 2**level, 3, 2, norm=False, activation="leaky")
    x = net.conv(x, first, 1, norm=False, activation="leaky")
    for level in reversed(range(3)):
        width, channels = net.shapes[x][1], first * 2**level if level else 1
        weight = net.drawn((width, channels, 4, 4), width * 4)
        bias = net.weight(net.small(channels), "bias")
        x = net.op("ConvTranspose", x, weight, bias, kernel_shape=[4, 4], strides=[2, 2], pads=[1, 1, 1, 1])
        x = net.activate(x, "leaky" if level else "tanh")
    net.output(x, "picture")


def super_resolution(net: Writer, size: int = 96, width: int = 32, factor: int = 3) -> None:
    """Shi et al. 2016: convolutions at the small size, then depth to space."""
    x = net.conv(net.input("luma", [1, size, size]), width * 2, 5, norm=False)
    x = net.conv(net.conv(x, width, 3, norm=False), width, 3, norm=False)
    x = net.conv(x, factor * factor, 3, norm=False, activation=None)
    net.output(net.op("DepthToSpace", x, blocksize=factor, mode="CRD"), "enlarged")


def segmenter(net: Writer, size: int = 128, width: int = 16, classes: int = 19) -> None:
    """Like DeepLab on a MobileNet: dilated convolutions side by side, then a linear resize (Chen et al. 2017)."""
    x = net.conv(net.input("image", [3, size, size]), width, 3, 2, activation="relu6")
    for channels, stride in ((width, 1), (width * 2, 2), (width * 2, 1), (width * 4, 2), (width * 4, 1)):
        x = inverted_residual(net, x, net.shapes[x][1] * 4, channels, 3, stride)
    sides = [net.conv(x, width * 2, 1)]
    sides += [net.conv(x, width * 2, 3, dilation=rate) for rate in (2, 4)]
    x = net.conv(net.op("Concat", *sides, axis=1), width * 4, 1)
    x = enlarged(net, net.conv(x, classes, 1, norm=False, activation=None), 8, "linear")
    net.output(net.op("ArgMax", x, axis=1, keepdims=0), "classes")

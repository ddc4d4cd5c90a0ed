"""Networks of plain convolutions: VGG, ResNet, DenseNet, SqueezeNet, Inception-like."""

from __future__ import annotations

from collections.abc import Sequence

from .writer import Writer


def vgg(net: Writer, size: int = 64, plan: Sequence[int] = (32, 64, 128, 256), classes: int = 100) -> None:
    """Simonyan and Zisserman 2015: pairs of 3×3 convolutions without normalisation, then two wide dense layers."""
    x = net.input("image", [3, size, size])
    for channels in plan:
        x = net.conv(net.conv(x, channels, 3, norm=False), channels, 3, norm=False)
        x = net.pool(x)
    x = net.linear(net.op("Flatten", x, axis=1), 512, activation="relu", gemm=True)
    net.output(net.op("Softmax", net.linear(x, classes, gemm=True), axis=1), "probabilities")


def basic_block(net: Writer, x: str, channels: int, stride: int) -> str:
    """Two 3×3 convolutions beside a shortcut."""
    y = net.conv(net.conv(x, channels, 3, stride), channels, 3, activation=None)
    if stride != 1 or net.shapes[x][1] != channels:
        x = net.conv(x, channels, 1, stride, activation=None)
    return net.activate(net.op("Add", y, x), "relu")


def bottleneck(net: Writer, x: str, channels: int, stride: int, groups: int = 1) -> str:
    """1×1, 3×3 (grouped), 1×1 beside a shortcut."""
    y = net.conv(net.conv(x, channels, 1), channels, 3, stride, groups=groups)
    y = net.conv(y, channels * 4 // (2 if groups > 1 else 1), 1, activation=None)
    made = net.shapes[y][1]
    if stride != 1 or net.shapes[x][1] != made:
        x = net.conv(x, made, 1, stride, activation=None)
    return net.activate(net.op("Add", y, x), "relu")


def resnet(
    net: Writer,
    size: int = 224,
    first: int = 64,
    repeats: Sequence[int] = (2, 2, 2, 2),
    groups: int = 0,
    classes: int = 1000,
) -> None:
    """He et al. 2016: ResNet-18 as it stands; `groups` 1 or more makes bottlenecks (ResNeXt where more than 1)."""
    x = net.conv(net.input("image", [3, size, size]), first, 7, 2)
    x = net.pool(x, kernel=3, stride=2, pad=1)
    for stage, count in enumerate(repeats):
        for index in range(count):
            stride = 2 if index == 0 and stage > 0 else 1
            channels = first * 2**stage
            if groups:
                x = bottleneck(net, x, channels * (2 if groups > 1 else 1), stride, groups)
            else:
                x = basic_block(net, x, channels, stride)
    net.output(net.classifier(x, classes), "scores")


def resnet_small(net: Writer, size: int = 32, first: int = 16, repeats: int = 3, classes: int = 10) -> None:
    """He et al. 2016 for pictures of 32×32: 6n + 2 layers."""
    x = net.conv(net.input("image", [3, size, size]), first, 3)
    for stage in range(3):
        for index in range(repeats):
            x = basic_block(net, x, first * 2**stage, 2 if index == 0 and stage > 0 else 1)
    net.output(net.op("Softmax", net.classifier(x, classes), axis=1), "probabilities")


def squeezenet(net: Writer, size: int = 224, classes: int = 1000) -> None:
    """Iandola et al. 2016 (1.1): squeeze by 1×1, expand by 1×1 and 3×3 side by side."""
    x = net.conv(net.input("image", [3, size, size]), 64, 3, 2, norm=False)
    for squeezed, expanded, pooled in (
        (16, 64, True),
        (16, 64, False),
        (32, 128, True),
        (32, 128, False),
        (48, 192, True),
        (48, 192, False),
        (64, 256, False),
        (64, 256, False),
    ):
        x = net.pool(x, kernel=3, stride=2) if pooled else x
        y = net.conv(x, squeezed, 1, norm=False)
        sides = [net.conv(y, expanded, kernel, norm=False) for kernel in (1, 3)]
        x = net.op("Concat", *sides, axis=1)
    x = net.op("GlobalAveragePool", net.conv(x, classes, 1, norm=False))
    net.output(net.op("Softmax", net.op("Flatten", x, axis=1), axis=1), "probabilities")


def densenet(net: Writer, size: int = 112, growth: int = 16, repeats: Sequence[int] = (4, 6, 8)) -> None:
    """Huang et al. 2017: each layer sees all before it; normalisation before convolution, so that it stays."""
    x = net.conv(net.input("image", [3, size, size]), growth * 2, 7, 2)
    x = net.pool(x, kernel=3, stride=2, pad=1)
    for stage, count in enumerate(repeats):
        for _ in range(count):
            y = net.conv(net.activate(net.batch_norm(x), "relu"), growth * 4, 1)
            x = net.op("Concat", x, net.conv(y, growth, 3, norm=False, activation=None), axis=1)
        if stage < len(repeats) - 1:
            x = net.activate(net.batch_norm(x), "relu")
            x = net.conv(x, net.shapes[x][1] // 2, 1, norm=False, activation=None)
            x = net.pool(x, "AveragePool")
    net.output(net.classifier(net.activate(net.batch_norm(x), "relu"), 1000), "scores")


def inception(net: Writer, size: int = 128, width: int = 32, repeats: int = 4, classes: int = 1000) -> None:
    """Szegedy et al. 2016: branches of several kernels, 1×7 and 7×1 among them, joined by concatenation."""
    x = net.conv(net.input("image", [3, size, size]), width, 3, 2)
    x = net.pool(net.conv(x, width * 2, 3), kernel=3, stride=2, pad=1)
    for index in range(repeats):
        long = net.conv(net.conv(net.conv(x, width, 1), width, (1, 7)), width * 2, (7, 1))
        double = net.conv(net.conv(net.conv(x, width, 1), width, 3), width * 2, 3)
        pooled = net.conv(net.pool(x, "AveragePool", 3, 1, 1), width, 1)
        x = net.op("Concat", net.conv(x, width * 2, 1), long, double, pooled, axis=1)
        if index % 2 == 1:
            x = net.pool(x, kernel=3, stride=2, pad=1)
    net.output(net.classifier(x, classes), "scores")

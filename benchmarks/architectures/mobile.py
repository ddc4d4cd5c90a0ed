"""Networks for phones: MobileNet V1 to V3, EfficientNet, ShuffleNet V1 and V2, GhostNet."""

from __future__ import annotations

from collections.abc import Sequence

from .writer import Writer


def rounded(channels: float, step: int = 8) -> int:
    """A channel count as MobileNets round it: to a multiple of `step`, not more than a tenth below."""
    whole = max(step, int(channels + step / 2) // step * step)
    return whole + step if whole < 0.9 * channels else whole


def mobilenet_v1(net: Writer, size: int = 224, width: float = 1.0, classes: int = 1000) -> None:
    """Howard et al. 2017: depthwise 3×3, then 1×1, thirteen times."""
    x = net.conv(net.input("image", [3, size, size]), rounded(32 * width), 3, 2)
    plan = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    for channels, stride in plan:
        x = net.conv(x, net.shapes[x][1], 3, stride, groups=-1)
        x = net.conv(x, rounded(channels * width), 1)
    net.output(net.classifier(x, classes), "scores")


def squeeze_excite(net: Writer, x: str, squeezed: int, inner: str, gate: str) -> str:
    """Hu et al. 2018: channels weighed by what they hold on average."""
    channels = net.shapes[x][1]
    y = net.op("GlobalAveragePool", x)
    y = net.conv(y, max(4, squeezed), 1, norm=False, activation=inner, gain=0.5)
    y = net.conv(y, channels, 1, norm=False, activation=gate, gain=0.5)
    return net.op("Mul", x, y)


def inverted_residual(
    net: Writer,
    x: str,
    hidden: int,
    channels: int,
    kernel: int = 3,
    stride: int = 1,
    *,
    activation: str = "relu6",
    squeezed: int = 0,
    gates: tuple[str, str] = ("relu", "hardsigmoid"),
) -> str:
    """Sandler et al. 2018: widen, depthwise, (squeeze and excite), narrow; added to its input where sizes allow."""
    width = net.shapes[x][1]
    y = net.conv(x, hidden, 1, activation=activation) if hidden != width else x
    y = net.conv(y, hidden, kernel, stride, groups=-1, activation=activation)
    if squeezed:
        y = squeeze_excite(net, y, squeezed, *gates)
    y = net.conv(y, channels, 1, activation=None)
    return net.op("Add", x, y) if stride == 1 and width == channels else y


def mobilenet_v2(net: Writer, size: int = 224, width: float = 1.0, classes: int = 1000) -> None:
    """Sandler et al. 2018: some 300 million MACs at 224 and width 1."""
    x = net.conv(net.input("image", [3, size, size]), rounded(32 * width), 3, 2, activation="relu6")
    plan = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    for expansion, channels, repeats, stride in plan:
        for index in range(repeats):
            hidden = net.shapes[x][1] * expansion
            x = inverted_residual(net, x, hidden, rounded(channels * width), 3, stride if index == 0 else 1)
    x = net.conv(x, max(1280, rounded(1280 * width)), 1, activation="relu6")
    net.output(net.classifier(x, classes), "scores")


# Kernel, hidden channels, channels, squeeze and excite, activation, stride.
_V3_SMALL = (
    (3, 16, 16, True, "relu", 2),
    (3, 72, 24, False, "relu", 2),
    (3, 88, 24, False, "relu", 1),
    (5, 96, 40, True, "hardswish", 2),
    (5, 240, 40, True, "hardswish", 1),
    (5, 240, 40, True, "hardswish", 1),
    (5, 120, 48, True, "hardswish", 1),
    (5, 144, 48, True, "hardswish", 1),
    (5, 288, 96, True, "hardswish", 2),
    (5, 576, 96, True, "hardswish", 1),
    (5, 576, 96, True, "hardswish", 1),
)
_V3_LARGE = (
    (3, 16, 16, False, "relu", 1),
    (3, 64, 24, False, "relu", 2),
    (3, 72, 24, False, "relu", 1),
    (5, 72, 40, True, "relu", 2),
    (5, 120, 40, True, "relu", 1),
    (5, 120, 40, True, "relu", 1),
    (3, 240, 80, False, "hardswish", 2),
    (3, 200, 80, False, "hardswish", 1),
    (3, 184, 80, False, "hardswish", 1),
    (3, 184, 80, False, "hardswish", 1),
    (3, 480, 112, True, "hardswish", 1),
    (3, 672, 112, True, "hardswish", 1),
    (5, 672, 160, True, "hardswish", 2),
    (5, 960, 160, True, "hardswish", 1),
    (5, 960, 160, True, "hardswish", 1),
)


def mobilenet_v3(net: Writer, size: int = 224, width: float = 1.0, large: bool = False, classes: int = 1000) -> None:
    """Howard et al. 2019: squeeze and excite, hard swish, kernels of five."""
    x = net.conv(net.input("image", [3, size, size]), rounded(16 * width), 3, 2, activation="hardswish")
    for kernel, hidden, channels, squeeze, activation, stride in _V3_LARGE if large else _V3_SMALL:
        x = inverted_residual(
            net,
            x,
            rounded(hidden * width),
            rounded(channels * width),
            kernel,
            stride,
            activation=activation,
            squeezed=rounded(hidden * width / 4) if squeeze else 0,
        )
    x = net.conv(x, net.shapes[x][1] * 6, 1, activation="hardswish")
    x = net.op("Flatten", net.op("GlobalAveragePool", x), axis=1)
    x = net.linear(x, 1280 if large else 1024, activation="hardswish", gemm=True)
    net.output(net.linear(x, classes, gemm=True), "scores")


# Expansion, channels, repeats, stride, kernel.
_EFFICIENTNET = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)


def efficientnet(net: Writer, size: int = 224, width: float = 1.0, lite: bool = False, classes: int = 1000) -> None:
    """Tan and Le 2019 (B0 at 224); `lite` has ReLU6 for SiLU and no squeeze and excite."""
    activation = "relu6" if lite else "silu"
    x = net.conv(net.input("image", [3, size, size]), rounded(32 * width), 3, 2, activation=activation)
    for expansion, channels, repeats, stride, kernel in _EFFICIENTNET:
        for index in range(repeats):
            inner = net.shapes[x][1]
            x = inverted_residual(
                net,
                x,
                inner * expansion,
                rounded(channels * width),
                kernel,
                stride if index == 0 else 1,
                activation=activation,
                squeezed=0 if lite else max(1, inner // 4),
                gates=("silu", "sigmoid"),
            )
    x = net.conv(x, rounded(1280 * width), 1, activation=activation)
    net.output(net.classifier(x, classes), "scores")


def shuffled(net: Writer, x: str, groups: int) -> str:
    """Channels of all groups in turn."""
    _, channels, height, width = net.shapes[x]
    x = net.reshape(x, 0, groups, channels // groups, height, width)
    return net.reshape(net.transpose(x, 0, 2, 1, 3, 4), 0, channels, height, width)


def shufflenet_v1(net: Writer, size: int = 224, groups: int = 3, first: int = 240, classes: int = 1000) -> None:
    """Zhang et al. 2018: grouped 1×1 convolutions with a shuffle between."""
    x = net.pool(net.conv(net.input("image", [3, size, size]), 24, 3, 2), kernel=3, stride=2, pad=1)
    for channels, repeats in ((first, 4), (first * 2, 8), (first * 4, 4)):
        for index in range(repeats):
            width, stride = net.shapes[x][1], 2 if index == 0 else 1
            made = channels - width if stride == 2 else channels
            y = net.conv(x, channels // 4, 1, groups=1 if width == 24 else groups)
            y = net.conv(shuffled(net, y, groups), channels // 4, 3, stride, groups=-1, activation=None)
            y = net.conv(y, made, 1, groups=groups, activation=None)
            if stride == 2:
                x = net.op("Concat", net.pool(x, "AveragePool", 3, 2, 1), y, axis=1)
            else:
                x = net.op("Add", x, y)
            x = net.activate(x, "relu")
    net.output(net.classifier(x, classes), "scores")


def shufflenet_v2(net: Writer, size: int = 224, channels: Sequence[int] = (116, 232, 464), classes: int = 1000) -> None:
    """Ma et al. 2018: half of the channels pass, the halves are shuffled."""
    x = net.pool(net.conv(net.input("image", [3, size, size]), 24, 3, 2), kernel=3, stride=2, pad=1)
    for made, repeats in zip(channels, (4, 8, 4), strict=True):
        half = made // 2
        for index in range(repeats):
            if index == 0:
                kept = net.conv(net.conv(x, net.shapes[x][1], 3, 2, groups=-1, activation=None), half, 1)
                other, stride = x, 2
            else:
                kept, other = net.ops("Split", [x, net.integers(half, half)], 2, axis=1)
                stride = 1
            y = net.conv(other, half, 1)
            y = net.conv(net.conv(y, half, 3, stride, groups=-1, activation=None), half, 1)
            x = shuffled(net, net.op("Concat", kept, y, axis=1), 2)
    net.output(net.classifier(net.conv(x, 1024, 1), classes), "scores")


def ghostnet(net: Writer, size: int = 160, width: float = 1.0, classes: int = 1000) -> None:
    """Han et al. 2020: half of each layer's channels are made from the other half by a depthwise convolution."""

    def ghost(x: str, channels: int, activation: str | None) -> str:
        main = net.conv(x, channels // 2, 1, activation=activation)
        return net.op("Concat", main, net.conv(main, channels // 2, 3, groups=-1, activation=activation), axis=1)

    x = net.conv(net.input("image", [3, size, size]), rounded(16 * width), 3, 2)
    plan = [(16, 16, 1), (48, 24, 2), (72, 24, 1), (72, 40, 2), (120, 40, 1), (240, 80, 2), (184, 80, 1), (480, 112, 1)]
    for hidden, channels, stride in plan:
        made = rounded(channels * width)
        y = ghost(x, rounded(hidden * width), "relu")
        if stride == 2:
            y = net.conv(y, net.shapes[y][1], 3, 2, groups=-1, activation=None)
        if channels >= 40:
            y = squeeze_excite(net, y, rounded(net.shapes[y][1] / 4), "relu", "hardsigmoid")
        y = ghost(y, made, None)
        if stride == 1 and net.shapes[x][1] == made:
            x = net.op("Add", x, y)
        else:
            x = net.op(
                "Add", net.conv(net.conv(x, net.shapes[x][1], 3, stride, groups=-1), made, 1, activation=None), y
            )
    net.output(net.classifier(net.conv(x, rounded(480 * width), 1), classes), "scores")

"""The kernels of the four networks whose latencies are published for many boards."""

from __future__ import annotations

from edge_sdk.planner.cost_work import Work, conv_sort

__all__ = ["layers"]


def layers(network: str) -> list[Work]:
    """The kernels of a published network for pictures of 224×224, one byte a number."""
    if network == "mobilenet":
        return _mobilenet()
    if network == "mobilenet_v2":
        return _mobilenet_v2()
    return _resnet18() if network == "resnet18" else _vgg16()


def _conv(size: int, into: int, out: int, kernel: int, stride: int = 1, group: int = 1) -> Work:
    after = size // stride
    weights = out * (into // group) * kernel * kernel
    sort = conv_sort((kernel, kernel), stride, max(16, into), out, group, 0)
    moved = float(size * size * into), float(after * after * out), float(weights)
    return Work(sort, "", float(after * after * weights), *moved)


def _light(size: int, channels: int, reads: int = 2, stride: int = 1) -> Work:
    """A sum of two pictures, or a pooling of one."""
    after = size // stride
    return Work("arithmetic", "", 0.0, float(reads * size * size * channels), float(after * after * channels), 0.0)


def _mobilenet() -> list[Work]:
    found, size, into = [_conv(224, 3, 32, 3, 2)], 112, 32
    for out, stride in (
        (64, 1),
        (128, 2),
        (128, 1),
        (256, 2),
        (256, 1),
        (512, 2),
        *[(512, 1)] * 5,
        (1024, 2),
        (1024, 1),
    ):
        found += [_conv(size, into, into, 3, stride, into), _conv(size // stride, into, out, 1)]
        size, into = size // stride, out
    return [*found, _conv(1, 1024, 1000, 1)]


def _mobilenet_v2() -> list[Work]:
    found, size, into = [_conv(224, 3, 32, 3, 2)], 112, 32
    for wider, out, count, first in ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
                                     (6, 160, 3, 2), (6, 320, 1, 1)):  # fmt: skip
        for number in range(count):
            stride = first if number == 0 else 1
            wide = into * wider
            found += [_conv(size, into, wide, 1)] if wider > 1 else []
            found += [_conv(size, wide, wide, 3, stride, wide), _conv(size // stride, wide, out, 1)]
            size = size // stride
            found += [_light(size, out)] if number else []
            into = out
    return [*found, _conv(7, 320, 1280, 1), _conv(1, 1280, 1000, 1)]


def _resnet18() -> list[Work]:
    found, size, into = [_conv(224, 3, 64, 7, 2), _light(112, 64, 1, 2)], 56, 64
    for out, first in ((64, 1), (128, 2), (256, 2), (512, 2)):
        found += [_conv(size, into, out, 3, first), _conv(size // first, out, out, 3)]
        found += [_conv(size, into, out, 1, first)] if first > 1 else []
        size, into = size // first, out
        found += [*[_conv(size, out, out, 3)] * 2, *[_light(size, out)] * 2]
    return [*found, _conv(1, 512, 1000, 1)]


def _vgg16() -> list[Work]:
    found, size, into = [], 224, 3
    for out, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            found.append(_conv(size, into, out, 3))
            into = out
        found.append(_light(size, out, 1, 2))
        size //= 2
    return [*found, _conv(1, 7 * 7 * 512, 4096, 1), _conv(1, 4096, 4096, 1), _conv(1, 4096, 1000, 1)]

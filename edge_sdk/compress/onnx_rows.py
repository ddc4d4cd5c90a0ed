"""A convolution or matrix product seen as one product of matrices: rows of features in, rows of outputs out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_sdk.compress.onnx_graphs import attribute
from edge_sdk.tensors import Array

__all__ = ["LayerRows"]

_PER_SAMPLE = 256


@dataclass(frozen=True, slots=True)
class LayerRows:
    """A layer as [rows, features] · [features, outputs].

    Attributes:
        node: a Conv of one group over pictures or time, a Gemm or a MatMul.
        shape: of its weights.
    """

    node: Any
    shape: tuple[int, ...]

    @property
    def features(self) -> int:
        """Inputs of one output."""
        if self.node.op_type == "Conv":
            return math.prod(self.shape[1:])
        return self.shape[1] if self._transposed else self.shape[0]

    @property
    def most_per_sample(self) -> int:
        """Rows that `of` takes from one sample at most."""
        return _PER_SAMPLE if self.node.op_type == "Conv" else 1

    def flat(self, kernel: Array) -> Array:
        """The layer's weights as [features, outputs]."""
        if self.node.op_type == "Conv":
            return kernel.reshape(len(kernel), -1).T
        return kernel.T if self._transposed else kernel

    def unflat(self, matrix: Array) -> Array:
        """The inverse of `flat`."""
        if self.node.op_type == "Conv":
            return matrix.T.reshape(self.shape)
        return matrix.T if self._transposed else matrix

    def of(self, given: Array, wanted: Array, seed: int) -> tuple[Array, Array]:
        """Rows of one sample: float64[rows, features] and float64[rows, outputs], at most 256 random places of it.

        Args:
            given: the layer's input.
            wanted: its output, or what it should be.
            seed: of the choice of places.
        """
        if self.node.op_type != "Conv":
            return given.astype(np.float64), wanted.astype(np.float64)
        if len(self.shape) == 3:
            given, wanted = given[:, :, None], wanted[:, :, None]
        kernel, strides, dilations = self._numbers()
        padded = np.pad(given, ((0, 0), (0, 0), *self._pads(given.shape[2:])))
        batch, _, height, width = wanted.shape
        places = np.arange(batch * height * width)
        if len(places) > _PER_SAMPLE:
            places = np.random.default_rng(seed).choice(places, _PER_SAMPLE, replace=False)
        sample, down, across = np.unravel_index(places, (batch, height, width))
        rows = down[:, None] * strides[0] + np.arange(kernel[0])[None] * dilations[0]
        columns = across[:, None] * strides[1] + np.arange(kernel[1])[None] * dilations[1]
        # Advanced indices around a slice put the channels last; weights are ordered channel, row, column.
        patches = padded[sample[:, None, None], :, rows[:, :, None], columns[:, None, :]]
        patches = np.moveaxis(patches, -1, 1).reshape(len(places), -1)
        return patches.astype(np.float64), wanted[sample, :, down, across].astype(np.float64)

    @property
    def _transposed(self) -> bool:
        return self.node.op_type == "Gemm" and bool(attribute(self.node, "transB", 0))

    def _numbers(self) -> tuple[list[int], list[int], list[int]]:
        """Kernel, strides and dilations down and across; a convolution over time is one row."""
        kernel = list(self.shape[2:])
        strides = list(attribute(self.node, "strides", [1] * len(kernel)))
        dilations = list(attribute(self.node, "dilations", [1] * len(kernel)))
        if len(kernel) == 1:
            return [1, *kernel], [1, *strides], [1, *dilations]
        return kernel, strides, dilations

    def _pads(self, sizes: tuple[int, ...]) -> list[tuple[int, int]]:
        """Padding before and after, down and across."""
        kind = attribute(self.node, "auto_pad", b"NOTSET").decode()
        if kind == "NOTSET":
            count = len(self.shape) - 2
            pads = list(attribute(self.node, "pads", [0] * 2 * count))
            both = [(int(pads[axis]), int(pads[axis + count])) for axis in range(count)]
            return [(0, 0)] * (2 - count) + both
        if kind == "VALID":
            return [(0, 0), (0, 0)]
        found = []
        for size, kernel, stride, dilation in zip(sizes, *self._numbers(), strict=True):
            reach = (-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1
            total = max(reach - size, 0)
            less, more = total // 2, total - total // 2
            found.append((less, more) if kind == "SAME_UPPER" else (more, less))
        return found

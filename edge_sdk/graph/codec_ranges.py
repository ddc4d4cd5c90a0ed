"""Ranges of a cut's tensors, from what they hold on samples.

With 8 bits a range is from the smallest to the largest value. With 4 bits that would spend most of the 16 levels on
outliers: there the range is the one with the least error, and what lies beyond it is clipped. The error is squared, and
of channels taken to the third power: measured on a detector, clipping channels by the square cost accuracy and bytes.

Source: R. Banner et al., "Post training 4-bit quantization of convolutional networks" (NeurIPS 2019), for clipping.
"""

from __future__ import annotations

import numpy as np

from edge_sdk.graph.codec_scales import LEVELS, Range
from edge_sdk.tensors import Array

__all__ = ["RangeWatch"]

_VALUES_A_REQUEST, _VALUES_A_TENSOR = 1 << 15, 1 << 17
_SHRUNK = np.arange(0.0, 0.9, 0.1)
_ROUNDS = 2
_POWER_OF_TENSOR, _POWER_OF_CHANNEL = 2, 3


class RangeWatch:
    """What one tensor holds, request after request.

    Args:
        codec: "int8", "int4" or "int16".
        axis: of its channels; None for one range of the whole tensor.
    """

    def __init__(self, codec: str, axis: int | None) -> None:
        self._codec, self._axis = codec, axis
        self._low: Array | None = None
        self._high: Array | None = None
        self._values: list[Array] = []
        self._held = 0

    def add(self, array: Array) -> None:
        """One more request's tensor, of any numeric dtype."""
        flat = array.reshape(1, -1) if self._axis is None else np.moveaxis(array, self._axis, 0)
        flat = flat.reshape(flat.shape[0], -1).astype(np.float32, copy=False)
        if not flat.size:
            return
        low, high = flat.min(axis=1), flat.max(axis=1)
        self._low = low if self._low is None else np.minimum(self._low, low)
        self._high = high if self._high is None else np.maximum(self._high, high)
        if self._codec == "int4" and self._held < _VALUES_A_TENSOR:
            # A stride that no row length is a multiple of takes values from all over a picture.
            stride = max(-(-flat.size // _VALUES_A_REQUEST), 1) | 1
            picked = flat[:, ::stride].copy()
            self._values.append(picked)
            self._held += picked.size

    def range(self) -> Range | tuple[Range, ...] | None:
        """Of the tensor, or of each channel; None where nothing was seen."""
        if self._low is None or self._high is None:
            return None
        low, high = self._low.astype(np.float64), self._high.astype(np.float64)
        if self._codec == "int4" and np.isfinite(low).all() and np.isfinite(high).all():
            power = _POWER_OF_TENSOR if self._axis is None else _POWER_OF_CHANNEL
            low, high = _clipped(np.concatenate(self._values, axis=1), low, high, power)
        ranges = tuple(zip(low.tolist(), high.tolist(), strict=True))
        return ranges[0] if self._axis is None else ranges


def _clipped(values: Array, low: Array, high: Array, power: int) -> tuple[Array, Array]:
    """The range of each row with the least error at 16 levels: either end is drawn in in turn."""
    middle = np.median(values, axis=1).astype(np.float64)
    for _ in range(_ROUNDS):
        # Where values end at 0 most of them are 0: it stays exact.
        starts = [np.where(low == 0, 0.0, low + share * (middle - low)) for share in _SHRUNK]
        low = _best(values, [(start, high) for start in starts], power)[0]
        ends = [np.where(high == 0, 0.0, high + share * (middle - high)) for share in _SHRUNK]
        high = _best(values, [(low, end) for end in ends], power)[1]
    return low, high


def _best(values: Array, candidates: list[tuple[Array, Array]], power: int) -> tuple[Array, Array]:
    errors = np.stack([_error(values, low, high, power) for low, high in candidates])
    chosen = errors.argmin(axis=0)
    rows = np.arange(values.shape[0])
    lows, highs = (np.stack([np.broadcast_to(pair[end], rows.shape) for pair in candidates]) for end in (0, 1))
    return lows[chosen, rows], highs[chosen, rows]


def _error(values: Array, low: Array, high: Array, power: int) -> Array:
    step = np.maximum((high - low) / LEVELS["int4"], np.finfo(np.float32).tiny).astype(np.float32)[:, None]
    start = low.astype(np.float32)[:, None]
    numbers = np.clip(np.rint((values - start) / step), 0, LEVELS["int4"])
    apart = np.abs(numbers * step + start - values)
    return np.asarray(np.sum(apart**power, axis=1, dtype=np.float64))

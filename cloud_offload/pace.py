"""Whether a model is so quick that handing its requests to another thread takes longer than computing them."""

from __future__ import annotations

from collections.abc import Sequence

from edge_sdk.errors import EdgeError
from edge_sdk.formats import open_model
from edge_sdk.tensors import TensorSpec

__all__ = ["Pace", "bounded"]

QUICK_S = 0.5e-3
"""Waking another thread and being woken by it takes a tenth of a millisecond, several where others want the cores."""
SLOW_S = 5e-3
QUICK_IN_A_ROW = 16
_UNBOUNDED = {"If", "Loop", "Scan", "SequenceMap", "IF", "WHILE", "CALL_ONCE", "STABLEHLO_WHILE"}


class Pace:
    """Learns how long a model's computations take.

    Args:
        bounded: whether one takes as long as the next, whatever is asked: otherwise none may hold up the event loop.
    """

    def __init__(self, bounded: bool) -> None:
        self._bounded = bounded
        self._quick_ones = 0

    @property
    def quick(self) -> bool:
        """Whether the next one may be computed on the event loop's thread."""
        return self._bounded and self._quick_ones >= QUICK_IN_A_ROW

    def took(self, seconds: float) -> None:
        """One computation took so long. A slow one sends the next ones to other threads until all are quick again."""
        if seconds <= QUICK_S:
            self._quick_ones += 1
        elif seconds > SLOW_S:
            self._quick_ones = 0
        else:
            self._quick_ones = max(0, min(self._quick_ones, QUICK_IN_A_ROW) - 2)


def bounded(model: str | bytes, inputs: Sequence[TensorSpec]) -> bool:
    """Whether a model file does the same work for every request: inputs of fixed size, no loops or branches, and no ops
    of which nobody knows. A bundle is taken for one that does not."""
    if any(spec.shape is None or not all(isinstance(size, int) for size in spec.shape) for spec in inputs):
        return False
    try:
        with open_model(model) as file:
            info = file.describe()
    except EdgeError:
        return False
    return info.subgraphs == 1 and not info.custom_ops and not _UNBOUNDED & info.ops.keys()

"""How far two answers of one model lie apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edge_sdk.tensors import Array

__all__ = ["disagreement", "relative_difference"]


def relative_difference(given: Array, expected: Array) -> float:
    """The largest difference, relative to the spread (largest minus smallest) of what is expected, at least 1e-6.

    An int8 kernel that saturates on this instruction set shows there, rounding does not. NaN where only one of the two
    has a number.

    Args:
        given, expected: arrays of one shape; of numbers, or of strings, which differ by 0 or 1.
    """
    if expected.dtype.kind in "OSU":
        return 0.0 if np.array_equal(given, expected) else 1.0
    if not expected.size:
        return 0.0
    wanted, got = expected.astype(np.float64), given.astype(np.float64)
    other = ~((wanted == got) | (np.isnan(wanted) & np.isnan(got)))  # infinity less infinity is no number
    if not other.any():
        return 0.0
    finite = wanted[np.isfinite(wanted)]
    spread = max(float(finite.max() - finite.min()), 1e-6) if finite.size else 1e-6
    return float(np.abs(got[other] - wanted[other]).max()) / spread


def disagreement(given: Mapping[str, Any], expected: Mapping[str, Any], tolerance: float) -> str:
    """In what an answer differs from the one expected; "" where it does not.

    Args:
        given, expected: output name to array; all that is expected must be given.
        tolerance: the largest `relative_difference` allowed.
    """
    for name, wanted in expected.items():
        if name not in given or np.shape(given[name]) != np.shape(wanted):
            shape = list(np.shape(given[name])) if name in given else "nothing"
            return f"{shape} for output {name!r}; {list(np.shape(wanted))} expected"
        apart = relative_difference(np.asarray(given[name]), np.asarray(wanted))
        if not apart <= tolerance:
            return f"output {name!r} is {apart:.2g} of its spread apart, {tolerance:.2g} allowed"
    return ""

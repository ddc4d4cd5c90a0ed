"""Golden requests: what a variant answered where it was made, run again here before a plan for it is kept."""

from __future__ import annotations

import numpy as np

from edge_sdk.engines.base import Runner
from edge_sdk.errors import EdgeError
from edge_sdk.planner.variants import Variant

__all__ = ["golden_fault"]


def golden_fault(variant: Variant, runner: Runner) -> str:
    """What is wrong with this runner's answers to the variant's golden requests; "" where nothing is.

    The difference is taken relative to the spread (largest minus smallest) of the expected output, at least 1e-6: an
    int8 kernel that saturates on this instruction set shows there, rounding does not.
    """
    for number, golden in enumerate(variant.golden()):
        try:
            given = runner.run(golden.feeds)
        except EdgeError as error:
            return f"golden request {number} failed here: {error}"
        for name, expected in golden.outputs.items():
            if name not in given or np.shape(given[name]) != np.shape(expected):
                shape = list(np.shape(given[name])) if name in given else "nothing"
                return f"golden request {number} gave {shape} for output {name!r}; {list(np.shape(expected))} expected"
            apart = _difference(np.asarray(given[name]), np.asarray(expected))
            if not apart <= golden.tolerance:
                return (
                    f"golden request {number} gave other answers here: output {name!r} is {apart:.2g} of its spread"
                    f" apart, {golden.tolerance:.2g} allowed"
                )
    runner.reset_state()
    return ""


def _difference(given: np.ndarray, expected: np.ndarray) -> float:
    if expected.dtype.kind in "OSU":
        return 0.0 if np.array_equal(given, expected) else 1.0
    if not expected.size:
        return 0.0
    wanted = expected.astype(np.float64)
    spread = max(float(wanted.max() - wanted.min()), 1e-6)
    return float(np.abs(given.astype(np.float64) - wanted).max()) / spread

"""Golden requests: what a variant answered where it was made, run again here before a plan for it is kept."""

from __future__ import annotations

from edge_sdk.engines.agreement import disagreement
from edge_sdk.engines.base import Runner
from edge_sdk.errors import EdgeError
from edge_sdk.planner.variants import Variant

__all__ = ["golden_fault"]


def golden_fault(variant: Variant, runner: Runner) -> str:
    """What is wrong with this runner's answers to the variant's golden requests; "" where nothing is."""
    for number, golden in enumerate(variant.golden()):
        try:
            given = runner.run(golden.feeds)
        except EdgeError as error:
            return f"golden request {number} failed here: {error}"
        if differs := disagreement(given, golden.outputs, golden.tolerance):
            return f"golden request {number} gave other answers here: {differs}"
    runner.reset_state()
    return ""

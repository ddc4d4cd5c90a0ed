"""The planner: candidates, measuring, and the choice of engine, threads and CPUs as a `Plan` with its reason."""

from __future__ import annotations

from edge_sdk.planner.choosing import OBJECTIVES, Choice, Wish, choose
from edge_sdk.planner.measuring import Comparison, compare
from edge_sdk.planner.plan import Candidate, Figures, Placement, Plan

__all__ = [
    "OBJECTIVES",
    "Candidate",
    "Choice",
    "Comparison",
    "Figures",
    "Placement",
    "Plan",
    "Wish",
    "choose",
    "compare",
]

"""The planner: candidates, prediction, measuring, and the choice of variant, engine and placement as a `Plan`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_sdk.planner.choosing import Choice, choose
    from edge_sdk.planner.explaining import explain
    from edge_sdk.planner.planning import engines_by_format, plan, this_device
    from edge_sdk.planner.plans import Candidate, Figures, Placement, Plan
    from edge_sdk.planner.variants import Golden, Variant, variant_of_file
    from edge_sdk.planner.wish import OBJECTIVES, Wish

__all__ = [
    "OBJECTIVES",
    "Candidate",
    "Choice",
    "Figures",
    "Golden",
    "Placement",
    "Plan",
    "Variant",
    "Wish",
    "choose",
    "engines_by_format",
    "explain",
    "plan",
    "this_device",
    "variant_of_file",
]

_HOMES = {
    "OBJECTIVES": "edge_sdk.planner.wish",
    "Candidate": "edge_sdk.planner.plans",
    "Choice": "edge_sdk.planner.choosing",
    "Figures": "edge_sdk.planner.plans",
    "Golden": "edge_sdk.planner.variants",
    "Placement": "edge_sdk.planner.plans",
    "Plan": "edge_sdk.planner.plans",
    "Variant": "edge_sdk.planner.variants",
    "Wish": "edge_sdk.planner.wish",
    "choose": "edge_sdk.planner.choosing",
    "engines_by_format": "edge_sdk.planner.planning",
    "explain": "edge_sdk.planner.explaining",
    "plan": "edge_sdk.planner.planning",
    "this_device": "edge_sdk.planner.planning",
    "variant_of_file": "edge_sdk.planner.variants",
}


def __getattr__(name: str) -> Any:
    """Names come in on first use: a plan from the cache needs neither the cost model nor what measures."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(home), name)
    globals()[name] = value
    return value

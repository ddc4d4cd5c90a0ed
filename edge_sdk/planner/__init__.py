"""The planner: candidates, prediction, measuring, and the choice of variant, engine and placement as a `Plan`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_sdk.exports import on_first_use

if TYPE_CHECKING:
    from edge_sdk.planner.choosing import Choice, choose
    from edge_sdk.planner.explaining import explain
    from edge_sdk.planner.planning import engines_by_format, plan, this_device
    from edge_sdk.planner.plans import Candidate, Figures, Plan
    from edge_sdk.planner.variants import Golden, Variant, variant_of_file
    from edge_sdk.planner.wish import OBJECTIVES, Wish
    from edge_sdk.schedule.placing import Placement

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

__getattr__, __dir__ = on_first_use(
    __name__,
    {
        "edge_sdk.planner.choosing": ("Choice", "choose"),
        "edge_sdk.planner.explaining": ("explain",),
        "edge_sdk.planner.planning": ("engines_by_format", "plan", "this_device"),
        "edge_sdk.planner.plans": ("Candidate", "Figures", "Plan"),
        "edge_sdk.planner.variants": ("Golden", "Variant", "variant_of_file"),
        "edge_sdk.planner.wish": ("OBJECTIVES", "Wish"),
        "edge_sdk.schedule.placing": ("Placement",),
    },
)

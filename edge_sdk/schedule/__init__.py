"""Policy over anything that runs: on which CPUs it computes, what computes next, and how warm the device may become."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_sdk.exports import on_first_use

if TYPE_CHECKING:
    from edge_sdk.schedule.capping import Caps, LimitedFrequencies, restore_frequencies
    from edge_sdk.schedule.governor import Governor, Level, Reading, Step, Target
    from edge_sdk.schedule.placing import POWER_MODES, Placement, lanes, placements
    from edge_sdk.schedule.turns import LaneFigures, Turns, assigned

__all__ = [
    "POWER_MODES",
    "Caps",
    "Governor",
    "LaneFigures",
    "Level",
    "LimitedFrequencies",
    "Placement",
    "Reading",
    "Step",
    "Target",
    "Turns",
    "assigned",
    "lanes",
    "placements",
    "restore_frequencies",
]

__getattr__, __dir__ = on_first_use(
    __name__,
    {
        "edge_sdk.schedule.capping": ("Caps", "LimitedFrequencies", "restore_frequencies"),
        "edge_sdk.schedule.governor": ("Governor", "Level", "Reading", "Step", "Target"),
        "edge_sdk.schedule.placing": ("POWER_MODES", "Placement", "lanes", "placements"),
        "edge_sdk.schedule.turns": ("LaneFigures", "Turns", "assigned"),
    },
)

"""What a device tells of itself: sessions, schedulers, governors, heat, memory; as a plain dict and for Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_sdk.exports import on_first_use

if TYPE_CHECKING:
    from edge_sdk.observing.collecting import Metrics
    from edge_sdk.observing.families import FAMILIES, Family
    from edge_sdk.observing.snapshot import EDGES_MS, Snapshot

__all__ = ["EDGES_MS", "FAMILIES", "Family", "Metrics", "Snapshot"]

__getattr__, __dir__ = on_first_use(
    __name__,
    {
        "edge_sdk.observing.collecting": ("Metrics",),
        "edge_sdk.observing.families": ("FAMILIES", "Family"),
        "edge_sdk.observing.snapshot": ("EDGES_MS", "Snapshot"),
    },
)

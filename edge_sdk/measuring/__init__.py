"""Measuring callables, clocks, processes and energy counters: the one way the planner and `edge-sdk bench` measure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_sdk.exports import on_first_use

if TYPE_CHECKING:
    from edge_sdk.measuring.blocks import Block, Request, back_to_back, paced_block
    from edge_sdk.measuring.clocks import REAL_TIME, Clock, RealTime
    from edge_sdk.measuring.comparing import MAX_PAIRS, Comparison, compare, compare_blocks, median_ms
    from edge_sdk.measuring.concurrency import Throughput, concurrent, concurrent_block
    from edge_sdk.measuring.cores import core_groups
    from edge_sdk.measuring.energy import Energy, EnergyMeter, EnergySource, energy_sources
    from edge_sdk.measuring.latencies import Latencies, summarise
    from edge_sdk.measuring.processes import Memory, memory_of
    from edge_sdk.measuring.soaking import Soak, SoakWindow, soak
    from edge_sdk.measuring.streams import Paced, paced, steady, warm_up

__all__ = [
    "MAX_PAIRS",
    "REAL_TIME",
    "Block",
    "Clock",
    "Comparison",
    "Energy",
    "EnergyMeter",
    "EnergySource",
    "Latencies",
    "Memory",
    "Paced",
    "RealTime",
    "Request",
    "Soak",
    "SoakWindow",
    "Throughput",
    "back_to_back",
    "compare",
    "compare_blocks",
    "concurrent",
    "concurrent_block",
    "core_groups",
    "energy_sources",
    "median_ms",
    "memory_of",
    "paced",
    "paced_block",
    "soak",
    "steady",
    "summarise",
    "warm_up",
]

__getattr__, __dir__ = on_first_use(
    __name__,
    {
        "edge_sdk.measuring.blocks": ("Block", "Request", "back_to_back", "paced_block"),
        "edge_sdk.measuring.clocks": ("Clock", "REAL_TIME", "RealTime"),
        "edge_sdk.measuring.comparing": (
            "Comparison",
            "MAX_PAIRS",
            "compare",
            "compare_blocks",
            "median_ms",
        ),
        "edge_sdk.measuring.concurrency": ("Throughput", "concurrent", "concurrent_block"),
        "edge_sdk.measuring.cores": ("core_groups",),
        "edge_sdk.measuring.energy": ("Energy", "EnergyMeter", "EnergySource", "energy_sources"),
        "edge_sdk.measuring.latencies": ("Latencies", "summarise"),
        "edge_sdk.measuring.processes": ("Memory", "memory_of"),
        "edge_sdk.measuring.soaking": ("Soak", "SoakWindow", "soak"),
        "edge_sdk.measuring.streams": ("Paced", "paced", "steady", "warm_up"),
    },
)

"""Measuring callables, clocks, processes and energy counters: the one way the planner and `edge-sdk bench` measure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_sdk.measuring.blocks import Block, Request, back_to_back, paced_block
    from edge_sdk.measuring.clocks import REAL_TIME, Clock, RealTime
    from edge_sdk.measuring.comparing import MAX_PAIRS, Comparison, compare, compare_blocks, compare_paced, median_ms
    from edge_sdk.measuring.concurrency import Throughput, concurrent
    from edge_sdk.measuring.energy import Energy, EnergyMeter, EnergySource, energy_sources
    from edge_sdk.measuring.latencies import Latencies, summarise
    from edge_sdk.measuring.processes import Memory, memory_of
    from edge_sdk.measuring.soaking import Soak, SoakWindow, soak
    from edge_sdk.measuring.streams import Paced, paced, steady, warm_up

_HOMES = {
    "Block": "edge_sdk.measuring.blocks",
    "Clock": "edge_sdk.measuring.clocks",
    "Comparison": "edge_sdk.measuring.comparing",
    "Energy": "edge_sdk.measuring.energy",
    "EnergyMeter": "edge_sdk.measuring.energy",
    "EnergySource": "edge_sdk.measuring.energy",
    "Latencies": "edge_sdk.measuring.latencies",
    "MAX_PAIRS": "edge_sdk.measuring.comparing",
    "Memory": "edge_sdk.measuring.processes",
    "Paced": "edge_sdk.measuring.streams",
    "REAL_TIME": "edge_sdk.measuring.clocks",
    "RealTime": "edge_sdk.measuring.clocks",
    "Request": "edge_sdk.measuring.blocks",
    "Soak": "edge_sdk.measuring.soaking",
    "SoakWindow": "edge_sdk.measuring.soaking",
    "Throughput": "edge_sdk.measuring.concurrency",
    "back_to_back": "edge_sdk.measuring.blocks",
    "compare": "edge_sdk.measuring.comparing",
    "compare_blocks": "edge_sdk.measuring.comparing",
    "compare_paced": "edge_sdk.measuring.comparing",
    "concurrent": "edge_sdk.measuring.concurrency",
    "energy_sources": "edge_sdk.measuring.energy",
    "median_ms": "edge_sdk.measuring.comparing",
    "memory_of": "edge_sdk.measuring.processes",
    "paced": "edge_sdk.measuring.streams",
    "paced_block": "edge_sdk.measuring.blocks",
    "soak": "edge_sdk.measuring.soaking",
    "steady": "edge_sdk.measuring.streams",
    "summarise": "edge_sdk.measuring.latencies",
    "warm_up": "edge_sdk.measuring.streams",
}

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
    "compare_paced",
    "concurrent",
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


def __getattr__(name: str) -> Any:
    """Names come in on first use: a request with a kept plan compares nothing."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(home), name)
    globals()[name] = value
    return value

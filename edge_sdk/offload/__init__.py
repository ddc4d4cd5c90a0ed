"""Executors that use an endpoint, each with the local way back."""

from __future__ import annotations

from edge_sdk.offload.cascade import CascadeFigures, CascadeRunner
from edge_sdk.offload.gate import EarlyExit, Gate, gate_of
from edge_sdk.offload.hedge import Outcome, hedged, patience_ms
from edge_sdk.offload.local import Compute, LocalTail
from edge_sdk.offload.split import SplitRunner
from edge_sdk.offload.split_spec import SplitFigures, SplitSpec

__all__ = [
    "CascadeFigures",
    "CascadeRunner",
    "Compute",
    "EarlyExit",
    "Gate",
    "LocalTail",
    "Outcome",
    "SplitFigures",
    "SplitRunner",
    "SplitSpec",
    "gate_of",
    "hedged",
    "patience_ms",
]

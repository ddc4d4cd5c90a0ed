"""Executors that use an endpoint, each with the local way back."""

from __future__ import annotations

from edge_sdk.offload.hedge import Outcome, hedged, patience_ms
from edge_sdk.offload.local import Compute, LocalTail
from edge_sdk.offload.split import Split, SplitFigures, SplitRunner

__all__ = ["Compute", "LocalTail", "Outcome", "Split", "SplitFigures", "SplitRunner", "hedged", "patience_ms"]

"""A model file as a graph: ops, tensors, what each op costs, and which ops an engine runs as one."""

from __future__ import annotations

from edge_sdk.graph.fusion import FusedGroup, fused
from edge_sdk.graph.opening import open_graph
from edge_sdk.graph.view import Graph, Op, Tensor

__all__ = ["FusedGroup", "Graph", "Op", "Tensor", "fused", "open_graph"]

"""Where a variant may be divided between a device and an endpoint: what its bundle keeps of that."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edge_sdk.bundle import Cut
from edge_sdk.errors import EdgeError, UnsupportedOp

if TYPE_CHECKING:
    from edge_sdk.graph import Graph
    from edge_sdk.graph.cuts import Cut as Found

__all__ = ["kept_cuts"]


def kept_cuts(variant: str, file: Path) -> tuple[tuple[Cut, ...], str]:
    """The Pareto set of a variant's cuts, and why there is none where its graph cannot be cut.

    Neither device nor endpoint is known when a bundle is built, and listing cuts takes longer than reading them. Of an
    ONNX graph with QuantizeLinear those at its outputs are kept, where head and tail compute bit for bit what the whole
    does; those in float only where there are no others.

    Args:
        variant: name in the bundle.
        file: its model file.
    """
    from edge_sdk.graph import open_graph
    from edge_sdk.graph.cuts import cut_at
    from edge_sdk.graph.cuts_pareto import pareto_cuts

    try:
        graph = open_graph(file)
        # Found again by its tensors: an endpoint is told these alone, and must find the same cut.
        found = {cut.id: cut for cut in (cut_at(graph, c.tensors, nearest=False) for c in pareto_cuts(graph))}
    except UnsupportedOp as error:
        return (), f"cannot be split: {error}"
    except EdgeError as error:
        return (), f"its cuts are not known: {error}"
    cuts = tuple(
        Cut(
            id=cut.id,
            variant=variant,
            tensors=cut.tensors,
            wire_bytes=cut.wire_bytes,
            head_outputs=cut.head_outputs,
            tail_outputs=cut.tail_outputs,
            head_ops=cut.head_ops,
            tail_ops=cut.tail_ops,
            head_macs=cut.head_macs,
            tail_macs=cut.tail_macs,
        )
        for cut in _exact(graph, [cut for cut in found.values() if cut.divides])
    )
    return cuts, ""


def _exact(graph: Graph, cuts: Sequence[Found]) -> Sequence[Found]:
    quantised = {name for op in graph.ops if op.kind == "quantize" for name in op.outputs}
    if graph.format != "onnx" or not quantised:
        return cuts
    exact = quantised | set(graph.inputs)
    return [cut for cut in cuts if exact.issuperset(cut.tensors)] or cuts

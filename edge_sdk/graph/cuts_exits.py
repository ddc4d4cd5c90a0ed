"""Where to cut a model of several exits, so that an early one lies in the head and the others in the tail."""

from __future__ import annotations

from edge_sdk.errors import ModelError
from edge_sdk.graph.cuts import cut_at, cuts_of
from edge_sdk.graph.flow import Cut
from edge_sdk.graph.view import Graph

__all__ = ["exit_cut"]


def exit_cut(graph: Graph, output: str) -> Cut:
    """The first cut whose head gives this output, and whose tail gives another.

    It is found again by its tensors alone (`cut_at`), so that an endpoint can make the same tail. Hence it lies behind
    the op where the exit leaves the trunk: from the trunk before it a tail would make the exit too.

    Args:
        graph: from `open_graph`.
        output: the exit.

    Raises:
        ModelError: it is no output, or no cut leaves it to the head and another one to the tail.
        UnsupportedOp: the graph holds control flow, or ops that keep state.
    """
    if output not in graph.outputs:
        raise ModelError(f"{output!r} is no output of the model; it gives {', '.join(map(repr, graph.outputs))}")
    for cut in cuts_of(graph):
        if output in cut.head_outputs and cut.tail_outputs and cut_at(graph, cut.tensors).id == cut.id:
            return cut
    raise ModelError(f"no cut leaves output {output!r} to the head and another to the tail; it is no early exit")

"""The best cut of a graph for given costs, as a minimum cut between a source (the head) and a sink (the tail).

Each op is a place; the side it falls on decides which of its two costs is paid. A tensor has a place of its own, so
that it is charged once however many ops of the tail read it. Edges that cannot be cut lead from every op to those it
depends on, so that nothing flows back from tail to head.

Source: C. Hu et al., "Dynamic Adaptive DNN Surgery for Inference Acceleration on the Edge", INFOCOM 2019, which splits
networks so; the project-selection form of the cut is J.-C. Picard, "Maximal closure of a graph", 1976.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from edge_sdk.errors import InputValueError
from edge_sdk.graph.flow import Cut, Flow, bits
from edge_sdk.graph.max_flow import Network
from edge_sdk.graph.view import Graph, Op

__all__ = ["least_head", "minimum_cut"]

_SCALE = 1 << 48
"""Costs become whole numbers of this many parts of the largest: sums stay exact, and the cut with them."""


def minimum_cut(
    graph: Graph, head_cost: Callable[[Op], float], tail_cost: Callable[[Op], float], byte_cost: float
) -> Cut:
    """The cut of least cost among all there are, those that leave all work to one side included.

    Args:
        graph: from `open_graph`.
        head_cost, tail_cost: what an op costs on the device and at the endpoint, in one unit (ms, mJ), not negative.
        byte_cost: what a byte that travels costs, in the same unit.

    Returns:
        The cut; `divides` is False where all work belongs to one side: then `tensors` is empty (all on the device) or
        holds the inputs (all at the endpoint). What a request costs once, such as a round trip, is not in it: compare
        with the whole model on the device. Nor is what outputs cost on their way back. Of several that cost the same
        it is the one with most ops in the head.

    Raises:
        UnsupportedOp: the graph holds control flow, or ops that keep state.
        InputValueError: a cost is negative or no number.
    """
    flow = Flow(graph)
    heads = [_cost(head_cost(op), op.name) for op in flow.ops]
    tails = [_cost(tail_cost(op), op.name) for op in flow.ops]
    return flow.cut(least_head(flow, heads, tails, _cost(byte_cost, "a byte")))


def least_head(flow: Flow, head_costs: list[float], tail_costs: list[float], byte_cost: float, *, keep: int = 0) -> int:
    """The head of least cost, as a mask.

    Args:
        flow: the graph.
        head_costs, tail_costs: by op.
        byte_cost: of a byte.
        keep: mask of ops that stay in the tail whatever they cost.
    """
    count = len(flow.ops)
    moves = [byte_cost * flow.size(tensor) for tensor in range(len(flow.tensors))]
    largest = max([*head_costs, *tail_costs, *moves], default=0.0)
    if largest <= 0:
        return 0

    def whole(cost: float) -> int:
        return round(cost / largest * _SCALE)

    uncut = sum(map(whole, head_costs)) + sum(map(whole, tail_costs)) + sum(map(whole, moves)) + 1
    source, sink = count + len(flow.tensors), count + len(flow.tensors) + 1
    network = Network(sink + 1)
    for op in range(count):
        network.join(source, op, whole(tail_costs[op]))
        network.join(op, sink, uncut if keep >> op & 1 else whole(head_costs[op]))
        for tensor in flow.reads[op]:
            if flow.maker[tensor] >= 0:
                network.join(op, flow.maker[tensor], uncut)
    for tensor, move in enumerate(moves):
        if flow.readers[tensor]:
            start = flow.maker[tensor] if flow.maker[tensor] >= 0 else source
            # An input of the model is on the device whatever it is, so at worst all work stays there.
            network.join(start, count + tensor, whole(move) if flow.travels[tensor] else uncut)
            for reader in bits(flow.readers[tensor]):
                network.join(count + tensor, reader, uncut)
    sides = network.least_cut(source, sink)
    return sum(1 << op for op in range(count) if sides[op])


def _cost(value: float, what: str) -> float:
    if not math.isfinite(value) or value < 0:
        raise InputValueError(f"the cost of {what} is {value!r}; expected a number from 0 on")
    return float(value)

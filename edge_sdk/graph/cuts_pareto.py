"""The cuts that some device, link and endpoint may want: no other cut is better in every respect.

Neither the device's speed nor the endpoint's is known when a bundle is built, so what is kept is the Pareto set over
work in the head, bytes that travel, and work in the tail.
"""

from __future__ import annotations

from collections.abc import Iterable

from edge_sdk.graph.cuts import Cuts, single_cuts
from edge_sdk.graph.cuts_minimum import least_head
from edge_sdk.graph.flow import Cut, Flow
from edge_sdk.graph.view import Graph

__all__ = ["DEFAULT_LIMIT", "pareto_cuts"]

DEFAULT_LIMIT = 64
_MOST_SOLVED = 48


def pareto_cuts(graph: Graph, *, limit: int = DEFAULT_LIMIT) -> Cuts:
    """The Pareto set over (MACs in the head, bytes, MACs in the tail).

    Candidates are all cuts of one tensor, and those of any number that are best for some ratio of costs: for a constant
    cost a MAC on each side and a constant cost a byte, no other cut is ever best. A cut that lies behind these for
    every ratio may be missing.

    Args:
        graph: from `open_graph`.
        limit: keep no more: first those that are best for some ratio of costs, then those of fewest bytes.

    Raises:
        UnsupportedOp: the graph holds control flow, or ops that keep state.
    """
    flow = Flow(graph)
    best = {cut.id: cut for cut in (flow.cut(head) for head in _swept(flow)) if _usable(flow, cut)}
    candidates = best | {cut.id: cut for cut in single_cuts(graph)}
    kept = _undominated(candidates.values())
    complete = len(kept) <= limit
    if not complete:
        kept = sorted(kept, key=lambda cut: (cut.id not in best, cut.wire_bytes or 0, cut.id))[:limit]
    return Cuts(tuple(sorted(kept, key=lambda cut: (cut.head_macs, cut.head_ops, cut.id))), complete, limit)


def _usable(flow: Flow, cut: Cut) -> bool:
    return cut.divides and bool(cut.tensors) and all(flow.travels[flow.index[name]] for name in cut.tensors)


def _undominated(cuts: Iterable[Cut]) -> list[Cut]:
    kept: list[Cut] = []
    # Of equals the latest: behind an activation rather than before it, where values range less and compress better.
    for cut in sorted(cuts, key=lambda cut: (*_figures(cut), -cut.head_ops, cut.id)):
        figures = _figures(cut)
        if not any(all(a <= b for a, b in zip(_figures(other), figures, strict=True)) for other in kept):
            kept.append(cut)
    return kept


def _figures(cut: Cut) -> tuple[int, int, int]:
    return cut.head_macs, cut.wire_bytes or 0, cut.tail_macs


def _swept(flow: Flow) -> list[int]:
    """Heads that are best for some price of a MAC against a byte, found between the extremes by their slopes."""
    if not flow.ops or not sum(flow.macs):
        return []
    last = 1 << len(flow.ops) - 1
    found: dict[int, tuple[int, int]] = {}

    def solve(price: float) -> int:
        """Price of a MAC in the head, less than 0 where it is dearer in the tail; bytes cost 1 each."""
        heads = [max(price, 0.0) * macs for macs in flow.macs]
        tails = [max(-price, 0.0) * macs for macs in flow.macs]
        head = least_head(flow, heads, tails, 1.0, keep=last)
        found[head] = _point(flow, head)
        return head

    steep = 1.0 + sum(flow.size(tensor) for tensor in range(len(flow.tensors)))  # a MAC costs more than all bytes
    waiting = [(solve(steep), solve(-steep))]
    solved = 2
    while waiting and solved < _MOST_SOLVED:
        low, high = waiting.pop(0)
        (low_macs, low_bytes), (high_macs, high_bytes) = found[low], found[high]
        if high_macs <= low_macs:
            continue
        price = (low_bytes - high_bytes) / (high_macs - low_macs)
        middle = solve(price)
        solved += 1
        macs, size = found[middle]
        below = size + price * macs < low_bytes + price * low_macs - 1e-6 * max(low_bytes, 1)
        if below and low_macs < macs < high_macs:
            waiting += [(low, middle), (middle, high)]
    return list(found)


def _point(flow: Flow, head: int) -> tuple[int, int]:
    macs = sum(count for op, count in enumerate(flow.macs) if head >> op & 1)
    return macs, sum(flow.size(tensor) for tensor in flow.boundary(head))

"""The cuts of a graph: where it may be divided into a head on the device and a tail at an endpoint."""

from __future__ import annotations

import itertools
import random
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from edge_sdk.graph.cuts_nearest import movable
from edge_sdk.graph.flow import Cut, Flow, bits, input_cut
from edge_sdk.graph.view import Graph

__all__ = [
    "DEFAULT_LIMIT",
    "Cut",
    "Cuts",
    "cut_at",
    "cuts_of",
    "head_ops",
    "input_cut",
    "random_cuts",
    "single_cuts",
]

DEFAULT_LIMIT = 1000
_TRIES_A_CUT = 20
_LOOKS_A_CUT = 3


@dataclass(frozen=True, slots=True)
class Cuts:
    """Cuts of one graph, those with least work in the head first.

    Attributes:
        cuts: each with work on both sides.
        complete: whether these are all there are; otherwise the rest was left out because of `limit`, and what is here
            are all cuts of one tensor (if they fit) and some of several, from all over the graph.
        limit: how many were asked for at most.
    """

    cuts: tuple[Cut, ...]
    complete: bool
    limit: int

    def __iter__(self) -> Iterator[Cut]:
        return iter(self.cuts)

    def __len__(self) -> int:
        return len(self.cuts)


def cuts_of(graph: Graph, *, limit: int = DEFAULT_LIMIT) -> Cuts:
    """Lists where a graph may be cut.

    Args:
        graph: from `open_graph`.
        limit: list no more; the number of cuts may grow exponentially with the branches of the graph.

    Raises:
        UnsupportedOp: the graph holds control flow, or ops that keep state.
    """
    flow = Flow(graph)
    if limit < 1:
        return Cuts((), not flow.ops, limit)
    singles = _single_heads(flow)
    grown, complete = _grown(flow, singles, limit)
    found = dict.fromkeys((grown if complete else singles)[:limit])
    if not complete:
        by_chance = _random_heads(flow, random.Random(0), _TRIES_A_CUT * limit)
        for head in itertools.chain(by_chance, grown):  # grown ones where chance found too few
            if len(found) >= limit:
                break
            found[head] = None
    return Cuts(_sorted(flow.cut(head) for head in found), complete, limit)


def single_cuts(graph: Graph) -> tuple[Cut, ...]:
    """All cuts of one tensor, those with least work in the head first.

    Raises:
        UnsupportedOp: the graph holds control flow, or ops that keep state.
    """
    flow = Flow(graph)
    return _sorted(flow.cut(head) for head in _single_heads(flow))


def random_cuts(graph: Graph, count: int, *, seed: int = 0, least_tensors: int = 2) -> tuple[Cut, ...]:
    """Different cuts from all over the graph, the same on every call; fewer than `count` where there are no more.

    Args:
        graph: from `open_graph`.
        count: how many.
        seed: other cuts for another seed.
        least_tensors: how many tensors each has at least.

    Raises:
        UnsupportedOp: the graph holds control flow, or ops that keep state.
    """
    flow = Flow(graph)
    heads = _random_heads(flow, random.Random(seed), _TRIES_A_CUT * count)
    fit = (head for head in heads if len(flow.boundary(head)) >= least_tensors)
    return _sorted(flow.cut(head) for head in itertools.islice(fit, max(count, 0)))


def cut_at(graph: Graph, tensors: Iterable[str], *, nearest: bool = True, where: str = "the model") -> Cut:
    """The cut at these tensors.

    Args:
        graph: from `open_graph`.
        tensors: names of what is to travel; of what the tail reads from before the cut nothing may be left out.
        nearest: where a tensor of an int8 graph lies between DequantizeLinear and QuantizeLinear, cut at the nearest
            output of a QuantizeLinear instead; otherwise refuse.
        where: what messages call the model.

    Raises:
        ModelError: they are no cut, or lie between DequantizeLinear and QuantizeLinear and `nearest` is False.
        UnsupportedOp: the graph holds control flow, or ops that keep state.
    """
    from edge_sdk.errors import ModelError

    flow = Flow(graph)
    moved = movable(graph)
    names = list(dict.fromkeys(tensors))
    for name in names:
        if name in moved and not nearest:
            raise ModelError(
                f"{where}: a cut at {name!r} would compute in float what the whole computes in int8; cut at"
                f" {moved[name]!r}, which a QuantizeLinear gives"
            )
    cut = flow.checked([moved.get(name, name) for name in names], where)
    stuck = [name for name in cut.tensors if not flow.travels[flow.index[name]]]
    if stuck:
        tensor = graph.tensors[stuck[0]]
        raise ModelError(
            f"{where}: {stuck[0]!r} cannot travel: dtype {tensor.dtype or 'unknown'}, shape"
            f" {'unknown' if tensor.shape is None else list(tensor.shape)}; expected a tensor of numbers of known rank"
        )
    return cut


def head_ops(graph: Graph, cuts: Iterable[Cut]) -> list[frozenset[str]]:
    """Of each cut the names of the ops that run in its head.

    Raises:
        UnsupportedOp: the graph holds control flow, or ops that keep state.
    """
    flow = Flow(graph)
    found = []
    for cut in cuts:
        head = flow.head_of([flow.index[name] for name in cut.tensors])
        found.append(frozenset(flow.ops[place].name for place in bits(head)))
    return found


def _sorted(cuts: Iterable[Cut]) -> tuple[Cut, ...]:
    return tuple(sorted(cuts, key=lambda cut: (cut.head_macs, cut.head_ops, cut.wire_bytes or 0, cut.id)))


def _is_cut(flow: Flow, head: int) -> bool:
    if not head or head == flow.whole:
        return False
    crossing = flow.boundary(head)
    return bool(crossing) and all(flow.travels[tensor] for tensor in crossing)


def _single_heads(flow: Flow) -> list[int]:
    """Heads of the cuts of one tensor."""
    found: dict[int, None] = {}
    for tensor, travels in enumerate(flow.travels):
        if travels and flow.readers[tensor]:
            head = flow.head_of([tensor])
            if 0 < head < flow.whole and flow.boundary(head) == [tensor]:
                found[head] = None
    return list(found)


def _segments(flow: Flow, singles: list[int]) -> list[tuple[int, int]]:
    """The graph as a chain of parts, each as the mask of all before it and the mask up to its end.

    Every head ends within one part: a part ends where all other ops lie before one op or depend on it.
    """
    ends = [head for head in sorted(singles, key=int.bit_count) if _is_neck(flow, head)]
    return list(zip([0, *ends], [*ends, flow.whole], strict=True))


def _is_neck(flow: Flow, head: int) -> bool:
    tensor = flow.boundary(head)[0]
    maker = flow.maker[tensor]
    return (
        maker >= 0 and flow.ancestors[maker] | flow.descendants[maker] == flow.whole and head == flow.ancestors[maker]
    )


def _grown(flow: Flow, singles: list[int], limit: int) -> tuple[list[int], bool]:
    """Heads of cuts, found by adding an op at a time, and whether these are all and no more than `limit`."""
    found = dict.fromkeys(singles)
    looked = 0
    for start, end in _segments(flow, singles):
        start = flow.closed(start)
        seen = {start}
        waiting = deque([start])
        while waiting:
            head = waiting.popleft()
            looked += 1
            if _is_cut(flow, head):
                found[head] = None
            if len(found) > limit or looked > _LOOKS_A_CUT * limit + len(flow.ops):
                return list(found), False
            for larger in _larger(flow, head, end):
                if larger not in seen:
                    seen.add(larger)
                    waiting.append(larger)
    return list(found), True


def _larger(flow: Flow, head: int, end: int) -> Iterator[int]:
    """All heads with one op more, and with what must then stand in the head too."""
    left = end & ~head
    while left:
        low = left & -left
        left ^= low
        if not flow.ancestors[low.bit_length() - 1] & ~(head | low):
            yield head | flow.closures[low.bit_length() - 1]


def _random_heads(flow: Flow, chance: random.Random, tries: int) -> Iterator[int]:
    """Different heads of cuts, until so many have been drawn."""
    seen: set[int] = set()
    for _ in range(tries):
        head = _random_head(flow, chance)
        if head not in seen:
            seen.add(head)
            if _is_cut(flow, head):
                yield head


def _random_head(flow: Flow, chance: random.Random) -> int:
    """What a few ops from near each other depend on: heads of one op alone would miss cuts across branches."""
    count = len(flow.ops)
    if not count:
        return 0
    middle = chance.randrange(count)
    width = max(1, round(count * chance.random() ** 2))
    head = 0
    for _ in range(chance.randint(1, 4)):
        place = min(max(middle + chance.randint(-width, width), 0), count - 1)
        head |= flow.closures[place]
    return head

"""What flows between the ops of a graph while a request runs, and the ways these ops fall into a head and a tail.

Sets of ops and of tensors are bit masks: whole graphs are compared by the thousand.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from edge_sdk.errors import ModelError, UnsupportedOp
from edge_sdk.graph.cuts_nearest import movable
from edge_sdk.graph.view import Graph, Op

__all__ = ["Cut", "Flow", "bits", "has_control_flow", "input_cut"]

_ID_DIGITS = 12
_STATEFUL = frozenset({"ASSIGN_VARIABLE", "CALL_ONCE", "READ_VARIABLE", "VAR_HANDLE"})
_STATEFUL_PREFIXES = ("HASHTABLE",)
_SHAPE_OPS = frozenset({"Shape", "Size"})
_UNTRAVELLED = frozenset({"", "string"})
_SHOWN = 4


@dataclass(frozen=True, slots=True)
class Cut:
    """A set of tensors that divides a graph into head (device) and tail (endpoint).

    Attributes:
        id: short hash of format and tensors; the same for the same file content, wherever it is worked out.
        format: "onnx" or "tflite".
        tensors: what travels, in the order in which it is made; inputs of the model that the tail reads are among them.
        head_outputs: outputs of the model that the head gives; they do not travel.
        tail_outputs: outputs of the model that the tail gives.
        wire_bytes: size of `tensors` for one request, uncoded; each counts once however many ops read it. None where a
            size is unknown. Open dimensions have the sizes that the graph assumes.
        head_ops, tail_ops: how many ops run on each side; those that are worked out from constants do not count.
        head_macs, tail_macs: multiply-accumulates of each side; ops whose count is unknown give none.
    """

    id: str
    format: str
    tensors: tuple[str, ...]
    head_outputs: tuple[str, ...]
    tail_outputs: tuple[str, ...]
    wire_bytes: int | None
    head_ops: int
    tail_ops: int
    head_macs: int
    tail_macs: int

    @property
    def divides(self) -> bool:
        """Whether there is work on both sides."""
        return self.head_ops > 0 and self.tail_ops > 0

    @property
    def is_at_inputs(self) -> bool:
        """Whether the inputs travel and the tail is the whole model."""
        return not self.head_ops and self.tail_ops > 0


class Flow:
    """The ops of a graph that a request needs, in order, and the tensors that flow between them.

    Args:
        graph: from `open_graph`.

    Attributes:
        ops: those that are needed for an output and depend on the request.
        tensors: names of what flows, model inputs first, then in the order in which it is made.
        maker: by tensor, the op that makes it; -1 for inputs of the model.
        readers: by tensor, a mask of the ops that read it.
        reads, makes: by op, its tensors.
        ancestors: by op, a mask of itself and all ops it depends on.
        whole: mask of all ops.
        fixed: names of tensors that do not depend on the request: constants, what is computed from these alone, and
            shapes of tensors whose shape is.
        travels: by tensor, whether it may be part of a cut.

    Raises:
        UnsupportedOp: the graph holds control flow or ops that keep state; the message names them.
    """

    def __init__(self, graph: Graph) -> None:
        _refuse(graph)
        self.graph = graph
        self.fixed = _fixed(graph)
        self.ops: list[Op] = _needed(graph, self.fixed)
        flowing = dict.fromkeys(name for name in graph.inputs if name not in self.fixed)
        for op in self.ops:
            flowing.update(dict.fromkeys(name for name in op.outputs if name and name not in self.fixed))
        self.tensors = list(flowing)
        self.index = {name: place for place, name in enumerate(self.tensors)}
        self.maker = [-1] * len(self.tensors)
        self.readers = [0] * len(self.tensors)
        self.reads: list[tuple[int, ...]] = []
        self.makes: list[tuple[int, ...]] = []
        self.ancestors: list[int] = []
        for place, op in enumerate(self.ops):
            self._enter(place, op)
        self.whole = (1 << len(self.ops)) - 1
        self.macs = [op.macs or 0 for op in self.ops]
        self.outputs = [self.index[name] for name in dict.fromkeys(graph.outputs) if name in self.index]
        moved = movable(graph)
        self.travels = [name not in moved and self._can_travel(name) for name in self.tensors]
        makers = (1 << maker if maker >= 0 else 0 for maker in self.maker)
        self._flows = list(zip(makers, self.readers, strict=True))
        self._stuck = [t for t, travels in enumerate(self.travels) if not travels and self.readers[t]]

    def _enter(self, place: int, op: Op) -> None:
        reads = tuple(self.index[name] for name in dict.fromkeys(op.inputs) if name in self.index)
        makes = tuple(self.index[name] for name in op.outputs if name in self.index)
        ancestors = 1 << place
        for tensor in reads:
            self.readers[tensor] |= 1 << place
            if self.maker[tensor] >= 0:
                ancestors |= self.ancestors[self.maker[tensor]]
        for tensor in makes:
            self.maker[tensor] = place
        self.reads.append(reads)
        self.makes.append(makes)
        self.ancestors.append(ancestors)

    def _can_travel(self, name: str) -> bool:
        tensor = self.graph.tensors[name]
        return tensor.bytes is not None and tensor.dtype not in _UNTRAVELLED

    @cached_property
    def descendants(self) -> list[int]:
        """By op, a mask of itself and all ops that depend on it."""
        masks = [1 << place for place in range(len(self.ops))]
        for place in reversed(range(len(self.ops))):
            for tensor in self.makes[place]:
                for reader in bits(self.readers[tensor]):
                    masks[place] |= masks[reader]
        return masks

    @cached_property
    def closures(self) -> list[int]:
        """By op, the smallest closed head that holds it, see `closed`. Closed heads joined are closed again."""
        return [self.closed(mask) for mask in self.ancestors]

    def boundary(self, head: int) -> list[int]:
        """The tensors that flow from a head, a mask that holds the ancestors of each of its ops, to all other ops."""
        tail = self.whole & ~head
        return [
            tensor for tensor, (made_by, readers) in enumerate(self._flows) if readers & tail and not made_by & tail
        ]

    def closed(self, head: int) -> int:
        """The smallest head around this one from which nothing flows that cannot travel."""
        while True:
            more = 0
            for tensor in self._stuck:
                if self.maker[tensor] < 0 or head >> self.maker[tensor] & 1:
                    more |= self.readers[tensor] & ~head
            if not more:
                return head
            for op in bits(more):
                head |= self.ancestors[op]

    def size(self, tensor: int) -> int:
        """Bytes of a tensor; 0 where unknown."""
        return self.graph.tensors[self.tensors[tensor]].bytes or 0

    def head_of(self, tensors: Sequence[int]) -> int:
        """The head that tensors stand for. They are a cut only if `boundary` of this head gives the same tensors again.

        It makes the tensors, and those outputs of the model that cannot be made of these tensors alone.
        """
        head, stop = self._makers_of(tensors), set(tensors)
        waiting = [self.maker[output] for output in self.outputs if self.maker[output] >= 0]
        while True:
            added = [op for op in waiting if not head >> op & 1 and not self._made_of(op, stop, head)]
            if not added:
                return head
            for op in added:
                head |= self.ancestors[op]

    def _makers_of(self, tensors: Iterable[int]) -> int:
        head = 0
        for tensor in tensors:
            if self.maker[tensor] >= 0:
                head |= self.ancestors[self.maker[tensor]]
        return head

    def _made_of(self, op: int, stop: set[int], head: int) -> bool:
        """Whether an op can be computed of these tensors, without what the head makes besides and without inputs."""
        waiting, seen, touched = [op], {op}, False
        while waiting:
            for tensor in self.reads[waiting.pop()]:
                maker = self.maker[tensor]
                if tensor in stop:
                    touched = True
                elif maker < 0 or head >> maker & 1:
                    return False
                elif maker not in seen:
                    seen.add(maker)
                    waiting.append(maker)
        return touched

    def cut(self, head: int) -> Cut:
        """The cut that divides a head, a mask that holds the ancestors of each of its ops, from all other ops."""
        travelling = self.boundary(head)
        given = {t for t in self.outputs if self.maker[t] < 0 or head >> self.maker[t] & 1}
        names = tuple(self.tensors[tensor] for tensor in travelling)
        outputs = dict.fromkeys(self.graph.outputs)
        head_outputs = tuple(name for name in outputs if self.index.get(name) in given)
        key: list[object] = _key(self.graph, names)
        if self.head_of(travelling) != head:  # what the tensors alone do not tell
            key.append(sorted(head_outputs))
        sizes = [self.graph.tensors[name].bytes for name in names]
        macs = sum(self.macs[op] for op in bits(head))
        return Cut(
            id=_id(key),
            format=self.graph.format,
            tensors=names,
            head_outputs=head_outputs,
            tail_outputs=tuple(name for name in outputs if name not in head_outputs),
            wire_bytes=None if None in sizes else sum(size or 0 for size in sizes),
            head_ops=head.bit_count(),
            tail_ops=len(self.ops) - head.bit_count(),
            head_macs=macs,
            tail_macs=sum(self.macs) - macs,
        )

    def checked(self, names: Iterable[str], where: str) -> Cut:
        """The cut at these tensors.

        Raises:
            ModelError: they are none; the message says which are missing or too many.
        """
        wanted = list(dict.fromkeys(names))
        unknown = [name for name in wanted if name not in self.index]
        if unknown:
            raise ModelError(f"{where}: nothing called {_listed(unknown)} flows between its ops{self._why(unknown)}")
        places = sorted(self.index[name] for name in wanted)
        head = self.head_of(places)
        crossing = self.boundary(head)
        if places and crossing == places:
            return self.cut(head)
        missing = self._missing(places)
        if missing:
            raise ModelError(
                f"{where}: {_listed(wanted)} is no cut: ops behind it also read {_listed(missing)}; add that, or list"
                " the cuts there are"
            )
        idle = [self.tensors[tensor] for tensor in places if tensor not in crossing]
        raise ModelError(
            f"{where}: {_listed(wanted) or 'no tensor'} is no cut: nothing behind it reads {_listed(idle) or 'it'};"
            " leave it out, or list the cuts there are"
        )

    def _missing(self, tensors: Sequence[int]) -> list[str]:
        """What else would travel if all that depends on these tensors, but for what makes them, were the tail."""
        head = self._makers_of(tensors)
        tail = 0
        for tensor in tensors:
            for reader in bits(self.readers[tensor]):
                tail |= self.descendants[reader]
        return [self.tensors[t] for t in self.boundary(self.whole & ~tail | head) if t not in tensors]

    def _why(self, names: Sequence[str]) -> str:
        fixed = [name for name in names if name in self.fixed]
        if fixed:
            return f": {_listed(fixed)} is constant and stands on both sides"
        return "; list the cuts there are"


def input_cut(graph: Graph) -> Cut:
    """The cut at the inputs: they travel, and the tail is the whole model. Control flow does no harm there.

    Raises:
        ModelError: an input is no tensor, or the model takes none.
        UnsupportedOp: the graph holds ops that keep state.
    """
    if not has_control_flow(graph):
        cut = Flow(graph).cut(0)
    else:
        _refuse_state(graph)
        names = graph.inputs
        sizes = [graph.tensors[name].bytes for name in names]
        cut = Cut(
            id=_id(_key(graph, names)),
            format=graph.format,
            tensors=names,
            head_outputs=(),
            tail_outputs=tuple(dict.fromkeys(graph.outputs)),
            wire_bytes=None if None in sizes else sum(size or 0 for size in sizes),
            head_ops=0,
            tail_ops=len(graph.ops),
            head_macs=0,
            tail_macs=graph.macs,
        )
    untold = [name for name in cut.tensors if not graph.tensors[name].dtype]
    if untold or not cut.tensors or not cut.tail_ops:
        why = f"its input {untold[0]!r} is no tensor" if untold else "nothing of it depends on inputs"
        raise ModelError(f"this model cannot run elsewhere as a whole: {why}; run it here")
    return cut


def has_control_flow(graph: Graph) -> bool:
    """Whether ops of a graph run other graphs, or decide which ops run."""
    return any(op.kind == "control" for op in graph.ops)


def _key(graph: Graph, names: Iterable[str]) -> list[object]:
    return [graph.format, sorted(names)]


def _id(key: list[object]) -> str:
    return hashlib.sha256(json.dumps(key).encode()).hexdigest()[:_ID_DIGITS]


def bits(mask: int) -> Iterator[int]:
    """Places of the ones of a mask, from the lowest."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def _listed(names: Sequence[str]) -> str:
    rest = len(names) - _SHOWN
    return ", ".join(map(repr, names[:_SHOWN])) + (f" and {rest} more" if rest > 0 else "")


def _refuse(graph: Graph) -> None:
    control = [op for op in graph.ops if op.kind == "control"]
    if control:
        named = ", ".join(sorted({f"{op.type} {op.name!r}" for op in control})[:_SHOWN])
        raise UnsupportedOp(
            f"a graph with control flow cannot be cut: it holds {named}; run the model whole, or export it without",
            sorted({op.type for op in control}),
        )
    _refuse_state(graph)


def _refuse_state(graph: Graph) -> None:
    known = {name for op in graph.ops for name in op.outputs} | set(graph.inputs) | {""}
    stateful = sorted({op.type for op in graph.ops if _keeps_state(graph, op, known)})
    if stateful:
        raise UnsupportedOp(
            f"a graph that keeps state from request to request cannot be cut: it holds {', '.join(stateful)}; run the"
            " model whole, or export it with its state as inputs and outputs",
            stateful,
        )


def _keeps_state(graph: Graph, op: Op, known: set[str]) -> bool:
    """Also where it reads what neither the request nor an op nor the file gives: a variable of TFLite."""
    if op.type in _STATEFUL or op.type.startswith(_STATEFUL_PREFIXES):
        return True
    return any(name not in known and not graph.tensors[name].constant for name in op.inputs)


def _fixed(graph: Graph) -> frozenset[str]:
    """Tensors that do not depend on the request. Shapes count where the file leaves no dimension open."""
    found = {name for name, tensor in graph.tensors.items() if tensor.constant}
    if graph.format != "onnx" or graph.assumed:
        return frozenset(found)
    shapes: set[str] = set()
    for op in graph.ops:
        taken = [name for name in op.inputs if name]
        if op.type in _SHAPE_OPS and taken and graph.tensors[taken[0]].shape is not None:
            shapes.update(op.outputs)
        elif taken and all(name in found or name in shapes for name in taken) and not _draws(op):
            shapes.update(name for name in op.outputs if name)
    return frozenset(found | shapes)


def _draws(op: Op) -> bool:
    return op.type.startswith("Random") or op.type in ("Bernoulli", "Multinomial")


def _needed(graph: Graph, fixed: frozenset[str]) -> list[Op]:
    """The ops that an output needs and that depend on the request, in order."""
    wanted = set(graph.outputs)
    kept = []
    for op in reversed(graph.ops):
        if any(name in wanted and name not in fixed for name in op.outputs):
            kept.append(op)
            wanted.update(op.inputs)
    return kept[::-1]

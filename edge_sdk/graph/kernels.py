"""What an engine makes of a graph: kernels, each of them one or more ops, and the steps that join them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from edge_sdk.graph.view import Graph, Op

__all__ = ["FusedGroup", "Kernel", "Kernels"]

# The lead of a group is the op that makes products; where none does, the first of these kinds, then the first op.
_LEADING = ("conv", "depthwise_conv", "conv_transpose", "gemm", "matmul", "recurrent", "attention", "control")


@dataclass(frozen=True, slots=True)
class FusedGroup:
    """One kernel that an engine runs.

    Attributes:
        ops: names of the graph's ops it stands for, in their order; empty for a kernel that the engine adds (it
            reorders data from one layout to another).
        lead: name of the op it is mainly; "" where there is none.
        type: the op type the engine's kernel goes by; a fused form under the plain name ("Conv" for FusedConv).
        kind: as `Op.kind`, of the kernel as a whole.
        macs: multiply-accumulates; None where no rule covers one of the ops.
        input_bytes, output_bytes: activations it reads and writes; what stays inside does not count.
        parameter_bytes: weights it reads.
        precision: as `Op.precision`, of the lead.
    """

    ops: tuple[str, ...]
    lead: str
    type: str
    kind: str
    macs: int | None
    input_bytes: int
    output_bytes: int
    parameter_bytes: int
    precision: str


@dataclass(slots=True, eq=False)
class Kernel:
    """A kernel while the steps work on it.

    Attributes:
        ops: what it stands for, in order; none for a kernel that the engine adds.
        type: what the engine would call it: an op's type at first.
        kind: see `FusedGroup`; "" to go by the lead.
        inputs: activations it reads, without repetition.
        outputs: activations others read, or the caller.
        place: its place in the order, that of its last op.
        marks: what was joined already ("activation", "sum", …), so that it is joined once.
        lead: the op it is mainly.
    """

    ops: list[Op]
    type: str
    kind: str
    inputs: list[str]
    outputs: list[str]
    place: float
    marks: set[str] = field(default_factory=set)
    lead: Op | None = None


class Kernels:
    """The kernels of a graph with who makes and who reads each tensor.

    Constants are no inputs here. A tensor that a step found to be known before the first run is dropped like one.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._kernels: dict[int, Kernel] = {}
        self._maker: dict[str, Kernel] = {}
        self._readers: dict[str, list[Kernel]] = {}
        self._outputs = frozenset(graph.outputs)
        self._same: dict[str, str] = {}
        for place, op in enumerate(graph.ops):
            inputs = dict.fromkeys(n for n in op.inputs if n and not graph.tensors[n].constant)
            self._add(Kernel([op], op.type, op.kind, list(inputs), [n for n in op.outputs if n], place, lead=op))

    def __iter__(self) -> Iterator[Kernel]:
        """The kernels in order, those that were there at the beginning of the loop and still are."""
        for kernel in sorted(self._kernels.values(), key=lambda kernel: kernel.place):
            if id(kernel) in self._kernels:
                yield kernel

    def maker(self, name: str) -> Kernel | None:
        """The kernel that makes a tensor; None for an input or constant."""
        return self._maker.get(name)

    def readers(self, name: str) -> list[Kernel]:
        """The kernels that read a tensor."""
        return self._readers.get(name, [])

    def has_fixed_weights(self, kernel: Kernel) -> bool:
        """Whether all weights of a kernel's lead lie in the file as it takes them: none is prepared in a request."""
        taken = kernel.lead.inputs[1:] if kernel.lead is not None else ()
        return all(self.graph.tensors[name].constant and name not in self._maker for name in taken if name)

    def is_output(self, name: str) -> bool:
        """Whether the caller gets this tensor."""
        return name in self._outputs

    def only_reader(self, kernel: Kernel) -> Kernel | None:
        """The one kernel that reads the one output of a kernel; None where another one, or the caller, reads it."""
        if len(kernel.outputs) != 1 or kernel.outputs[0] in self._outputs:
            return None
        readers = self.readers(kernel.outputs[0])
        return readers[0] if len(readers) == 1 else None

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Shape of a tensor."""
        return self.graph.tensors[self._same.get(name, name)].shape

    def join(self, lead: Kernel, *others: Kernel, type: str = "", kind: str = "", mark: str = "") -> Kernel:
        """Makes one kernel of several, whose inner tensors vanish.

        Args:
            lead: gives type, kind and marks where the arguments do not.
            others: the rest.
            type, kind: of the new kernel.
            mark: what was joined.
        """
        parts = sorted({id(k): k for k in (lead, *others)}.values(), key=lambda kernel: kernel.place)
        made = {name for kernel in parts for name in kernel.outputs}
        inputs = dict.fromkeys(name for kernel in parts for name in kernel.inputs if name not in made)
        for kernel in parts:
            self.remove(kernel)
        outputs = [name for name in made if name in self._outputs or self._readers.get(name)]
        order = {name: i for i, name in enumerate(name for kernel in parts for name in kernel.outputs)}
        joined = Kernel(
            ops=[op for kernel in parts for op in kernel.ops],
            type=type or lead.type,
            kind=kind or lead.kind,
            inputs=list(inputs),
            outputs=sorted(outputs, key=lambda name: order[name]) or parts[-1].outputs[-1:],
            place=parts[-1].place,
            marks=set().union(*(kernel.marks for kernel in parts)) | ({mark} if mark else set()),
            lead=lead.lead,
        )
        self._add(joined)
        return joined

    def remove(self, kernel: Kernel) -> None:
        """Takes a kernel out; its outputs then count as made by nobody."""
        del self._kernels[id(kernel)]
        for name in kernel.inputs:
            self._readers[name].remove(kernel)
        for name in kernel.outputs:
            self._maker.pop(name, None)

    def fold(self, kernel: Kernel) -> None:
        """Takes out a kernel whose outputs are known before the first run."""
        self.remove(kernel)
        for name in kernel.outputs:
            for reader in list(self.readers(name)):
                reader.inputs.remove(name)
            self._readers.pop(name, None)

    def bypass(self, kernel: Kernel) -> bool:
        """Takes out a kernel that hands on its input. Not possible where an input of the model becomes an output."""
        used = [name for name in kernel.outputs if name in self._outputs or self._readers.get(name)]
        if len(used) > 1 or not kernel.inputs:
            return False
        taken, given = kernel.inputs[0], (used or kernel.outputs)[0]
        if given not in self._outputs:
            self.remove(kernel)
            self.rename(given, taken)
            return True
        maker = self.maker(taken)
        if maker is None or taken in self._outputs:
            return False
        self.remove(kernel)
        maker.outputs[maker.outputs.index(taken)] = given
        del self._maker[taken]
        self._maker[given] = maker
        self.rename(taken, given)
        return True

    def rename(self, old: str, new: str) -> None:
        """Makes all readers of one tensor read another."""
        for reader in list(self.readers(old)):
            self.reroute(reader, old, new)

    def reroute(self, kernel: Kernel, old: str, new: str) -> None:
        """Makes one kernel read another tensor in place of one it reads."""
        self._readers[old].remove(kernel)
        at = kernel.inputs.index(old)
        if new in kernel.inputs:
            del kernel.inputs[at]
        else:
            kernel.inputs[at] = new
            self._readers.setdefault(new, []).append(kernel)

    def add_copy(self, type: str, taken: str, given: str, place: float) -> Kernel:
        """Adds a kernel of the engine's own, which gives a tensor in another layout under another name."""
        self._same[given] = self._same.get(taken, taken)
        made = Kernel([], type, "transpose", [taken], [given], place)
        self._add(made)
        return made

    def follow_up(self, kernel: Kernel, type: str, kind: str) -> Kernel:
        """Adds a kernel of the engine's own that makes the output from what a kernel takes and what it now hands on."""
        given = kernel.outputs[0]
        between = f"{given} (halfway)"
        self._same[between] = self._same.get(given, given)
        kernel.outputs[0] = between
        self._maker[between] = kernel
        made = Kernel([], type, kind, [*kernel.inputs, between], [given], kernel.place + 0.125)
        self._add(made)
        return made

    def groups(self) -> tuple[FusedGroup, ...]:
        """The kernels as they stand."""
        return tuple(self._group(kernel) for kernel in self)

    def _add(self, kernel: Kernel) -> None:
        self._kernels[id(kernel)] = kernel
        for name in kernel.inputs:
            self._readers.setdefault(name, []).append(kernel)
        for name in kernel.outputs:
            self._maker[name] = kernel

    def _group(self, kernel: Kernel) -> FusedGroup:
        lead = _lead(kernel)
        counts = [op.macs for op in kernel.ops]
        kind = kernel.kind if kernel.kind or lead is None else lead.kind
        return FusedGroup(
            ops=tuple(op.name for op in kernel.ops),
            lead=lead.name if lead is not None else "",
            type=kernel.type,
            kind=kind,
            macs=None if None in counts else sum(count or 0 for count in counts),
            input_bytes=self._bytes(kernel.inputs) or self._prepared_bytes(kernel),
            output_bytes=self._bytes(kernel.outputs),
            parameter_bytes=sum(op.parameter_bytes for op in kernel.ops),
            precision=lead.precision if lead is not None else "float32",
        )

    def _prepared_bytes(self, kernel: Kernel) -> int:
        """What a kernel reads that works on weights alone."""
        if not all(self.graph.tensors[name].constant for name in kernel.outputs if name not in self._same):
            return 0
        return self._bytes({name for op in kernel.ops for name in op.inputs if name})

    def _bytes(self, names: Iterable[str]) -> int:
        return sum(self.graph.tensors[self._same.get(name, name)].bytes or 0 for name in names)


def _lead(kernel: Kernel) -> Op | None:
    products = [op for op in kernel.ops if op.kind in _LEADING]
    return max(products, key=lambda op: op.macs or 0) if products else kernel.lead

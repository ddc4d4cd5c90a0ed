"""Graphs written down for tests or made up at random, most of them with no file behind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from hypothesis import strategies as st

from edge_sdk.graph import Graph, Op, Tensor
from edge_sdk.graph.totals import assemble


def op(name: str, reads: str, makes: str, *, macs: int = 1, type: str = "Relu", kind: str = "activation") -> Op:
    """An op that reads and makes tensors, each named by one letter."""
    return Op(name=name, type=type, kind=kind, inputs=tuple(reads), outputs=tuple(makes), macs=macs)


def graph(
    ops: Sequence[Op],
    inputs: Iterable[str],
    outputs: Iterable[str],
    *,
    sizes: Mapping[str, int] = MappingProxyType({}),
    constants: Iterable[str] = (),
    format: str = "onnx",
) -> Graph:
    """A graph of float32 tensors; of 4 bytes each where `sizes` tells no other."""
    inputs, outputs, constants = tuple(inputs), tuple(outputs), set(constants)
    names = dict.fromkeys([*inputs, *(n for one in ops for n in (*one.inputs, *one.outputs)), *outputs])
    tensors = {
        name: Tensor(name, "float32", (sizes.get(name, 4) // 4,), name in constants, sizes.get(name, 4))
        for name in names
    }
    return assemble(format, ops, tensors, inputs, outputs, {}, {})


@st.composite
def graphs(draw: st.DrawFn, most_ops: int = 7) -> Graph:
    """Graphs with branches, skip connections, several inputs and outputs, and ops that nothing needs."""
    inputs = [f"in{number}" for number in range(draw(st.integers(1, 2)))]
    known = list(inputs)
    ops = []
    for number in range(draw(st.integers(1, most_ops))):
        reads = draw(st.lists(st.sampled_from(known), min_size=1, max_size=3))
        makes = [f"t{number}{letter}" for letter in "ab"[: draw(st.integers(1, 2))]]
        ops.append(Op(f"op{number}", "Relu", "activation", tuple(reads), tuple(makes), macs=draw(st.integers(0, 9))))
        known += makes
    made = [name for name in known if name not in inputs]
    outputs = draw(st.lists(st.sampled_from(made), min_size=1, max_size=3, unique=True))
    sizes = {name: 4 * draw(st.integers(1, 9)) for name in known}
    return graph(ops, inputs, outputs, sizes=sizes)


def divisions(whole: Graph) -> list[tuple[frozenset[str], frozenset[str]]]:
    """Every way to divide the ops that an output needs into head and tail, by trying all; names of head and tail."""
    wanted, needed = set(whole.outputs), []
    for one in reversed(whole.ops):
        if wanted & set(one.outputs):
            needed.insert(0, one)
            wanted |= set(one.inputs)
    found = []
    for mask in range(1 << len(needed)):
        head = [one for place, one in enumerate(needed) if mask >> place & 1]
        made = {name for one in head for name in one.outputs} | set(whole.inputs)
        if all(set(one.inputs) <= made for one in head):
            names = frozenset(one.name for one in head)
            found.append((names, frozenset(one.name for one in needed) - names))
    return found


def travelling(whole: Graph, head: frozenset[str], tail: frozenset[str]) -> frozenset[str]:
    """What the tail reads of what the head makes and of the inputs."""
    made = {name for one in whole.ops if one.name in head for name in one.outputs} | set(whole.inputs)
    return frozenset(name for one in whole.ops if one.name in tail for name in one.inputs if name in made)


def qdq() -> bytes:
    """x ─ Q ─ DQ ─ Conv ─ c ─ Relu ─ r ─ Q ─ q ─ DQ ─ d ─ Conv ─ e ─ Q ─ p ─ DQ ─ y, all int8 but for x and y."""
    from onnx.helper import make_node as node

    from tests.models import constant, onnx_bytes, value

    generator = np.random.default_rng(0)
    scales = {"sx": 0.01, "sc": 0.02, "se": 0.03, "sw": 0.005}
    nodes = [
        node("QuantizeLinear", ["x", "sx", "zero"], ["xq"]),
        node("DequantizeLinear", ["xq", "sx", "zero"], ["xd"]),
        node("DequantizeLinear", ["w", "sw", "zero"], ["wd"]),
        node("Conv", ["xd", "wd"], ["c"], kernel_shape=[3, 3]),
        node("Relu", ["c"], ["r"]),
        node("QuantizeLinear", ["r", "sc", "zero"], ["q"]),
        node("DequantizeLinear", ["q", "sc", "zero"], ["d"]),
        node("Conv", ["d", "wd"], ["e"], kernel_shape=[3, 3]),
        node("QuantizeLinear", ["e", "se", "zero"], ["p"]),
        node("DequantizeLinear", ["p", "se", "zero"], ["y"]),
    ]
    weights = [constant(name, scale) for name, scale in scales.items()]
    weights += [
        constant("zero", 0, np.int8),
        constant("w", generator.integers(-127, 128, size=(4, 4, 3, 3)), np.int8),
    ]
    return onnx_bytes(nodes, [value("x", [1, 4, 9, 9])], [value("y", [1, 4, 5, 5])], weights)

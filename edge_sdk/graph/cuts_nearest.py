"""Where a quantised ONNX graph may be cut so that both parts compute what the whole does.

Between DequantizeLinear and QuantizeLinear an engine runs integer kernels; a cut there would have it compute in float.
Such a cut is moved to the output of a QuantizeLinear, where integers flow in the whole as well.
"""

from __future__ import annotations

from edge_sdk.graph.view import Graph, Op

__all__ = ["movable"]

_LONGEST_CHAIN = 3


def movable(graph: Graph) -> dict[str, str]:
    """The tensors of a graph that must not be cut, each with the one to cut in its place. Empty where none is."""
    if graph.format != "onnx":
        return {}
    makers = {name: op for op in graph.ops for name in op.outputs if name}
    readers: dict[str, list[Op]] = {}
    for op in graph.ops:
        for name in dict.fromkeys(op.inputs):
            readers.setdefault(name, []).append(op)
    moved: dict[str, str] = {}
    for op in graph.ops:
        if op.kind == "dequantize" and op.inputs and not graph.tensors[op.inputs[0]].constant:
            moved[op.outputs[0]] = op.inputs[0]
    for op in graph.ops:
        if op.kind == "quantize" and op.inputs and len(op.outputs) == 1:
            for name in _behind(graph, op, makers, readers):
                moved.setdefault(name, op.outputs[0])
    return moved


def _behind(graph: Graph, op: Op, makers: dict[str, Op], readers: dict[str, list[Op]]) -> list[str]:
    """What flows into a QuantizeLinear, and into the activations before it that an engine joins with it."""
    found: list[str] = []
    name = op.inputs[0]
    while name in makers and not graph.tensors[name].constant and len(found) < _LONGEST_CHAIN:
        maker = makers[name]
        if maker.kind == "dequantize":
            break
        found.append(name)
        if maker.kind != "activation" or len(readers.get(maker.inputs[0], ())) != 1:
            break
        name = maker.inputs[0]
    return found

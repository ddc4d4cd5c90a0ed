"""From ops and tensors to a `Graph`: what holds for the whole, whatever the format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from edge_sdk.graph.view import Graph, Op, Tensor

__all__ = ["PRODUCT_KINDS", "assemble", "peak_activation_bytes"]

PRODUCT_KINDS = frozenset({"conv", "depthwise_conv", "conv_transpose", "gemm", "matmul", "recurrent", "attention"})
"""Kinds of op that multiply and sum up."""


def assemble(
    format: str,
    ops: Sequence[Op],
    tensors: Mapping[str, Tensor],
    inputs: Sequence[str],
    outputs: Sequence[str],
    assumed: Mapping[str, int],
    weights: Mapping[str, tuple[int, int]],
) -> Graph:
    """Sums up.

    Args:
        format: "onnx" or "tflite".
        ops: in an order in which they can run.
        tensors: by name.
        inputs, outputs: names.
        assumed: sizes taken for open dimensions.
        weights: elements and bytes of every stored weight that some op reads, by name.
    """
    made = {name for op in ops for name in op.outputs if name} | set(inputs)
    return Graph(
        format=format,
        ops=tuple(ops),
        tensors=dict(tensors),
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        assumed=dict(assumed),
        macs=sum(op.macs or 0 for op in ops),
        parameters=sum(elements for elements, _ in weights.values()),
        parameter_bytes=sum(size for _, size in weights.values()),
        activation_bytes=sum(tensors[name].bytes or 0 for name in made if not tensors[name].constant),
        peak_activation_bytes=peak_activation_bytes(ops, tensors, inputs, outputs),
        uncounted=dict(sorted(Counter(op.type for op in ops if not op.counted).items())),
    )


def peak_activation_bytes(
    ops: Sequence[Op], tensors: Mapping[str, Tensor], inputs: Sequence[str], outputs: Sequence[str]
) -> int:
    """The most that activations take at one moment when ops run in order and each is freed after its last reader.

    Inputs are there from the beginning, outputs stay to the end. An op of kind "reshape" gives its input under another
    name. Engines plan memory ahead and may overwrite inputs in place or lose some to gaps: theirs differs a little.
    """
    holder: dict[str, str] = {}
    for op in ops:
        if op.kind == "reshape" and op.inputs and op.outputs and op.inputs[0]:
            given, taken = op.outputs[0], op.inputs[0]
            if given and not tensors[taken].constant and tensors[given].bytes == tensors[taken].bytes:
                holder[given] = holder.get(taken, taken)
    last: dict[str, int] = {}
    for index, op in enumerate(ops):
        for name in (*op.inputs, *op.outputs):
            if name and not tensors[name].constant:
                last[holder.get(name, name)] = index
    for name in (*inputs, *outputs):
        if name in tensors and not tensors[name].constant:
            last[holder.get(name, name)] = len(ops) if name in outputs else last.get(holder.get(name, name), 0)
    return _highest(ops, tensors, [holder.get(name, name) for name in inputs], holder, last)


def _highest(
    ops: Sequence[Op],
    tensors: Mapping[str, Tensor],
    inputs: Sequence[str],
    holder: Mapping[str, str],
    last: Mapping[str, int],
) -> int:
    ends: dict[int, list[str]] = {}
    for name, index in last.items():
        ends.setdefault(index, []).append(name)
    alive = {name for name in inputs if name in last}
    now = peak = sum(tensors[name].bytes or 0 for name in alive)
    for index, op in enumerate(ops):
        for name in op.outputs:
            if name and name in last and name not in alive and holder.get(name, name) == name:
                alive.add(name)
                now += tensors[name].bytes or 0
        peak = max(peak, now)
        for name in ends.get(index, ()):
            if name in alive:
                alive.discard(name)
                now -= tensors[name].bytes or 0
    return peak

"""Where the nodes of a TFLite graph are computed, as the interpreter lists them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edge_sdk.engines.base import NodePlacement

__all__ = ["delegated_nodes", "node_label", "node_places"]

_DELEGATE = "DELEGATE"


def node_label(op: dict[str, Any], tensor_names: dict[int, str]) -> str:
    """How a node is called in messages. TFLite nodes have no names, so: the op and its first output's tensor. A fused
    tensor bears the names of all it was made of, joined by ";": the first will do."""
    outputs = [int(index) for index in op["outputs"] if int(index) >= 0]
    name = tensor_names.get(outputs[0], "").split(";")[0] if outputs else ""
    return f"{op['op_name']} -> {name}" if name else f"{op['op_name']} #{op['index']}"


def delegated_nodes(ops: Sequence[dict[str, Any]]) -> dict[int, tuple[int, ...]]:
    """Which nodes each delegate took over.

    The engine keeps the original nodes in its list and appends one node a partition, which has the partition's inputs
    and outputs. What lies between these is what the delegate executes.

    Args:
        ops: what `Interpreter._get_ops_details()` gives.

    Returns:
        Index of a delegate's node to the indexes of the nodes inside it.
    """
    producer = {int(t): op for op in ops if op["op_name"] != _DELEGATE for t in op["outputs"] if int(t) >= 0}
    taken = {}
    for delegate in ops:
        if delegate["op_name"] != _DELEGATE:
            continue
        border = {int(tensor) for tensor in delegate["inputs"]}
        inside: set[int] = set()
        open_tensors = [int(tensor) for tensor in delegate["outputs"]]
        while open_tensors:
            op = producer.get(open_tensors.pop())
            if op is None or op["index"] in inside:
                continue
            inside.add(op["index"])
            open_tensors.extend(t for t in map(int, op["inputs"]) if t >= 0 and t not in border)
        taken[int(delegate["index"])] = tuple(sorted(inside))
    return taken


def node_places(
    ops: Sequence[dict[str, Any]], places: dict[int, str], tensor_names: dict[int, str]
) -> tuple[NodePlacement, ...]:
    """Nodes of the main graph by place, most nodes first.

    Args:
        ops: what `Interpreter._get_ops_details()` gives.
        places: index of a delegate's node to the name of its place.
        tensor_names: index of a tensor to its name, for the nodes' labels.
    """
    where = {node: places[delegate] for delegate, nodes in delegated_nodes(ops).items() for node in nodes}
    names: dict[str, list[str]] = {}
    for op in ops:
        if op["op_name"] != _DELEGATE:
            names.setdefault(where.get(op["index"], "cpu"), []).append(node_label(op, tensor_names))
    ordered = sorted(names.items(), key=lambda item: (-len(item[1]), item[0]))
    return tuple(NodePlacement(place, len(nodes), tuple(nodes)) for place, nodes in ordered)

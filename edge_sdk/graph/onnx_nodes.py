"""The package `onnx`, and what is done with the nodes of a graph whatever they compute."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Any

from edge_sdk.errors import DamagedModel, MissingExtra

__all__ = ["BRIDGE_ERRORS", "captured_names", "check_nodes", "inner_graphs", "required_onnx", "sort_nodes"]

BRIDGE_ERRORS = (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError, MemoryError)
"""What the compiled part of `onnx` raises on models it cannot follow, besides its own error."""

_BELIEVED = frozenset({"axis", "batch_dims", "num_outputs"})
_MAX_RANK = 64


def required_onnx() -> Any:
    """The package `onnx`.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import onnx
        import onnx.shape_inference
    except ImportError as error:
        raise MissingExtra(
            f"looking into an ONNX graph needs the package onnx ({error}); install it with pip install"
            " 'edge-sdk[graph]'"
        ) from None
    return onnx


def inner_graphs(graph: Any) -> Iterator[Any]:
    """This graph and those inside its nodes, however deep."""
    waiting = [graph]
    while waiting:
        current = waiting.pop()
        yield current
        for node in current.node:
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    waiting.append(attribute.g)
                waiting.extend(attribute.graphs)


def captured_names(node: Any) -> list[str]:
    """What the graphs inside a node take from around it, in order of first use."""
    found: dict[str, None] = {}
    for attribute in node.attribute:
        for graph in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
            made = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
            made.update(output for inner in graph.node for output in inner.output)
            taken = [name for inner in graph.node for name in (*inner.input, *captured_names(inner))]
            taken += [output.name for output in graph.output]
            found.update(dict.fromkeys(name for name in taken if name and name not in made))
    return list(found)


def sort_nodes(graph: Any, name: str) -> None:
    """Puts nodes behind those whose outputs they or their inner graphs take; keeps the order where it is one."""
    makers = {output: index for index, node in enumerate(graph.node) for output in node.output if output}
    taken = ((*node.input, *captured_names(node)) for node in graph.node)
    needs = [{makers[name] for name in names if name in makers} for names in taken]
    if all(max(need, default=-1) < index for index, need in enumerate(needs)):
        return
    readers: dict[int, list[int]] = {}
    for index, need in enumerate(needs):
        for maker in need:
            readers.setdefault(maker, []).append(index)
    left = [len(need) for need in needs]
    ready = [index for index, count in enumerate(left) if not count]
    order: list[int] = []
    while ready:
        index = heapq.heappop(ready)
        order.append(index)
        for reader in readers.get(index, ()):
            left[reader] -= 1
            if not left[reader]:
                heapq.heappush(ready, reader)
    if len(order) < len(needs):
        stuck = graph.node[next(index for index, count in enumerate(left) if count)]
        raise DamagedModel(
            f"{name}: damaged ONNX model: node {stuck.name or stuck.op_type!r} waits for its own output;"
            " fetch or export it again"
        )
    nodes = [graph.node[index] for index in order]
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def check_nodes(proto: Any, name: str) -> None:
    """Checks that nodes have the inputs, outputs and attributes of their ops, which inference takes for granted.

    No engine loads a model of which this does not hold. Ops that `onnx` does not know are let pass.

    Raises:
        DamagedModel: it does not hold for a node; the message names it.
    """
    onnx = required_onnx()
    context = onnx.checker.C.CheckerContext()
    context.ir_version = proto.ir_version
    versions = {opset.domain: opset.version for opset in proto.opset_import}
    versions.setdefault("", versions.get("ai.onnx", 1))
    context.opset_imports = versions
    for graph in inner_graphs(proto.graph):
        for node in graph.node:
            domain = "" if node.domain == "ai.onnx" else node.domain
            if domain in versions:
                _check(onnx, node, versions[domain], context, name)


def _check(onnx: Any, node: Any, version: int, context: Any, name: str) -> None:
    try:
        schema = onnx.defs.get_schema(node.op_type, version, "" if node.domain == "ai.onnx" else node.domain)
        if not schema.deprecated:
            onnx.checker.check_node(_shell(node), context)
        _check_settings(node)
    except onnx.defs.SchemaError:
        return
    except (*BRIDGE_ERRORS, onnx.checker.ValidationError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DamagedModel(
            f"{name}: damaged ONNX model: node {node.name or node.op_type!r}: {reason}; fetch or export it again"
        ) from None


def _check_settings(node: Any) -> None:
    """Raises ValueError for numbers that lead the compiled inference out of its memory: it believes them."""
    settings = {attribute.name: attribute.i for attribute in node.attribute if attribute.name in _BELIEVED}
    for name, number in settings.items():
        lowest = 0 if (node.op_type, name) == ("GatherND", "batch_dims") else -_MAX_RANK
        if name != "num_outputs" and not lowest <= number <= _MAX_RANK:
            raise ValueError(f"attribute {name!r} is {number}")
    if node.op_type == "Split" and settings.get("num_outputs", len(node.output)) != len(node.output):
        raise ValueError(f"num_outputs is {settings['num_outputs']}, but there are {len(node.output)} outputs")


def _shell(node: Any) -> Any:
    """The node with nothing in its inner graphs, whose nodes are checked for themselves: they may take outer values."""
    if not any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
        return node
    shell = type(node)()
    shell.CopyFrom(node)
    for attribute in shell.attribute:
        for graph in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
            del graph.node[:], graph.initializer[:], graph.sparse_initializer[:], graph.output[:]
    return shell

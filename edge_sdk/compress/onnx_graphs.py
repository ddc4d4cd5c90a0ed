"""Looking at and cutting a `ModelProto`: attributes, weights, what nodes read, their order, a part of it."""

from __future__ import annotations

import graphlib
from collections.abc import Iterator, Sequence
from typing import Any

from edge_sdk.compress.tools import needed

__all__ = [
    "attribute",
    "copied",
    "initializers",
    "inner_graphs",
    "makers_of",
    "name_nodes",
    "opset",
    "read_by",
    "readers_of",
    "sort_nodes",
    "tapped",
]


def attribute(node: Any, name: str, default: Any) -> Any:
    """Value of a node's attribute."""
    onnx = needed("onnx")
    for entry in node.attribute:
        if entry.name == name:
            return onnx.helper.get_attribute_value(entry)
    return default


def copied(message: Any) -> Any:
    """A copy of a model or node."""
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def initializers(model: Any) -> dict[str, Any]:
    """The main graph's weights by name, as `TensorProto`."""
    return {weight.name: weight for weight in model.graph.initializer}


def inner_graphs(model: Any) -> Iterator[Any]:
    """The graphs inside control flow of the main graph, at any depth."""
    waiting = list(model.graph.node)
    while waiting:
        for entry in waiting.pop().attribute:
            for graph in [*([entry.g] if entry.HasField("g") else []), *entry.graphs]:
                yield graph
                waiting.extend(graph.node)


def name_nodes(model: Any) -> None:
    """Gives every node of the main graph a name of its own: quantizers tell nodes by name, and some exporters leave
    it out."""
    taken: set[str] = set()
    for node in model.graph.node:
        base = node.name or f"{node.op_type}_{node.output[0] if node.output else ''}"
        name, count = base, 1
        while name in taken:
            count += 1
            name = f"{base}_{count}"
        taken.add(name)
        node.name = name


def opset(model: Any) -> int:
    """Version of the default operator set."""
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=1)


def read_by(node: Any) -> list[str]:
    """What a node reads, the outer tensors its inner graphs use among them."""
    names = [name for name in node.input if name]
    for entry in node.attribute:
        for graph in [*([entry.g] if entry.HasField("g") else []), *entry.graphs]:
            names.extend(name for inner in graph.node for name in read_by(inner))
            names.extend(output.name for output in graph.output)
    return names


def makers_of(model: Any) -> dict[str, Any]:
    """Node by the name of each tensor that it gives; of the main graph."""
    return {output: node for node in model.graph.node for output in node.output}


def readers_of(model: Any) -> dict[str, list[Any]]:
    """Nodes by the name of the tensor that they read, one entry for each time; of the main graph."""
    readers: dict[str, list[Any]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    return readers


def sort_nodes(graph: Any) -> None:
    """Puts the nodes of a graph, and of the graphs inside it, in an order in which they can run."""
    for node in graph.node:
        for entry in node.attribute:
            for inner in [*([entry.g] if entry.HasField("g") else []), *entry.graphs]:
                sort_nodes(inner)
    makers = {name: place for place, node in enumerate(graph.node) for name in node.output if name}
    needs = [{makers[name] for name in read_by(node) if name in makers} for node in graph.node]
    order = list(graphlib.TopologicalSorter(dict(enumerate(needs))).static_order())
    nodes = [type(graph.node[place]).FromString(graph.node[place].SerializeToString()) for place in order]
    del graph.node[:]
    graph.node.extend(nodes)


def tapped(model: Any, names: Sequence[str]) -> Any:
    """A copy of the model that gives these inner tensors, and runs no more than they need."""
    onnx = needed("onnx")
    makers = makers_of(model)
    wanted, waiting = set(), [makers[name] for name in names if name in makers]
    while waiting:
        node = waiting.pop()
        if node.name in wanted:
            continue
        wanted.add(node.name)
        waiting.extend(makers[name] for name in read_by(node) if name in makers)
    nodes = [node for node in model.graph.node if node.name in wanted]
    read = {name for node in nodes for name in read_by(node)} | set(names)
    graph = onnx.helper.make_graph(
        nodes,
        model.graph.name or "part",
        [entry for entry in model.graph.input if entry.name in read],
        [onnx.ValueInfoProto(name=name) for name in names],
        [weight for weight in model.graph.initializer if weight.name in read],
    )
    part = onnx.helper.make_model(
        graph, opset_imports=model.opset_import, ir_version=model.ir_version, functions=model.functions
    )
    return part

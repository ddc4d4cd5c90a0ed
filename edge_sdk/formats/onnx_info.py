"""Describes a read ONNX model."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

from edge_sdk.formats.info import ModelInfo
from edge_sdk.formats.onnx_reader import Graph, Model, Node, Tensor, inner_nodes
from edge_sdk.formats.onnx_types import DTYPES, raw_bytes
from edge_sdk.formats.precision import name_precision

__all__ = ["describe_onnx", "walk_nodes"]

ONNX_DOMAINS = frozenset(
    {"", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview", "ai.onnx.preview.training"}
)
_DYNAMIC_OPS = frozenset(
    {"DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "MatMulInteger", "ConvInteger"}
)


def describe_onnx(model: Model) -> ModelInfo:
    """What the file says about itself."""
    graph = model.graph or Graph(0)
    nodes = list(walk_nodes(model))
    functions = {(f.domain, f.name) for f in model.functions}
    ops = Counter(_qualified(node) for node in nodes)
    custom = {_qualified(n) for n in nodes if n.domain not in ONNX_DOMAINS and (n.domain, n.op_type) not in functions}
    tensors = list(_weights(model, nodes))
    precision, reason = _precision(graph, nodes, tensors)
    initializers = graph.initializer_names()
    externals = (t.external.get("location", "") for t in tensors if t.external is not None)
    return ModelInfo(
        format="onnx",
        inputs=tuple(graph.inputs),
        outputs=tuple(graph.outputs),
        ir_version=model.ir_version,
        opset=dict(model.opset),
        producer=" ".join(filter(None, (model.producer_name, model.producer_version))),
        ops=dict(sorted(ops.items())),
        custom_ops=tuple(sorted(custom)),
        parameters=sum(_elements(t) for t in tensors),
        parameter_bytes=sum(_bytes(t) for t in tensors),
        precision=precision,
        precision_reason=reason,
        initializer_inputs=tuple(spec.name for spec in graph.inputs if spec.name in initializers),
        external_files=tuple(sorted({location for location in externals if location})),
        metadata=dict(model.metadata),
        subgraphs=1 + sum(len(a.graphs) for node in nodes for a in node.attributes),
        description=model.description or "",
    )


def walk_nodes(model: Model) -> Iterator[Node]:
    """All nodes: of the graph, of the graphs inside its nodes, and of model-local functions."""
    if model.graph:
        yield from inner_nodes(model.graph.nodes)
    for function in model.functions:
        yield from inner_nodes(function.nodes)


def _qualified(node: Node) -> str:
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"


def _weights(model: Model, nodes: list[Node]) -> Iterator[Tensor]:
    graphs = [model.graph] if model.graph else []
    for node in nodes:
        for attribute in node.attributes:
            graphs += attribute.graphs
            yield from attribute.tensors
            yield from (s.values for s in attribute.sparse if s.values is not None)
    for graph in graphs:
        yield from graph.initializers
        yield from (s.values for s in graph.sparse_initializers if s.values is not None)


def _elements(tensor: Tensor) -> int:
    return math.prod(tensor.dims) if all(d >= 0 for d in tensor.dims) else 0


def _bytes(tensor: Tensor) -> int:
    return tensor.raw_size or raw_bytes(tensor.data_type, _elements(tensor)) or 0


def _precision(graph: Graph, nodes: list[Node], tensors: list[Tensor]) -> tuple[str, str]:
    stored = {tensor.name: tensor for tensor in tensors if tensor.name}
    weights: Counter[str] = Counter()
    parameters = {i for n in nodes if n.op_type in ("QuantizeLinear", "DequantizeLinear") for i in n.inputs[1:]}
    for tensor in tensors:
        if tensor.name in parameters:  # a scale or zero point
            continue
        weights[DTYPES.get(tensor.data_type, "unknown")] += _elements(tensor)
    static = dynamic = 0
    for node in nodes:
        first = stored.get(node.inputs[0]) if node.inputs else None
        if node.op_type == "QuantizeLinear":
            static += 1
            if first is not None:  # a weight kept as float and quantised by the graph computes as an integer
                weights[DTYPES.get(first.data_type, "unknown")] -= _elements(first)
                weights["int8"] += _elements(first)
        elif node.op_type in _DYNAMIC_OPS:
            dynamic += 1
        elif node.op_type.startswith("QLinear"):
            static += 1
        elif node.op_type == "MatMulNBits" and len(node.inputs) > 1 and node.inputs[1] in stored:
            packed, bits = stored[node.inputs[1]], node.attribute("bits")
            width = bits.i if bits is not None and bits.i in (2, 4, 8) else 4
            weights["uint8"] -= _elements(packed)
            weights[f"int{width}"] += _elements(packed) * 8 // width
    if dynamic:
        kind, evidence = "dynamic", f"{dynamic} ops quantise what flows while running"
    elif static:
        kind, evidence = "static", f"{static} ops quantise what flows with scales from the file"
    else:
        kind, evidence = "float", "no op quantises what flows"
    return name_precision(weights, kind, tuple(spec.dtype for spec in graph.inputs), evidence)

"""An ONNX file as a protobuf message made ready for looking at: functions inlined, large weights left out."""

from __future__ import annotations

import importlib
import logging
import math
from typing import Any

from edge_sdk.errors import DamagedModel
from edge_sdk.formats import ModelFile, without_initializer_inputs
from edge_sdk.graph.onnx_nodes import BRIDGE_ERRORS, check_nodes, inner_graphs, required_onnx, sort_nodes

__all__ = ["read_proto"]

_log = logging.getLogger(__name__)

_KEPT_ELEMENTS = 1024
"""Content of longer tensors never decides a shape; it is dropped so that no pass copies it."""
_CONTENT = (
    "raw_data", "float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data",
)  # fmt: skip


def read_proto(model: ModelFile) -> Any:
    """The file as a `ModelProto`: external data stay where they are, and the content of large tensors is dropped.

    Initialisers are no inputs, even where the file lists them so. Nodes of the main graph and of inner graphs are in an
    order in which they can run.

    Raises:
        MissingExtra: `onnx` is not installed.
        DamagedModel: the file holds a ring of nodes, or what its check lets pass `onnx` cannot parse.
    """
    onnx = required_onnx()
    decode_error = importlib.import_module("google.protobuf.message").DecodeError

    try:
        with model.content() as content:
            proto = onnx.ModelProto.FromString(without_initializer_inputs(content, name=model.name)[0])
    except decode_error as error:
        raise DamagedModel(f"{model.name}: damaged ONNX model: {error}; fetch or export it again") from None
    for graph in inner_graphs(proto.graph):
        _drop_content(graph)
    for function in proto.functions:
        for node in function.node:
            _drop_node_content(node)
    if proto.functions:
        proto = _inlined(onnx, proto, model.name)
    for value in proto.graph.input:
        if value.type.WhichOneof("value") is None:
            raise DamagedModel(
                f"{model.name}: damaged ONNX model: input {value.name!r} has no type; fetch or export it again"
            )
    for graph in inner_graphs(proto.graph):
        sort_nodes(graph, model.name)
    check_nodes(proto, model.name)
    return proto


def _drop_content(graph: Any) -> None:
    for tensor in graph.initializer:
        _drop_tensor(tensor)
    for node in graph.node:
        _drop_node_content(node)


def _drop_node_content(node: Any) -> None:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            _drop_tensor(attribute.t)
        for tensor in attribute.tensors:
            _drop_tensor(tensor)


def _drop_tensor(tensor: Any) -> None:
    if math.prod(tensor.dims) > _KEPT_ELEMENTS:
        for field in _CONTENT:
            tensor.ClearField(field)


def _inlined(onnx: Any, proto: Any, name: str) -> Any:
    import onnx.inliner

    try:
        return onnx.inliner.inline_local_functions(proto)
    except (*BRIDGE_ERRORS, onnx.checker.ValidationError) as error:
        # Calls of functions then stand as ops of their own, which no rule counts.
        _log.info("%s: its functions were not inlined: %s", name, error)
        return proto

"""An ONNX file as plain objects: graphs, nodes and tensors, the weights left where they lie.

Source: onnx.proto of the ONNX project (field numbers).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from edge_sdk.formats.onnx_types import DTYPES, raw_bytes
from edge_sdk.formats.protobuf import LENGTH, Field, Wire
from edge_sdk.tensors import TensorSpec

__all__ = ["Attribute", "Function", "Graph", "Model", "Node", "Tensor", "inner_nodes", "read_model"]

_MAX_KEPT = 1024
"""Lists of numbers longer than this many bytes are counted, not kept: they are weights, not settings."""


@dataclass(slots=True)
class Tensor:
    """A TensorProto: what it says and how much it stores where."""

    at: int
    name: str = ""
    dims: list[int] = field(default_factory=list)
    data_type: int = 0
    raw_size: int | None = None
    typed: dict[str, int] = field(default_factory=dict)
    """Entries by typed data field ("float_data")."""
    external: dict[str, str] | None = None
    segmented: bool = False
    raw: bytes | None = None
    numbers: list[int] = field(default_factory=list)
    """The content where it is short: of raw_data, and of the typed fields for integers."""

    def integers(self) -> list[int] | None:
        """The elements where they are few and integers; None otherwise."""
        dtype = DTYPES.get(self.data_type, "")
        if not dtype.startswith(("int", "uint")) or raw_bytes(self.data_type, 2) == 1:
            return None
        if self.raw is not None and len(self.raw) == (raw_bytes(self.data_type, math.prod(self.dims)) or 0):
            return [int(n) for n in np.frombuffer(self.raw, np.dtype(dtype).newbyteorder("<"))]
        return self.numbers or None


@dataclass(slots=True)
class SparseTensor:
    """A SparseTensorProto; its name is that of its values."""

    at: int
    values: Tensor | None = None
    indices: Tensor | None = None
    dims: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Attribute:
    """An AttributeProto. `count` counts the elements of a list that is not kept."""

    at: int
    name: str = ""
    type: int = 0
    i: int | None = None
    s: bytes | None = None
    ints: list[int] = field(default_factory=list)
    count: int = 0
    tensors: list[Tensor] = field(default_factory=list)
    sparse: list[SparseTensor] = field(default_factory=list)
    graphs: list[Graph] = field(default_factory=list)
    refers_to: str = ""


@dataclass(slots=True)
class Node:
    """A NodeProto."""

    at: int
    name: str = ""
    op_type: str = ""
    domain: str = ""
    overload: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    attributes: list[Attribute] = field(default_factory=list)

    def attribute(self, name: str) -> Attribute | None:
        """The attribute of that name."""
        return next((a for a in self.attributes if a.name == name), None)


@dataclass(slots=True)
class Graph:
    """A GraphProto."""

    at: int
    name: str = ""
    nodes: list[Node] = field(default_factory=list)
    initializers: list[Tensor] = field(default_factory=list)
    sparse_initializers: list[SparseTensor] = field(default_factory=list)
    inputs: list[TensorSpec] = field(default_factory=list)
    outputs: list[TensorSpec] = field(default_factory=list)

    def initializer_names(self) -> set[str]:
        """Names of all initialisers, dense and sparse."""
        names = {tensor.name for tensor in self.initializers}
        names.update(sparse.values.name for sparse in self.sparse_initializers if sparse.values is not None)
        return names


@dataclass(slots=True)
class Function:
    """A FunctionProto: a model-local function."""

    at: int
    name: str = ""
    domain: str = ""
    overload: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    opset: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Model:
    """A ModelProto."""

    ir_version: int = 0
    opset: dict[str, int] = field(default_factory=dict)
    producer_name: str = ""
    producer_version: str = ""
    description: str = ""
    graph: Graph | None = None
    functions: list[Function] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)


def read_model(content: memoryview, name: str) -> Model:
    """Reads the structure of an ONNX file.

    Args:
        content: the file; no reference to it is kept.
        name: what error messages call it.

    Raises:
        DamagedModel: the bytes are no well-formed ModelProto.
    """
    return _Reader(Wire(content, name)).model(0, len(content))


def inner_nodes(nodes: list[Node]) -> Iterator[Node]:
    """These nodes and those of the graphs inside them."""
    lists = [nodes]
    while lists:
        for node in lists.pop():
            yield node
            lists += [inner.nodes for attribute in node.attributes for inner in attribute.graphs]


class _Reader:
    """One method a message. `depth` counts how deep the message lies."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire

    def model(self, start: int, end: int) -> Model:
        wire, model = self.wire, Model()
        for item in wire.fields(start, end):
            match item[0]:
                case 1:
                    model.ir_version = wire.signed(item, "ir_version")
                case 2:
                    model.producer_name = wire.text(item, "producer_name")
                case 3:
                    model.producer_version = wire.text(item, "producer_version")
                case 6:
                    model.description = wire.text(item, "doc_string")
                case 7:
                    # Protobuf merges a message that occurs twice.
                    model.graph = self.graph(item, 1, model.graph)
                case 8:
                    domain, version = self._opset(item, 1)
                    model.opset[domain] = version
                case 14:
                    key, value = self._pair(item, 1)
                    model.metadata[key] = value
                case 25:
                    model.functions.append(self._function(item, 1))
        return model

    def graph(self, item: Field, depth: int, into: Graph | None = None) -> Graph:
        wire, graph = self._enter(item, depth, "graph"), into or Graph(item[2])
        for part in wire.fields(item[2], item[3]):
            match part[0]:
                case 1:
                    graph.nodes.append(self._node(part, depth + 1))
                case 2:
                    graph.name = wire.text(part, "graph name")
                case 5:
                    graph.initializers.append(self._tensor(part, depth + 1))
                case 15:
                    graph.sparse_initializers.append(self._sparse(part, depth + 1))
                case 11:
                    graph.inputs.append(self._value(part, depth + 1))
                case 12:
                    graph.outputs.append(self._value(part, depth + 1))
                case 13:
                    self._value(part, depth + 1)
        return graph

    def _enter(self, item: Field, depth: int, what: str) -> Wire:
        self.wire.expect(item, LENGTH, what)
        self.wire.enter(item[2], depth)
        return self.wire

    def _once(self, taken: object, item: Field, what: str) -> None:
        if taken is not None:
            raise self.wire.damaged(item[4], f"a second {what}")

    def _node(self, item: Field, depth: int) -> Node:
        wire, node = self._enter(item, depth, "node"), Node(item[2])
        for part in wire.fields(item[2], item[3]):
            match part[0]:
                case 1:
                    node.inputs.append(wire.text(part, "input name"))
                case 2:
                    node.outputs.append(wire.text(part, "output name"))
                case 3:
                    node.name = wire.text(part, "node name")
                case 4:
                    node.op_type = wire.text(part, "op_type")
                case 5:
                    node.attributes.append(self._attribute(part, depth + 1))
                case 7:
                    node.domain = wire.text(part, "node domain")
                case 8:
                    node.overload = wire.text(part, "node overload")
        return node

    def _attribute(self, item: Field, depth: int) -> Attribute:
        wire, attribute = self._enter(item, depth, "attribute"), Attribute(item[2])
        for part in wire.fields(item[2], item[3]):
            match part[0]:
                case 1:
                    attribute.name = wire.text(part, "attribute name")
                case 3:
                    attribute.i = wire.signed(part, "attribute value")
                case 4:
                    attribute.s = wire.raw(part, "attribute value")
                case 5 | 10:
                    attribute.tensors.append(self._tensor(part, depth + 1))
                case 6 | 11:
                    attribute.graphs.append(self.graph(part, depth + 1))
                case 7:
                    attribute.count += wire.count_fixed(part, 4, "attribute value")
                case 8 if part[1] == LENGTH and part[3] - part[2] > _MAX_KEPT:
                    attribute.count += wire.count_varints(part, "attribute value")
                case 8:
                    attribute.ints += wire.integers(part, "attribute value")
                case 20:
                    attribute.type = wire.signed(part, "attribute type")
                case 21:
                    attribute.refers_to = wire.text(part, "attribute reference")
                case 22 | 23:
                    attribute.sparse.append(self._sparse(part, depth + 1))
        return attribute

    def _tensor(self, item: Field, depth: int) -> Tensor:
        wire, tensor = self._enter(item, depth, "tensor"), Tensor(item[2])
        typed = tensor.typed
        for part in wire.fields(item[2], item[3]):
            match part[0]:
                case 1:
                    self._dims(tensor.dims, part)
                case 2:
                    tensor.data_type = wire.signed(part, "tensor data_type")
                case 3:
                    tensor.segmented = True
                case 4:
                    typed["float_data"] = typed.get("float_data", 0) + wire.count_fixed(part, 4, "float_data")
                case 10:
                    typed["double_data"] = typed.get("double_data", 0) + wire.count_fixed(part, 8, "double_data")
                case 5 | 7 | 11:
                    key = {5: "int32_data", 7: "int64_data", 11: "uint64_data"}[part[0]]
                    typed[key] = typed.get(key, 0) + wire.count_varints(part, key)
                    if part[1] != LENGTH or part[3] - part[2] <= _MAX_KEPT:
                        tensor.numbers += wire.integers(part, key)
                case 6:
                    wire.expect(part, LENGTH, "string_data")
                    typed["string_data"] = typed.get("string_data", 0) + 1
                case 8:
                    tensor.name = wire.text(part, "tensor name")
                case 9:
                    wire.expect(part, LENGTH, "raw_data")
                    tensor.raw_size = part[3] - part[2]
                    tensor.raw = wire.raw(part, "raw_data") if tensor.raw_size <= _MAX_KEPT else None
                case 13:
                    key, value = self._pair(part, depth + 1)
                    tensor.external = {**(tensor.external or {}), key: value}
                case 14:
                    if wire.signed(part, "data_location") == 1 and tensor.external is None:
                        tensor.external = {}
        return tensor

    def _sparse(self, item: Field, depth: int) -> SparseTensor:
        wire, sparse = self._enter(item, depth, "sparse tensor"), SparseTensor(item[2])
        for part in wire.fields(item[2], item[3]):
            match part[0]:
                case 1:
                    self._once(sparse.values, part, "values tensor")
                    sparse.values = self._tensor(part, depth + 1)
                case 2:
                    self._once(sparse.indices, part, "indices tensor")
                    sparse.indices = self._tensor(part, depth + 1)
                case 3:
                    self._dims(sparse.dims, part)
        return sparse

    def _dims(self, dims: list[int], item: Field) -> None:
        if len(dims) > _MAX_KEPT or (item[1] == LENGTH and item[3] - item[2] > _MAX_KEPT):
            raise self.wire.damaged(item[4], "a tensor of absurd rank")
        dims += self.wire.integers(item, "tensor dims")

    def _value(self, item: Field, depth: int) -> TensorSpec:
        wire, name, spec = self._enter(item, depth, "value"), "", None
        for part in wire.fields(item[2], item[3]):
            if part[0] == 1:
                name = wire.text(part, "value name")
            elif part[0] == 2:
                self._once(spec, part, "type")
                spec = self._type(part, depth + 1)
        kind, dtype, shape = spec or ("tensor", "unknown", None)
        return TensorSpec(name, dtype, shape, kind)

    def _type(self, item: Field, depth: int) -> _Type:
        wire, spec = self._enter(item, depth, "type"), None
        for part in wire.fields(item[2], item[3]):
            if part[0] in (1, 8):
                self._once(spec, part, "type")
                dtype, shape = self._tensor_type(part, depth + 1)
                spec = "tensor" if part[0] == 1 else "sparse tensor", dtype, shape
            elif part[0] in (4, 9):
                self._once(spec, part, "type")
                spec = _wrapped("sequence" if part[0] == 4 else "optional", self._inner(part, depth + 1, 1))
            elif part[0] == 5:
                self._once(spec, part, "type")
                _, dtype, _ = self._inner(part, depth + 1, 2)
                spec = "map", dtype, None
        return spec or ("tensor", "unknown", None)

    def _inner(self, item: Field, depth: int, number: int) -> _Type:
        """The type in field `number` of a sequence, optional or map type."""
        wire, spec = self._enter(item, depth, "type"), None
        for part in wire.fields(item[2], item[3]):
            if part[0] == number:
                self._once(spec, part, "element type")
                spec = self._type(part, depth + 1)
        return spec or ("tensor", "unknown", None)

    def _tensor_type(self, item: Field, depth: int) -> tuple[str, _Shape | None]:
        wire, dtype = self._enter(item, depth, "tensor type"), "unknown"
        shape: _Shape | None = None
        for part in wire.fields(item[2], item[3]):
            if part[0] == 1:
                dtype = DTYPES.get(wire.signed(part, "element type"), "unknown")
            elif part[0] == 2:
                self._once(shape, part, "shape")
                self._enter(part, depth + 1, "shape")
                shape = tuple(self._dim(d, depth + 2) for d in wire.fields(part[2], part[3]) if d[0] == 1)
        return dtype, shape

    def _dim(self, item: Field, depth: int) -> int | str | None:
        wire = self._enter(item, depth, "dimension")
        size: int | str | None = None
        for part in wire.fields(item[2], item[3]):
            if part[0] == 1:
                value = wire.signed(part, "dimension")
                size = value if value >= 0 else None  # some exporters write -1 for what is not known
            elif part[0] == 2:
                size = wire.text(part, "dimension name") or None
        return size

    def _pair(self, item: Field, depth: int) -> tuple[str, str]:
        wire, key, value = self._enter(item, depth, "entry"), "", ""
        for part in wire.fields(item[2], item[3]):
            if part[0] == 1:
                key = wire.text(part, "key")
            elif part[0] == 2:
                value = wire.text(part, "value")
        return key, value

    def _opset(self, item: Field, depth: int) -> tuple[str, int]:
        wire, domain, version = self._enter(item, depth, "opset"), "", 0
        for part in wire.fields(item[2], item[3]):
            if part[0] == 1:
                domain = wire.text(part, "opset domain")
            elif part[0] == 2:
                version = wire.signed(part, "opset version")
        return domain or "ai.onnx", version

    def _function(self, item: Field, depth: int) -> Function:
        wire, function = self._enter(item, depth, "function"), Function(item[2])
        for part in wire.fields(item[2], item[3]):
            match part[0]:
                case 1:
                    function.name = wire.text(part, "function name")
                case 4:
                    function.inputs.append(wire.text(part, "function input"))
                case 5:
                    function.outputs.append(wire.text(part, "function output"))
                case 7:
                    function.nodes.append(self._node(part, depth + 1))
                case 9:
                    domain, version = self._opset(part, depth + 1)
                    function.opset[domain] = version
                case 10:
                    function.domain = wire.text(part, "function domain")
                case 13:
                    function.overload = wire.text(part, "function overload")
        return function


_Shape = tuple[int | str | None, ...]
_Type = tuple[str, str, _Shape | None]
"""(kind, dtype, shape) as in `TensorSpec`."""


def _wrapped(kind: str, inner: _Type) -> _Type:
    if inner[0] == "map":
        kind = "sequence of maps" if kind == "sequence" else kind
    return kind, inner[1], inner[2]

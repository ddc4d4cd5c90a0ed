"""Checks that a read ONNX model holds together: tensors store what they claim, and every name leads somewhere."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from edge_sdk.errors import DamagedModel, ModelNotFound
from edge_sdk.formats.onnx_ops import check_node
from edge_sdk.formats.onnx_reader import Attribute, Function, Graph, Model, Node, SparseTensor, Tensor, inner_nodes
from edge_sdk.formats.onnx_types import DTYPES, STRING, raw_bytes, typed_elements

__all__ = ["check_onnx"]

MAX_BYTES = 1 << 40
"""No tensor takes more than this, in memory or on disk."""


def check_onnx(model: Model, name: str, folder: Path | None) -> None:
    """Checks a read model.

    Args:
        model: as read from the file.
        name: what error messages call it.
        folder: where its external files lie; None for a model in memory.

    Raises:
        DamagedModel: it contradicts itself.
        ModelNotFound: an external file is missing.
    """
    _Checker(name, folder).model(model)


class _Scope:
    """The names that nodes of a graph may take, and the few integers that stand under some of them."""

    def __init__(self, names: set[str], outer: _Scope | None) -> None:
        self.names = names
        self._outer = outer
        self._constants: dict[str, list[int]] = {}

    def knows(self, name: str) -> bool:
        """Whether the name stands for something here or further out."""
        return name in self.names or (self._outer is not None and self._outer.knows(name))

    def add_constants(self, pairs: Iterable[tuple[str, list[int] | None]]) -> None:
        """Remembers what stands under names; None for nothing worth remembering."""
        self._constants.update((name, numbers) for name, numbers in pairs if numbers)

    def constant(self, name: str) -> list[int] | None:
        """The integers that stand under a name, here or further out."""
        if name in self.names or self._outer is None:
            return self._constants.get(name)
        return self._outer.constant(name)


class _Checker:
    def __init__(self, name: str, folder: Path | None) -> None:
        self.name = name
        self.folder = folder
        self._sizes: dict[str, int] = {}
        self._functions: dict[tuple[str, str], Function] = {}

    def damaged(self, what: str) -> DamagedModel:
        return DamagedModel(f"{self.name}: damaged ONNX model: {what}; fetch or export it again")

    def model(self, model: Model) -> None:
        if model.graph is None:
            raise self.damaged("there is no graph")
        if not model.graph.outputs:
            raise self.damaged("the graph has no outputs")
        self._functions = {(f.domain, f.name): f for f in model.functions}
        for function in model.functions:
            self._function(function)
        self._check_recursion(model.functions)
        self._graph(model.graph, None)

    def _graph(self, graph: Graph, outer: _Scope | None) -> None:
        """Checks a graph that sees the names of the graphs around it."""
        for tensor in graph.initializers:
            self._tensor(tensor, f"initialiser {tensor.name!r}")
        for sparse in graph.sparse_initializers:
            self._sparse(sparse)
        scope = _Scope(graph.initializer_names(), outer)
        scope.add_constants((tensor.name, tensor.integers()) for tensor in graph.initializers)
        for spec in graph.inputs:
            if not spec.name:
                raise self.damaged(f"an input of graph {graph.name!r} has no name")
            scope.names.add(spec.name)
        self._nodes(graph.nodes, scope)
        for spec in graph.outputs:
            if not scope.knows(spec.name):
                raise self.damaged(f"output {spec.name!r} of graph {graph.name!r} is made by no node")

    def _function(self, function: Function) -> None:
        scope = _Scope(set(function.inputs), None)
        self._nodes(function.nodes, scope)
        for name in function.outputs:
            if not scope.knows(name):
                raise self.damaged(f"output {name!r} of function {function.name!r} is made by no node")

    def _check_recursion(self, functions: list[Function]) -> None:
        """Raises DamagedModel where functions call each other in a ring: an engine would inline them forever."""
        calls = {
            (f.domain, f.name): {(n.domain, n.op_type) for n in inner_nodes(f.nodes)} & self._functions.keys()
            for f in functions
        }
        # Functions that call no others are done; a ring never gets done.
        while done := {key for key, called in calls.items() if not called}:
            calls = {key: called - done for key, called in calls.items() if key not in done}
        if calls:
            raise self.damaged(f"function {next(iter(calls))[1]!r} calls itself")

    def _check_call(self, node: Node) -> None:
        """Raises DamagedModel where a call gives or takes more than the function has."""
        function = self._functions.get((node.domain, node.op_type))
        if function is None:
            return
        if len(node.inputs) > len(function.inputs) or len(node.outputs) > len(function.outputs):
            raise self.damaged(
                f"node {_title(node)} has {len(node.inputs)} inputs and {len(node.outputs)} outputs, but function"
                f" {function.name!r} has {len(function.inputs)} and {len(function.outputs)}"
            )

    def _nodes(self, nodes: list[Node], scope: _Scope) -> None:
        """Checks nodes and adds what they make to the scope. Their order is left to the engine, which sorts them."""
        for node in nodes:
            if not node.op_type:
                raise self.damaged(f"node {_title(node)} names no op")
            for name in node.outputs:
                if name and name in scope.names:
                    raise self.damaged(
                        f"{name!r} is made by node {_title(node)}, but stands for something else already"
                    )
                scope.names.add(name)
            if node.op_type == "Constant" and node.outputs:
                scope.add_constants((node.outputs[0], _integers(attribute)) for attribute in node.attributes)
        scope.names.discard("")
        for node in nodes:
            self._node(node, scope)

    def _node(self, node: Node, scope: _Scope) -> None:
        for name in node.inputs:
            if name and not scope.knows(name):
                raise self.damaged(f"node {_title(node)} takes {name!r}, which nothing makes")
        for attribute in node.attributes:
            for tensor in attribute.tensors:
                self._tensor(tensor, f"attribute {attribute.name!r} of node {_title(node)}")
            for sparse in attribute.sparse:
                self._sparse(sparse)
            for graph in attribute.graphs:
                self._graph(graph, scope)
        self._check_call(node)
        problem = check_node(node, scope.constant)
        if problem:
            raise self.damaged(f"node {_title(node)}: {problem}")

    def _sparse(self, sparse: SparseTensor) -> None:
        if sparse.values is None:
            raise self.damaged(f"a sparse tensor at byte {sparse.at} has no values")
        where = f"sparse tensor {sparse.values.name!r}"
        size = self._elements(sparse.dims, where)
        self._tensor(sparse.values, where)
        if sparse.indices is not None:
            self._tensor(sparse.indices, f"indices of {where}")
        if len(sparse.values.dims) != 1 or sparse.values.dims[0] > size:
            raise self.damaged(f"{where} of shape {sparse.dims} has values of shape {sparse.values.dims}")

    def _elements(self, dims: list[int], where: str) -> int:
        if any(d < 0 for d in dims) or math.prod(dims) > MAX_BYTES:
            raise self.damaged(f"{where} has shape {_list(dims)}")
        return math.prod(dims)

    def _tensor(self, tensor: Tensor, where: str) -> None:
        elements = self._elements(tensor.dims, where)
        dtype = DTYPES.get(tensor.data_type)
        if dtype is None:
            raise self.damaged(f"{where} has element type {tensor.data_type}, which ONNX does not define")
        if tensor.segmented:
            raise self.damaged(f"{where} is cut in segments, which no engine reads")
        where = f"{where} ({dtype}{_list(tensor.dims)})"
        expected = raw_bytes(tensor.data_type, elements) if tensor.data_type != STRING else None
        if tensor.external is not None:
            self._external(tensor.external, expected, where)
        elif tensor.raw_size is not None:
            if tensor.data_type == STRING:
                raise self.damaged(f"{where} stores strings as raw bytes")
            if expected is not None and tensor.raw_size != expected:
                raise self.damaged(f"{where} stores {tensor.raw_size} bytes, expected {expected}")
        else:
            field, count = typed_elements(tensor.data_type, elements)
            if raw_bytes(tensor.data_type, 1) is not None and tensor.typed.get(field, 0) != count:
                raise self.damaged(f"{where} stores {tensor.typed.get(field, 0)} numbers in {field}, expected {count}")

    def _external(self, external: dict[str, str], expected: int | None, where: str) -> None:
        location = external.get("location", "")
        if self.folder is None:
            raise ModelNotFound(
                f"{self.name}: {where} lies in the external file {location!r}, which a model in memory cannot reach;"
                " open the model by its path"
            )
        size = self._external_size(location, where)
        try:
            offset, length = int(external.get("offset") or 0), int(external.get("length") or -1)
        except ValueError:
            raise self.damaged(f"{where} has no readable offset or length in its external file") from None
        if length >= 0 and expected is not None and length != expected:
            raise self.damaged(f"{where} takes {length} bytes of {location!r}, expected {expected}")
        length = length if length >= 0 else (expected or 0)
        if offset < 0 or offset + length > size:
            raise self.damaged(f"{where} ends at byte {offset + length} of {location!r}, which has {size}")

    def _external_size(self, location: str, where: str) -> int:
        """Size of an external file, which must lie in the model's folder or below."""
        if location not in self._sizes:
            path = PurePosixPath(location)
            if not location or "\0" in location or path.is_absolute() or ".." in path.parts or "\\" in location:
                raise self.damaged(f"{where} names the external file {location!r}, expected one in the model's folder")
            assert self.folder is not None
            file = self.folder / path
            try:
                found = file.stat().st_size if file.is_file() else None
            except OSError:
                found = None
            if found is None:
                raise ModelNotFound(
                    f"{self.name}: {where} lies in {str(file)!r}, which is missing; fetch that file too"
                )
            self._sizes[location] = found
        return self._sizes[location]


def _integers(attribute: Attribute) -> list[int] | None:
    """The integers of a Constant node."""
    if attribute.tensors:
        return attribute.tensors[0].integers()
    return attribute.ints or (None if attribute.i is None else [attribute.i])


def _title(node: Node) -> str:
    """What messages call a node: its name, or its op and first output where it has none."""
    if node.name:
        return f"{node.name!r} ({node.op_type})"
    return (
        f"{node.op_type or 'without an op'} → {node.outputs[0]!r}"
        if node.outputs
        else node.op_type or f"at byte {node.at}"
    )


def _list(dims: list[int]) -> str:
    shown = ", ".join(str(d) for d in dims[:8])
    return f"[{shown}, … {len(dims)} dimensions]" if len(dims) > 8 else f"[{shown}]"

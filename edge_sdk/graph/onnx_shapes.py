"""Shapes and dtypes of every tensor of an ONNX graph, for given sizes of its open dimensions.

First ONNX's own inference over the whole model. Where it leaves a hole, node by node: what shape computations give is
worked out for the sizes at hand, and the node is inferred again with those values.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from edge_sdk.graph.onnx_contrib import contrib_shapes, dtype_source, stand_in
from edge_sdk.graph.onnx_nodes import BRIDGE_ERRORS, required_onnx
from edge_sdk.graph.onnx_values import SmallValues

__all__ = ["Form", "Forms", "infer_forms"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Form:
    """What is known of a value: ONNX element type (0: unknown or no tensor), and shape (None: unknown)."""

    element_type: int
    shape: tuple[int, ...] | None


UNKNOWN = Form(0, None)
_FLOAT = 1


class Forms:
    """Forms of the values of one graph, and of the graphs around it.

    Args:
        proto: the model.
        graph: the graph, after ONNX's own inference.
        outer: forms of the graph around it.
        stated: what the file says of values, believed where nothing else is found.

    Attributes:
        values: the small values that can be told before running.
    """

    def __init__(
        self, proto: Any, graph: Any, outer: Forms | None = None, stated: Mapping[str, Form] | None = None
    ) -> None:
        self._proto = proto
        self._outer = outer
        self._forms = dict(_known_forms(graph))
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._opset = {opset.domain or "ai.onnx": opset.version for opset in proto.opset_import}
        self._made = [name for node in graph.node if node.op_type != "Constant" for name in node.output if name]
        self._inner: dict[tuple[str, str], Forms] = {}
        self.values: SmallValues = SmallValues(
            graph, self.shape, outer.values if outer is not None else None, self._opset
        )
        self._fill(graph, stated or {})

    def form(self, name: str) -> Form:
        """What is known of a value."""
        found = self._forms.get(name)
        if found is None and self._outer is not None:
            return self._outer.form(name)
        return found or UNKNOWN

    def shape(self, name: str) -> tuple[int, ...] | None:
        """The shape of a value; None where it is unknown."""
        return self.form(name).shape

    def inner(self, node: Any, attribute: Any) -> Forms:
        """Forms in the graph that an attribute of a node of this graph holds."""
        key = next(filter(None, node.output), node.name), attribute.name
        if key not in self._inner:
            self._inner[key] = Forms(self._proto, attribute.g, self)
        return self._inner[key]

    def branches(self, node: Any) -> list[Any]:
        """The attributes of an If that hold its branches; only the one taken, where the condition can be told."""
        held = [attribute for attribute in node.attribute if attribute.HasField("g")]
        condition = self.values.get(node.input[0]) if node.input else None
        if condition is None or condition.size != 1:
            return held
        name = "then_branch" if bool(condition.reshape(-1)[0]) else "else_branch"
        return [attribute for attribute in held if attribute.name == name] or held

    def holes(self) -> int:
        """How many values that nodes make have no shape, or nothing in it: a window did not fit."""
        forms = [self.form(name) for name in self._made]
        return sum(form.shape is None or 0 in form.shape for form in forms)

    def _schema_of(self, node: Any) -> Any | None:
        """ONNX's definition of the op in the version the model asks for; None where there is none."""
        onnx = required_onnx()
        domain = node.domain if node.domain != "ai.onnx" else ""
        version = self._opset.get(domain or "ai.onnx")
        if version is None:
            return None
        try:
            return onnx.defs.get_schema(node.op_type, version, domain)
        except onnx.defs.SchemaError:
            return None

    def _fill(self, graph: Any, stated: Mapping[str, Form]) -> None:
        """Infers once more, in order, what has no shape yet."""
        for node in graph.node:
            outputs = [name for name in node.output if name]
            if all(self.form(name).shape is not None for name in outputs):
                continue
            for name, form in self._inferred(node).items():
                self._improve(name, form)
            for name, shape in contrib_shapes(node, self.shape).items():
                self._improve(name, Form(self.form(node.input[0]).element_type, shape))
            if node.op_type == "If":
                self._take_branches(node)
            for name in outputs:
                self._improve(name, stated.get(name, UNKNOWN))

    def _take_branches(self, node: Any) -> None:
        """Gives the outputs of an If the forms in which its branches agree."""
        branches = [(self.inner(node, attribute), attribute.g) for attribute in self.branches(node)]
        for index, name in enumerate(node.output):
            found = {forms.form(graph.output[index].name) for forms, graph in branches if index < len(graph.output)}
            if name and len(found) == 1:
                self._improve(name, found.pop())

    def _improve(self, name: str, form: Form) -> None:
        known = self._forms.get(name, UNKNOWN)
        shape = known.shape if known.shape is not None else form.shape
        self._forms[name] = Form(known.element_type or form.element_type, shape)

    def _inferred(self, node: Any) -> dict[str, Form]:
        standard = stand_in(node)
        if standard is node:
            return self._inferred_standard(node)
        source = dtype_source(node)
        given = _FLOAT
        if source is not None:
            given = self.form(node.input[source]).element_type if source < len(node.input) else 0
        found = self._inferred_standard(standard, _FLOAT)
        return {name: Form(given, form.shape) for name, form in found.items()}

    def _inferred_standard(self, node: Any, element_type: int = 0) -> dict[str, Form]:
        """What ONNX infers for one node; with all inputs of one element type where that is given."""
        onnx = required_onnx()
        schema = self._schema_of(node)
        if schema is None or any(attribute.HasField("g") for attribute in node.attribute):
            return {}
        types = {}
        for name in filter(None, node.input):
            form = self.form(name)
            if not form.element_type:
                return {}
            types[name] = onnx.helper.make_tensor_type_proto(element_type or form.element_type, form.shape)
        data = {name: self._constants[name] for name in node.input if name in self._constants}
        for name in node.input:
            value = self.values.get(name) if name and name not in data else None
            if value is not None:
                data[name] = onnx.numpy_helper.from_array(value, name)
        opsets = list(self._proto.opset_import)
        try:
            found = onnx.shape_inference.infer_node_outputs(
                schema, node, types, data, opset_imports=opsets, ir_version=self._proto.ir_version
            )
        except (*BRIDGE_ERRORS, onnx.shape_inference.InferenceError, onnx.checker.ValidationError) as error:
            _log.debug("node %s: no shape: %s", node.name or node.op_type, error)
            return {}
        return {name: _form(kind) for name, kind in found.items()}


def infer_forms(proto: Any, sizes: Mapping[str, int]) -> tuple[Any, Forms]:
    """Infers the forms of all values.

    Args:
        proto: a `ModelProto` from `read_proto`; stays as it is.
        sizes: a size for each open dimension of the inputs, by its name or "input[axis]".

    Returns:
        A copy of the model with what was inferred for its inner graphs, and the forms of the main graph.
    """
    onnx = required_onnx()
    fixed = onnx.ModelProto()
    fixed.CopyFrom(proto)
    for value in (*fixed.graph.input, *fixed.graph.value_info, *fixed.graph.output):
        _fix(value, sizes)
    stated = {value.name: _form(value.type) for value in (*fixed.graph.value_info, *fixed.graph.output)}
    # What the file says of inner tensors may hold for other sizes only: inference goes first.
    del fixed.graph.value_info[:]
    for output in fixed.graph.output:
        if output.type.HasField("tensor_type"):
            output.type.tensor_type.ClearField("shape")
    try:
        fixed = onnx.shape_inference.infer_shapes(fixed, data_prop=True)
    except (*BRIDGE_ERRORS, onnx.shape_inference.InferenceError, onnx.checker.ValidationError) as error:
        _log.info("inference over the whole graph failed, going node by node: %s", error)
    return fixed, Forms(fixed, fixed.graph, stated=stated)


def _fix(value: Any, sizes: Mapping[str, int]) -> None:
    if not value.type.HasField("tensor_type") or not value.type.tensor_type.HasField("shape"):
        return
    for axis, dimension in enumerate(value.type.tensor_type.shape.dim):
        if dimension.HasField("dim_value") and dimension.dim_value >= 0:
            continue
        size = sizes.get(dimension.dim_param or f"{value.name}[{axis}]")
        if size is not None:
            dimension.dim_value = size


def _form(kind: Any) -> Form:
    if not kind.HasField("tensor_type"):
        return UNKNOWN
    tensor = kind.tensor_type
    shape = None
    if tensor.HasField("shape"):
        shape = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in tensor.shape.dim)
        shape = None if any(size < 0 for size in shape) else shape
    return Form(tensor.elem_type, shape)


def _known_forms(graph: Any) -> Iterable[tuple[str, Form]]:
    for value in (*graph.input, *graph.value_info, *graph.output):
        yield value.name, _form(value.type)
    for tensor in graph.initializer:
        yield tensor.name, Form(tensor.data_type, tuple(tensor.dims))
    for sparse in graph.sparse_initializer:
        yield sparse.values.name, Form(sparse.values.data_type, tuple(sparse.dims))

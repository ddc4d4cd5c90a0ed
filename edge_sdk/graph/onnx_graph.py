"""An ONNX file as a `Graph`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from edge_sdk.formats import ModelFile
from edge_sdk.formats.onnx_types import DTYPES, raw_bytes
from edge_sdk.graph.counting import Cost, Operands
from edge_sdk.graph.onnx_kinds import kind_of
from edge_sdk.graph.onnx_nodes import captured_names, required_onnx
from edge_sdk.graph.onnx_precision import PrecisionReader
from edge_sdk.graph.onnx_proto import read_proto
from edge_sdk.graph.onnx_rules import RULES
from edge_sdk.graph.onnx_shapes import Forms, infer_forms
from edge_sdk.graph.open_sizes import OPEN_SIZES, assumed_sizes, check_sizes
from edge_sdk.graph.totals import PRODUCT_KINDS, assemble
from edge_sdk.graph.view import Graph, Op, Tensor

__all__ = ["open_onnx"]

# Ops that change how a weight is stored, not which weight it is.
_PREPARING = frozenset(
    {
        "Cast",
        "DequantizeLinear",
        "Flatten",
        "Identity",
        "QuantizeLinear",
        "Reshape",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    }
)
_NEVER_CONSTANT = frozenset(
    {
        "Bernoulli", "If", "Loop", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
        "RandomUniformLike", "Scan", "SequenceMap"
    }
)  # fmt: skip


def open_onnx(model: ModelFile, sizes: Mapping[str, int]) -> Graph:
    """Reads the graph, see `edge_sdk.graph.open_graph`. The file must have been checked."""
    info = model.describe()
    inputs = [spec for spec in info.inputs if spec.name not in info.initializer_inputs]
    check_sizes(sizes, inputs, model.name)
    proto = read_proto(model)
    best: tuple[int, Any, Forms, dict[str, int]] | None = None
    tried: list[dict[str, int]] = []
    for open_size in OPEN_SIZES:
        assumed = assumed_sizes(inputs, sizes, open_size)
        if assumed in tried:
            continue
        tried.append(assumed)
        fixed, forms = infer_forms(proto, assumed)
        holes = forms.holes()
        if best is None or holes < best[0]:
            best = holes, fixed, forms, assumed
        if not holes:
            break
    assert best is not None
    _, fixed, forms, assumed = best
    walk = _Walk(fixed, fixed.graph, forms)
    return assemble(
        "onnx",
        walk.ops,
        walk.tensors,
        [spec.name for spec in inputs],
        [output.name for output in fixed.graph.output],
        assumed,
        walk.weights,
    )


class _Walk:
    """The ops and tensors of one graph, and of the graphs inside its nodes summed into these.

    Attributes:
        ops: in order.
        tensors: all values of this graph and those it takes from around it.
        weights: elements and bytes of the stored weights that ops read, by name.
    """

    def __init__(self, proto: Any, graph: Any, forms: Forms, outer: _Walk | None = None) -> None:
        self._proto = proto
        self._forms = forms
        self._outer = outer
        self._makers = {output: node for node in graph.node for output in node.output if output}
        self.constants = self._constant_names(graph)
        self.tensors: dict[str, Tensor] = {}
        self.weights: dict[str, tuple[int, int]] = {}
        self.ops: list[Op] = []
        self._names: set[str] = set()
        for value in (*graph.input, *graph.output):
            self._tensor(value.name)
        outputs = [output.name for output in graph.output]
        precisions = PrecisionReader(graph.node, self.dtype, self.constants, outputs)
        for node in graph.node:
            if node.op_type != "Constant" or node.domain not in ("", "ai.onnx"):
                self.ops.append(self._op(node, precisions.precision(node)))

    def dtype(self, name: str) -> str:
        """Of a value; "" where unknown."""
        return DTYPES.get(self._forms.form(name).element_type, "")

    def _constant_names(self, graph: Any) -> set[str]:
        found = {tensor.name for tensor in graph.initializer}
        found.update(sparse.values.name for sparse in graph.sparse_initializer)
        if self._outer is not None:
            found |= self._outer.constants
        for node in graph.node:
            taken = [name for name in node.input if name]
            fixed = node.op_type == "Constant" or (taken and all(name in found for name in taken))
            if fixed and node.op_type not in _NEVER_CONSTANT:
                found.update(name for name in node.output if name)
        return found

    def _tensor(self, name: str) -> Tensor:
        known = self.tensors.get(name)
        if known is None:
            form = self._forms.form(name)
            size = None if form.shape is None else raw_bytes(form.element_type, math.prod(form.shape))
            known = Tensor(name, self.dtype(name), form.shape, name in self.constants, size)
            self.tensors[name] = known
        return known

    def _op(self, node: Any, precision: str) -> Op:
        taken = [*node.input, *captured_names(node)]
        tensors = [self._tensor(name) if name else None for name in taken]
        given = [self._tensor(name) for name in node.output if name]
        for name in node.output:
            if name:
                self._tensor(name)
        op_type = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
        prepared = bool(given) and all(tensor.constant for tensor in given)
        kind, cost = self._cost(node, op_type, tensors)
        read = {} if prepared else self._read_weights(taken)
        inner_elements, inner_bytes = 0, 0
        if kind == "control":
            cost, inner_elements, inner_bytes, precision = self._control(node, precision)
        self.weights.update(read)
        flowing = {tensor.name: tensor for tensor in tensors if tensor is not None and not tensor.constant}
        output_bytes = 0 if prepared else sum(tensor.bytes or 0 for tensor in given)
        parameter_bytes = sum(size for _, size in read.values())
        if kind == "gather":  # of a table only the rows asked for are read
            parameter_bytes = min(parameter_bytes, output_bytes)
        macs = 0 if prepared else cost.macs
        return Op(
            name=self._unique(node),
            type=op_type,
            kind=kind,
            inputs=tuple(taken),
            outputs=tuple(node.output),
            attributes=dict(cost.attributes),
            macs=macs,
            parameters=sum(elements for elements, _ in read.values()) + inner_elements,
            parameter_bytes=parameter_bytes + inner_bytes,
            input_bytes=sum(tensor.bytes or 0 for tensor in flowing.values()),
            output_bytes=output_bytes,
            precision=precision,
            counted=macs is not None,
        )

    def _unique(self, node: Any) -> str:
        name = base = node.name or f"{node.op_type}_{len(self.ops)}"
        number = 1
        while name in self._names:
            number += 1
            name = f"{base}#{number}"
        self._names.add(name)
        return name

    def _cost(self, node: Any, op_type: str, tensors: list[Tensor | None]) -> tuple[str, Cost]:
        kind, known = kind_of(op_type)
        rule: Callable[[Operands], Cost] | None = RULES.get(op_type)
        if rule is None:
            return kind, Cost(0 if known and kind not in PRODUCT_KINDS else None)
        onnx = required_onnx()
        operands = Operands(
            type=op_type,
            inputs=tuple(tensor.shape if tensor is not None else None for tensor in tensors),
            outputs=tuple(self._forms.shape(name) if name else None for name in node.output),
            constant=tuple(tensor is not None and tensor.constant for tensor in tensors),
            options={a.name: onnx.helper.get_attribute_value(a) for a in node.attribute},
        )
        cost = rule(operands)
        return cost.kind or kind, cost

    def _read_weights(self, names: list[str]) -> dict[str, tuple[int, int]]:
        """Stored weights behind the constants among these names: elements and bytes."""
        found = {}
        for name in names:
            if name and name in self.constants:
                source = self._source(name)
                shape = self._forms.shape(source)
                if shape is not None:
                    elements = math.prod(shape)
                    size = raw_bytes(self._forms.form(source).element_type, elements) or 0
                    found[source] = elements, size
        return found

    def _source(self, name: str) -> str:
        while (maker := self._makers.get(name)) is not None and maker.op_type in _PREPARING and maker.input:
            name = maker.input[0]
        return name

    def _control(self, node: Any, precision: str) -> tuple[Cost, int, int, str]:
        """What the graphs inside a node cost, each counted once; of an If the branch taken, or the dearer one."""
        held = self._forms.branches(node) if node.op_type == "If" else [a for a in node.attribute if a.HasField("g")]
        walks = [_Walk(self._proto, attribute.g, self._forms.inner(node, attribute), self) for attribute in held]
        if node.op_type == "If" and walks:
            walks = [max(walks, key=lambda walk: (sum(op.macs or 0 for op in walk.ops), len(walk.ops)))]
        macs: int | None = 0
        elements = size = 0
        for walk in walks:
            counts = [op.macs for op in walk.ops]
            macs = None if macs is None or None in counts else macs + sum(count or 0 for count in counts)
            elements += sum(op.parameters for op in walk.ops)
            size += sum(op.parameter_bytes for op in walk.ops)
            self.weights.update(walk.weights)
            dearest = max(walk.ops, key=lambda op: op.macs or 0, default=None)
            precision = dearest.precision if dearest is not None and dearest.macs else precision
        return Cost(macs, {"ops": sum(len(walk.ops) for walk in walks)}), elements, size, precision

"""A TFLite file as a `Graph`, read with our own reader: no engine and no extra is needed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edge_sdk.errors import InputShapeError
from edge_sdk.formats import ModelFile
from edge_sdk.formats import tflite_reader as reader
from edge_sdk.formats.flatbuffer import Table
from edge_sdk.formats.tflite_ops import called_subgraphs
from edge_sdk.formats.tflite_types import data_bytes
from edge_sdk.graph.counting import Cost, Operands
from edge_sdk.graph.open_sizes import check_sizes
from edge_sdk.graph.tflite_kinds import kind_of
from edge_sdk.graph.tflite_rules import RULES
from edge_sdk.graph.totals import PRODUCT_KINDS, assemble
from edge_sdk.graph.view import Graph, Op, Tensor

__all__ = ["open_tflite"]

_ACTIVATIONS = ("", "relu", "relu_n1_to_1", "relu6", "tanh", "sign_bit")
"""Activations that are part of another op, in the order of the schema's enumeration."""
_LABELS = {"uint8": "int8", "uint4": "int4", "uint16": "int16"}
_NARROW = ("int8", "int4", "int2")
_MAX_DEPTH = 16
_MAX_LISTED = 64


def open_tflite(model: ModelFile, sizes: Mapping[str, int]) -> Graph:
    """Reads the graph, see `edge_sdk.graph.open_graph`. The file must have been checked.

    A TFLite file holds the shapes of all tensors for the sizes it was converted for; open dimensions have those sizes.
    Of these only the number of samples (the first axis) can be changed here.
    """
    specs = model.describe().inputs
    check_sizes(sizes, specs, model.name)
    with model.content() as content:
        held = reader.read_model(content, model.name)
        main = held.subgraphs[0]
        opened = {f"{spec.name}[{a}]": (i, a) for i, spec in enumerate(specs) for a, d in _open_axes(spec.shape)}
        walk = _Walk(held, content, main, _batch(sizes, opened, model.name))
        assumed = {}
        for name, (index, axis) in opened.items():
            shape = walk.shape(main.inputs[index])
            assumed[name] = shape[axis] if axis < len(shape) else 1
        inputs = [walk.names[index] for index in main.inputs]
        outputs = [walk.names[index] for index in main.outputs]
        return assemble("tflite", walk.ops, walk.tensors, inputs, outputs, assumed, walk.weights)


def _open_axes(shape: Sequence[int | str | None] | None) -> list[tuple[int, int | str | None]]:
    return [(axis, size) for axis, size in enumerate(shape or ()) if not isinstance(size, int)]


def _batch(sizes: Mapping[str, int], opened: Mapping[str, tuple[int, int]], where: str) -> int | None:
    """The number of samples asked for; None to leave it as it is."""
    for name in sizes:
        if opened[name][1] != 0:
            raise InputShapeError(
                f"{where}: dimension {name!r} of a TFLite file cannot be changed here, only the number of samples (axis"
                " 0); resize it when the model is converted"
            )
    wanted = set(sizes.values())
    if len(wanted) > 1:
        raise InputShapeError(f"{where}: different numbers of samples {sorted(wanted)} for inputs that run together")
    return next(iter(wanted), None)


class _Walk:
    """The ops and tensors of one subgraph, and of those it calls summed into the calling ops.

    Attributes:
        ops: in order.
        tensors: by name.
        names: of the tensors by index, made unique.
        weights: elements and bytes of the constants that ops read, by buffer or name.
    """

    def __init__(
        self, model: reader.Model, content: memoryview, graph: reader.SubGraph, batch: int | None, depth: int = 0
    ) -> None:
        self._model = model
        self._content = content
        self._graph = graph
        self._batch = batch
        self._depth = depth
        self._makers = {index: operator for operator in graph.operators for index in operator.outputs}
        self.names = _unique_names(graph.tensors)
        self._tiles = self._tiles_a_sample()
        self.constant = [self._is_stored(tensor) for tensor in graph.tensors]
        for operator in graph.operators:
            taken = [index for index in operator.inputs if index >= 0]
            if (
                taken
                and all(self.constant[index] for index in taken)
                and self._kind(operator) not in ("control", "other")
            ):
                for index in operator.outputs:
                    if index >= 0:
                        self.constant[index] = True
        self.tensors = {name: self._tensor(index) for index, name in enumerate(self.names)}
        self.weights: dict[str, tuple[int, int]] = {}
        self.ops = [self._op(number, operator) for number, operator in enumerate(graph.operators)]

    def shape(self, index: int) -> tuple[int, ...]:
        """Shape of a tensor with the number of samples wanted."""
        tensor = self._graph.tensors[index]
        shape = tuple(max(size, 0) for size in tensor.shape)
        signature = tensor.signature
        if signature and len(signature) == len(shape) and signature[0] == -1:
            shape = ((self._batch or shape[0]) * self._tiles.get(index, 1), *shape[1:])
        return shape

    def _tiles_a_sample(self) -> dict[int, int]:
        """Into how many samples one was cut where a tensor holds tiles of pictures.

        A dilated convolution stands between SPACE_TO_BATCH_ND and BATCH_TO_SPACE_ND; where the number of samples is
        open the file says 1 for what lies between them.
        """
        tiles: dict[int, int] = {}
        for operator in self._graph.operators:
            name = self._model.opcodes[operator.code].name
            count = max((tiles.get(index, 1) for index in operator.inputs), default=1)
            if name == "SPACE_TO_BATCH_ND":
                count *= math.prod(self._integers(operator.inputs[1]))
            elif name == "BATCH_TO_SPACE_ND":
                count = max(count // max(math.prod(self._integers(operator.inputs[1])), 1), 1)
            if count > 1:
                tiles.update(dict.fromkeys(operator.outputs, count))
        return tiles

    def _integers(self, index: int) -> list[int]:
        """The content of a constant int32 tensor; empty where there is none."""
        tensor = self._graph.tensors[index]
        if tensor.dtype != "int32" or tensor.external or not 0 < tensor.buffer < len(self._model.buffers):
            return []
        buffer = self._model.buffers[tensor.buffer]
        part = self._content[buffer.start : buffer.start + min(buffer.size, 4 * _MAX_LISTED)]
        return [max(int(number), 1) for number in np.frombuffer(part[: len(part) // 4 * 4], "<i4")]

    def _is_stored(self, tensor: reader.Tensor) -> bool:
        buffers = self._model.buffers
        return tensor.external or (0 < tensor.buffer < len(buffers) and buffers[tensor.buffer].size > 0)

    def _kind(self, operator: reader.Operator) -> str:
        return kind_of(self._model.opcodes[operator.code].name)[0]

    def _tensor(self, index: int) -> Tensor:
        tensor = self._graph.tensors[index]
        shape = self.shape(index)
        size = data_bytes(tensor.dtype, math.prod(shape))
        return Tensor(self.names[index], tensor.dtype, shape, self.constant[index], size)

    def _op(self, number: int, operator: reader.Operator) -> Op:
        code = self._model.opcodes[operator.code]
        op_type = code.name or "CUSTOM"
        taken = [index for index in operator.inputs if index >= 0]
        given = [index for index in operator.outputs if index >= 0]
        prepared = bool(given) and all(self.constant[index] for index in given)
        kind, cost = self._cost(operator, op_type, code.custom)
        read = {} if prepared else self._read_weights(taken)
        parameters, parameter_bytes = (sum(part) for part in zip(*read.values(), strict=True)) if read else (0, 0)
        precision = self._precision(operator, kind)
        if kind == "control":
            cost, inner = self._control(operator)
            parameters += sum(op.parameters for op in inner)
            parameter_bytes += sum(op.parameter_bytes for op in inner)
        self.weights.update(read)
        output_bytes = 0 if prepared else sum(self.tensors[self.names[index]].bytes or 0 for index in given)
        if kind == "gather":  # of a table only the rows asked for are read
            parameter_bytes = min(parameter_bytes, output_bytes)
        flowing = {self.names[index] for index in taken if not self.constant[index]}
        macs = 0 if prepared else cost.macs
        return Op(
            name=f"{op_type}_{number}",
            type=op_type,
            kind=kind,
            inputs=tuple(self.names[index] if index >= 0 else "" for index in operator.inputs),
            outputs=tuple(self.names[index] if index >= 0 else "" for index in operator.outputs),
            attributes={**cost.attributes, **_activation(operator.options)},
            macs=macs,
            parameters=parameters,
            parameter_bytes=parameter_bytes,
            input_bytes=sum(self.tensors[name].bytes or 0 for name in flowing),
            output_bytes=output_bytes,
            precision=precision,
            counted=macs is not None,
        )

    def _cost(self, operator: reader.Operator, op_type: str, custom: bool) -> tuple[str, Cost]:
        kind, known = ("other", False) if custom else kind_of(op_type)
        rule = None if custom else RULES.get(op_type)
        if rule is None:
            return kind, Cost(0 if known and kind not in PRODUCT_KINDS else None)
        operands = Operands(
            type=op_type,
            inputs=tuple(self.shape(index) if index >= 0 else None for index in operator.inputs),
            outputs=tuple(self.shape(index) if index >= 0 else None for index in operator.outputs),
            constant=tuple(index >= 0 and self.constant[index] for index in operator.inputs),
            options=_options(operator.options),
        )
        cost = rule(operands)
        return cost.kind or kind, cost

    def _control(self, operator: reader.Operator) -> tuple[Cost, list[Op]]:
        """What the subgraphs an op calls cost, each counted once."""
        inner: list[Op] = []
        if self._depth < _MAX_DEPTH:
            for index in sorted(called_subgraphs(operator)):
                if 0 < index < len(self._model.subgraphs):
                    walk = _Walk(self._model, self._content, self._model.subgraphs[index], None, self._depth + 1)
                    inner += walk.ops
                    self.weights.update(walk.weights)
        counts = [op.macs for op in inner]
        macs = None if None in counts else sum(count or 0 for count in counts)
        return Cost(macs, {"ops": len(inner)}), inner

    def _read_weights(self, taken: Sequence[int]) -> dict[str, tuple[int, int]]:
        found = {}
        for index in taken:
            if self.constant[index]:
                source = self._source(index)
                tensor = self._graph.tensors[source]
                size = data_bytes(tensor.dtype, tensor.elements) or 0
                if tensor.sparsity is not None and not tensor.external:
                    size = self._model.buffers[tensor.buffer].size
                # Tensors that share a buffer share one copy of the weights.
                key = f"{self._depth}/{self.names[source]}" if tensor.external else f"buffer {tensor.buffer}"
                found[key] = tensor.elements, size
        return found

    def _source(self, index: int) -> int:
        """The stored tensor behind one that is dequantised or unpacked before use."""
        for _ in range(_MAX_DEPTH):
            maker = self._makers.get(index)
            if maker is None or not maker.inputs or maker.inputs[0] < 0:
                break
            index = maker.inputs[0]
        return index

    def _precision(self, operator: reader.Operator, kind: str) -> str:
        tensors = self._graph.tensors
        taken = [index for index in operator.inputs if index >= 0]
        flowing = [tensors[index].dtype for index in taken if not self.constant[index]]
        given = [tensors[index].dtype for index in operator.outputs if index >= 0]
        if kind in ("quantize", "dequantize"):
            return _label((given if kind == "quantize" else [tensors[i].dtype for i in taken] or given or [""])[0])
        own = next((dtype for dtype in flowing + given if dtype.startswith(("float", "bfloat"))), "")
        if not own:
            return _label(next((d for d in flowing if d in ("int8", "uint8", "int16")), (flowing + given + [""])[0]))
        stored = {_label(tensors[self._source(index)].dtype) for index in taken if self.constant[index]}
        direct = {_label(tensors[index].dtype) for index in taken if self.constant[index]}
        narrow = min(stored & set(_NARROW), default="")
        if narrow in direct and kind in PRODUCT_KINDS:
            return f"{narrow} (dynamic)"
        if narrow:
            return f"{narrow} (weights only)"
        return "float16 (weights only)" if "float16" in stored and own == "float32" else own


def _unique_names(tensors: Sequence[reader.Tensor]) -> list[str]:
    names: list[str] = []
    seen: set[str] = set()
    for index, tensor in enumerate(tensors):
        name = base = tensor.name or f"tensor {index}"
        number = 1
        while name in seen:
            number += 1
            name = f"{base}#{number}"
        seen.add(name)
        names.append(name)
    return names


def _options(table: Table | None) -> dict[str, Any]:
    """The options of an op: numbers and lists of numbers."""
    if table is None:
        return {}
    found: dict[str, Any] = {}
    for name, slot in table.slots.items():
        if slot.kind == "scalar":
            found[name] = table.scalar(name)
        elif slot.kind == "numbers" and table.numbers_span(name)[1] <= _MAX_LISTED:
            found[name] = tuple(table.numbers(name).tolist())
    return found


def _activation(table: Table | None) -> dict[str, str]:
    if table is None or "fused_activation_function" not in table.slots:
        return {}
    code = table.integer("fused_activation_function")
    return {"activation": _ACTIVATIONS[code]} if 0 < code < len(_ACTIVATIONS) else {}


def _label(dtype: str) -> str:
    return _LABELS.get(dtype, dtype)

"""Head and tail of a TFLite file. Constants, and ops computed from them alone, stand in each part that needs them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from typing import Any

import msgspec
import numpy as np

from edge_sdk.errors import MissingExtra, ModelError
from edge_sdk.formats import ModelFile
from edge_sdk.graph.codec import RECORD_KEY, Coded, SplitRecord
from edge_sdk.graph.codec_steps import has_steps
from edge_sdk.graph.flow import Cut
from edge_sdk.graph.tflite_codec import StepOperators, sent_shape
from edge_sdk.graph.view import Graph

__all__ = ["called", "split_tflite"]

_OF_THE_WHOLE = (b"TFLITE_METADATA",)
"""Metadata that describe inputs and outputs of the whole."""
_FILE_ID = b"TFL3"
_SIGNATURE = "serving_default"
_SENT = {"fp16": "FLOAT16", "int8": "UINT8", "int4": "UINT8", "int16": "INT16"}
_DETAIL_TENSORS = ("scales", "zeroPoints")


def called(model: ModelFile, graph: Graph) -> dict[str, str]:
    """What callers call the inputs and outputs of the whole, by the names of the tensors: a signature may differ."""
    info = model.describe()
    names = {tensor: spec.name for tensor, spec in zip(graph.inputs, info.inputs, strict=False)}
    return names | {tensor: spec.name for tensor, spec in zip(graph.outputs, info.outputs, strict=False)}


def split_tflite(
    model: ModelFile, graph: Graph, cut: Cut, coded: Sequence[Coded], records: tuple[SplitRecord, SplitRecord]
) -> tuple[bytes, bytes]:
    """Makes head and tail, see `edge_sdk.graph.splitting.split_model`.

    Args:
        model: the file, checked.
        graph: of the file.
        cut: of the graph.
        coded: how each tensor of the cut travels.
        records: what head and tail say of themselves.
    """
    schema, flatbuffers = _required()
    with model.content() as view:
        content = bytes(view)
    names = called(model, graph)
    whole = schema.ModelT.InitFromPackedBuf(content, 0)
    if whole.externalBuffers:
        raise ModelError(f"{model.name}: cannot be cut: its weights lie in other files; convert it to one file first")
    from_head = [one for one in coded if one.codec != "none" or one.name not in graph.inputs]
    head = _Part(schema, content, whole, graph, names)
    head.build(_unique([*(one.name for one in from_head), *cut.head_outputs]), [])
    given = {name: head.place(name) for name in cut.head_outputs}
    given |= {one.sent: head.encode(one) if one.codec != "none" else head.place(one.name) for one in from_head}
    taken = {name: head.place(name) for name in graph.inputs if head.has(name)}
    tail = _Part(schema, content, whole, graph, names)
    tail.build(cut.tail_outputs, [one.name for one in coded])
    fed = {one.sent: tail.decode(one) if one.codec != "none" else tail.place(one.name) for one in coded}
    left = {name: tail.place(name) for name in cut.tail_outputs}
    return head.finish(flatbuffers, taken, given, records[0]), tail.finish(flatbuffers, fed, left, records[1])


class _Part:
    """A part of a file in the making: copies of the file's objects, without what the part does not need."""

    def __init__(self, schema: Any, content: bytes, whole: Any, graph: Graph, names: Mapping[str, str]) -> None:
        self._schema = schema
        self._content = content
        self._names = names
        self._model = copy(whole)
        self._model.subgraphs = [copy(subgraph) for subgraph in whole.subgraphs]
        self._model.operatorCodes = list(whole.operatorCodes)
        self._model.buffers = list(whole.buffers)
        # The graph lists its tensors in the order of the file.
        self._places = {name: place for place, name in enumerate(graph.tensors)}
        self._kept: list[int] = []
        self._operators: list[Any] = []

    def has(self, name: str) -> bool:
        """Whether the part holds a tensor of the whole."""
        return self._places[name] in self._kept

    def place(self, name: str) -> int:
        """Where a tensor of the whole stands among the part's."""
        return self._kept.index(self._places[name])

    def build(self, outputs: Iterable[str], inputs: Iterable[str]) -> None:
        """Keeps the operators that these outputs need, back to `inputs`, and the tensors of those."""
        graph = self._model.subgraphs[0]
        operators = graph.operators or []
        makers = {int(t): place for place, op in enumerate(operators) for t in _listed(op.outputs)}
        stop = {self._places[name] for name in inputs}
        ends = [self._places[name] for name in outputs]
        needed: set[int] = set()
        waiting = [tensor for tensor in ends if tensor not in stop]
        while waiting:
            place = makers.get(waiting.pop())
            if place is not None and place not in needed:
                needed.add(place)
                waiting.extend(t for t in _listed(operators[place].inputs) if t >= 0 and t not in stop)
        self._operators = [copy(operators[place]) for place in sorted(needed)]
        used = {*stop, *ends}
        for op in self._operators:
            used.update(t for part in (op.inputs, op.outputs, op.intermediates) for t in _listed(part) if t >= 0)
        details = [self._detail_tensors(graph.tensors[tensor]).values() for tensor in used]
        self._kept = sorted(used.union(*details))
        self._renumber()

    def _detail_tensors(self, tensor: Any) -> dict[str, int]:
        """Tensors that hold scales of blocks, by the attribute that names them."""
        details = tensor.quantization.details if tensor.quantization is not None else None
        found = {name: getattr(details, name, -1) for name in _DETAIL_TENSORS}
        return {name: int(place) for name, place in found.items() if place is not None and place >= 0}

    def _renumber(self) -> None:
        graph = self._model.subgraphs[0]
        new = {old: place for place, old in enumerate(self._kept)}
        graph.tensors = [copy(graph.tensors[old]) for old in self._kept]
        for tensor in graph.tensors:
            details = self._detail_tensors(tensor)
            if details:
                tensor.quantization = copy(tensor.quantization)
                tensor.quantization.details = copy(tensor.quantization.details)
            for name, place in details.items():
                setattr(tensor.quantization.details, name, new[place])
        for op in self._operators:
            for field in ("inputs", "outputs", "intermediates"):
                numbers = getattr(op, field)
                if numbers is not None:
                    setattr(op, field, [new[int(t)] if t >= 0 else -1 for t in numbers])
        graph.operators = self._operators

    def encode(self, one: Coded) -> int:
        """Adds what encodes a tensor; the place of the encoded one."""
        sent = self._sent(one)
        self._operators.extend(self._codec(one, self.place(one.name), sent, encode=True))
        return sent

    def decode(self, one: Coded) -> int:
        """Adds what decodes a tensor; the place of the encoded one."""
        sent = self._sent(one)
        self._operators[:0] = self._codec(one, sent, self.place(one.name), encode=False)
        return sent

    def _codec(self, one: Coded, taken: int, given: int, *, encode: bool) -> list[Any]:
        if not has_steps(one):
            return [self._operator(one, taken, given, encode=encode)]
        plain = self._model.subgraphs[0].tensors[self.place(one.name)]
        first = int(plain.shape[0]) if one.shape else 1
        is_open = plain.shapeSignature is not None and len(plain.shapeSignature) and plain.shapeSignature[0] < 0
        chain = StepOperators(self._schema, self._model, one, taken, given, (first, -1 if is_open else first))
        return chain.build(encode=encode)

    def _sent(self, one: Coded) -> int:
        schema, tensors = self._schema, self._model.subgraphs[0].tensors
        plain = tensors[self.place(one.name)]
        tensor = schema.TensorT()
        tensor.name, tensor.shape = one.sent.encode(), sent_shape(one, _listed(plain.shape))
        if plain.shapeSignature is not None:
            tensor.shapeSignature = sent_shape(one, _listed(plain.shapeSignature))
        tensor.hasRank, tensor.buffer = plain.hasRank, 0
        tensor.type = getattr(schema.TensorType, _SENT[one.codec])
        if one.codec == "int8" and not one.channels:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = np.array([one.scale], np.float32)
            tensor.quantization.zeroPoint = np.array([one.zero_point], np.int64)
        tensors.append(tensor)
        return len(tensors) - 1

    def _operator(self, one: Coded, taken: int, given: int, *, encode: bool) -> Any:
        schema = self._schema
        ops, options = schema.BuiltinOperator, schema.BuiltinOptions
        operator = schema.OperatorT()
        operator.inputs, operator.outputs = [taken], [given]
        if one.codec == "fp16":
            code, version = ops.CAST, 1
            types = (schema.TensorType.FLOAT32, schema.TensorType.FLOAT16)
            operator.builtinOptions, operator.builtinOptionsType = schema.CastOptionsT(), options.CastOptions
            cast = operator.builtinOptions
            cast.inDataType, cast.outDataType = types if encode else types[::-1]
        elif encode:
            code, version = ops.QUANTIZE, 1
            operator.builtinOptions, operator.builtinOptionsType = schema.QuantizeOptionsT(), options.QuantizeOptions
        else:
            code, version = ops.DEQUANTIZE, 1
            operator.builtinOptions = schema.DequantizeOptionsT()
            operator.builtinOptionsType = options.DequantizeOptions
        entry = schema.OperatorCodeT()
        entry.builtinCode, entry.deprecatedBuiltinCode, entry.version = code, min(code, 127), version
        self._model.operatorCodes.append(entry)
        operator.opcodeIndex = len(self._model.operatorCodes) - 1
        return operator

    def finish(
        self, flatbuffers: Any, inputs: Mapping[str, int], outputs: Mapping[str, int], record: SplitRecord
    ) -> bytes:
        """The file, with a signature that calls inputs and outputs as the whole does."""
        graph = self._model.subgraphs[0]
        graph.operators = self._operators
        graph.inputs, graph.outputs = list(inputs.values()), list(outputs.values())
        others = self._model.subgraphs[1:] if any(_calls(op) for op in self._operators) else []
        for other in others:
            other.tensors = [copy(tensor) for tensor in other.tensors]
            other.operators = [copy(op) for op in other.operators or []]
        self._model.subgraphs = [graph, *others]
        self._drop_codes()
        self._drop_buffers(msgspec.json.encode(record))
        self._model.signatureDefs = [self._signature(inputs, outputs)]
        builder = flatbuffers.Builder(len(self._content))
        builder.Finish(self._model.Pack(builder), _FILE_ID)
        return bytes(builder.Output())

    def _signature(self, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> Any:
        signature = self._schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = _SIGNATURE, 0
        signature.inputs = [self._map(name, place) for name, place in inputs.items()]
        signature.outputs = [self._map(name, place) for name, place in outputs.items()]
        return signature

    def _map(self, name: str, place: int) -> Any:
        entry = self._schema.TensorMapT()
        entry.name, entry.tensorIndex = self._names.get(name, name), place
        return entry

    def _drop_codes(self) -> None:
        operators = [op for graph in self._model.subgraphs for op in graph.operators or []]
        used = sorted({op.opcodeIndex for op in operators})
        new = {old: place for place, old in enumerate(used)}
        self._model.operatorCodes = [self._model.operatorCodes[old] for old in used]
        for op in operators:
            op.opcodeIndex = new[op.opcodeIndex]

    def _drop_buffers(self, record: bytes) -> None:
        model = self._model
        kept = [copy(m) for m in model.metadata or [] if m.name not in (*_OF_THE_WHOLE, RECORD_KEY.encode())]
        tensors = [tensor for graph in model.subgraphs for tensor in graph.tensors]
        used = sorted({0, *(tensor.buffer for tensor in tensors), *(entry.buffer for entry in kept)})
        new = {old: place for place, old in enumerate(used)}
        model.buffers = [self._inline(model.buffers[old]) for old in used]
        for holder in (*tensors, *kept):
            holder.buffer = new[holder.buffer]
        note, buffer = self._schema.MetadataT(), self._schema.BufferT()
        buffer.data = np.frombuffer(record, np.uint8)
        note.name, note.buffer = RECORD_KEY, len(model.buffers)
        model.buffers.append(buffer)
        model.metadata, model.metadataBuffer = [*kept, note], None

    def _inline(self, buffer: Any) -> Any:
        """A buffer with its content in it, where a large file keeps that behind the tables."""
        if buffer.offset and buffer.offset > 1:
            buffer = copy(buffer)
            part = self._content[buffer.offset : buffer.offset + buffer.size]
            buffer.data, buffer.offset, buffer.size = np.frombuffer(part, np.uint8), 0, 0
        return buffer


def _calls(operator: Any) -> bool:
    """Whether an operator runs another subgraph of the file."""
    options = [operator.builtinOptions, getattr(operator, "builtinOptions2", None)]
    return any("subgraph" in field.lower() for one in options if one is not None for field in vars(one))


def _listed(numbers: Any) -> list[int]:
    return [] if numbers is None else [int(number) for number in numbers]


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _required() -> tuple[Any, Any]:
    try:
        import flatbuffers  # type: ignore[import-untyped]
        from ai_edge_litert import schema_py_generated as schema
    except ImportError as error:
        raise MissingExtra(
            f"cutting a TFLite file needs the package ai-edge-litert ({error}); install it with pip install"
            " 'edge-sdk[tflite]'"
        ) from None
    return schema, flatbuffers

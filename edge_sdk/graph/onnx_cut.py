"""Head and tail of an ONNX file. Constants, and ops computed from them alone, stand in each part that needs them."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from edge_sdk.errors import DamagedModel, ModelError
from edge_sdk.formats import ModelFile, without_initializer_inputs
from edge_sdk.formats.onnx_types import DTYPES
from edge_sdk.graph.codec import RECORD_KEY, Coded, SplitRecord
from edge_sdk.graph.flow import Cut, Flow, has_control_flow
from edge_sdk.graph.onnx_codec import codec_nodes, least_opset, sent_value
from edge_sdk.graph.onnx_nodes import BRIDGE_ERRORS, required_onnx, sort_nodes
from edge_sdk.graph.view import Graph

__all__ = ["split_onnx"]

_CODES = {name: code for code, name in DTYPES.items()}
_KEPT_SETTINGS = ("axis", "block_size")
_RAISED_OPSET = 13
_LARGEST = (1 << 31) - 1
_SHAPE_OPS = ("Shape", "Size")
_KEPT_FIELDS = ("ir_version", "producer_name", "producer_version", "domain", "model_version", "doc_string")


def split_onnx(
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
    cutter = _Cutter(model, graph, least_opset(coded))
    inputs = set(graph.inputs)
    raw = [one.name for one in coded if one.codec == "none" and one.name not in inputs]
    own = [name for name in cut.head_outputs if name not in raw]
    head = cutter.part([*raw, *own], [], [one for one in coded if one.codec != "none"], encode=True)
    tail = cutter.part(cut.tail_outputs, [one.name for one in coded], coded, encode=False)
    return _finished(head, records[0], model.name), _finished(tail, records[1], model.name)


class _Cutter:
    """One file, ready to have parts taken out of it, of this opset at least."""

    def __init__(self, model: ModelFile, graph: Graph, least_opset: int) -> None:
        self._onnx = required_onnx()
        self._name = model.name
        self._graph = graph
        self._proto = _raised(self._onnx, _whole(self._onnx, model), least_opset, model.name)
        self._fixed = frozenset[str]() if has_control_flow(graph) else Flow(graph).fixed
        self._makers = {name: place for place, node in enumerate(self._proto.graph.node) for name in node.output}
        self._values = self._value_infos()

    def part(self, outputs: Sequence[str], inputs: Sequence[str], coded: Sequence[Coded], *, encode: bool) -> Any:
        """A model that computes `outputs` from `inputs` and the model's own inputs.

        Args:
            outputs: names of tensors.
            inputs: names at which the model is cut off; what lies before them is left out.
            coded: tensors that are also given encoded (a head), or taken encoded (a tail).
            encode: whether it is a head.
        """
        helper = self._onnx.helper
        wanted = [*outputs, *(one.name for one in coded if encode)]
        places, shapes, read = self._slice(wanted, set(inputs))
        ends_of_int8 = [*outputs, *(one.name for one in coded)] if encode else inputs
        nodes = self._bridged([self._proto.graph.node[p] for p in places], ends_of_int8, encode)
        stored = [tensor for tensor in self._proto.graph.initializer if tensor.name in read]
        sparse = [tensor for tensor in self._proto.graph.sparse_initializer if tensor.values.name in read]
        constants = {tensor.name for tensor in stored} | {tensor.values.name for tensor in sparse}
        stored += [self._shape_value(place) for place in shapes]
        more, parameters = codec_nodes(self._onnx, coded, self._new, encode=encode)
        own = [value for value in self._proto.graph.input if value.name in read and value.name not in inputs]
        taken = own if encode else [self._sent(one) for one in coded]
        given = [self._values[name] for name in outputs] + ([self._sent(one) for one in coded] if encode else [])
        ends = {value.name for value in (*taken, *given)}
        made = {name for node in nodes for name in node.output} | constants
        graph = helper.make_graph(
            [*more, *nodes],
            self._proto.graph.name or "graph",
            taken,
            given,
            [*stored, *parameters],
            value_info=[v for v in self._proto.graph.value_info if v.name in made and v.name not in ends],
            sparse_initializer=sparse,
        )
        sort_nodes(graph, self._name)
        graph.quantization_annotation.extend(
            note for note in self._proto.graph.quantization_annotation if note.tensor_name in made | ends
        )
        return self._model(graph)

    def _model(self, graph: Any) -> Any:
        whole = self._proto
        made = self._onnx.ModelProto()
        for field in _KEPT_FIELDS:
            setattr(made, field, getattr(whole, field))
        made.graph.CopyFrom(graph)
        made.opset_import.extend(whole.opset_import)
        made.functions.extend(whole.functions)
        made.metadata_props.extend(entry for entry in whole.metadata_props if entry.key != RECORD_KEY)
        return made

    def _bridged(self, nodes: list[Any], names: Iterable[str], encode: bool) -> list[Any]:
        """The nodes of a part, with a whole pair of QuantizeLinear and DequantizeLinear where int8 enters or leaves it.

        It changes no value. But on x86 ONNX Runtime makes uint8 of int8 between such a pair, and of the pair that a cut
        divides it would not: the ops beside the cut would then mix both and be computed in float.

        Source: qdq_s8_to_u8.cc of ONNX Runtime.
        """
        found = list(nodes)
        for name in names:
            op = "QuantizeLinear" if encode else "DequantizeLinear"
            ends = [n for n in found if n.op_type == op and name == (n.output if encode else n.input)[0]]
            if not ends or len(ends[0].input) < 3 or self._graph.tensors[name].dtype != "int8":
                continue
            inner, wide, kept = (self._new(f"{name}.{what}") for what in ("inner", "float", "kept"))
            found = [_renamed(node, name, inner) for node in found]
            first, last = (inner, name) if encode else (name, inner)
            found.append(self._like(ends[0], "DequantizeLinear", first, wide))
            # Without an op between them the two would be taken out again before the pair is looked for.
            found.append(self._onnx.helper.make_node("Max", [wide], [kept]))
            found.append(self._like(ends[0], "QuantizeLinear", kept, last))
        return found

    def _new(self, name: str) -> str:
        while name in self._graph.tensors:
            name += "_"
        return name

    def _like(self, end: Any, op_type: str, taken: str, given: str) -> Any:
        """A node with the scale and zero point of another."""
        node = self._onnx.helper.make_node(op_type, [taken, *end.input[1:3]], [given], domain=end.domain)
        node.attribute.extend(entry for entry in end.attribute if entry.name in _KEPT_SETTINGS)
        return node

    def _slice(self, wanted: Iterable[str], stop: set[str]) -> tuple[list[int], list[int], set[str]]:
        """Places of the nodes needed, those whose output is a shape known beforehand, and all names they read."""
        needed: set[int] = set()
        shapes: set[int] = set()
        read: set[str] = set(wanted)
        waiting = list(read - stop)
        while waiting:
            place = self._makers.get(waiting.pop())
            if place is None or place in needed or place in shapes:
                continue
            node = self._proto.graph.node[place]
            if node.op_type in _SHAPE_OPS and node.output[0] in self._fixed:
                shapes.add(place)
                continue
            needed.add(place)
            fresh = set(_reads(node)) - read
            read |= fresh
            waiting.extend(fresh - stop)
        return sorted(needed), sorted(shapes), read

    def _shape_value(self, place: int) -> Any:
        """What a Shape or Size gives, as a constant."""
        node = self._proto.graph.node[place]
        settings = {entry.name: entry.i for entry in node.attribute}
        shape = self._graph.tensors[node.input[0]].shape
        assert shape is not None
        int64 = self._onnx.TensorProto.INT64
        if node.op_type == "Size":
            return self._onnx.helper.make_tensor(node.output[0], int64, [], [math.prod(shape)])
        part = shape[settings.get("start", 0) : settings.get("end", len(shape))]
        return self._onnx.helper.make_tensor(node.output[0], int64, [len(part)], part)

    def _sent(self, one: Coded) -> Any:
        return sent_value(self._onnx, self._values[one.name], one)

    def _value_infos(self) -> Mapping[str, Any]:
        """What is known of every tensor. Where the file leaves sizes open they stay open."""
        graph, make = self._graph, self._onnx.helper.make_tensor_value_info
        stated = {v.name: v for v in (*self._proto.graph.input, *self._proto.graph.output)}
        found = {}
        opened = self._open_values() if graph.assumed else {}
        for name, tensor in graph.tensors.items():
            if name in stated and stated[name].type.WhichOneof("value") is not None:
                found[name] = stated[name]
            elif name in opened:
                found[name] = opened[name]
            elif tensor.dtype in _CODES:
                unsized = graph.assumed and tensor.shape is not None
                shape = (None,) * len(tensor.shape or ()) if unsized else tensor.shape
                found[name] = make(name, _CODES[tensor.dtype], shape)
        return found

    def _open_values(self) -> Mapping[str, Any]:
        """What ONNX's own inference tells with sizes left open."""
        try:
            inferred = self._onnx.shape_inference.infer_shapes(self._proto)
        except (*BRIDGE_ERRORS, self._onnx.shape_inference.InferenceError):
            return {}
        return {v.name: v for v in inferred.graph.value_info if v.type.tensor_type.HasField("shape")}


def _reads(node: Any) -> Iterator[str]:
    """Names that a node reads, also in its subgraphs: what these make themselves is among them and does no harm."""
    yield from (name for name in node.input if name)
    for entry in node.attribute:
        for graph in (*entry.graphs, *((entry.g,) if entry.HasField("g") else ())):
            yield from (name for inner in graph.node for name in _reads(inner))
            yield from (value.name for value in graph.output)


def _renamed(node: Any, old: str, new: str) -> Any:
    """The node, or a copy of it that reads or makes `new` where it did `old`."""
    if old not in node.input and old not in node.output:
        return node
    copy = type(node)()
    copy.CopyFrom(node)
    for names in (copy.input, copy.output):
        for place, name in enumerate(names):
            if name == old:
                names[place] = new
    return copy


def _whole(onnx: Any, model: ModelFile) -> Any:
    """The file with all its weights; functions inlined, as the graph has them."""
    decode_error = importlib.import_module("google.protobuf.message").DecodeError
    try:
        with model.content() as content:
            proto = onnx.ModelProto.FromString(without_initializer_inputs(content, name=model.name)[0])
        if model.path is not None:
            onnx.external_data_helper.load_external_data_for_model(proto, str(model.path.parent))
        if proto.functions:
            inliner = importlib.import_module("onnx.inliner")
            proto = inliner.inline_local_functions(proto)
    except decode_error as error:
        raise DamagedModel(f"{model.name}: damaged ONNX model: {error}; fetch or export it again") from None
    except (*BRIDGE_ERRORS, OSError, onnx.checker.ValidationError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{model.name}: cannot be cut: {reason}; export it as one file without functions") from None
    sort_nodes(proto.graph, model.name)
    return proto


def _raised(onnx: Any, proto: Any, least_opset: int, name: str) -> Any:
    """The model in a newer opset where its own has no ops for a codec."""
    version = max((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), default=1)
    if version >= least_opset:
        return proto
    try:
        converter = importlib.import_module("onnx.version_converter")
        return converter.convert_version(proto, _RAISED_OPSET)
    except (*BRIDGE_ERRORS, ImportError, onnx.checker.ValidationError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"{name}: opset {version} has no ops for a codec, and it could not be converted to {_RAISED_OPSET}:"
            f" {reason}; export it again, or take codec none"
        ) from None


def _finished(proto: Any, record: SplitRecord, name: str) -> bytes:
    entry = proto.metadata_props.add()
    entry.key, entry.value = RECORD_KEY, msgspec.json.encode(record).decode()
    if proto.ByteSize() > _LARGEST:
        raise ModelError(
            f"{name}: its {record.part} is larger than the 2 GB that an ONNX file may have; cut elsewhere, or convert"
            " the model to float16 first"
        )
    content: bytes = proto.SerializeToString(deterministic=True)
    return content

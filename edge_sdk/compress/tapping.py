"""A model file with tensors inside it made outputs, so that engines hand them out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_sdk.errors import DamagedModel, MissingExtra

__all__ = ["Node", "TappedModel", "open_tapped"]

_MAX_IN_ONE_FILE = 1 << 30


@dataclass(frozen=True, slots=True)
class Node:
    """One operator of the main graph: its name ("" where it has none), type, and the tensors it reads and writes."""

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class TappedModel:
    """A model whose inner tensors can be made outputs.

    Attributes:
        nodes: of the main graph, in an order in which they can run.
    """

    nodes: tuple[Node, ...]

    def write(self, tensors: list[str], folder: Path) -> Path:
        """Writes the model with these tensors as further outputs; returns its file."""
        raise NotImplementedError


def open_tapped(path: Path) -> TappedModel:
    """Reads a model for tapping.

    Raises:
        MissingExtra: the package that reads the format's graph is not installed.
        DamagedModel: it cannot be read.
    """
    from edge_sdk.formats import open_model

    with open_model(path) as model:
        model.check()
        return _Onnx(path) if model.format == "onnx" else _Tflite(path)


class _Onnx(TappedModel):
    def __init__(self, path: Path) -> None:
        try:
            import onnx
        except ImportError:
            raise MissingExtra(f"{path.name}: looking into it needs onnx: pip install 'edge-sdk[graph]'") from None
        try:
            self._model = onnx.load(path)
        except Exception as error:
            raise DamagedModel(f"{path}: onnx cannot read it: {' '.join(str(error).split())[:200]}") from error
        graph = self._model.graph
        self.nodes = tuple(Node(n.name, n.op_type, tuple(n.input), tuple(n.output)) for n in graph.node)

    def write(self, tensors: list[str], folder: Path) -> Path:
        import onnx

        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        known = {output.name for output in model.graph.output}
        # A value without a type: the engine infers it.
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors if name not in known)
        path = folder / "tapped.onnx"
        onnx.save(model, path, save_as_external_data=model.ByteSize() > _MAX_IN_ONE_FILE)
        return path


class _Tflite(TappedModel):
    def __init__(self, path: Path) -> None:
        try:
            from ai_edge_litert import schema_py_generated as schema
        except ImportError:
            raise MissingExtra(f"{path.name}: looking into it needs LiteRT: pip install 'edge-sdk[tflite]'") from None
        self._content = path.read_bytes()
        model = schema.ModelT.InitFromPackedBuf(self._content, 0)
        graph = model.subgraphs[0]
        names = [tensor.name.decode(errors="replace") if tensor.name else "" for tensor in graph.tensors]
        names = [name if names.count(name) == 1 else "" for name in names]
        self._places = {name: place for place, name in enumerate(names) if name}
        ops = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
        codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
        self.nodes = tuple(
            Node("", ops.get(codes[op.opcodeIndex], "?"), _named(op.inputs, names), _named(op.outputs, names))
            for op in graph.operators or ()
        )

    def write(self, tensors: list[str], folder: Path) -> Path:
        import flatbuffers  # type: ignore[import-untyped]
        import numpy as np
        from ai_edge_litert import schema_py_generated as schema

        model = schema.ModelT.InitFromPackedBuf(self._content, 0)
        graph = model.subgraphs[0]
        known = set(graph.outputs.tolist())
        further = [self._places[name] for name in tensors if self._places[name] not in known]
        graph.outputs = np.array([*graph.outputs, *further], np.int32)
        model.signatureDefs = []  # they name the outputs there were
        builder = flatbuffers.Builder(len(self._content))
        builder.Finish(model.Pack(builder), b"TFL3")
        path = folder / "tapped.tflite"
        path.write_bytes(builder.Output())
        return path


def _named(indices: Any, names: list[str]) -> tuple[str, ...]:
    return tuple(names[index] for index in indices if index >= 0) if indices is not None else ()

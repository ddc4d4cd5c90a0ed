"""Describes a read TFLite model."""

from __future__ import annotations

from collections import Counter

from edge_sdk.formats.info import ModelInfo, Signature
from edge_sdk.formats.precision import name_precision
from edge_sdk.formats.tflite_names import named_specs
from edge_sdk.formats.tflite_reader import Model, SignatureDef, Tensor

__all__ = ["describe_tflite"]

_TEXT_METADATA_BYTES = 64


def describe_tflite(model: Model, content: memoryview) -> ModelInfo:
    """What the file says about itself."""
    main = model.subgraphs[0]
    ops = Counter(
        model.opcodes[operator.code].name
        for graph in model.subgraphs
        for operator in graph.operators
        if operator.code < len(model.opcodes)
    )
    custom = {code.name for code in model.opcodes if code.custom} & set(ops)
    # Tensors that share a buffer share one copy of the weights.
    constants: dict[tuple[int, int], Tensor] = {}
    for number, graph in enumerate(model.subgraphs):
        for index, tensor in enumerate(graph.tensors):
            if _is_constant(model, tensor):
                key = (tensor.buffer, -1) if not tensor.external else (number, index)
                constants.setdefault(key, tensor)
    signatures = tuple(_signature(model, definition) for definition in model.signatures)
    inputs, outputs = named_specs(
        [main.tensors[i].spec() for i in main.inputs], [main.tensors[i].spec() for i in main.outputs], signatures
    )
    precision, reason = _precision(model, list(constants.values()), tuple(spec.dtype for spec in inputs))
    return ModelInfo(
        format="tflite",
        inputs=inputs,
        outputs=outputs,
        ir_version=model.version,
        producer=model.description,
        ops=dict(sorted(ops.items())),
        custom_ops=tuple(sorted(custom)),
        parameters=sum(tensor.elements for tensor in constants.values()),
        parameter_bytes=sum(model.buffers[t.buffer].size for t in constants.values() if t.buffer < len(model.buffers)),
        precision=precision,
        precision_reason=reason,
        external_files=tuple(sorted(set(model.external_files) - {""})),
        metadata=_metadata(model, content),
        signatures=signatures,
        subgraphs=len(model.subgraphs),
        description=model.description,
    )


def _signature(model: Model, definition: SignatureDef) -> Signature:
    tensors = model.subgraphs[definition.subgraph].tensors
    return Signature(
        definition.key,
        definition.subgraph,
        {name: tensors[index].name for name, index in definition.inputs.items()},
        {name: tensors[index].name for name, index in definition.outputs.items()},
    )


def _is_constant(model: Model, tensor: Tensor) -> bool:
    return tensor.external or (0 < tensor.buffer < len(model.buffers) and model.buffers[tensor.buffer].size > 0)


def _metadata(model: Model, content: memoryview) -> dict[str, str]:
    """Short texts as they stand, other blocks by their size."""
    entries = {}
    for name, index in model.metadata:
        buffer = model.buffers[index] if index < len(model.buffers) else None
        size = buffer.size if buffer else 0
        text = f"{size} bytes"
        if buffer and 0 < size <= _TEXT_METADATA_BYTES:
            stored = bytes(content[buffer.start : buffer.start + size]).rstrip(b"\0")
            if stored.isascii() and stored.decode("ascii").isprintable():
                text = stored.decode("ascii")
        entries[name] = text
    return entries


def _precision(model: Model, constants: list[Tensor], inputs: tuple[str, ...]) -> tuple[str, str]:
    weights: Counter[str] = Counter()
    for tensor in constants:
        weights[tensor.dtype] += tensor.elements
    met: Counter[str] = Counter()
    for graph in model.subgraphs:
        for operator in graph.operators:
            taken = [graph.tensors[i] for i in operator.inputs if 0 <= i < len(graph.tensors)]
            flowing = [t.dtype for t in taken if not _is_constant(model, t)]
            name = model.opcodes[operator.code].name if operator.code < len(model.opcodes) else ""
            for tensor in taken:
                if tensor.dtype in ("int8", "uint8", "int4", "int2", "uint4") and _is_constant(model, tensor):
                    met[_meeting(name, flowing)] += tensor.elements
    kind = met.most_common(1)[0][0] if met else "static"
    evidence = {
        "static": "they meet integers",
        "int16": "they meet int16 numbers",
        "dynamic": "they meet floats, which the op quantises while running",
        "float": "they are turned to floats first",
    }[kind]
    return name_precision(weights, "static" if kind == "int16" else kind, inputs, evidence)


def _meeting(op: str, flowing: list[str]) -> str:
    if op == "DEQUANTIZE":
        return "float"
    if "float32" in flowing:
        return "dynamic"
    return "int16" if "int16" in flowing else "static"

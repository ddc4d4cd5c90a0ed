"""A TFLite file as plain objects: subgraphs, operators and tensors, the weights left where they lie."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from edge_sdk.formats.flatbuffer import FlatBuffer, Table
from edge_sdk.formats.tflite_types import builtin_ops, dtype_name
from edge_sdk.tensors import Quantization, TensorSpec

__all__ = ["Buffer", "Model", "OpCode", "Operator", "SubGraph", "Tensor", "read_model"]

_CUSTOM = 32
_PLACEHOLDER_FOR_GREATER_OP_CODES = 127


@dataclass(slots=True)
class Tensor:
    """A tensor of a subgraph. `signature` is its shape with -1 for what may change."""

    at: int
    name: str
    dtype: str
    shape: tuple[int, ...]
    signature: tuple[int, ...] | None
    buffer: int
    is_variable: bool
    sparsity: Table | None
    external: bool
    scales: tuple[float, ...] = ()
    zero_points: tuple[int, ...] = ()
    axis: int = 0
    scale_tensors: tuple[int, ...] = ()
    """Tensors that hold scales and zero points of blocks."""

    @property
    def elements(self) -> int:
        """Number of elements; 0 where a dimension is negative."""
        return math.prod(self.shape) if all(d >= 0 for d in self.shape) else 0

    def spec(self) -> TensorSpec:
        """What a caller sees of it."""
        shape = self.signature if self.signature is not None and len(self.signature) == len(self.shape) else self.shape
        quantization = None
        if self.scales and self.zero_points:
            several = len(self.scales) > 1
            zero_points = self.zero_points * len(self.scales) if len(self.zero_points) == 1 else self.zero_points
            quantization = Quantization(self.scales, zero_points, self.axis if several else None)
        return TensorSpec(self.name, self.dtype, tuple(d if d >= 0 else None for d in shape), quantization=quantization)


@dataclass(slots=True)
class Operator:
    """A node: its op, the tensors it takes (-1 for one left out) and gives, its options where there are any."""

    at: int
    code: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    intermediates: tuple[int, ...]
    options: Table | None


@dataclass(slots=True)
class SubGraph:
    """A graph; the first one of a file is the main one."""

    at: int
    name: str
    tensors: list[Tensor] = field(default_factory=list)
    inputs: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()
    operators: list[Operator] = field(default_factory=list)


@dataclass(slots=True)
class OpCode:
    """An op of the file: the builtin's name, or a custom op's own."""

    at: int
    name: str
    code: int
    version: int

    @property
    def custom(self) -> bool:
        """Whether it is a custom op."""
        return self.code == _CUSTOM


@dataclass(slots=True)
class Buffer:
    """Where the bytes of constant tensors lie in the file: size 0 where the buffer stands for none."""

    start: int
    size: int


@dataclass(slots=True)
class SignatureDef:
    """A named entry point: the signature's names of tensors, and the tensors' indices."""

    key: str
    subgraph: int
    inputs: dict[str, int]
    outputs: dict[str, int]

    @property
    def tensors(self) -> tuple[int, ...]:
        """All tensors it names."""
        return (*self.inputs.values(), *self.outputs.values())


@dataclass(slots=True)
class Model:
    """A whole file."""

    version: int
    description: str
    opcodes: list[OpCode]
    subgraphs: list[SubGraph]
    buffers: list[Buffer]
    metadata: list[tuple[str, int]]
    """Names and buffers of metadata blocks."""
    signatures: list[SignatureDef]
    external_files: tuple[str, ...]


def read_model(content: memoryview, name: str) -> Model:
    """Reads the structure of a TFLite file.

    Args:
        content: the file; no reference to it is kept but by the options of operators.
        name: what error messages call it.

    Raises:
        DamagedModel: an offset leads outside of the file.
    """
    file = FlatBuffer(content, name)
    # First every offset is followed once, within limits; then reading cannot meet a surprise.
    file.verify()
    root = file.root("Model")
    return Model(
        version=root.integer("version"),
        description=root.string("description"),
        opcodes=[_opcode(table) for table in root.tables("operator_codes")],
        subgraphs=[_subgraph(table) for table in root.tables("subgraphs")],
        buffers=[_buffer(table) for table in root.tables("buffers")],
        metadata=[(table.string("name"), table.integer("buffer")) for table in root.tables("metadata")],
        signatures=[_signature(table) for table in root.tables("signature_defs")],
        external_files=tuple(table.string("name") for table in root.tables("external_buffer_groups")),
    )


def _integers(table: Table, name: str) -> tuple[int, ...]:
    return tuple(table.numbers(name).tolist())


def _opcode(table: Table) -> OpCode:
    # Codes up to 126 stand in the old one-byte slot, and newer writers fill both.
    old, new = table.integer("deprecated_builtin_code"), table.integer("builtin_code")
    code = new if old == _PLACEHOLDER_FOR_GREATER_OP_CODES else max(old, new)
    names = builtin_ops()
    if code == _CUSTOM:
        name = table.string("custom_code")
    else:
        name = names[code] if 0 <= code < len(names) else f"BUILTIN_{code}"
    return OpCode(table.position, name, code, table.integer("version"))


def _buffer(table: Table) -> Buffer:
    # Files above 2 GB keep buffers behind the tables, found by offset and size from the beginning of the file.
    if table.integer("offset") > 1:
        return Buffer(table.integer("offset"), table.integer("size"))
    return Buffer(*table.numbers_span("data"))


def _subgraph(table: Table) -> SubGraph:
    return SubGraph(
        at=table.position,
        name=table.string("name"),
        tensors=[_tensor(item) for item in table.tables("tensors")],
        inputs=_integers(table, "inputs"),
        outputs=_integers(table, "outputs"),
        operators=[_operator(item) for item in table.tables("operators")],
    )


def _operator(table: Table) -> Operator:
    name = "builtin_options" if table.integer("builtin_options_type") else "builtin_options2"
    return Operator(
        at=table.position,
        code=table.integer("opcode_index"),
        inputs=_integers(table, "inputs"),
        outputs=_integers(table, "outputs"),
        intermediates=_integers(table, "intermediates"),
        options=table.table(name),
    )


def _tensor(table: Table) -> Tensor:
    tensor = Tensor(
        at=table.position,
        name=table.string("name"),
        dtype=dtype_name(table.integer("type")) or f"type {table.integer('type')}",
        shape=_integers(table, "shape"),
        signature=_integers(table, "shape_signature") if table.has("shape_signature") else None,
        buffer=table.integer("buffer"),
        is_variable=bool(table.scalar("is_variable")),
        sparsity=table.table("sparsity"),
        external=table.integer("external_buffer") > 0,
    )
    quantization = table.table("quantization")
    if quantization is not None:
        tensor.scales = tuple(quantization.numbers("scale").tolist())
        tensor.zero_points = _integers(quantization, "zero_point")
        tensor.axis = quantization.integer("quantized_dimension")
        if quantization.union_kind("details") in ("BlockwiseQuantization", "MultiAxisQuantization"):
            details = quantization.table("details")
            assert details is not None
            tensor.scale_tensors = details.integer("scales"), details.integer("zero_points")
    return tensor


def _signature(table: Table) -> SignatureDef:
    def indices(name: str) -> dict[str, int]:
        return {item.string("name"): item.integer("tensor_index") for item in table.tables(name)}

    return SignatureDef(
        table.string("signature_key"), table.integer("subgraph_index"), indices("inputs"), indices("outputs")
    )

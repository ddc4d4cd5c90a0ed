"""Checks that a read TFLite model holds together: every index leads somewhere, and buffers hold what tensors claim."""

from __future__ import annotations

import math

from edge_sdk.errors import DamagedModel, UnsupportedVersion
from edge_sdk.formats.flatbuffer import Table
from edge_sdk.formats.tflite_ops import called_subgraphs, check_operator
from edge_sdk.formats.tflite_reader import Model, SubGraph, Tensor
from edge_sdk.formats.tflite_sparsity import check_sparsity
from edge_sdk.formats.tflite_types import data_bytes

__all__ = ["check_references", "check_tflite"]

SCHEMA_VERSION = 3
MAX_ELEMENTS = 1 << 36
"""No tensor has more than this."""
MAX_INPUT_BYTES = 1 << 30
"""No input takes more than this: an engine allocates inputs while it loads, before anybody could resize them."""
MAX_RANK = 32


class _Checker:
    def __init__(self, model: Model, size: int, name: str) -> None:
        self.model = model
        self.size = size
        self.name = name

    def damaged(self, what: str, at: int = -1) -> DamagedModel:
        where = f" (byte {at} of {self.size})" if at >= 0 else ""
        return DamagedModel(f"{self.name}: damaged TFLite model: {what}{where}; fetch or convert it again")

    def references(self) -> None:
        model = self.model
        if model.version != SCHEMA_VERSION:
            raise UnsupportedVersion(
                f"{self.name}: is of TFLite schema version {model.version}; engines know version {SCHEMA_VERSION}"
            )
        if not model.subgraphs:
            raise self.damaged("there is no subgraph")
        for index, buffer in enumerate(model.buffers):
            if buffer.start + buffer.size > self.size:
                raise self.damaged(f"buffer {index} ends at byte {buffer.start + buffer.size}")
        for graph in model.subgraphs:
            self._graph(graph)
        for signature in model.signatures:
            if signature.subgraph >= len(model.subgraphs):
                count = len(model.subgraphs)
                raise self.damaged(f"signature {signature.key!r} runs subgraph {signature.subgraph} of {count}")
            count = len(model.subgraphs[signature.subgraph].tensors)
            for index in signature.tensors:
                if index >= count:
                    raise self.damaged(f"signature {signature.key!r} names tensor {index} of {count}")
        for name, index in model.metadata:
            if index >= len(model.buffers):
                raise self.damaged(f"metadata {name!r} lies in buffer {index} of {len(model.buffers)}")

    def _graph(self, graph: SubGraph) -> None:
        """Checks the indices in a subgraph."""
        count = len(graph.tensors)
        title = f"subgraph {graph.name!r}"
        for tensor in graph.tensors:
            # Buffer 0 stands for none, and may be missing altogether.
            if tensor.buffer >= max(len(self.model.buffers), 1):
                raise self.damaged(
                    f"{_title(tensor)} lies in buffer {tensor.buffer} of {len(self.model.buffers)}", tensor.at
                )
            if any(not -1 <= index < count for index in tensor.scale_tensors):
                raise self.damaged(f"{_title(tensor)} has its scales in tensors {tensor.scale_tensors}", tensor.at)
        for kind, indices in (("input", graph.inputs), ("output", graph.outputs)):
            for index in indices:
                if not 0 <= index < count:
                    raise self.damaged(f"{title} has tensor {index} of {count} as an {kind}", graph.at)
        for number, operator in enumerate(graph.operators):
            if operator.code >= len(self.model.opcodes):
                codes = len(self.model.opcodes)
                raise self.damaged(f"operator {number} of {title} is op {operator.code} of {codes}", operator.at)
            for index in (*operator.inputs, *operator.intermediates):
                if not -1 <= index < count:
                    raise self.damaged(f"operator {number} of {title} takes tensor {index} of {count}", operator.at)
            for index in operator.outputs:
                if not -1 <= index < count:
                    raise self.damaged(f"operator {number} of {title} makes tensor {index} of {count}", operator.at)

    def contents(self) -> None:
        for graph in self.model.subgraphs:
            for tensor in graph.tensors:
                self._tensor(tensor)
            for tensor in (graph.tensors[index] for index in graph.inputs):
                if self._stored(tensor):
                    # A caller's data would be written over it, into a file that is mapped for reading.
                    raise self.damaged(f"input {tensor.name!r} is a constant", tensor.at)
                if (data_bytes(tensor.dtype, tensor.elements) or 0) > MAX_INPUT_BYTES:
                    raise self.damaged(f"input {tensor.name!r} has shape {list(tensor.shape)}", tensor.at)
            for number, operator in enumerate(graph.operators):
                problem = check_operator(self.model, graph, operator)
                if problem:
                    op = self.model.opcodes[operator.code].name
                    raise self.damaged(f"operator {number} ({op}) of subgraph {graph.name!r}: {problem}", operator.at)
        self._recursion()

    def _recursion(self) -> None:
        """Raises DamagedModel where subgraphs run each other in a ring: an engine would prepare them forever."""
        calls = {
            number: {called for operator in graph.operators for called in called_subgraphs(operator)}
            for number, graph in enumerate(self.model.subgraphs)
        }
        # Subgraphs that run no others are done; a ring never gets done.
        while done := {number for number, called in calls.items() if not called}:
            calls = {number: called - done for number, called in calls.items() if number not in done}
        if calls:
            raise self.damaged(f"subgraph {self.model.subgraphs[next(iter(calls))].name!r} runs subgraphs without end")

    def _tensor(self, tensor: Tensor) -> None:
        title = _title(tensor)
        rank = len(tensor.shape)
        if (
            rank > MAX_RANK
            or math.prod(max(d, 1) for d in tensor.shape) > MAX_ELEMENTS
            or any(d < -1 for d in tensor.shape)
        ):
            raise self.damaged(f"{title} has shape {list(tensor.shape[:8])}", tensor.at)
        if tensor.dtype.startswith("type "):
            raise self.damaged(f"{title} has element {tensor.dtype}, which the schema does not define", tensor.at)
        signature = tensor.signature
        if signature and len(signature) != rank:
            raise self.damaged(f"{title} has shape {list(tensor.shape)} but signature {list(signature)}", tensor.at)
        self._quantization(tensor, title)
        stored = self._stored(tensor)
        expected = data_bytes(tensor.dtype, tensor.elements)
        if tensor.sparsity is not None:
            self._sparse(tensor, tensor.sparsity, stored)
        elif stored and expected is not None and stored != expected:
            what = f"{title} ({tensor.dtype}{list(tensor.shape)}) has {stored} bytes in its buffer, expected {expected}"
            raise self.damaged(what, tensor.at)

    def _sparse(self, tensor: Tensor, sparsity: Table, stored: int) -> None:
        size = data_bytes(tensor.dtype, 8)  # of eight, so that narrower types than a byte come out whole
        problem = check_sparsity(sparsity, tensor.shape, None if size is None else stored * 8 // size)
        if problem:
            raise self.damaged(f"{_title(tensor)} of shape {list(tensor.shape)} {problem}", tensor.at)

    def _stored(self, tensor: Tensor) -> int:
        """Bytes of the tensor's constant content; 0 where it has none."""
        return self.model.buffers[tensor.buffer].size if tensor.buffer else 0

    def _quantization(self, tensor: Tensor, title: str) -> None:
        scales, zero_points = len(tensor.scales), len(tensor.zero_points)
        if zero_points not in (0, 1, scales) and scales:
            raise self.damaged(f"{title} has {scales} scales but {zero_points} zero points", tensor.at)
        if scales > 1:
            if not 0 <= tensor.axis < len(tensor.shape):
                raise self.damaged(
                    f"{title} of rank {len(tensor.shape)} is quantised along axis {tensor.axis}", tensor.at
                )
            if tensor.shape[tensor.axis] != scales:
                size = tensor.shape[tensor.axis]
                raise self.damaged(f"{title} has {scales} scales along axis {tensor.axis} of size {size}", tensor.at)
        # The sum is no finite number where any of them is none.
        if scales and not (math.isfinite(sum(tensor.scales)) and min(tensor.scales) >= 0):
            raise self.damaged(f"{title} has a scale that is negative or no number", tensor.at)
        if tensor.scales == (0.0,) and tensor.dtype in ("int8", "uint8", "int16"):
            raise self.damaged(f"{title} has scale 0", tensor.at)


def _title(tensor: Tensor) -> str:
    return f"tensor {tensor.name!r}"


def check_references(model: Model, size: int, name: str) -> None:
    """Checks that every index in the model leads somewhere.

    Args:
        model: as read from the file.
        size: of the file in bytes.
        name: what error messages call it.

    Raises:
        DamagedModel: one does not.
        UnsupportedVersion: the schema is not version 3.
    """
    _Checker(model, size, name).references()


def check_tflite(model: Model, size: int, name: str) -> None:
    """Checks that the model holds together. Arguments and errors as in `check_references`."""
    checker = _Checker(model, size, name)
    checker.references()
    checker.contents()

"""The body of a request or answer: Open Inference Protocol v2 with the binary tensor extension, over any transport.

A JSON head, then the tensors' bytes in the order of the head. `header_length` is the size of the head where tensors
follow it (HTTP tells it as `Inference-Header-Content-Length`), None where the body is JSON alone.

Source: Open Inference Protocol v2 (REST); Triton's "Binary Tensor Data Extension".
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from edge_sdk.errors import WireError
from edge_sdk.tensors import Array
from edge_sdk.wire.datatypes import BYTES, datatype_of
from edge_sdk.wire.encoded import CODING, Encoded, Feed
from edge_sdk.wire.json_head import (
    Parameters,
    RequestedHead,
    RequestHead,
    ResponseHead,
    TensorHead,
    read_head,
)
from edge_sdk.wire.limits import Limits
from edge_sdk.wire.room import ALIGNMENT
from edge_sdk.wire.tensor_data import checked_count, from_binary, to_binary
from edge_sdk.wire.tensor_json import from_json, to_json

__all__ = [
    "Body",
    "InferRequest",
    "InferResponse",
    "RequestedOutput",
    "decode_request",
    "decode_response",
    "encode_request",
    "encode_response",
]

_SIZE = "binary_data_size"
_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Body:
    """A body as it travels.

    Attributes:
        parts: one after the other; tensors are views of the arrays given, so these must not change until it is sent.
        header_length: bytes of the JSON head; None where nothing follows it.
        size: bytes of all parts.
    """

    parts: tuple[bytes | memoryview, ...]
    header_length: int | None
    size: int

    def joined(self) -> bytes:
        """All of it in one piece: a copy."""
        return b"".join(self.parts)


@dataclass(frozen=True, slots=True)
class RequestedOutput:
    """One output that is asked for.

    Attributes:
        binary: whether as binary data.
        parameters: its other parameters, as they came.
    """

    name: str
    binary: bool
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class InferRequest:
    """A request.

    Attributes:
        inputs: read-only arrays; BYTES are arrays of `bytes` objects.
        encoded: inputs that came as files; they are to be decoded.
        outputs: those asked for; empty for all.
        binary: whether outputs travel as binary data where `outputs` does not say.
    """

    request_id: str
    parameters: Parameters
    inputs: dict[str, Array]
    outputs: tuple[RequestedOutput, ...] = ()
    binary: bool = False
    encoded: dict[str, Encoded] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class InferResponse:
    """An answer. Its arrays are read-only; BYTES are arrays of `bytes` objects."""

    model_name: str
    model_version: str
    request_id: str
    parameters: Parameters
    outputs: dict[str, Array]


def encode_request(
    inputs: Mapping[str, Feed],
    *,
    request_id: str = "",
    parameters: Mapping[str, str | int | float | bool] | None = None,
    outputs: Sequence[str] | None = None,
    binary: bool = True,
) -> Body:
    """A request for inference.

    Args:
        inputs: name to array, of which nothing is copied if it is C-contiguous and little-endian, or to what stands in
            its place; that travels as binary data only.
        outputs: names of those wanted; None for all.
        binary: whether inputs travel, and outputs are asked for, as binary data.

    Raises:
        WireError: an array that the protocol, or JSON where that was asked for, has no form for.
    """
    told: Parameters = dict(parameters or {})
    if binary and outputs is None:
        told["binary_data_output"] = True
    wanted = [RequestedHead(name=name, parameters={"binary_data": binary}) for name in outputs or ()]
    tensors, parts = _encoded(inputs, set(inputs) if binary else ())
    return _body(RequestHead(id=request_id, parameters=told, inputs=tensors, outputs=wanted), parts)


def encode_response(
    model_name: str,
    model_version: str,
    outputs: Mapping[str, Array],
    *,
    request_id: str = "",
    parameters: Mapping[str, str | int | float | bool] | None = None,
    binary: Collection[str] | bool = True,
) -> Body:
    """An answer.

    Args:
        binary: names of the outputs that travel as binary data, or whether all do.

    Raises:
        WireError: an array that the protocol, or JSON where that was asked for, has no form for.
    """
    names: Collection[str] = (set(outputs) if binary else ()) if isinstance(binary, bool) else binary
    tensors, parts = _encoded(outputs, names)
    told: Parameters = dict(parameters or {})
    head = ResponseHead(
        model_name=model_name, model_version=model_version, id=request_id, parameters=told, outputs=tensors
    )
    return _body(head, parts)


def _encoded(tensors: Mapping[str, Feed], binary: Collection[str]) -> tuple[list[TensorHead], list[memoryview] | None]:
    heads: list[TensorHead] = []
    parts: list[memoryview] | None = None
    for name, array in tensors.items():
        if isinstance(array, Encoded):
            if name not in binary:
                raise WireError(f"tensor {name!r}: is encoded as {array.coding}, which JSON has no form for", 415)
            told: Parameters = {_SIZE: array.nbytes, CODING: array.coding}
            heads.append(TensorHead(name=name, datatype=array.datatype, shape=list(array.shape), parameters=told))
            parts = [*(parts or ()), memoryview(array.content)]
            continue
        datatype = datatype_of(array, name)
        head = TensorHead(name=name, datatype=datatype, shape=list(array.shape))
        if name in binary:
            part = to_binary(name, array, datatype)
            head.parameters = {_SIZE: part.nbytes}
            parts = [*(parts or ()), part]
        else:
            head.data = to_json(name, array, datatype)
        heads.append(head)
    return heads, parts


def _body(head: RequestHead | ResponseHead, parts: list[memoryview] | None) -> Body:
    try:
        text = msgspec.json.encode(head)
    except UnicodeEncodeError:
        raise WireError("a name, id or parameter is no valid Unicode") from None
    if parts is None:
        return Body((text,), None, len(text))
    # Spaces may follow JSON: with them tensors begin where engines can read them without a copy.
    text += b" " * (-len(text) % ALIGNMENT)
    return Body((text, *parts), len(text), len(text) + sum(part.nbytes for part in parts))


def decode_request(body: memoryview, header_length: int | None, limits: Limits = _LIMITS) -> InferRequest:
    """Reads a request; its arrays are views of `body` where they came as binary data.

    Raises:
        WireError: the body breaks the protocol or the limits; `.status` is 413 where it is too large.
    """
    where = "inference request"
    text, rest = _divided(body, header_length, limits, where)
    head = read_head(text, RequestHead, limits, where)
    inputs, encoded = _decoded(head.inputs, rest, limits, "input")
    binary = _flag(head.parameters, "binary_data_output", False, where)
    outputs: dict[str, RequestedOutput] = {}
    for wanted in head.outputs:
        if wanted.name in outputs or len(outputs) >= limits.max_tensors:
            raise WireError(f"output {wanted.name!r} is asked for twice, or more than {limits.max_tensors} outputs are")
        flag = _flag(wanted.parameters, "binary_data", binary, f"output {wanted.name!r}")
        outputs[wanted.name] = RequestedOutput(wanted.name, flag, wanted.parameters)
    return InferRequest(head.id, head.parameters, inputs, tuple(outputs.values()), binary, encoded)


def decode_response(body: memoryview, header_length: int | None, limits: Limits = _LIMITS) -> InferResponse:
    """Reads an answer; its arrays are views of `body` where they came as binary data.

    Raises:
        WireError: the body breaks the protocol or the limits.
    """
    where = "inference response"
    text, rest = _divided(body, header_length, limits, where)
    head = read_head(text, ResponseHead, limits, where)
    outputs, encoded = _decoded(head.outputs, rest, limits, "output")
    if encoded:
        raise WireError(f"{where}: output {next(iter(encoded))!r} came encoded; only inputs may")
    return InferResponse(head.model_name, head.model_version, head.id, head.parameters, outputs)


def _divided(
    body: memoryview, header_length: int | None, limits: Limits, where: str
) -> tuple[memoryview, memoryview | None]:
    body = body.cast("B") if body.format != "B" or body.ndim != 1 else body
    if len(body) > limits.max_body_bytes:
        raise WireError(f"{where}: {len(body)} bytes, more than the {limits.max_body_bytes} allowed", status=413)
    if header_length is None:
        return body, None
    if not 0 < header_length <= len(body):
        raise WireError(f"{where}: header length {header_length} is not within its {len(body)} bytes")
    return body[:header_length], body[header_length:]


def _decoded(
    heads: Sequence[TensorHead], rest: memoryview | None, limits: Limits, kind: str
) -> tuple[dict[str, Array], dict[str, Encoded]]:
    if len(heads) > limits.max_tensors:
        raise WireError(f"{len(heads)} {kind}s, more than the {limits.max_tensors} allowed", status=413)
    arrays: dict[str, Array] = {}
    encoded: dict[str, Encoded] = {}
    at = elements = 0
    for head in heads:
        name = head.name
        if head.datatype == BYTES:
            elements += checked_count(name, head.shape, BYTES, limits)
            if elements > limits.max_elements:
                raise WireError(f"{kind}s of BYTES have more than the {limits.max_elements} elements allowed", 413)
        if name in arrays or name in encoded:
            raise WireError(f"{kind} {name!r} is there twice")
        size = head.parameters.get(_SIZE)
        if size is None:
            if CODING in head.parameters:
                raise WireError(f"{kind} {name!r}: has the parameter {CODING} without {_SIZE}")
            if head.data is msgspec.UNSET:
                raise WireError(f"{kind} {name!r}: has neither data nor the parameter {_SIZE}")
            arrays[name] = from_json(name, head.shape, head.datatype, head.data, limits)
            continue
        at, raw = _next(rest, at, head, size, kind)
        if CODING in head.parameters:
            checked_count(name, head.shape, head.datatype, limits)
            encoded[name] = Encoded(bytes(raw), head.datatype, tuple(head.shape), str(head.parameters[CODING]))
            continue
        arrays[name] = from_binary(name, head.shape, head.datatype, raw, limits)
    if rest is not None and at != len(rest):
        raise WireError(f"{len(rest) - at} bytes are left after the last tensor")
    return arrays, encoded


def _next(
    rest: memoryview | None, at: int, head: TensorHead, size: str | int | float | bool, kind: str
) -> tuple[int, memoryview]:
    name = head.name
    if head.data is not msgspec.UNSET:
        raise WireError(f"{kind} {name!r}: has both data and the parameter {_SIZE}")
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise WireError(f"{kind} {name!r}: {_SIZE} is {str(size)[:40]!r}, expected a number of bytes")
    if rest is None:
        raise WireError(f"{kind} {name!r}: is binary data, but the length of the JSON head is not told")
    if size > len(rest) - at:
        raise WireError(f"{kind} {name!r}: {_SIZE} is {str(size)[:40]}, but only {len(rest) - at} bytes follow")
    return at + size, rest[at : at + size]


def _flag(parameters: Parameters, key: str, default: bool, where: str) -> bool:
    value = parameters.get(key, default)
    if not isinstance(value, bool):
        raise WireError(f"{where}: parameter {key} is {str(value)[:40]!r}, expected true or false")
    return value

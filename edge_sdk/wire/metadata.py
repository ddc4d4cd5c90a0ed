"""Reading what an endpoint tells of a model, from any server that speaks the protocol."""

from __future__ import annotations

from typing import Any

import msgspec

from edge_sdk.errors import InvalidAnswer
from edge_sdk.wire.endpoint import ModelMetadata

__all__ = ["read_configuration", "read_document", "read_metadata"]


class _Tensor(msgspec.Struct, frozen=True):
    name: str
    datatype: str = ""
    shape: tuple[int, ...] = ()


class _Metadata(msgspec.Struct, frozen=True):
    name: str
    versions: tuple[str, ...] | None = None
    platform: str | None = None
    inputs: tuple[_Tensor, ...] | None = None
    outputs: tuple[_Tensor, ...] | None = None
    parameters: dict[str, Any] | None = None


def read_metadata(body: memoryview, where: str) -> ModelMetadata:
    """The answer to `GET /v2/models/NAME`. Keys that are not known are ignored: servers have extensions.

    Raises:
        InvalidAnswer: no JSON of this form.
    """
    try:
        read = msgspec.json.decode(body, type=_Metadata)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidAnswer(f"{where}: the metadata is not as the protocol says: {error}") from None
    inputs, outputs = read.inputs or (), read.outputs or ()
    return ModelMetadata(
        name=read.name,
        versions=read.versions or (),
        platform=read.platform or "",
        inputs=tuple(tensor.name for tensor in inputs),
        outputs=tuple(tensor.name for tensor in outputs),
        datatypes={tensor.name: tensor.datatype for tensor in (*inputs, *outputs)},
        shapes={tensor.name: tensor.shape for tensor in (*inputs, *outputs)},
        parameters=read.parameters or {},
    )


def read_document(body: memoryview) -> dict[str, Any]:
    """A JSON object, or an empty one where `body` holds none: errors of a proxy on the way are no JSON."""
    try:
        document = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def read_configuration(body: memoryview) -> dict[str, str]:
    """Parameters in the answer to Triton's `GET /v2/models/NAME/config`; empty where it is of another form.

    Source: Triton's "Model Configuration" extension; values are objects `{"string_value": …}`.
    """
    parameters = read_document(body).get("parameters")
    if not isinstance(parameters, dict):
        return {}
    values = {name: value.get("string_value") for name, value in parameters.items() if isinstance(value, dict)}
    return {name: value for name, value in values.items() if isinstance(value, str)}

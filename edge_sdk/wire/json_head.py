"""The JSON head of a body: scanned for what no parser refuses, then read into typed objects."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec

from edge_sdk.errors import WireError
from edge_sdk.wire.limits import Limits

__all__ = ["Head", "Parameters", "RequestHead", "RequestedHead", "ResponseHead", "TensorHead", "read_head", "scan"]

Parameters = dict[str, str | int | float | bool]


class TensorHead(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One tensor; `data` is left as text until its size is known to fit `shape`."""

    name: str
    datatype: str
    shape: list[int]
    parameters: Parameters = {}
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class RequestedHead(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One output that is asked for."""

    name: str
    parameters: Parameters = {}


class RequestHead(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Head of an inference request."""

    id: str = ""
    parameters: Parameters = {}
    inputs: list[TensorHead]
    outputs: list[RequestedHead] = []


class ResponseHead(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Head of an inference response."""

    model_name: str
    model_version: str = ""
    id: str = ""
    parameters: Parameters = {}
    outputs: list[TensorHead]


Head = TypeVar("Head", RequestHead, ResponseHead)
_DECODERS: dict[type[msgspec.Struct], msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(kind) for kind in (RequestHead, ResponseHead)
}

# Brackets, keys, and strings that are none. A string that does not end takes the rest: otherwise each quote in it would
# be tried as another beginning.
_TOKEN = re.compile(rb'([\[\]{}])|"([^"\\]*+(?:\\.[^"\\]*+)*+)(?:"(\s*+:)?|\\?\Z)', re.DOTALL)
_SHORT_BYTES = 16 * 2**10


def scan(text: bytes | memoryview, limits: Limits, where: str) -> None:
    """Refuses JSON that is nested too deeply or names a key twice in one object, without building anything of it.

    Raises:
        WireError: says which.
    """
    keys: list[set[bytes] | None] = []
    for mark, key, colon in _tokens(text):
        if mark in (b"{", b"["):
            if len(keys) >= limits.max_json_depth:
                raise WireError(f"{where}: JSON is nested deeper than {limits.max_json_depth} levels")
            keys.append(set() if mark == b"{" else None)
        elif mark:
            if not keys:
                raise WireError(f"{where}: JSON is broken: {mark.decode()!r} closes nothing")
            keys.pop()
        elif colon and keys and (known := keys[-1]) is not None:
            plain = _plain(key)
            if plain in known:
                name = plain[:80].decode(errors="replace")
                raise WireError(f"{where}: JSON names the key {name!r} twice in one object")
            known.add(plain)


def _tokens(text: bytes | memoryview) -> Iterable[tuple[bytes, bytes, bytes]]:
    if len(text) <= _SHORT_BYTES:
        return _TOKEN.findall(text)  # several times faster, but holds all tokens at once
    return (token.groups(b"") for token in _TOKEN.finditer(text))  # type: ignore[misc]


def _plain(key: bytes) -> bytes:
    if b"\\" not in key:
        return key
    try:
        return msgspec.json.decode(b'"' + key + b'"', type=str).encode()
    except (msgspec.DecodeError, UnicodeError):
        return key  # broken: the parser that comes next refuses it with its place


def read_head(text: memoryview, kind: type[Head], limits: Limits, where: str) -> Head:
    """Reads the head.

    Raises:
        WireError: too large, no JSON, or a key is missing or of the wrong type.
    """
    if len(text) > limits.max_json_bytes:
        raise WireError(
            f"{where}: its JSON has {len(text)} bytes, more than the {limits.max_json_bytes} that are read;"
            " send large tensors as binary data",
            status=413,
        )
    scan(text, limits, where)
    try:
        head: Head = _DECODERS[kind].decode(text)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise WireError(f"{where}: {' '.join(str(error).split())[:300]}") from None
    return head

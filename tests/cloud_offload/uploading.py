"""Bundles to upload, and the requests of an upload one by one."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from edge_sdk import bundle
from edge_sdk.bundle import Bundle, Variant
from tests import models
from tests.bundle.making import SIGNATURE
from tests.cloud_offload.endpoints import Endpoint, Reply

PARTIAL = {"Content-Type": "application/partial-upload"}


def small_bundle(path: Path, hidden: int = 4, as_zip: bool = True) -> Bundle:
    """One variant of 4 hidden units in 1 KB; every 29,000 more add 1.4 MB."""
    network = models.onnx_mlp(8, hidden, 4)
    path.parent.mkdir(parents=True, exist_ok=True)
    return bundle.create(
        path, name="mlp", signature=SIGNATURE, variants=[Variant(name="only")], files={"only": network}, as_zip=as_zip
    )


def content_of(path: Path, hidden: int = 4) -> bytes:
    """The bytes of such a bundle as one file."""
    small_bundle(path, hidden).close()
    return path.read_bytes()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def place(name: str, content: bytes) -> str:
    return f"/v2/repository/models/{name}/uploads/{sha256(content)}"


def begin(
    endpoint: Endpoint,
    name: str,
    content: bytes,
    query: str = "",
    headers: dict[str, str] | None = None,
    size: int | None = None,
) -> Reply:
    """Begins an upload of `content`, or of what `headers` say instead."""
    digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
    told = {
        "Upload-Length": str(len(content) if size is None else size),
        "Upload-Complete": "?0",
        "Repr-Digest": f"sha-256=:{digest}:",
    }
    path = f"/v2/repository/models/{name}/uploads{query}"
    return endpoint.ask("POST", path, None, {k: v for k, v in {**told, **(headers or {})}.items() if v})


def send(
    endpoint: Endpoint, name: str, content: bytes, offset: int = 0, end: int | None = None, **headers: str
) -> Reply:
    """Sends the bytes from `offset` to `end`."""
    piece = content[offset:end]
    told = {
        **PARTIAL,
        "Upload-Offset": str(offset),
        "Upload-Complete": "?1" if end is None or end >= len(content) else "?0",
    }
    return endpoint.ask("PATCH", place(name, content), piece, {**told, **headers})


def offset_of(endpoint: Endpoint, name: str, content: bytes) -> int:
    """Where the upload goes on."""
    reply = endpoint.ask("GET", place(name, content))
    assert reply.status == 204, reply.body
    return int(reply.headers["upload-offset"])

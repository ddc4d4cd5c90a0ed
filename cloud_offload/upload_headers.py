"""What the headers of an upload say.

Source: "Resumable Uploads for HTTP" (draft-ietf-httpbis-resumable-upload-09); RFC 9530 for the hash.
"""

from __future__ import annotations

import base64
import binascii
import re

from cloud_offload.exchange import Exchange
from cloud_offload.refusals import Refusal

__all__ = ["PARTIAL", "read_digest", "read_flag", "read_length", "read_replace"]

PARTIAL = "application/partial-upload"
"""The content type of bytes that go on with an upload."""


def read_digest(exchange: Exchange) -> str:
    """The hash of the whole, from `Repr-Digest: sha-256=:base64:`."""
    text = exchange.header(b"repr-digest")
    found = re.search(r"(?:^|[,\s])sha-256=:([A-Za-z0-9+/=]{1,64}):", text)
    try:
        digest = base64.b64decode(found[1], validate=True) if found else b""
    except binascii.Error:
        digest = b""
    if len(digest) != 32:
        raise Refusal(400, "an upload begins with the header Repr-Digest: sha-256=:…:, the hash of the whole bundle")
    return digest.hex()


def read_length(exchange: Exchange) -> int:
    """The bytes of the whole, told where an upload begins."""
    length = exchange.number(b"upload-length")
    if not length:
        raise Refusal(400, "an upload begins with the header Upload-Length, the bytes of the whole bundle")
    if read_flag(exchange, b"upload-complete") is not False:
        raise Refusal(400, "an upload begins with the header Upload-Complete: ?0, since its bytes follow")
    return length


def read_flag(exchange: Exchange, name: bytes) -> bool | None:
    """A header that is true or false (RFC 9651); None where it is not there."""
    text = exchange.header(name)
    if text not in ("", "?0", "?1"):
        raise Refusal(400, f"the header {name.decode()} is {text[:40]!r}, expected ?0 or ?1")
    return text == "?1" if text else None


def read_replace(query: bytes) -> bool:
    """Whether a bundle with other content may be replaced."""
    given = query.decode("latin-1")
    if given not in ("", "replace=true", "replace=false"):
        raise Refusal(400, f"{given[:100]!r} is no option of an upload: expected replace=true")
    return given == "replace=true"

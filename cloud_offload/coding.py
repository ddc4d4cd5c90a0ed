"""Content codings of HTTP bodies at the endpoint: which to use, and expanding without being filled up by a bomb.

Source: RFC 9110, sections 8.4 and 12.5.3; RFC 8878 (zstd).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any

from cloud_offload.refusals import Refusal

__all__ = ["accepted", "compressed", "expanded"]

_LEVEL = 1
"""Tensors hardly compress better at higher levels."""
_ORDER = ("zstd", "gzip", "deflate")


def expanded(body: bytes | memoryview, coding: str, max_bytes: int) -> memoryview:
    """The body that travelled in `coding`, of at most `max_bytes`.

    Raises:
        Refusal: 415 for an unknown coding, 413 where it is too large, 400 where it is broken.
    """
    if coding in ("gzip", "x-gzip", "deflate"):
        stream: Any = zlib.decompressobj(15 if coding == "deflate" else 31)
    elif coding == "zstd" and (zstd := _zstd()) is not None:
        stream = zstd.ZstdDecompressor()
    else:
        known = ", ".join(_known())
        raise Refusal(415, f"content coding {coding[:40]!r} is not known; expected one of {known}")
    try:
        content = stream.decompress(bytes(body) if coding == "zstd" else body, max_bytes + 1)
    except Exception as error:  # noqa: BLE001 - each library has errors of its own
        raise Refusal(400, f"the body is no valid {coding}: {error}") from None
    if len(content) > max_bytes:
        raise Refusal(413, f"the body has more than {max_bytes} bytes once expanded")
    if not stream.eof or stream.unused_data:
        raise Refusal(400, f"the body ends in the middle of its {coding}, or goes on after it")
    return memoryview(content)


def accepted(header: str) -> str | None:
    """The coding for an answer to a client that sent `Accept-Encoding: header`; None for none."""
    wanted = set()
    for entry in header.lower().split(","):
        name, _, rest = entry.strip().partition(";")
        weight = rest.replace(" ", "").removeprefix("q=") or "1"
        if weight.strip("0.") or not rest:
            wanted.add(name.strip())
    return next((coding for coding in _ORDER if coding in wanted and coding in _known()), None)


def compressed(parts: Iterable[bytes | memoryview], coding: str) -> bytes:
    """A body in `coding`, one of those that `accepted` gives."""
    if coding == "zstd":
        compressor: Any = _zstd().ZstdCompressor(level=_LEVEL)
    else:
        compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, 31 if coding == "gzip" else 15)
    return b"".join([*[compressor.compress(part) for part in parts], compressor.flush()])


def _known() -> tuple[str, ...]:
    return _ORDER if _zstd() is not None else _ORDER[1:]


def _zstd() -> Any:
    try:
        from backports import zstd
    except ImportError:
        return None
    return zstd

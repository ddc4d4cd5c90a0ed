"""HTTP content coding of bodies: gzip, deflate and zstd, and reading them without being filled up by a bomb.

Source: RFC 9110, section 8.4.1 (gzip, deflate as zlib); RFC 8878 (zstd).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any

from edge_sdk.errors import InvalidAnswer, MissingExtra

__all__ = ["CODINGS", "coded", "decoded", "known_codings"]

CODINGS = ("gzip", "deflate", "zstd")
LEVEL = 1
"""Activations do not compress much better at higher levels, and the device pays for them."""


def coded(parts: Iterable[bytes | memoryview], coding: str) -> bytes:
    """A body in content coding `coding`.

    Raises:
        MissingExtra: zstd is not installed.
        ValueError: no such coding.
    """
    if coding == "zstd":
        compressor: Any = _zstd().ZstdCompressor()
    elif coding in ("gzip", "deflate"):
        compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, 31 if coding == "gzip" else 15)
    else:
        raise ValueError(f"content coding {coding!r} is not known; expected one of: {', '.join(CODINGS)}")
    pieces = [compressor.compress(part) for part in parts]
    return b"".join([*pieces, compressor.flush()])


def decoded(body: memoryview, coding: str, max_bytes: int, where: str) -> memoryview:
    """The body that was coded, of at most `max_bytes`.

    Raises:
        InvalidAnswer: unknown coding, broken, incomplete or too large.
    """
    if coding in ("", "identity"):
        return body
    try:
        if coding in ("gzip", "x-gzip", "deflate"):
            stream: Any = zlib.decompressobj(15 if coding == "deflate" else 31)
            content = stream.decompress(body, max_bytes + 1)
        elif coding == "zstd":
            stream = _zstd().ZstdDecompressor()
            content = stream.decompress(bytes(body), max_bytes + 1)
        else:
            raise InvalidAnswer(f"{where}: the answer has content coding {coding[:40]!r}, which was not asked for")
    except InvalidAnswer:
        raise
    except MissingExtra:
        raise InvalidAnswer(f"{where}: the answer has content coding 'zstd', which was not asked for") from None
    except Exception as error:  # noqa: BLE001 - each library has errors of its own
        raise InvalidAnswer(f"{where}: the answer is no valid {coding}: {error}") from None
    if len(content) > max_bytes:
        raise InvalidAnswer(f"{where}: the answer has more than {max_bytes} bytes once decompressed")
    if not stream.eof:
        raise InvalidAnswer(f"{where}: the answer ends in the middle of its {coding}")
    return memoryview(content)


def known_codings() -> tuple[str, ...]:
    """Those that can be read here."""
    try:
        _zstd()
    except MissingExtra:
        return CODINGS[:2]
    return CODINGS


def _zstd() -> Any:
    try:
        from backports import zstd
    except ImportError:
        raise MissingExtra('zstd is not installed; pip install "edge-sdk[split]"') from None
    return zstd

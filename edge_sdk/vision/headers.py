"""What the first bytes of a picture file tell, read before any decoder sees the file.

A decoder allocates what a header claims, and some fill what is missing with grey. So type, size and wholeness are
judged here, from the formats' own documents: JPEG (ITU-T T.81), PNG (W3C), GIF89a, BMP, WebP (RFC 9649), TIFF 6.0,
Netpbm.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass

__all__ = ["BadHeader", "PictureHeader", "read_header"]

_JPEG_NO_LENGTH = frozenset((0x01, *range(0xD0, 0xD9)))
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_MAX_SCANS = 500
"""A progressive file needs about ten; thousands of scans of one large picture would keep a decoder busy for minutes."""
_NETPBM = re.compile(rb"P([1-6])(?:\s|#[^\n]*\n)+(\d{1,9})(?:\s|#[^\n]*\n)+(\d{1,9})(?:\s|#[^\n]*\n)+")


class BadHeader(ValueError):
    """Why the bytes are no whole picture of a known type. Caught within this room."""


@dataclass(frozen=True, slots=True)
class PictureHeader:
    """Type and size of a picture as its file claims them.

    Attributes:
        kind: "JPEG", "PNG", "GIF", "BMP", "WebP", "TIFF" or "Netpbm".
        width: in pixels, before any turning that EXIF asks for.
        height: in pixels.
    """

    kind: str
    width: int
    height: int


def read_header(data: bytes) -> PictureHeader:
    """Judges a picture file by its content.

    Args:
        data: the whole file.

    Raises:
        BadHeader: not a picture of a known type, truncated, or without a size.
    """
    if not data:
        raise BadHeader("the file is empty")
    try:
        header = _read(data)
    except (struct.error, IndexError, OverflowError):
        raise BadHeader("the picture is truncated within its header") from None
    if header.width <= 0 or header.height <= 0:
        raise BadHeader(f"its header claims {header.width}x{header.height} pixels")
    return header


def _read(data: bytes) -> PictureHeader:
    if data.startswith(b"\xff\xd8\xff"):
        return _jpeg(data)
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _png(data)
    if data.startswith((b"GIF87a", b"GIF89a")):
        return PictureHeader("GIF", *struct.unpack_from("<HH", data, 6))
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _webp(data)
    if data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return _tiff(data)
    if data.startswith(b"BM"):
        return _bmp(data)
    netpbm = _NETPBM.match(data)
    if netpbm:
        return PictureHeader("Netpbm", int(netpbm[2]), int(netpbm[3]))
    if data[4:8] == b"ftyp":
        raise BadHeader("it is of the HEIF or AVIF family, which is not read; convert it to JPEG or PNG")
    raise BadHeader("not a picture of a known type (JPEG, PNG, GIF, BMP, WebP, TIFF, PPM)")


def _jpeg(data: bytes) -> PictureHeader:
    size: tuple[int, int] | None = None
    at = 2
    while True:
        # Some cameras leave bytes between segments; decoders pass over them too.
        at = data.find(b"\xff", at)
        if at < 0:
            raise BadHeader("the JPEG is truncated (it has no picture data)")
        while data[at] == 0xFF:
            at += 1
        marker = data[at]
        at += 1
        if marker == 0xD9:
            raise BadHeader("the JPEG ends before its picture begins")
        if marker in _JPEG_NO_LENGTH:
            continue
        if marker in _JPEG_FRAMES:
            size = struct.unpack_from(">HH", data, at + 3)
        if marker == 0xDA:
            break
        at += max(2, struct.unpack_from(">H", data, at)[0])
    if size is None:
        raise BadHeader("the JPEG does not tell its size")
    # Within the coded data 0xFF is always followed by 0x00 or a restart, so the end marker found there is the true one.
    if data.find(b"\xff\xd9", at) < 0:
        raise BadHeader("the JPEG is truncated (it has no end)")
    if data.count(b"\xff\xda", at) > _JPEG_MAX_SCANS:
        raise BadHeader(f"the JPEG has more than {_JPEG_MAX_SCANS} scans")
    return PictureHeader("JPEG", size[1], size[0])


def _png(data: bytes) -> PictureHeader:
    width, height = struct.unpack_from(">II", data, 16)
    at = 8
    view = memoryview(data)
    while True:
        if at + 12 > len(data):
            raise BadHeader("the PNG is truncated (it has no end)")
        (length,) = struct.unpack_from(">I", data, at)
        kind = data[at + 4 : at + 8]
        if at + 12 + length > len(data):
            raise BadHeader("the PNG is truncated")
        # libpng would print its complaint about a damaged chunk on stderr, past any handler. Chunks in lower case may
        # be damaged without harm.
        if (
            kind[:1].isupper()
            and zlib.crc32(view[at + 4 : at + 8 + length]) != struct.unpack_from(">I", data, at + 8 + length)[0]
        ):
            raise BadHeader(f"the PNG is damaged (checksum of its {kind.decode('latin-1')!r} chunk)")
        if kind == b"IEND":
            return PictureHeader("PNG", width, height)
        at += 12 + length


def _webp(data: bytes) -> PictureHeader:
    if struct.unpack_from("<I", data, 4)[0] + 8 > len(data) + 1:
        raise BadHeader("the WebP is truncated")
    kind = data[12:16]
    if kind == b"VP8X":
        wide, high = data[24:27], data[27:30]
        return PictureHeader("WebP", int.from_bytes(wide, "little") + 1, int.from_bytes(high, "little") + 1)
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return PictureHeader("WebP", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return PictureHeader("WebP", width & 0x3FFF, height & 0x3FFF)
    raise BadHeader("the WebP begins with an unknown chunk")


def _bmp(data: bytes) -> PictureHeader:
    start, header_size = struct.unpack_from("<II", data, 10)
    if header_size == 12:
        width, height, _, depth = struct.unpack_from("<HHHH", data, 18)
        compression = 0
    else:
        width, height, _, depth, compression = struct.unpack_from("<iiHHI", data, 18)
    height = abs(height)
    if compression == 0 and start + (width * depth + 31) // 32 * 4 * height > len(data):
        raise BadHeader("the BMP is truncated")
    return PictureHeader("BMP", width, height)


def _tiff(data: bytes) -> PictureHeader:
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    if big:
        (at,) = struct.unpack_from(order + "Q", data, 8)
        (count,) = struct.unpack_from(order + "Q", data, at)
        first, entry = at + 8, 20
    else:
        (at,) = struct.unpack_from(order + "I", data, 4)
        (count,) = struct.unpack_from(order + "H", data, at)
        first, entry = at + 2, 12
    found: dict[int, int] = {}
    for index in range(min(count, 4096)):
        place = first + index * entry
        tag, kind = struct.unpack_from(order + "HH", data, place)
        if tag in (256, 257):
            # 3 is SHORT; LONG (4) and LONG8 (16) are read as LONG, which the values of real pictures fit.
            value = place + (12 if big else 8)
            if order == ">" and kind == 16:
                value += 4
            found[tag] = struct.unpack_from(order + ("H" if kind == 3 else "I"), data, value)[0]
    if len(found) < 2:
        raise BadHeader("the TIFF does not tell its size")
    return PictureHeader("TIFF", found[256], found[257])

"""Protobuf's wire format, read in place: fields and where their content lies, with every length checked.

Source: https://protobuf.dev/programming-guides/encoding/. Nothing is copied but what a caller asks for, so that
weights of any size cost nothing to step over.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edge_sdk.errors import DamagedModel

__all__ = ["FIXED32", "FIXED64", "LENGTH", "MAX_DEPTH", "VARINT", "Field", "Wire", "encode_varint"]

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
WIRE_NAMES = {VARINT: "varint", FIXED64: "64 bits", LENGTH: "length-delimited", FIXED32: "32 bits"}
MAX_DEPTH = 100
"""How deep messages may nest: the limit of protobuf's own C++ parser, so what it would refuse is refused here."""
MAX_MESSAGES = 1_000_000
"""How many messages one file may hold; the largest published models have some hundred thousand."""

Field = tuple[int, int, int, int, int]
"""(number, wire type, value or first byte of the content, end of the content, position of the tag)."""


class Wire:
    """Reads the messages of one file.

    Args:
        content: the file.
        name: what error messages call it.
    """

    def __init__(self, content: memoryview, name: str) -> None:
        self.content = content
        self.name = name
        self._messages = 0

    def damaged(self, at: int, what: str) -> DamagedModel:
        """The error for contradictory bytes at offset `at`."""
        size = len(self.content)
        return DamagedModel(f"{self.name}: damaged ONNX file: {what} at byte {at} of {size}; fetch or export it again")

    def enter(self, at: int, depth: int) -> None:
        """Counts a message that begins at `at`, `depth` messages deep. Raises DamagedModel beyond the limits."""
        self._messages += 1
        if depth > MAX_DEPTH:
            raise self.damaged(at, f"messages nest deeper than {MAX_DEPTH}")
        if self._messages > MAX_MESSAGES:
            raise self.damaged(at, f"more than {MAX_MESSAGES} messages")

    def fields(self, start: int, end: int) -> Iterator[Field]:
        """The fields of the message between `start` and `end`. Raises DamagedModel where they do not fit in."""
        content = self.content
        position = start
        while position < end:
            at = position
            tag = content[position]
            position += 1
            if tag >= 0x80:
                tag, position = self._varint(at, end)
            number, wire = tag >> 3, tag & 7
            if number == 0 or tag >> 32:
                raise self.damaged(at, "no such field number")
            if wire in (LENGTH, VARINT):
                if position >= end:
                    raise self.damaged(at, f"field {number} is cut off")
                value = content[position]
                position += 1
                if value >= 0x80:
                    value, position = self._varint(position - 1, end)
                if wire == VARINT:
                    yield number, wire, value, position, at
                    continue
                begin, position = position, position + value
            elif wire == FIXED32:
                begin, position = position, position + 4
            elif wire == FIXED64:
                begin, position = position, position + 8
            else:
                raise self.damaged(at, f"field {number} has wire type {wire}")
            if position > end:
                raise self.damaged(at, f"field {number} reaches {position - end} bytes beyond its message")
            yield number, wire, begin, position, at

    def _varint(self, position: int, end: int) -> tuple[int, int]:
        content = self.content
        value = shift = 0
        for at in range(position, min(end, position + 10)):
            byte = content[at]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & 0xFFFF_FFFF_FFFF_FFFF, at + 1
            shift += 7
        raise self.damaged(position, "a number without an end")

    def expect(self, field: Field, wire: int, what: str) -> None:
        """Raises DamagedModel unless the field has this wire type."""
        if field[1] != wire:
            raise self.damaged(field[4], f"{what} is written as {WIRE_NAMES[field[1]]} instead of {WIRE_NAMES[wire]}")

    def text(self, field: Field, what: str) -> str:
        """The field's content as a string."""
        return self.raw(field, what, utf8=True).decode()

    def raw(self, field: Field, what: str, utf8: bool = False) -> bytes:
        """A copy of the field's content."""
        self.expect(field, LENGTH, what)
        content = bytes(self.content[field[2] : field[3]])
        if utf8 and not content.isascii():
            try:
                content.decode()
            except UnicodeDecodeError:
                raise self.damaged(field[2], f"{what} is not UTF-8") from None
        return content

    def signed(self, field: Field, what: str) -> int:
        """The field's value as int64."""
        self.expect(field, VARINT, what)
        return field[2] - (1 << 64) if field[2] >> 63 else field[2]

    def integers(self, field: Field, what: str) -> list[int]:
        """A repeated int64 field, packed or one element of it. Meant for short ones: each number becomes an object."""
        if field[1] == VARINT:
            return [self.signed(field, what)]
        self.expect(field, LENGTH, what)
        values = []
        position, end = field[2], field[3]
        while position < end:
            value, position = self._varint(position, end)
            values.append(value - (1 << 64) if value >> 63 else value)
        return values

    def count_varints(self, field: Field, what: str) -> int:
        """How many numbers a repeated varint field holds, packed or one element, not reading them one by one."""
        if field[1] == VARINT:
            return 1
        self.expect(field, LENGTH, what)
        span = np.frombuffer(self.content[field[2] : field[3]], np.uint8)
        if span.size == 0:
            return 0
        last = np.flatnonzero(span < 0x80)
        if last.size == 0 or last[-1] != span.size - 1 or int(np.diff(last, prepend=-1).max()) > 10:
            raise self.damaged(field[2], f"{what} holds a number without an end")
        return int(last.size)

    def count_fixed(self, field: Field, size: int, what: str) -> int:
        """How many numbers of `size` bytes a repeated fixed-width field holds, packed or one element of it."""
        wire = FIXED32 if size == 4 else FIXED64
        if field[1] == wire:
            return 1
        self.expect(field, LENGTH, what)
        count, rest = divmod(field[3] - field[2], size)
        if rest:
            raise self.damaged(field[2], f"{what} is not a whole number of {size}-byte elements")
        return count


def encode_varint(value: int) -> bytes:
    """A non-negative number as protobuf writes it."""
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)

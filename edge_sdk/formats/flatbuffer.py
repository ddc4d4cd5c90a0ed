"""FlatBuffers, read in place: tables, vectors and strings, with every offset checked before it is followed.

Source: https://flatbuffers.dev/internals/. The checks are those of the C++ `flatbuffers::Verifier` (bounds, alignment,
depth and number of tables), driven by the schema as data instead of generated code.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_sdk.errors import DamagedModel
from edge_sdk.formats.tflite_schema import TABLES, UNIONS

__all__ = ["FlatBuffer", "Table"]

MAX_DEPTH = 64
"""How deep tables may nest: the limit of the C++ verifier."""
MAX_NUMBERS = 16_000_000
"""How many numbers of vectors may be read as Python objects; real files hold scales and shapes there, no weights."""

_SCALARS = {
    "bool": ("<?", 1), "byte": ("<b", 1), "ubyte": ("<B", 1), "short": ("<h", 2), "ushort": ("<H", 2), "int": ("<i", 4),
    "uint": ("<I", 4), "long": ("<q", 8), "ulong": ("<Q", 8), "float": ("<f", 4), "double": ("<d", 8),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Slot:
    """One field of a table of the schema. `kind` is "scalar", "string", "table", "union", "numbers", "strings" or
    "tables"; `of` the scalar type, table or union it is of."""

    index: int
    name: str
    kind: str
    of: str
    default: float


@functools.cache
def _slots(table: str) -> dict[str, Slot]:
    slots = {}
    for index, text in enumerate(TABLES.get(table, "").split()):
        if text == "-":
            continue
        name, _, kind = text.partition(":")
        kind, _, default = kind.partition("=")
        inner = kind.strip("[]")
        vector = kind.startswith("[")
        if inner in _SCALARS:
            slot = Slot(index, name, "numbers" if vector else "scalar", inner, int(default or 0))
        elif inner == "string":
            slot = Slot(index, name, "strings" if vector else "string", inner, 0)
        elif inner.startswith("union:"):
            slot = Slot(index, name, "union", inner.removeprefix("union:"), 0)
        else:
            slot = Slot(index, name, "tables" if vector else "table", inner, 0)
        slots[name] = slot
    return slots


@functools.cache
def _members(union: str) -> list[str]:
    return UNIONS[union].split()


class FlatBuffer:
    """A file of tables.

    Args:
        content: the file.
        name: what error messages call it.
    """

    def __init__(self, content: memoryview, name: str) -> None:
        self.content = content
        self.size = len(content)
        self.name = name
        # Many offsets may lead to one table, string or vector. So that a small file makes little work, what is followed
        # may add up to no more than a file of this size could hold without sharing, and some.
        self._tables_left = 1_000 + len(content) // 4
        self._numbers_left = min(1_000 + len(content), MAX_NUMBERS)
        self._text_left = 100_000 + len(content)
        self._vtables: dict[tuple[int, str], tuple[int, tuple[int, ...]]] = {}

    def damaged(self, at: int, what: str) -> DamagedModel:
        """The error for contradictory bytes at offset `at`."""
        return DamagedModel(
            f"{self.name}: damaged TFLite file: {what} at byte {at} of {self.size}; fetch or convert it again"
        )

    def root(self, kind: str) -> Table:
        """The root table, of this kind."""
        return Table(self, self.follow(0, "root table"), kind)

    def span(self, at: int, length: int, align: int, what: str) -> None:
        """Raises DamagedModel unless `length` bytes at `at` lie in the file, `at` a multiple of `align`."""
        if at < 0 or at + length > self.size:
            raise self.damaged(at, f"{what} lies outside of the file")
        if at % align:
            raise self.damaged(at, f"{what} is not aligned")

    def uint32(self, at: int, what: str) -> int:
        """The unsigned number at `at`."""
        self.span(at, 4, 4, what)
        return int(struct.unpack_from("<I", self.content, at)[0])

    def follow(self, at: int, what: str) -> int:
        """Where the offset at `at` leads."""
        offset = self.uint32(at, what)
        if offset == 0 or offset >= 1 << 31:
            raise self.damaged(at, f"{what} has offset {offset}")
        return at + offset

    def vector(self, at: int, item_size: int, what: str) -> tuple[int, int]:
        """First byte and number of items of the vector at `at`."""
        count = self.uint32(at, what)
        self.span(at + 4, count * item_size, 1, what)
        return at + 4, count

    def string(self, at: int, what: str) -> str:
        """The string at `at`."""
        start, count = self.vector(at, 1, what)
        if start + count >= self.size or self.content[start + count]:
            raise self.damaged(at, f"{what} has no end")
        self._text_left -= count
        if self._text_left < 0:
            raise self.damaged(at, "strings that share endlessly")
        return bytes(self.content[start : start + count]).decode("utf-8", "backslashreplace")

    def take_numbers(self, at: int, count: int) -> None:
        """Counts numbers read. Raises DamagedModel beyond what such a file can hold."""
        self._numbers_left -= count
        if self._numbers_left < 0:
            raise self.damaged(at, "vectors that share endlessly")

    def vtable(self, at: int, kind: str) -> tuple[int, tuple[int, ...]]:
        """Size of the tables that use the vtable at `at`, and where in them each field lies (0: nowhere)."""
        known = self._vtables.get((at, kind))
        if known is None:
            self.span(at, 4, 2, f"vtable of {kind}")
            vtable_size, table_size = struct.unpack_from("<HH", self.content, at)
            if vtable_size < 4 or vtable_size % 2:
                raise self.damaged(at, f"the vtable of {kind} has {vtable_size} bytes")
            self.span(at, vtable_size, 2, f"vtable of {kind}")
            # Of slots that this schema does not know yet nothing is asked.
            slots = min(vtable_size // 2 - 2, len(TABLES.get(kind, "").split()))
            fields = struct.unpack_from(f"<{slots}H", self.content, at + 4)
            if any(offset and (offset < 4 or offset >= table_size) for offset in fields):
                raise self.damaged(at, f"a field of {kind} lies outside of its table")
            known = self._vtables[at, kind] = table_size, fields
        return known

    def verify(self) -> None:
        """Follows everything the schema knows from the root `Model` table. Raises DamagedModel."""
        self._verify(self.root("Model"), 1)

    def _verify(self, table: Table, depth: int) -> None:
        self._tables_left -= 1
        if self._tables_left < 0 or depth > MAX_DEPTH:
            raise self.damaged(table.position, "tables that share or nest endlessly")
        for slot in table.present():
            if slot.kind == "scalar":
                table.field(slot)
            elif slot.kind == "numbers":
                table.numbers_span(slot.name)
            elif slot.kind == "string":
                table.string(slot.name)
            elif slot.kind == "strings":
                for _ in table.strings(slot.name):
                    pass
            else:
                for child in table.children(slot):
                    self._verify(child, depth + 1)


class Table:
    """A table of a known kind. Its vtable is checked when it is made, each field when it is read."""

    __slots__ = ("_fields", "file", "kind", "position", "slots")

    def __init__(self, file: FlatBuffer, position: int, kind: str) -> None:
        self.file = file
        self.kind = kind
        self.position = position
        self.slots = _slots(kind)
        file.span(position, 4, 4, kind)
        vtable = position - int(struct.unpack_from("<i", file.content, position)[0])
        table_size, self._fields = file.vtable(vtable, kind)
        file.span(position, table_size, 4, kind)

    def present(self) -> Iterator[Slot]:
        """The slots known to the schema that this table fills."""
        return (slot for slot in self.slots.values() if slot.index < len(self._fields) and self._fields[slot.index])

    def field(self, slot: Slot) -> int | None:
        """Where the field lies, with room for what it holds; None where it is absent."""
        offset = self._fields[slot.index] if slot.index < len(self._fields) else 0
        if not offset:
            return None
        at = self.position + offset
        size = _SCALARS[slot.of][1] if slot.kind == "scalar" else 4
        self.file.span(at, size, size, f"{self.kind}.{slot.name}")
        return at

    def scalar(self, name: str) -> Any:
        """A number or truth value, or the schema's default for it."""
        slot = self.slots[name]
        at = self.field(slot)
        if at is None:
            return slot.default
        return struct.unpack_from(_SCALARS[slot.of][0], self.file.content, at)[0]

    def integer(self, name: str) -> int:
        """An integer, or the schema's default for it."""
        return int(self.scalar(name))

    def has(self, name: str) -> bool:
        """Whether the field is there."""
        return self.field(self.slots[name]) is not None

    def string(self, name: str) -> str:
        """A string; empty where it is absent."""
        at = self.field(self.slots[name])
        what = f"{self.kind}.{name}"
        return "" if at is None else self.file.string(self.file.follow(at, what), what)

    def strings(self, name: str) -> Iterator[str]:
        """The strings of a vector."""
        what = f"{self.kind}.{name}"
        for at in self._items(name):
            yield self.file.string(self.file.follow(at, what), what)

    def numbers_span(self, name: str) -> tuple[int, int]:
        """First byte and number of items of a vector of numbers; (0, 0) where it is absent."""
        slot = self.slots[name]
        at = self.field(slot)
        what = f"{self.kind}.{name}"
        return (0, 0) if at is None else self.file.vector(self.file.follow(at, what), _SCALARS[slot.of][1], what)

    def numbers(self, name: str) -> np.ndarray[Any, np.dtype[Any]]:
        """A vector of numbers, as a view of the file."""
        start, count = self.numbers_span(name)
        self.file.take_numbers(start, count)
        dtype = np.dtype(_SCALARS[self.slots[name].of][0])
        return np.frombuffer(self.file.content, dtype, count, start) if count else np.empty(0, dtype)

    def table(self, name: str) -> Table | None:
        """A table, or the member of a union."""
        return next(self.children(self.slots[name]), None)

    def tables(self, name: str) -> list[Table]:
        """The tables of a vector."""
        return list(self.children(self.slots[name]))

    def count(self, name: str) -> int:
        """How many items a vector of tables has."""
        at = self.field(self.slots[name])
        what = f"{self.kind}.{name}"
        return 0 if at is None else self.file.vector(self.file.follow(at, what), 4, what)[1]

    def item(self, name: str, index: int) -> Table:
        """One table of a vector. `index` must be below `count`."""
        slot = self.slots[name]
        at = self.field(slot)
        what = f"{self.kind}.{name}"
        if at is None:
            raise IndexError(index)
        start, count = self.file.vector(self.file.follow(at, what), 4, what)
        if not 0 <= index < count:
            raise IndexError(index)
        return Table(self.file, self.file.follow(start + 4 * index, what), slot.of)

    def children(self, slot: Slot) -> Iterator[Table]:
        """The tables that a field of kind "table", "tables" or "union" holds."""
        at = self.field(slot)
        what = f"{self.kind}.{slot.name}"
        if slot.kind == "union":
            kind = self.union_kind(slot.name)
            if kind is None:
                return
            if at is None:
                raise self.file.damaged(self.position, f"{what} is announced as {kind} but absent")
            if kind:
                yield Table(self.file, self.file.follow(at, what), kind)
        elif at is not None and slot.kind == "table":
            yield Table(self.file, self.file.follow(at, what), slot.of)
        elif at is not None:
            for item in self._items(slot.name):
                yield Table(self.file, self.file.follow(item, what), slot.of)

    def union_kind(self, name: str) -> str | None:
        """The table a union holds; None where it holds nothing, "" where this schema does not know its kind."""
        kind = self.integer(f"{name}_type")
        members = _members(self.slots[name].of)
        if kind == 0:
            return None
        return members[kind] if kind < len(members) else ""

    def _items(self, name: str) -> Iterator[int]:
        at = self.field(self.slots[name])
        if at is None:
            return
        what = f"{self.kind}.{name}"
        start, count = self.file.vector(self.file.follow(at, what), 4, what)
        yield from range(start, start + 4 * count, 4)

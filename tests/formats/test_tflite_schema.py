"""The schema as data agrees with the one generated for ai-edge-litert."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from edge_sdk.formats.tflite_schema import BUILTIN_OPS, TABLES, TENSOR_TYPES, UNIONS

schema = pytest.importorskip("ai_edge_litert.schema_py_generated")


def by_code(enum: Any) -> dict[int, str]:
    return {code: name for name, code in vars(enum).items() if isinstance(code, int)}


def generated_slots() -> dict[str, dict[str, int]]:
    """Index by name (lower case, without underscores) of the slots that each generated class reads, by table."""
    parts = re.split(r"^class (\w+)\(object\):\n", Path(schema.__file__).read_text(), flags=re.MULTILINE)[1:]
    found: dict[str, dict[str, int]] = {}
    for table, source in zip(parts[::2], parts[1::2], strict=True):
        slots = re.findall(r"def (\w+)\(self[^\n]*\):\n[^\n]*_tab\.Offset\((\d+)\)", source)
        found.setdefault(table, {}).update({name.lower(): (int(offset) - 4) // 2 for name, offset in slots})
    return found


def test_every_slot_lies_where_the_generated_code_reads_it() -> None:
    tables = generated_slots()
    for table, text in TABLES.items():
        generated = tables[table]
        for index, slot in enumerate(text.split()):
            name = slot.partition(":")[0].replace("_", "")
            if name != "-":
                assert generated[name] == index, f"{table}.{slot}"


def test_names_of_ops_types_and_union_members() -> None:
    # A newer schema may know more, at the end.
    ops = by_code(schema.BuiltinOperator)
    assert [ops[code] for code in range(len(BUILTIN_OPS.split()))] == BUILTIN_OPS.split()
    types = by_code(schema.TensorType)
    assert [
        types[code].lower().replace("8_e", "8e") for code in range(len(TENSOR_TYPES.split()))
    ] == TENSOR_TYPES.split()
    for union, text in UNIONS.items():
        kinds = by_code(getattr(schema, union))
        assert [kinds[code] for code in range(len(text.split()))] == text.split()

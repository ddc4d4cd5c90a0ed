"""`edge-sdk inspect --ops`: what each op of a model costs, as a table and as JSON."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edge_sdk.cli.plain import plain

if TYPE_CHECKING:
    from edge_sdk.graph import Graph, Op

__all__ = ["graph_record", "graph_text", "named_sizes"]

_LONGEST_NAME = 48
_HEAD = ("op", "type", "kind", "MACs", "share", "parameters", "weights", "reads", "writes", "precision")
_NUMBERS = range(3, 9)
"""Columns that are right-aligned."""


def named_sizes(text: str) -> dict[str, int]:
    """Sizes written as "batch=4,sequence=128". For argparse: a ValueError becomes its message."""
    sizes = {}
    for part in text.split(","):
        name, sign, number = part.rpartition("=")
        if not sign or not name.strip() or not number.strip().isdecimal():
            raise argparse.ArgumentTypeError(f"{part!r} is no NAME=NUMBER")
        sizes[name.strip()] = int(number)
    return sizes


def graph_record(graph: Graph) -> dict[str, Any]:
    """The graph for JSON; bytes and counts as they are."""
    return {
        "macs": graph.macs,
        "parameters": graph.parameters,
        "parameter_bytes": graph.parameter_bytes,
        "activation_bytes": graph.activation_bytes,
        "peak_activation_bytes": graph.peak_activation_bytes,
        "assumed": dict(graph.assumed),
        "uncounted": dict(graph.uncounted),
        "ops": [
            {
                "name": op.name,
                "type": op.type,
                "kind": op.kind,
                "inputs": list(op.inputs),
                "outputs": list(op.outputs),
                "output_shapes": [graph.tensors[name].shape if name else None for name in op.outputs],
                "attributes": dict(op.attributes),
                "macs": op.macs,
                "share": _share(op, graph),
                "parameters": op.parameters,
                "parameter_bytes": op.parameter_bytes,
                "input_bytes": op.input_bytes,
                "output_bytes": op.output_bytes,
                "precision": op.precision,
                "counted": op.counted,
            }
            for op in graph.ops
        ],
    }


def graph_text(graph: Graph) -> str:
    """A row per op in the order they run, then the totals."""
    rows = [_row(op, graph) for op in graph.ops]
    return "\n".join([*_aligned([_HEAD, *rows]), "", *_totals(graph)])


def _row(op: Op, graph: Graph) -> tuple[str, ...]:
    share = _share(op, graph)
    name = plain(op.name)
    return (
        name if len(name) <= _LONGEST_NAME else "…" + name[1 - _LONGEST_NAME :],
        plain(op.type),
        op.kind,
        "?" if op.macs is None else _count(op.macs),
        f"{share:.1%}" if share else "",
        _count(op.parameters) if op.parameters else "",
        _size(op.parameter_bytes) if op.parameter_bytes else "",
        _size(op.input_bytes),
        _size(op.output_bytes),
        op.precision,
    )


def _share(op: Op, graph: Graph) -> float:
    return (op.macs or 0) / graph.macs if graph.macs else 0.0


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            f"{cell:>{width}}" if column in _NUMBERS else f"{cell:{width}}"
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _totals(graph: Graph) -> list[str]:
    kinds: dict[str, int] = {}
    for op in graph.ops:
        kinds[op.kind] = kinds.get(op.kind, 0) + (op.macs or 0)
    heavy = sorted(((macs, kind) for kind, macs in kinds.items() if macs), reverse=True)
    shares = ", ".join(f"{kind} {macs / graph.macs:.1%}" for macs, kind in heavy)
    rows = [
        ("MACs", f"{_count(graph.macs)} in {len(graph.ops)} ops" + (f": {shares}" if shares else "")),
        ("weights", f"{_count(graph.parameters)} in {_size(graph.parameter_bytes)}"),
        (
            "activations",
            f"{_size(graph.activation_bytes)} in all, {_size(graph.peak_activation_bytes)} at most at one moment",
        ),
        ("assumed", _named(graph.assumed)),
        ("not counted", _named(graph.uncounted, " ")),
    ]
    return [f"{title:<13}{value}" for title, value in rows if value]


def _named(numbers: Mapping[str, int], sign: str = " = ") -> str:
    return ", ".join(f"{plain(name)}{sign}{number}" for name, number in numbers.items())


def _count(number: int) -> str:
    if number < 100_000:
        return f"{number:,}"
    return f"{number / 1e6:.2f} M" if number < 1_000_000_000 else f"{number / 1e9:.2f} G"


def _size(count: int) -> str:
    if count < 1000:
        return f"{count} B"
    return f"{count / 1e3:.1f} kB" if count < 1_000_000 else f"{count / 1e6:.2f} MB"

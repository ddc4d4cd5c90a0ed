"""Tables for people: left-aligned columns of plain text, which a pipe passes on as it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["table"]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines with columns as wide as their widest cell; the last column is as long as it is."""
    lines = [head, *rows]
    widths = [max(len(row[column]) for row in lines) for column in range(len(head) - 1)] + [0]
    return ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in lines]

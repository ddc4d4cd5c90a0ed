"""What a build gave, as text for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_sdk.cli.plain import plain
from edge_sdk.cli.tables import table

if TYPE_CHECKING:
    from edge_sdk.building import BuildResult, VariantRow

__all__ = ["as_text"]


def as_text(result: BuildResult) -> list[str]:
    """A table of the variants, what became of those that are not stored, and what was assumed."""
    head = (
        "variant",
        "status",
        "latency",
        "faster",
        "size",
        plain(result.metric) or "judged",
        "drop",
        "error",
        "precision",
    )
    lines = table(head, [_row(row) for row in result.rows])
    for row in result.rows:
        if row.status != "stored":
            lines += ["", f"{plain(row.name)}: {plain(row.why)}", *(f"  {plain(layer)}" for layer in row.layers)]
    for made in result.cascades:
        faster = "" if made.latency_ratio is None else f", {made.latency_ratio:.2f} of its latency"
        big = plain(made.big)
        told = f"cascade: {plain(made.small)}, and {big} for {made.escalated_share:.0%} of the requests: "
        told += f"{plain(made.metric)} {made.accuracy:.1%} against {made.big_accuracy:.1%} of {big} alone{faster}"
        lines += ["", f"{told} ({made.held_out} samples held out)"]
    if result.notes:
        lines += ["", *(plain(note) for note in result.notes)]
    stored = [row for row in result.rows if row.is_stored]
    told = f"{len(stored)} variant{'s' * (len(stored) != 1)}, {_size(result.size_bytes)}"
    lines += ["", f"{plain(result.path)}: release {result.release}, {told}"]
    if (judged := next((row for row in stored if row.data), None)) is not None:
        lines.append(f"judged on {judged.samples} samples of {plain(judged.data)}; {plain(judged.isa)}")
    return lines


def _row(row: VariantRow) -> tuple[str, ...]:
    figure = row.accuracy if row.accuracy is not None else row.agreement
    return (
        plain(row.name),
        row.status,
        "" if row.latency_ms is None else f"{row.latency_ms:.3g} ms",
        "" if row.speedup is None else f"{row.speedup:.2f}x",
        _size(row.size_bytes) if row.size_bytes else "",
        "" if figure is None else f"{figure * 100:.1f} %",
        "" if row.drop is None else f"{row.drop * 100:+.2f}",
        "" if row.mean_error is None else f"{row.mean_error:.2g}",
        plain(row.precision),
    )


def _size(count: int) -> str:
    return f"{count / 1e6:.2f} MB" if count >= 1_000_000 else f"{count / 1e3:.1f} kB"

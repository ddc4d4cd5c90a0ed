"""`edge-sdk inspect NAME.edge`: what a bundle's manifest says, and its variants with their figures."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from edge_sdk.cli.plain import plain
from edge_sdk.cli.tables import table

if TYPE_CHECKING:
    from edge_sdk.bundle import Bundle, Cascade, Cut, Variant
    from edge_sdk.signature import LogicalTensor

__all__ = ["show_bundle"]


def show_bundle(path: str, as_json: bool) -> None:
    """Prints a bundle for people, or its manifest as JSON.

    Raises:
        ModelError: it is no bundle, or damaged.
    """
    import msgspec

    from edge_sdk import bundle

    with bundle.open(path) as opened:
        if as_json:
            print(json.dumps({"model": path, "format": "edge", "manifest": msgspec.to_builtins(opened.manifest)}))
        else:
            print("\n".join(_page(opened)))


def _page(opened: Bundle) -> list[str]:
    manifest, signature = opened.manifest, opened.signature
    rows = [
        ("bundle", [f"{plain(manifest.name)}, release {manifest.release}, digest {manifest.digest[:16]}…"]),
        ("inputs", [_tensor(tensor) for tensor in signature.inputs]),
        ("outputs", [_tensor(tensor) for tensor in signature.outputs]),
        ("labels", [_labels(signature.labels)] if signature.labels else []),
        ("pictures", [plain(", ".join(f"{k} {v}" for k, v in signature.preprocessing.items()))]),
        ("cuts", [_cuts(manifest.cuts)] if manifest.cuts else []),
        ("cascades", [_cascade(one) for one in manifest.cascades]),
        ("golden", [f"{len(manifest.golden)} requests"] if manifest.golden else []),
        ("recipe", [plain(f"{key}: {value}") for key, value in manifest.recipe.items()]),
    ]
    lines = []
    for title, values in rows:
        lines += [f"{title if index == 0 else '':<13}{value}" for index, value in enumerate(filter(None, values))]
    head = ("variant", "format", "precision", "size", "MACs", "accuracy", "latency", "note")
    return [*lines, "", *table(head, [_row(variant) for variant in opened.variants])]


def _tensor(tensor: LogicalTensor) -> str:
    shape = (
        "unknown rank" if tensor.shape is None else f"[{', '.join('?' if d is None else str(d) for d in tensor.shape)}]"
    )
    layout = f" {tensor.layout}" if tensor.layout else ""
    return plain(f"{tensor.name}  {tensor.dtype}{shape}{layout}{'  ' + tensor.meaning if tensor.meaning else ''}")


def _labels(labels: Iterable[str]) -> str:
    every = [plain(label) for label in labels]
    return f"{len(every)}: {', '.join(every[:6])}{', …' if len(every) > 6 else ''}"


def _cuts(cuts: Sequence[Cut]) -> str:
    measured = [cut for cut in cuts if cut.codecs]
    return f"{len(cuts)}, {len(measured)} of them measured" if measured else str(len(cuts))


def _cascade(one: Cascade) -> str:
    return plain(
        f"{one.small}, and {one.big} for {one.escalated_share:.0%}: {one.metric} {one.accuracy:.4g} against"
        f" {one.big_accuracy:.4g} on {one.held_out} samples"
    )


def _row(variant: Variant) -> tuple[str, ...]:
    accuracy = variant.accuracy[0] if variant.accuracy else None
    latency = variant.latency[0] if variant.latency else None
    return (
        plain(variant.name),
        variant.format,
        plain(variant.precision),
        f"{variant.total_bytes / 1e6:.2f} MB",
        "-" if variant.macs is None else f"{variant.macs / 1e6:.1f} M",
        "-" if accuracy is None else plain(f"{accuracy.metric} {accuracy.value:.4g} on {accuracy.data}"),
        "-" if latency is None else plain(f"{latency.latency_ms:.3g} ms on {latency.device}"),
        plain("; ".join(filter(None, (variant.kept, *variant.notes)))),
    )

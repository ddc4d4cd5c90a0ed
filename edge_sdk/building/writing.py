"""From what was made and judged to the bundle on disk."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from edge_sdk import __version__
from edge_sdk import signature as signatures
from edge_sdk.building.figures import Observed, this_device
from edge_sdk.building.golden import golden_requests
from edge_sdk.building.result import VariantRow
from edge_sdk.bundle import Accuracy, Bundle, Cascade, Cut, Latency, Variant, create
from edge_sdk.compress.data import Data

if TYPE_CHECKING:
    from edge_sdk.vision import Preprocessing

__all__ = ["MARK", "Entry", "described", "write_bundle"]

MARK = "beyond max-drop"


@dataclass(frozen=True, slots=True)
class Entry:
    """A variant that goes into the bundle, and where it may be divided."""

    row: VariantRow
    file: Path
    mapping: signatures.Mapping | None
    observed: Observed
    cuts: tuple[Cut, ...] = ()


def write_bundle(
    out: Path,
    name: str,
    like: signatures.Signature,
    entries: Sequence[Entry],
    samples: Sequence[Mapping[str, Any]],
    recipe: Mapping[str, str],
    as_zip: bool | None,
    cascades: Sequence[Cascade] = (),
) -> Bundle:
    """Writes the bundle.

    Args:
        out, name, as_zip: see `bundle.create`.
        like: what all variants answer to.
        entries: the variants.
        samples: feeds of the golden requests; every entry was observed on them.
        recipe: how the bundle was built.
        cascades: of its variants.

    Raises:
        As `bundle.create`.
    """
    device = this_device()
    return create(
        out,
        name=name,
        signature=like,
        variants=[_in_bundle(entry, device.name, device.fingerprint) for entry in entries],
        files={entry.row.name: entry.file for entry in entries},
        cuts=[cut for entry in entries for cut in entry.cuts],
        cascades=cascades,
        golden=golden_requests(samples, [(e.row.name, e.row.precision, e.observed) for e in entries]),
        recipe={"edge-sdk": __version__, **recipe},
        as_zip=as_zip,
    )


def _in_bundle(entry: Entry, device: str, fingerprint: str) -> Variant:
    row = entry.row
    latency = Latency(
        device=device, engine=row.engine, latency_ms=row.latency_ms or 0.0, runs=row.runs, fingerprint=fingerprint
    )
    return Variant(
        name=row.name,
        precision=row.precision,
        mapping=entry.mapping or signatures.Mapping(),
        macs=row.macs,
        parameters=row.parameters,
        peak_activation_bytes=row.peak_activation_bytes,
        accuracy=_accuracy(row),
        latency=(latency,) if row.latency_ms else (),
        kept=MARK if row.status == "kept" else "",
        recipe=row.recipe,
        notes=row.notes,
    )


def _accuracy(row: VariantRow) -> tuple[Accuracy, ...]:
    """The figures, the one that counts first, each with the data, engine and ISA it was measured on."""
    figures: list[tuple[str, float | None]] = [
        (row.metric, row.accuracy),
        ("agreement", row.agreement),
        ("mean_error", row.mean_error),
    ]
    about: dict[str, Any] = {"data": row.data, "samples": row.samples, "engine": row.engine, "isa": row.isa}
    found = [(metric, value) for metric, value in figures if value is not None and math.isfinite(value)]
    return tuple(
        Accuracy(metric=metric, value=value, drop=row.drop if place == 0 else None, **about)
        for place, (metric, value) in enumerate(found)
    )


def described(
    like: signatures.Signature, given: Sequence[Data | None], classes: tuple[str, ...]
) -> signatures.Signature:
    """The signature with what the user or the data tells: class names, and how a picture becomes the input."""
    known = [data for data in given if data is not None]
    detector = next((data.detector for data in known if data.detector is not None), None)
    named = [data.classes for data in known] + ([detector.labels] if detector is not None else [])
    made = next((data.preprocessing for data in known if data.preprocessing is not None), None)
    return msgspec.structs.replace(
        like,
        labels=tuple(classes or next((names for names in named if names), ())),
        preprocessing={} if made is None else _as_flags(made),
        postprocessing={} if detector is None else {"decoder": detector.name},
    )


def _as_flags(preprocessing: Preprocessing) -> dict[str, str]:
    """The settings as the flags of `edge-sdk run` have them."""
    return {
        "size": f"{preprocessing.height}x{preprocessing.width}",
        "mean": ",".join(f"{figure:.9g}" for figure in preprocessing.mean),
        "scale": ",".join(f"{figure:.9g}" for figure in preprocessing.scale),
        "layout": preprocessing.layout,
        "channels": preprocessing.channels,
        "resize": preprocessing.resize,
        "interpolation": preprocessing.interpolation,
    }

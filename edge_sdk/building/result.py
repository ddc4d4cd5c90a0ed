"""What a build gives: one row a variant, stored or not, with its figures and the reason. One versioned JSON form."""

from __future__ import annotations

import msgspec

from edge_sdk.bundle import Cascade

__all__ = ["SCHEMA", "STORED", "BuildResult", "VariantRow"]

SCHEMA = 1
STORED = ("stored", "kept")


class VariantRow(msgspec.Struct, frozen=True, kw_only=True):
    """One variant that was tried.

    Attributes:
        name: "fp32", "int8-static", …
        status: "stored"; "kept" (beyond the bound, stored with a mark because that was asked for); "dropped" (beyond
            the bound); "duplicate" (the same file as another); "not made" (there is nothing to be done, or something is
            missing); "failed".
        why: one line.
        format, precision: of the file.
        size_bytes: of the file and the files that hold its weights.
        metric: what `drop` counts: "top-1", "mAP", "agreement", "mean error", …
        accuracy: by the metric, where there are labels.
        agreement, mean_error, drop: see `compress.guard.Verdict`.
        samples, data, engine, isa: what these were measured on; `engine` with its version.
        latency_ms: median of a request here, by the engine's default.
        speedup: how many times faster than the first variant, both measured in turn.
        runs: how many requests were measured.
        macs, parameters, peak_activation_bytes: what the graph costs; None where it could not be read.
        layers: those that hurt most, where it lies beyond the bound: "conv2 (Conv): 0.31 off, 0.10 of it its own".
        recipe: how it was made.
        notes: lines for people.
        seconds: how long making and judging took.
    """

    name: str
    status: str
    why: str = ""
    format: str = ""
    precision: str = ""
    size_bytes: int = 0
    metric: str = ""
    accuracy: float | None = None
    agreement: float | None = None
    mean_error: float | None = None
    drop: float | None = None
    samples: int = 0
    data: str = ""
    engine: str = ""
    isa: str = ""
    latency_ms: float | None = None
    speedup: float | None = None
    runs: int = 0
    macs: int | None = None
    parameters: int | None = None
    peak_activation_bytes: int | None = None
    layers: tuple[str, ...] = ()
    recipe: dict[str, str] = {}
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def is_stored(self) -> bool:
        """Whether it is in the bundle."""
        return self.status in STORED


class BuildResult(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle that was written, and the table it came from.

    Attributes:
        name: of the model.
        source: the model file or whatever it was converted from.
        path: of the bundle.
        digest, release: of the bundle.
        size_bytes: of all files in it.
        device: name of the machine the latencies are of.
        calibration, evaluation: names of the data; "" where none was given.
        metric: what decided.
        source_accuracy: of the source, where there are labels.
        max_drop: the bound.
        rows: one a variant, in the order they were tried.
        cascades: pairs of variants that hold the bound together.
        notes: what was assumed or left out, one line each.
    """

    schema: int = SCHEMA
    name: str
    source: str
    path: str
    digest: str
    release: int
    size_bytes: int
    device: str
    calibration: str = ""
    evaluation: str = ""
    metric: str = ""
    source_accuracy: float | None = None
    max_drop: float
    rows: tuple[VariantRow, ...]
    cascades: tuple[Cascade, ...] = ()
    notes: tuple[str, ...] = ()

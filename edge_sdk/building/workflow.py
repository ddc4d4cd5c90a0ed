"""`build`: from one model to a bundle of variants with honest figures."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from edge_sdk.building.coding_costs import measured_cuts
from edge_sdk.building.figures import Observer, this_device
from edge_sdk.building.golden import golden_samples
from edge_sdk.building.pairing import found_cascades, without_idle
from edge_sdk.building.result import BuildResult, VariantRow
from edge_sdk.building.trials import Progress, Trials
from edge_sdk.building.writing import Entry, described, write_bundle
from edge_sdk.bundle import Cascade
from edge_sdk.compress.data import Data, read_data
from edge_sdk.compress.guard import Guard
from edge_sdk.compress.making import kind_of
from edge_sdk.compress.running import Subject, logical_signature
from edge_sdk.compress.scores import Metric, metric_for
from edge_sdk.compress.variants import Maker
from edge_sdk.errors import BundleError, CompressionError, EdgeError, InputValueError
from edge_sdk.signature import Signature

__all__ = ["CALIBRATION_SAMPLES", "Reading", "build"]


def _silent(_what: str, _done: int, _total: int) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Reading:
    """How data is read.

    Attributes:
        samples: the most to take of each data set; None for `CALIBRATION_SAMPLES` and all for evaluation.
        classes: names of the model's classes by index.
        settings: of `vision.Preprocessing.for_input`.
    """

    samples: int | None = None
    classes: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


CALIBRATION_SAMPLES = 256
"""More hardly change the ranges that calibration finds."""


def build(
    source: Path,
    out: Path,
    *,
    calibration: Path | Data | None = None,
    evaluate: Path | Data | None = None,
    variants: Sequence[str] | None = None,
    max_drop: float = 0.01,
    keep: bool = False,
    twins: Sequence[Path] = (),
    metric: str | None = None,
    reading: Reading | None = None,
    name: str | None = None,
    as_zip: bool | None = None,
    measure_s: float = 1.0,
    cuts_s: float | None = None,
    cascade: bool = False,
    smalls: Sequence[Path] = (),
    recipe: Mapping[str, str] | None = None,
    progress: Progress = _silent,
) -> BuildResult:
    """Makes variants of a model, judges each against it, and writes those that hold the bound into a bundle.

    What cannot be made, or fails, is a row that says why; it never fails the build.

    Args:
        source: an ONNX or TFLite file; see `conversion.convert` for others.
        out: the bundle, NAME.edge by custom; an older one there becomes the release before.
        calibration: samples to quantise and prune by. Without them only variants that need none are made.
        evaluate: samples to judge by, with labels where there are any; those of `calibration` where None.
        variants: which; all that the format has where None.
        max_drop: the largest drop of the metric that a variant may show.
        keep: whether variants beyond it are stored with a mark, rather than dropped.
        twins: the same model in other files, stored beside it after an equality check.
        metric: see `scores.metric_for`.
        reading: how the data is read, where paths are given.
        name: of the model; the source's where None.
        as_zip: see `bundle.create`.
        measure_s: how long timing one variant may take; 0 times nothing.
        cuts_s: how long measuring the cuts of a variant by every codec may take (see `coding_costs.measured_cuts`);
            None to list them only.
        cascade: whether to look for pairs of variants that hold `max_drop` together (see `pairing.found_cascades`);
            variants beyond the bound are then stored with a mark where a cascade needs them.
        smalls: other, smaller models of the same inputs and outputs that a cascade may begin with.
        recipe: how the source itself came about, for the bundle to keep.
        progress: told before each step.

    Raises:
        ModelError: the source cannot be used.
        InputError: the data does not fit it, or an argument does not fit.
        CompressionError: a twin is not the same model, or a small model does not take and give the same.
        BundleError: no variant is left to be stored, or something else is at `out`.
        StorageError: the bundle could not be written; what was there still stands.
    """
    source, out = Path(source), Path(out)
    reading = reading or Reading()
    cascade = cascade or bool(smalls)
    _check_wish(variants, max_drop)
    with Subject(source, foreign=True) as subject:
        specs = subject.inputs, subject.outputs
        calibrating = _data(calibration, *specs, reading, reading.samples or CALIBRATION_SAMPLES)
        judging = _data(evaluate, *specs, reading, reading.samples) or calibrating
        samples = golden_samples(judging, subject)
    if judging is None and metric is not None:
        raise InputValueError(f"metric {metric!r} needs data with labels; give it as evaluate")
    if judging is None and (cascade or cuts_s is not None):
        raise InputValueError(f"{'a cascade' if cascade else 'measuring cuts'} needs data; give it as evaluate")
    guard = None if judging is None else Guard(source, judging, max_drop, metric_for(judging, metric))
    like = described(logical_signature(*specs), (judging, calibrating), reading.classes)
    with (
        tempfile.TemporaryDirectory(prefix="edge-sdk-build-") as folder,
        Observer(samples, like, measure_s) as observer,
        Maker(source, calibrating, guard) as maker,
    ):
        trials = Trials(source, Path(folder), maker, guard, observer, keep or cascade)
        trials.run(variants, twins, progress, smalls)
        if not trials.entries:
            raise BundleError(f"{out}: no variant is left to be stored: {_last_words(trials.rows)}")
        scoring = None if guard is None else guard.metric
        pairs: tuple[Cascade, ...] = ()
        notes: list[str] = []
        if cascade and judging is not None:
            progress("calibrating cascades", 0, 1)
            pairs, told = found_cascades(trials.entries, judging, scoring, like, max_drop)
            notes += told
            _settle(trials, pairs, keep)
        if cuts_s is not None and judging is not None:
            trials.entries = [_with_cuts(e, judging, scoring, like, cuts_s, notes, progress) for e in trials.entries]
        progress("writing the bundle", 1, 1)
        made_by = {**(recipe or {}), "source": source.name, "max_drop": f"{max_drop:g}"}
        made_by |= {"calibration": _told(calibrating)} if calibrating is not None else {}
        made_by |= {"evaluation": _told(judging)} if judging is not None else {}
        name = name or source.stem
        with write_bundle(out, name, like, trials.entries, samples, made_by, as_zip, pairs) as bundle:
            return BuildResult(
                name=name,
                source=source.name,
                path=str(out),
                digest=bundle.digest,
                release=bundle.manifest.release,
                size_bytes=sum(file.size_bytes for file in bundle.manifest.files),
                device=this_device().name,
                calibration="" if calibrating is None else calibrating.name,
                evaluation="" if judging is None else judging.name,
                metric=next((row.metric for row in trials.rows if row.metric), ""),
                source_accuracy=None if guard is None else guard.source_accuracy,
                max_drop=max_drop,
                rows=tuple(trials.rows),
                cascades=pairs,
                notes=(*_notes(calibrating, judging, (calibration, evaluate), bool(samples)), *notes),
            )


def _settle(trials: Trials, pairs: Sequence[Cascade], keep: bool) -> None:
    """Takes out variants beyond the bound that were made for a cascade and are in none."""
    stay = without_idle(trials.entries, pairs, keep)
    gone = {entry.row.name for entry in trials.entries} - {entry.row.name for entry in stay}
    trials.entries = stay
    trials.rows = [msgspec.structs.replace(r, status="dropped") if r.name in gone else r for r in trials.rows]


def _with_cuts(
    entry: Entry,
    data: Data,
    metric: Metric | None,
    like: Signature,
    budget_s: float,
    notes: list[str],
    progress: Progress,
) -> Entry:
    """The entry with its cuts measured; what could not be is a note."""
    name = entry.row.name
    try:
        cuts, told = measured_cuts(
            entry.file, entry.cuts, data, metric, variant=name, mapping=entry.mapping, like=like, budget_s=budget_s,
            progress=progress,
        )  # fmt: skip
    except EdgeError as error:
        notes.append(f"{name}: its cuts are not measured: {error}")
        return entry
    notes += [f"{name}: {told}"] if told else []
    return replace(entry, cuts=cuts)


def _check_wish(variants: Sequence[str] | None, max_drop: float) -> None:
    if not 0 <= max_drop <= 1:
        raise InputValueError(f"max_drop is {max_drop!r}; expected a share from 0 to 1, such as 0.01")
    if variants is not None and not variants:
        raise InputValueError("variants is empty; name at least one, or leave it out for all")
    if variants is not None and len(set(variants)) < len(variants):
        raise InputValueError(f"variants names one twice: {', '.join(variants)}")
    for name in variants or ():
        for part in name.split("+"):
            try:
                kind_of(part)
            except CompressionError as error:
                raise InputValueError(str(error)) from None


def _data(given: Path | Data | None, inputs: Any, outputs: Any, reading: Reading, samples: int | None) -> Data | None:
    if given is None or isinstance(given, Data):
        return given
    return read_data(given, inputs, outputs, samples=samples, classes=reading.classes, settings=reading.settings)


def _told(data: Data) -> str:
    return f"{len(data.feeds)} samples of {data.name}"


def _notes(
    calibration: Data | None, judging: Data | None, given: tuple[Path | Data | None, Path | Data | None], golden: bool
) -> tuple[str, ...]:
    found = []
    for role, data in (("calibration", calibration), ("evaluation", judging if judging is not calibration else None)):
        found += [] if data is None else [f"{role}: {data.name}: {note}" for note in data.notes]
    if calibration is None:
        found.append("no calibration data: only variants that need none are made")
    if judging is None:
        found.append("no data at all: no variant is judged, and accuracy is not known")
    elif given[1] is None or given[0] == given[1]:
        found.append(f"judged on the calibration data {judging.name}: figures on other data may be lower")
    if judging is None and golden:
        found.append("the golden samples are random numbers, since there is no data")
    elif not golden:
        found.append("no golden samples and no latencies: the model does not run on made-up inputs; give data")
    return tuple(found)


def _last_words(rows: Sequence[VariantRow]) -> str:
    return "; ".join(f"{row.name} {row.status}: {row.why}" for row in rows)[:600] or "none was asked for"

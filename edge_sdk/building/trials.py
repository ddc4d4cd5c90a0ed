"""Trying variants: each is made, judged and timed, and whatever goes wrong with one is a row that says so."""

from __future__ import annotations

import functools
import itertools
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from edge_sdk import signature as signatures
from edge_sdk.building.cutting import kept_cuts
from edge_sdk.building.figures import Costs, Observer, graph_costs, total_bytes
from edge_sdk.building.result import VariantRow
from edge_sdk.building.writing import Entry
from edge_sdk.compress.data import Data
from edge_sdk.compress.guard import Guard, Verdict
from edge_sdk.compress.running import try_first
from edge_sdk.compress.twin import Twin, match
from edge_sdk.compress.variants import Made, Maker, available
from edge_sdk.errors import CompressionError, EdgeError, MissingExtra

__all__ = ["BASELINE", "Progress", "Trials"]

_log = logging.getLogger(__name__)

BASELINE = "fp32"
LAYERS_TOLD = 5
LONGEST_NAME = 60

Progress = Callable[[str, int, int], None]
"""Called with what is done now, how many steps are done, and how many there are."""


class Trials:
    """The variants of one build: tried one after the other, each ending as a row, the good ones also as an entry.

    Args:
        source: the model file.
        folder: where variants are made.
        maker: what makes them.
        guard: what judges them; None where there is no data.
        observer: what runs and times those that are stored.
        keep: whether those beyond the bound are stored too.

    Attributes:
        rows: one a variant so far.
        entries: what goes into the bundle.
    """

    def __init__(
        self,
        source: Path,
        folder: Path,
        maker: Maker,
        guard: Guard | None,
        observer: Observer,
        keep: bool,
    ) -> None:
        self.source, self.folder, self.maker = source, folder, maker
        self.guard, self.observer, self.keep = guard, observer, keep
        self.rows: list[VariantRow] = []
        self.entries: list[Entry] = []
        self._names: dict[str, str] = {}  # of variants seen, by what their files are

    def run(
        self,
        variants: Sequence[str] | None,
        twins: Sequence[Path],
        progress: Progress,
        smalls: Sequence[Path] = (),
    ) -> None:
        """Tries every variant and every twin, and other models that a cascade may begin with.

        Raises:
            CompressionError: a twin is not the same model, or a small model does not take and give the same.
        """
        names = available(self.source) if variants is None else tuple(variants)
        total = len(names) + 2 * len(twins) + 2 * len(smalls) + 1
        done = itertools.count()
        matched: list[Twin] = []
        data = None if self.guard is None else self.guard.data
        for twin in twins:
            # First of all, and not as a row: whoever names another model as a twin has made a mistake.
            progress(f"comparing {twin.name}", next(done), total)
            matched.append(match(self.source, twin, data))
        joined = []
        for small in smalls:
            progress(f"matching {small.name}", next(done), total)
            joined.append(_joined(self.source, small, data))
        for name in names:
            progress(name, next(done), total)
            self.rows.append(self._tried(name, functools.partial(self._variant, name)))
        for twin, found in zip(twins, matched, strict=True):
            progress(f"twin {twin.name}", next(done), total)
            name = self._free_name(f"twin-{twin.suffix[1:].lower() or 'model'}")
            self.rows.append(self._tried(name, functools.partial(self._twin, name, twin, found)))
        for small, found in zip(smalls, joined, strict=True):
            progress(f"small model {small.name}", next(done), total)
            name = self._free_name(f"small-{small.stem}"[:LONGEST_NAME])
            recipe, note = {"small model": small.name}, f"another model than {self.source.name}"
            self.rows.append(
                self._tried(name, functools.partial(self._judged, name, small, found.mapping, "", recipe, (note,)))
            )

    def _tried(self, name: str, attempt: Callable[[], VariantRow]) -> VariantRow:
        began = time.perf_counter()
        try:
            row = attempt()
        except (CompressionError, MissingExtra) as error:
            row = VariantRow(name=name, status="not made", why=str(error).removeprefix(f"{name}: "))
        except EdgeError as error:
            row = VariantRow(name=name, status="failed", why=str(error).removeprefix(f"{name}: "))
        except Exception as error:  # noqa: BLE001 - a quantizer may raise anything; the other variants do not depend on it
            _log.info("variant %s failed", name, exc_info=True)
            row = VariantRow(name=name, status="failed", why=f"{type(error).__name__}: {' '.join(str(error).split())}")
        return msgspec.structs.replace(row, seconds=round(time.perf_counter() - began, 3))

    def _variant(self, name: str) -> VariantRow:
        folder = self.folder / f"{len(self.rows):02d}"
        folder.mkdir()
        made = self._made(name, folder)
        return self._judged(made.name, made.file, None, made.precision, made.recipe, tuple(made.notes))

    def _made(self, name: str, folder: Path) -> Made:
        if name != BASELINE:
            return self.maker.make(name, folder)
        try:
            made = self.maker.make(name, folder)
        except Exception as error:  # noqa: BLE001 - the source is worth having, whatever keeps it from being cleaned
            made = _as_it_is(self.source, f"not cleaned: {' '.join(str(error).split())}")
        return made if _is_float(self.source) else replace(made, name="source")

    def _free_name(self, plain: str) -> str:
        taken = {row.name for row in self.rows}
        return next(n for n in (plain, *(f"{plain}-{i}" for i in range(2, len(taken) + 3))) if n not in taken)

    def _twin(self, name: str, twin: Path, found: Twin) -> VariantRow:
        what = "made-up samples" if found.made_up else "samples"
        note = f"equal to {self.source.name} within {found.error:.1e} on {found.samples} {what}"
        return self._judged(name, twin, found.mapping, "", {"twin": twin.name}, (note,))

    def _judged(
        self,
        name: str,
        file: Path,
        mapping: signatures.Mapping | None,
        precision: str,
        recipe: Mapping[str, str],
        notes: tuple[str, ...],
    ) -> VariantRow:
        """The row of a file that was made: compared, and timed where it is stored."""
        from edge_sdk.formats import open_model

        with open_model(file) as model:
            about = {"format": model.format, "precision": precision or model.describe().precision}
            fingerprint = model.fingerprint
        known: dict[str, Any] = {
            **about, "name": name, "recipe": dict(recipe), "notes": notes, "size_bytes": total_bytes(file)
        }  # fmt: skip
        if fingerprint in self._names:
            why = f"the same file as {self._names[fingerprint]}; not stored twice"
            return VariantRow(status="duplicate", why=why, **known)
        self._names[fingerprint] = name
        try_first(file)
        verdict = self.guard.judge(file, mapping) if self.guard is not None else None
        known |= _figures(verdict)
        if verdict is None:
            return self._stored("stored", "not judged: no data was given", file, mapping, known)
        if verdict.passed:
            return self._stored("stored", verdict.why, file, mapping, known)
        known["layers"] = self._layers(file, mapping)
        if self.keep:
            return self._stored("kept", verdict.why, file, mapping, known)
        return VariantRow(status="dropped", why=verdict.why, **known)

    def _stored(
        self, status: str, why: str, file: Path, mapping: signatures.Mapping | None, known: dict[str, Any]
    ) -> VariantRow:
        """The row of a variant that goes into the bundle, with what it costs here."""
        observed = self.observer.observe(file, mapping)
        known |= {"engine": observed.engine, "latency_ms": observed.latency_ms or None, "runs": observed.runs}
        known |= {"speedup": observed.speedup}
        costs = graph_costs(file)
        if isinstance(costs, Costs):
            known |= {name: getattr(costs, name) for name in ("macs", "parameters", "peak_activation_bytes")}
        else:
            known["notes"] = (*known["notes"], f"the graph's costs are not known: {costs}")
        cuts, uncut = kept_cuts(known["name"], file)
        if uncut:
            known["notes"] = (*known["notes"], uncut)
        row = VariantRow(status=status, why=why, **known)
        self.entries.append(Entry(row, file, mapping, observed, cuts))
        return row

    def _layers(self, file: Path, mapping: signatures.Mapping | None) -> tuple[str, ...]:
        if mapping is not None or self.guard is None:
            return ()
        try:
            layers = self.guard.layers(file)
        except EdgeError as error:
            return (f"not known: {error}",)
        return tuple(
            f"{_short(layer.name)} ({layer.op}): {layer.error:.2g} off, {layer.added:.2g} of it its own"
            for layer in layers[:LAYERS_TOLD]
            if layer.added > 0
        )


def _joined(source: Path, small: Path, data: Data | None) -> Twin:
    """How another model's tensors correspond to the source's."""
    try:
        return match(source, small, data, tolerance=float("inf"))
    except CompressionError as error:
        _, _, how = str(error).partition(f" as {source.name}: ")
        raise CompressionError(
            f"{small.name} cannot answer in the place of {source.name}: {how or error}; expected the same"
            " inputs and outputs"
        ) from None


def _short(name: str) -> str:
    """A layer's name; converters to TFLite join those of all ops they fused."""
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _is_float(file: Path) -> bool:
    from edge_sdk.formats import open_model

    with open_model(file) as model:
        precision = model.describe().precision
    return "float32" in precision or not precision


def _as_it_is(source: Path, why: str) -> Made:
    from edge_sdk.formats import open_model

    with open_model(source) as model:
        info = model.describe()
    return Made(BASELINE, source, info.format, info.precision, {"source": "as it is"}, (why,))


def _figures(verdict: Verdict | None) -> dict[str, Any]:
    if verdict is None:
        return {}
    names = ("metric", "accuracy", "agreement", "mean_error", "drop", "samples", "data", "engine", "isa")
    return {name: getattr(verdict, name) for name in names}

"""What each way for a cut's tensors to travel costs and does: bytes, accuracy, time, how much of the input leaks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edge_sdk import signature as signatures
from edge_sdk.building.split_variant import Parts, SplitVariant
from edge_sdk.bundle import Cut, CutCodec
from edge_sdk.compress.answers import Comparing
from edge_sdk.compress.data import Data, spread
from edge_sdk.compress.leakage import LEAST_SAMPLES, leakage_of
from edge_sdk.compress.scores import Metric
from edge_sdk.errors import EdgeError, MissingExtra
from edge_sdk.offload.input_coding import decode, encode, may_travel_as
from edge_sdk.tensors import Array
from edge_sdk.wire.content_coding import coded, decoded, known_codings
from edge_sdk.wire.limits import Limits

__all__ = ["INPUT_CODINGS", "SAMPLES", "measured_cuts"]

SAMPLES, FEWEST_SAMPLES = 96, 24
"""More tell the bytes no better, and each is run through head and tail by every codec; fewer of a slow variant."""
_PASSES = 160
"""Runs of a sample that the time should allow: some eight cuts with some twenty ways to travel each."""
INPUT_CODINGS = ("jpeg@50", "jpeg@75", "jpeg@90", "webp@50", "webp@75", "webp@90", "flac")
LEAST_GAIN = 0.03
"""Packing that takes off less is not worth a row."""
_MOST_KEPT_BYTES = 256 << 20
_LIMITS = Limits()
_MOST_PACKED = 16
"""Samples that packing is tried and timed on."""


def measured_cuts(
    file: Path,
    cuts: Sequence[Cut],
    data: Data,
    metric: Metric | None = None,
    *,
    variant: str = "",
    mapping: signatures.Mapping | None = None,
    like: signatures.Signature | None = None,
    budget_s: float = 60.0,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> tuple[tuple[Cut, ...], str]:
    """Measures the cuts of a variant, and the one at its inputs, on data.

    Those are measured first that send less than any before them in the graph; what the time does not allow stays as it
    is.

    Args:
        file: the variant.
        cuts: of it, as `kept_cuts` gives them.
        data: of the source; at most `SAMPLES` of it, evenly spread, are used, and `FEWEST_SAMPLES` of a slow variant.
        metric: how to score where there are labels; None for agreement with the variant as it is.
        variant: its name in the bundle.
        mapping, like: how the variant's tensors map to those of the source.
        budget_s: after that no further cut is begun.
        progress: told before each cut.

    Returns:
        All cuts, that at the inputs first where there is one, with what was measured; and one line about the rest.

    Raises:
        ModelError, EngineError: the variant itself does not run.
        InputError: the data does not fit it.
    """
    began_s = time.monotonic()
    done: dict[str, Cut] = {}
    notes = []
    with SplitVariant(file, mapping, like) as whole:
        judging = _Judging(whole, data, metric, budget_s)
        found = {cut.id: cut for cut in cuts}
        if (entry := whole.at_inputs()) is not None:
            fields = set(Cut.__struct_fields__) & set(entry.__slots__)
            found = {entry.id: Cut(variant=variant, **{name: getattr(entry, name) for name in fields})} | found
        for place, cut in enumerate(_in_order(tuple(found.values()))):
            if done and time.monotonic() - began_s > budget_s:
                notes.append(f"{len(done)} of {len(found)} cuts measured, which took {budget_s:g} s")
                break
            progress(f"{variant}: cut {cut.id}", place, len(found))
            try:
                done[cut.id] = _measured(whole, cut, judging)
            except EdgeError as error:
                notes.append(f"cut {cut.id} not measured: {error}")
    return tuple(done.get(cut.id, cut) for cut in found.values()), "; ".join(notes)


def _in_order(cuts: Sequence[Cut]) -> Iterator[Cut]:
    """First those that send less than all before them in the graph, then the others, fewest bytes first."""
    least, later = float("inf"), []
    for cut in sorted(cuts, key=lambda cut: (cut.head_macs or 0, cut.wire_bytes or 0)):
        if (cut.wire_bytes or 0) < least:
            least = cut.wire_bytes or 0
            yield cut
        else:
            later.append(cut)
    yield from sorted(later, key=lambda cut: cut.wire_bytes or 0)


class _Judging:
    """The samples, the whole variant's answers to them, and what other answers are worth beside these."""

    def __init__(self, whole: SplitVariant, data: Data, metric: Metric | None, budget_s: float) -> None:
        self.whole, self.data = whole, data
        self.metric = metric if data.labels is not None else None
        size_bytes = sum(np.asarray(array).nbytes for array in data.feeds[0].values())
        whole.answer(data.feeds[0])
        began_s = time.perf_counter()
        whole.answer(data.feeds[0])
        timely = max(FEWEST_SAMPLES, int(budget_s / _PASSES / max(time.perf_counter() - began_s, 1e-6)))
        fitting = max(LEAST_SAMPLES, _MOST_KEPT_BYTES // max(size_bytes, 1))
        self.places = spread(len(data.feeds), min(SAMPLES, timely, fitting))
        self.feeds = [data.feeds[place] for place in self.places]
        self.stored: list[dict[str, Any]] = []
        self.expected: list[dict[str, Array]] = []
        for feeds in self.feeds:
            stored, answer = whole.answer(feeds)
            self.stored.append(stored)
            self.expected.append(answer)
        self.one_core_s = whole.one_core_s(self.stored[0])
        self.accuracy = self._scored(self.expected)

    def figures(self, outputs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """`metric`, `accuracy`, `drop`, … of the outputs of head and tail to all samples, as a `CutCodec` has them."""
        answers = [self.whole.read(feeds, given) for feeds, given in zip(self.feeds, outputs, strict=True)]
        comparing = Comparing(self.data.detector)
        for expected, answer in zip(self.expected, answers, strict=True):
            comparing.add(expected, answer)
        about: dict[str, Any] = {"data": self.data.name, "samples": len(answers)}
        accuracy = self._scored(answers)
        if accuracy is not None and self.accuracy is not None and self.metric is not None:
            drop = 1.0 if comparing.not_finite else self.accuracy - accuracy
            return about | {"metric": self.metric.name, "accuracy": accuracy, "drop": drop}
        if comparing.agreement is not None:
            return about | {"metric": "agreement", "accuracy": comparing.agreement, "drop": 1 - comparing.agreement}
        error = comparing.mean_error
        return about | {"metric": "mean error", "drop": error if np.isfinite(error) else 1.0}

    def _scored(self, answers: Sequence[Mapping[str, Array]]) -> float | None:
        if self.metric is None or self.data.labels is None:
            return None
        tally = self.metric.start()
        for place, answer in zip(self.places, answers, strict=True):
            tally.add(answer, self.data.labels[place])
        return tally.result()


def _measured(whole: SplitVariant, cut: Cut, judging: _Judging) -> Cut:
    """One cut with all its ways to travel, and its leakage."""
    found = whole.found_again(cut)
    codecs = whole.codecs(found)
    ranges = {codec: whole.ranges(found, codec) for codec in codecs[1:]}
    kept: list[dict[str, Array]] = []
    with whole.parts(found) as parts:
        for stored in judging.stored:
            sent, _ = parts.head(stored)
            for watching in ranges.values():
                watching.add(parts.split, sent)
            if sum(np.asarray(array).nbytes for array in sent.values()) * (len(kept) + 1) <= _MOST_KEPT_BYTES:
                kept.append({name: np.array(array) for name, array in sent.items()})
        rows = list(_ways(parts, "none", judging, found.is_at_inputs))
    for codec in codecs[1:]:
        with whole.parts(found, codec, ranges[codec]) as parts:
            rows += _ways(parts, codec, judging, found.is_at_inputs)
    leakage = leakage_of(kept, judging.stored[: len(kept)]) if len(kept) >= LEAST_SAMPLES else None
    return msgspec.structs.replace(
        cut,
        codecs=tuple(rows),
        leakage=None if leakage is None else leakage.explained,
        leakage_psnr_db=None if leakage is None else leakage.psnr_db,
        leakage_samples=0 if leakage is None else leakage.samples,
    )


@dataclass
class _Packing:
    """One coding being tried: what it makes of each sample, and how long that takes."""

    coding: str
    sizes: list[int] = field(default_factory=list)
    encode_s: list[float] = field(default_factory=list)
    decode_s: list[float] = field(default_factory=list)

    def timed(self, pack: Callable[[], Sequence[Any]], unpack: Callable[[Sequence[Any]], Any]) -> Any:
        """One sample there and back."""
        before_s = time.perf_counter()
        packed = pack()
        between_s = time.perf_counter()
        opened = unpack(packed)
        self.encode_s.append(between_s - before_s)
        self.decode_s.append(time.perf_counter() - between_s)
        self.sizes.append(sum(len(one) if isinstance(one, bytes) else one.nbytes for one in packed))
        return opened

    def as_body(self, travels: Mapping[str, Array]) -> None:
        """One sample as the content of a body in a content coding."""
        content = b"".join(np.ascontiguousarray(array).tobytes() for array in travels.values())
        self.timed(
            lambda: [coded([content], self.coding)],
            lambda packed: decoded(memoryview(packed[0]), self.coding, len(content) + 1, "a sample"),
        )

    def as_files(self, travels: Mapping[str, Array]) -> dict[str, Array]:
        """One sample with each tensor in an input coding; the tensors as they come out."""
        opened: dict[str, Array] = self.timed(
            lambda: [encode(array, self.coding) for array in travels.values()],
            lambda packed: {n: decode(one, n, _LIMITS) for n, one in zip(travels, packed, strict=True)},
        )
        return opened


def _ways(parts: Parts, codec: str, judging: _Judging, at_inputs: bool) -> Iterator[CutCodec]:
    """The rows of one codec: as it is, packed without loss, and at the inputs as pictures and sound."""
    sent: list[dict[str, Array]] = []
    outputs: list[Mapping[str, Any]] = []
    raw: list[int] = []
    files: tuple[str, ...] = ()
    for stored in judging.stored:
        travels, own = parts.head(stored)
        raw.append(sum(np.asarray(array).nbytes for array in travels.values()))
        outputs.append(own | parts.tail(travels))
        if at_inputs and not sent and codec in ("none", "int8", "int16"):
            files = tuple(coding for coding in INPUT_CODINGS if _may_be_files(travels, coding))
        if files or len(sent) < _MOST_PACKED:
            sent.append({name: np.array(array) for name, array in travels.items()})
    mean_bytes, figures = float(np.mean(raw)), judging.figures(outputs)
    yield CutCodec(codec=codec, wire_bytes=mean_bytes, **figures)
    for coding in ("deflate", "zstd"):
        if coding in known_codings():
            packing = _Packing(coding)
            for travels in sent[:_MOST_PACKED]:
                packing.as_body(travels)
            yield from _row(packing, codec, figures, judging, mean_bytes)
    for coding in files:
        yield from _as_files(parts, sent, codec, coding, judging, mean_bytes)


def _may_be_files(travels: Mapping[str, Any], coding: str) -> bool:
    return all(may_travel_as(coding, np.asarray(array).dtype.name, np.shape(array)) for array in travels.values())


def _as_files(
    parts: Parts, sent: Sequence[Mapping[str, Array]], codec: str, coding: str, judging: _Judging, mean_bytes: float
) -> Iterator[CutCodec]:
    packing = _Packing(coding)
    try:
        outputs = [parts.tail(packing.as_files(travels)) for travels in sent]
    except MissingExtra:
        return
    yield from _row(packing, codec, judging.figures(outputs), judging, mean_bytes)


def _row(
    packing: _Packing, codec: str, figures: Mapping[str, Any], judging: _Judging, mean_bytes: float
) -> Iterator[CutCodec]:
    size_bytes = float(np.mean(packing.sizes))
    if size_bytes <= mean_bytes * (1 - LEAST_GAIN):
        yield CutCodec(
            codec=codec,
            coding=packing.coding,
            wire_bytes=size_bytes,
            encode_share=float(np.median(packing.encode_s)) / judging.one_core_s,
            decode_share=float(np.median(packing.decode_s)) / judging.one_core_s,
            **figures,
        )

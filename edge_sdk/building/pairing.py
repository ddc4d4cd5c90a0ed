"""Which variants of a build make a cascade: each pair of a faster and a stored one is calibrated, the best are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_sdk import signature as signatures
from edge_sdk.building.cascading import Answers, calibrated, is_held_out
from edge_sdk.building.writing import Entry
from edge_sdk.bundle import Cascade
from edge_sdk.compress.data import Data
from edge_sdk.compress.running import Subject
from edge_sdk.compress.scores import Metric, best_class, class_scores
from edge_sdk.errors import CompressionError, EdgeError
from edge_sdk.tensors import Array

__all__ = ["found_cascades", "without_idle"]

MOST = 3
MOST_SMALL_SHARE = 0.8
"""A small variant that takes more of the big one's time cannot save much."""


@dataclass(frozen=True, slots=True, eq=False)
class _Said:
    """What one variant said to all samples.

    Attributes:
        output: the one that holds the class scores.
        scores: by sample.
        classes: by sample the best one.
        right: by sample how right that was; None without labels.
    """

    output: str
    scores: list[Array]
    classes: Array
    right: Array | None


def found_cascades(
    entries: Sequence[Entry],
    data: Data,
    metric: Metric | None,
    like: signatures.Signature,
    max_drop: float,
) -> tuple[tuple[Cascade, ...], tuple[str, ...]]:
    """Cascades among variants of one model.

    Args:
        entries: all of them; one that is stored only with a mark may be small, not big.
        data: with labels where there are any; otherwise agreement with the big one counts.
        metric: how one sample is scored where there are labels.
        like: the signature of all.
        max_drop: see `calibrated`.

    Returns:
        The best, fastest first, and one line for each big variant that has none.
    """
    held_out = np.array([is_held_out(feeds) for feeds in data.feeds])
    said: dict[str, _Said] = {}
    notes = []
    for entry in entries:
        try:
            said[entry.row.name] = _said(entry, data, metric, like)
        except EdgeError as error:
            notes.append(f"{entry.row.name} is in no cascade: {error}")
    found: list[tuple[float, Cascade]] = []
    for big in (entry for entry in entries if entry.row.status == "stored" and entry.row.name in said):
        rivals = [entry for entry in entries if entry.row.name in said and _is_smaller(entry, big)]
        made, why = _best(rivals, big, said, held_out, data, metric, max_drop)
        if made and (alone := _as_good_alone(*made[0], entries)):
            made, why = [], alone
        found += made
        notes += [why] if why and not made else []
    found.sort(key=lambda one: one[0])
    return tuple(cascade for _, cascade in found[:MOST]), tuple(notes)


def _best(
    rivals: Sequence[Entry],
    big: Entry,
    said: dict[str, _Said],
    held_out: Array,
    data: Data,
    metric: Metric | None,
    max_drop: float,
) -> tuple[list[tuple[float, Cascade]], str]:
    """The fastest cascade that ends in this variant with what it takes on average, or why there is none."""
    found: list[tuple[float, Cascade]] = []
    why = "" if rivals else f"no cascade ends in {big.row.name}: no other variant is much faster"
    for small in rivals:
        one, other = said[small.row.name], said[big.row.name]
        if one.right is not None and other.right is not None:
            figures = one.right, other.right
        else:
            figures = (one.classes == other.classes).astype(float), np.ones(len(other.classes))
        times = (small.row.latency_ms or 0.0, big.row.latency_ms or 0.0)
        try:
            made = calibrated(
                Answers(one.scores, *figures, held_out),
                output=one.output,
                small=small.row.name,
                big=big.row.name,
                metric="agreement" if metric is None or one.right is None else metric.name,
                data=data.name,
                max_drop=max_drop,
                latencies_ms=times if all(times) else None,
            )
        except CompressionError as error:
            why = why or f"no {error}"
            continue
        found.append(((made.latency_ratio or made.escalated_share) * (times[1] or 1.0), made))
    return sorted(found, key=lambda one: one[0])[:1], why


def _as_good_alone(mean_ms: float, made: Cascade, entries: Sequence[Entry]) -> str:
    """Why a cascade brings nothing: a variant that holds the bound by itself takes no longer; "" where none does."""
    for entry in entries:
        row = entry.row
        if row.status == "stored" and (row.latency_ms <= mean_ms if row.latency_ms else row.name == made.small):
            return f"no cascade of {made.small} and {made.big}: {row.name} holds the bound alone" + (
                f" in {row.latency_ms:.3g} ms, the two take {mean_ms:.3g} ms" if row.latency_ms else ""
            )
    return ""


def _is_smaller(small: Entry, big: Entry) -> bool:
    if small is big:
        return False
    if small.row.latency_ms and big.row.latency_ms:
        return small.row.latency_ms < MOST_SMALL_SHARE * big.row.latency_ms
    return small.row.size_bytes < MOST_SMALL_SHARE * big.row.size_bytes


def _said(entry: Entry, data: Data, metric: Metric | None, like: signatures.Signature) -> _Said:
    output, scores, classes = "", [], []
    right: list[float] = []
    with Subject(entry.file, entry.mapping, like, spin=False) as subject:
        for place, feeds in enumerate(data.feeds):
            answer = subject.answer(feeds)
            row = class_scores(answer)
            if row is None:
                raise CompressionError("it gives no single output of class scores, from which to tell how sure it is")
            output = output or next(name for name, array in answer.items() if np.shares_memory(array, row))
            scores.append(np.array(answer[output]))
            classes.append(best_class(row))
            if metric is not None and data.labels is not None:
                tally = metric.start()
                tally.add(answer, data.labels[place])
                right.append(tally.result())
    return _Said(output, scores, np.array(classes), np.array(right) if right else None)


def without_idle(entries: Sequence[Entry], cascades: Sequence[Cascade], keep: bool) -> list[Entry]:
    """The entries without those beyond the bound that no cascade uses, unless all are to be kept."""
    used = {name for cascade in cascades for name in (cascade.small, cascade.big)}
    return [entry for entry in entries if keep or entry.row.status != "kept" or entry.row.name in used]

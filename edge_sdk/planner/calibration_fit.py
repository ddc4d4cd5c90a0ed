"""From timed kernels to rates: time is a sum of shares that each grow with one count of the work and never shrink it.

    time = call + macs · rate + input bytes · rate + output bytes · rate + weight bytes · rate

That is the roofline model without its corner, since a kernel's reading, computing and writing overlap only in part.
What counts is the relative error; a few kernels that behave otherwise do not bend the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edge_sdk.planner.cost_work import CLASSES, FEATURES, Work, class_of
from edge_sdk.tensors import Array

__all__ = ["ANY", "fit_places", "fit_rates", "nonnegative", "predicted_us", "spread_of"]

ANY = "any"
"""The sort that stands for all that were not met."""
DRAWN_IN = 0.3
LEAST_US = 0.1
WAKING_US = 50.0
"""Chance in a timing beside what grows with it: a thread that has to be woken or not."""
_USUAL_OFF = 0.05
_FEW = 6
_ROUNDS = 6
_CALLS_AND_BYTES = (0, 2, 3)
_SETTLED = 1e-10


def fit_rates(timed: Sequence[tuple[Sequence[Work], float]]) -> dict[tuple[str, str], Array]:
    """Rates by precision and sort.

    Args:
        timed: kernels with the time they take together in microseconds; those timed together are of one precision and
            sort.

    Returns:
        (precision, sort) to one number for each of `FEATURES`: microseconds a call, a MAC, a byte.
    """
    groups: dict[tuple[str, str], list[tuple[Array, float]]] = {}
    for works, time_us in timed:
        if not works:
            continue
        row = np.sum([work.features for work in works], axis=0), max(time_us, LEAST_US)
        groups.setdefault((works[0].precision, works[0].sort), []).append(row)
        if not works[0].macs:
            groups.setdefault((works[0].precision, ANY), []).append(row)
    return {key: _fit(np.array([f for f, _ in rows]), np.array([t for _, t in rows])) for key, rows in groups.items()}


def _fit(features: Array, times: Array) -> Array:
    columns = [c for c in range(len(FEATURES)) if features[:, c].any()]
    if len(times) < _FEW:
        columns = [0, 1] if features[:, 1].any() else [c for c in columns if c in _CALLS_AND_BYTES]
    rates = np.zeros(len(FEATURES))
    rates[columns] = _robust(features[:, columns], times)
    return rates


def _robust(features: Array, times: Array) -> Array:
    """Least relative error, with less weight to rows that are far off in the round before."""
    weights = np.ones(len(times))
    rates = np.zeros(features.shape[1])
    guess = times
    for _ in range(_ROUNDS):
        # Between the relative error by the time and by the guess: too much and too little then weigh alike.
        scale = weights / np.sqrt(times * guess)
        rates = nonnegative(features * scale[:, None], times * scale)
        guess = np.maximum(features @ rates, times / 10)
        weights = 1 / np.sqrt(np.maximum(np.abs(np.log(guess / times)), 0.1))
    return rates


def nonnegative(matrix: Array, target: Array) -> Array:
    """Least squares with no coefficient below 0, by active sets.

    Source: C. Lawson and R. Hanson, Solving Least Squares Problems, chapter 23.

    Args:
        matrix: float64 [rows, columns].
        target: float64 [rows].
    """
    norms = np.linalg.norm(matrix, axis=0)
    scaled = matrix / np.where(norms > 0, norms, 1)
    gram, moments = scaled.T @ scaled + 1e-9 * np.eye(len(norms)), scaled.T @ target
    found, free = np.zeros(len(norms)), np.zeros(len(norms), dtype=bool)
    for _ in range(3 * len(norms)):
        gain = np.where(free | (norms == 0), 0, moments - gram @ found)
        if gain.max(initial=0.0) <= _SETTLED * np.linalg.norm(target):
            break
        free[int(gain.argmax())] = True
        found = _kept_positive(gram, moments, found, free)
    return found / np.where(norms > 0, norms, 1)


def _kept_positive(gram: Array, moments: Array, found: Array, free: Array) -> Array:
    """Goes towards the solution in the free coefficients, and fixes at 0 those that would pass it. Changes `free`."""
    while True:
        wanted = np.zeros(len(found))
        wanted[free] = np.linalg.solve(gram[np.ix_(free, free)], moments[free])
        passing = free & (wanted <= 0)
        if not passing.any():
            return wanted
        step = float((found[passing] / np.maximum(found[passing] - wanted[passing], 1e-300)).min())
        found = found + step * (wanted - found)
        stopped = passing & (found <= _SETTLED)
        found[stopped] = 0.0
        free &= ~(stopped if stopped.any() else passing)


def fit_places(
    rows: Sequence[Sequence[tuple[Work, float]]], totals_us: Sequence[float]
) -> tuple[dict[str, tuple[float, float]], float]:
    """How each class of kernels takes to a place.

    Args:
        rows: kernels of each network with their times on one thread of the fastest cluster, in microseconds.
        totals_us: time of the whole network at the place.

    Returns:
        Class to its share of the time on one thread and microseconds a kernel more; microseconds a request more.
    """
    classes = [name for name in CLASSES if any(class_of(work) == name for row in rows for work, _ in row)]
    counts = np.zeros((len(rows), 2 * len(classes) + 1))
    counts[:, -1] = 1
    for number, row in enumerate(rows):
        for work, time_us in row:
            column = 2 * classes.index(class_of(work))
            counts[number, column] += time_us
            counts[number, column + 1] += 1
    totals = np.array(totals_us)
    # A class that takes little of any network would get whatever share: the mean share draws it in.
    alone = counts[:, :-1:2].sum(axis=1)
    mean = float(np.median(totals[alone > 0] / alone[alone > 0]))
    drawn = np.zeros((len(classes), counts.shape[1]))
    drawn[range(len(classes)), range(0, 2 * len(classes), 2)] = DRAWN_IN
    towards = np.full(len(classes), DRAWN_IN * mean)
    weights, scale = np.ones(len(rows)), 1 / (totals + WAKING_US)
    for _ in range(_ROUNDS):
        matrix = np.vstack([counts * (weights * scale)[:, None], drawn])
        solution = nonnegative(matrix, np.concatenate([totals * weights * scale, towards]))
        weights = 1 / np.sqrt(np.maximum(np.abs(counts @ solution - totals) * scale / _USUAL_OFF, 1))
    shares = {name: (float(solution[2 * i]), float(solution[2 * i + 1])) for i, name in enumerate(classes)}
    return shares, float(solution[-1])


def predicted_us(rates: Mapping[tuple[str, str], Array], works: Sequence[Work]) -> Array:
    """Time of each kernel by rates that were fitted to their sorts, or to any: float64 [kernels], in microseconds."""
    nothing = np.zeros(len(FEATURES))
    found = [rates.get((w.precision, w.sort), rates.get((w.precision, ANY), nothing)) for w in works]
    return np.array([rate @ work.features for rate, work in zip(found, works, strict=True)])


def spread_of(
    rates: Mapping[tuple[str, str], Array], rows: Sequence[Sequence[tuple[Work, float]]], totals_us: Sequence[float]
) -> float:
    """How far off predictions of whole networks are nine times out of ten, as a share."""
    ratios = [
        abs(np.log(max(float(predicted_us(rates, [work for work, _ in row]).sum()), LEAST_US) / total_us))
        for row, total_us in zip(rows, totals_us, strict=True)
    ]
    return float(np.expm1(np.quantile(ratios, 0.9))) if ratios else 0.0

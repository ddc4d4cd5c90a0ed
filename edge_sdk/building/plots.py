"""Where points, bars and labels of a build's plots stand, in the coordinates of an SVG drawing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edge_sdk.building.result import BuildResult, VariantRow

__all__ = ["Bar", "Bars", "Point", "Scatter", "Tick", "bars", "quality", "quality_name", "scatter"]

WIDTH, HEIGHT = 560, 320
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 14, 46
BAR_HEIGHT, BAR_GAP, BAR_LEFT, BAR_RIGHT = 20, 8, 150, 74
SPANS_MUCH = 8
"""Latencies further apart than this stand on a logarithmic axis."""
LINE, LETTER, MARK = 15, 7, 6
"""Height of a line, width of a letter at most, and half the width of a point's mark."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A place on an axis and what stands there."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Point:
    """A variant in the scatter plot; `label_*` is where its name stands, `anchor` "start" or "end"."""

    name: str
    status: str
    x: float
    y: float
    label_x: float
    label_y: float
    anchor: str
    title: str


@dataclass(frozen=True, slots=True)
class Scatter:
    """Latency from left to right, quality upwards."""

    width: int
    height: int
    left: int
    bottom: float
    right: float
    top: int
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    points: tuple[Point, ...]
    y_name: str


@dataclass(frozen=True, slots=True)
class Bar:
    """One variant's figure as a bar."""

    name: str
    status: str
    y: float
    width: float
    text: str


@dataclass(frozen=True, slots=True)
class Bars:
    """One bar a variant."""

    width: int
    height: int
    left: int
    bar_height: int
    bars: tuple[Bar, ...]


def quality(row: VariantRow) -> float | None:
    """The figure by which variants are compared: the metric, else agreement, else 1 - mean error."""
    for figure in (row.accuracy, row.agreement):
        if figure is not None:
            return figure
    return None if row.mean_error is None or not math.isfinite(row.mean_error) else 1 - row.mean_error


def quality_name(result: BuildResult) -> str:
    """What `quality` is in this build."""
    if any(row.accuracy is not None for row in result.rows):
        return result.metric
    if any(row.agreement is not None for row in result.rows):
        return "agreement with the source"
    return "1 - mean error"


def scatter(result: BuildResult) -> Scatter | None:
    """The plot of quality over latency; None where fewer than two variants have both."""
    known = [(row, row.latency_ms, quality(row)) for row in result.rows]
    rows = [(row, latency, figure) for row, latency, figure in known if latency and figure is not None]
    if len(rows) < 2:
        return None
    latencies = [latency for _, latency, _ in rows]
    spans_much = max(latencies) > SPANS_MUCH * min(latencies)
    x_ticks = _log_ticks(min(latencies), max(latencies)) if spans_much else _ticks(0, max(latencies) * 1.05)
    figures = [figure for _, _, figure in rows]
    spare = max((max(figures) - min(figures)) * 0.15, 0.005)
    percent = all(abs(figure) <= 1 for figure in figures)
    y_ticks = _ticks(min(figures) - spare, min(max(figures) + spare, 1.0) if percent else max(figures) + spare)
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT

    def x_of(latency: float) -> float:
        if spans_much:
            return _between(math.log(latency), [math.log(tick) for tick in x_ticks], LEFT, right)
        return _between(latency, x_ticks, LEFT, right)

    def y_of(figure: float) -> float:
        return _between(figure, y_ticks, bottom, TOP)

    placed = _labels([(x_of(latency), y_of(figure)) for _, latency, figure in rows], [row.name for row, _, _ in rows])
    points = [
        Point(row.name, row.status, x_of(latency), y_of(figure), *label, _title(row))
        for (row, latency, figure), label in zip(rows, placed, strict=True)
    ]
    return Scatter(
        WIDTH,
        HEIGHT,
        LEFT,
        bottom,
        right,
        TOP,
        tuple(Tick(x_of(tick), f"{tick:g}") for tick in x_ticks),
        tuple(Tick(y_of(tick), f"{tick * 100:.4g} %" if percent else f"{tick:g}") for tick in y_ticks),
        tuple(points),
        quality_name(result),
    )


def bars(rows: Sequence[VariantRow]) -> Bars:
    """The sizes of all variants that have one."""
    sized = [row for row in rows if row.size_bytes]
    most = max((row.size_bytes for row in sized), default=1)
    room = WIDTH - BAR_LEFT - BAR_RIGHT
    drawn = [
        Bar(
            row.name,
            row.status,
            i * (BAR_HEIGHT + BAR_GAP),
            room * row.size_bytes / most,
            f"{row.size_bytes / 1e6:.3g} MB",
        )
        for i, row in enumerate(sized)
    ]
    return Bars(WIDTH, max(1, len(drawn)) * (BAR_HEIGHT + BAR_GAP), BAR_LEFT, BAR_HEIGHT, tuple(drawn))


def _title(row: VariantRow) -> str:
    figure = quality(row)
    told = "" if figure is None else f"{figure * 100:.2f} %, "
    return f"{row.name}: {row.latency_ms:.3g} ms, {told}{row.size_bytes / 1e6:.3g} MB"


def _ticks(least: float, most: float) -> list[float]:
    """Round numbers a step of 1, 2 or 5 apart that hold the range between them."""
    span = (most - least) or 1.0
    rough = span / 5
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first, last = math.floor(least / step + 1e-9), math.ceil(most / step - 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def _log_ticks(least: float, most: float) -> list[float]:
    """1, 2 and 5 times powers of ten that hold the range between them."""
    powers = range(math.floor(math.log10(least)) - 1, math.ceil(math.log10(most)) + 2)
    ticks = [round(factor * 10.0**power, 12) for power in powers for factor in (1, 2, 5)]
    first = max(place for place, tick in enumerate(ticks) if tick <= least)
    last = min(place for place, tick in enumerate(ticks) if tick >= most)
    return ticks[first : last + 1]


def _between(value: float, ticks: Sequence[float], low: float, high: float) -> float:
    return round(low + (value - ticks[0]) / (ticks[-1] - ticks[0]) * (high - low), 2)


def _labels(points: Sequence[tuple[float, float]], names: Sequence[str]) -> list[tuple[float, float, str]]:
    """Places for names beside their points: the first that stands on no point and no other name."""
    taken = [(x - MARK, y - MARK, x + MARK, y + MARK) for x, y in points]
    placed = []
    for (x, y), name in zip(points, names, strict=True):
        length = LETTER * len(name)
        for label_x, label_y, anchor in _places(x, y):
            left = label_x if anchor == "start" else label_x - length
            box = (left, label_y - LINE + 3, left + length, label_y + 3)
            fits = box[0] >= LEFT and box[2] <= WIDTH and box[1] >= TOP - LINE and box[3] <= HEIGHT - BOTTOM
            if fits and not any(_meet(box, other) for other in taken):
                break
        taken.append(box)
        placed.append((round(label_x, 2), round(label_y, 2), anchor))
    return placed


def _places(x: float, y: float) -> list[tuple[float, float, str]]:
    """Right and left of a point, then further and further below and above."""
    shifts = [0] + [sign * LINE * lines for lines in range(1, 8) for sign in (1, -1)]
    return [place for shift in shifts for place in ((x + 9, y + 4 + shift, "start"), (x - 9, y + 4 + shift, "end"))]


def _meet(one: tuple[float, ...], two: tuple[float, ...]) -> bool:
    return one[0] < two[2] and two[0] < one[2] and one[1] < two[3] and two[1] < one[3]

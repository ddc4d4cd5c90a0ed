"""The plot of latency over bandwidth as shapes of an SVG drawing.

The page's script draws the same shapes when somebody moves its sliders (`link_page.js`); a test holds the two together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edge_sdk.planner.link_curves import Curve, Stretch

__all__ = ["NARROW", "WIDE", "Frame", "Named", "Shape", "draw", "latency_range", "three_digits"]

BADGE = 9
BADGE_GAP = 22
LETTER_WIDTH = 6.7
STRIP_TOP, STRIP_HEIGHT = 4, 26
CROSSING_GAP = 40
STEPS = 32
NO_SPLIT = "a split does not pay here"


@dataclass(frozen=True, slots=True)
class Frame:
    """Size of a drawing and of what stands around its axes."""

    id: str
    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int


WIDE = Frame("wide", 920, 440, 58, 24, 56, 44)
NARROW = Frame("narrow", 340, 340, 46, 20, 56, 44)


@dataclass(frozen=True, slots=True)
class Named:
    """A curve with what it is called in the plot."""

    curve: Curve
    letter: str
    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Shape:
    """One SVG element."""

    tag: str
    attributes: Mapping[str, str | float]
    text: str = ""


@dataclass(frozen=True, slots=True)
class Axes:
    """Where figures stand in a frame; both axes are logarithmic."""

    frame: Frame
    least_mbps: float
    most_mbps: float
    least_ms: float
    most_ms: float

    def x(self, mbps: float) -> float:
        """From left to right."""
        share = math.log(mbps / self.least_mbps) / math.log(self.most_mbps / self.least_mbps)
        return self.frame.left + share * (self.frame.width - self.frame.left - self.frame.right)

    def mbps(self, x: float) -> float:
        """The bandwidth at a place."""
        share = (x - self.frame.left) / (self.frame.width - self.frame.left - self.frame.right)
        return self.least_mbps * math.pow(self.most_mbps / self.least_mbps, share)

    def y(self, latency_ms: float) -> float:
        """Upwards."""
        share = math.log(latency_ms / self.least_ms) / math.log(self.most_ms / self.least_ms)
        return self.frame.height - self.frame.bottom - share * (self.frame.height - self.frame.top - self.frame.bottom)


def latency_range(stretches: Sequence[Stretch], shown_ms: Sequence[float], rtt_ms: float) -> tuple[float, float]:
    """Least and most latency that the plot shows: the envelope, what must be seen, and some room above.

    Lines of what is far slower leave the plot at its top.
    """
    lows = [stretch.curve.latency_ms(stretch.to_mbps, rtt_ms) for stretch in stretches]
    highs = [stretch.curve.latency_ms(stretch.from_mbps, rtt_ms) for stretch in stretches]
    shown = [ms for ms in (*lows, *highs, *shown_ms) if ms > 0]
    least, most = min(shown, default=1.0) / 1.5, max(shown, default=1.0) * 2.5
    return least, max(most, least * 8)


def draw(
    frame: Frame,
    stretches: Sequence[Stretch],
    named: Sequence[Named],
    others: Sequence[Curve],
    chosen: Curve | None,
    mbps: float,
    rtt_ms: float,
    axis_mbps: tuple[float, float],
    axis_ms: tuple[float, float],
) -> tuple[Shape, ...]:
    """All shapes, what lies behind first.

    Args:
        frame: size.
        stretches: the envelope, by rising bandwidth.
        named: curves with a name, those of the envelope among them.
        others: curves drawn thin and grey.
        chosen: what the plan chose.
        mbps: bandwidth where the upright line stands.
        rtt_ms: round trip.
        axis_mbps, axis_ms: least and most on the axes.
    """
    axes = Axes(frame, *axis_mbps, *axis_ms)
    by_place = {one.curve.at: one for one in named}
    shapes = [shape for stretch in stretches for shape in _band(axes, stretch, by_place[stretch.curve.at])]
    shapes += _grid(axes)
    shapes += [_line(axes, curve, rtt_ms, "other") for curve in others]
    shapes += [_line(axes, one.curve, rtt_ms, f"curve {one.kind}") for one in named]
    for stretch in stretches:
        kind = by_place[stretch.curve.at].kind
        shapes.append(_line(axes, stretch.curve, rtt_ms, f"best {kind}", stretch.from_mbps, stretch.to_mbps))
    shapes += _crossings(axes, stretches)
    shapes += _upright(axes, mbps)
    shapes += _badges(axes, stretches, named, mbps, rtt_ms)
    if chosen is not None and chosen.latency_ms(mbps, rtt_ms) <= axes.most_ms:
        at = {"cx": _near(axes.x(mbps)), "cy": _near(axes.y(chosen.latency_ms(mbps, rtt_ms)))}
        shapes.append(Shape("circle", {"class": "chosen", **at, "r": 6}))
    return tuple(shape for shape in shapes if shape.attributes.get("d") != "")


def _near(place: float) -> float:
    return round(place, 1)


def _text(classes: str, x: float, y: float, anchor: str, text: str) -> Shape:
    return Shape("text", {"class": classes, "x": _near(x), "y": _near(y), "text-anchor": anchor}, text)


def _band(axes: Axes, stretch: Stretch, one: Named) -> list[Shape]:
    frame = axes.frame
    left, right = axes.x(stretch.from_mbps), axes.x(stretch.to_mbps)
    width = right - left
    box = {"x": _near(left), "width": _near(width)}
    texts = [f"{one.letter} {one.name}", f"{one.letter} {one.kind}", one.letter]
    if one.kind != "split":
        texts = [f"{text}: {NO_SPLIT}" for text in texts[:2]] + texts
    text = next((text for text in texts if len(text) * LETTER_WIDTH + 8 <= width), "")
    shapes = [
        Shape(
            "rect",
            {
                "class": f"wash {one.kind}",
                **box,
                "y": frame.top,
                "height": frame.height - frame.top - frame.bottom,
            },
        ),
        Shape("rect", {"class": f"strip {one.kind}", **box, "y": STRIP_TOP, "height": STRIP_HEIGHT}),
    ]
    if text:
        shapes.append(_text("in-strip", (left + right) / 2, STRIP_TOP + 17, "middle", text))
    return shapes


def _grid(axes: Axes) -> list[Shape]:
    frame, shapes = axes.frame, []
    bottom, right = frame.height - frame.bottom, frame.width - frame.right
    for tick in _ticks(axes.least_mbps, axes.most_mbps):
        x, decade = _near(axes.x(tick)), _is_decade(tick)
        shapes.append(
            Shape("line", {"class": "grid" if decade else "grid fine", "x1": x, "x2": x, "y1": frame.top, "y2": bottom})
        )
        if decade:
            shapes.append(_text("soft", x, bottom + 17, "middle", _plain(tick)))
    every = _y_texts(axes)
    for tick in _ticks(axes.least_ms, axes.most_ms):
        y = _near(axes.y(tick))
        shapes.append(Shape("line", {"class": "grid", "x1": frame.left, "x2": right, "y1": y, "y2": y}))
        if every or _is_decade(tick):
            shapes.append(_text("soft", frame.left - 7, y + 4, "end", _plain(tick)))
    shapes.append(_text("soft", frame.left - 7, frame.top - 8, "end", "ms"))
    shapes.append(_text("soft", right, frame.height - 8, "end", "Mbit/s up"))
    return shapes


def _y_texts(axes: Axes) -> bool:
    """Whether 1, 2 and 5 all have room for their texts."""
    ticks = _ticks(axes.least_ms, axes.most_ms)
    height = axes.frame.height - axes.frame.top - axes.frame.bottom
    return len(ticks) * 20 <= height


def _line(
    axes: Axes, curve: Curve, rtt_ms: float, classes: str, from_mbps: float | None = None, to_mbps: float | None = None
) -> Shape:
    start, end = from_mbps or axes.least_mbps, to_mbps or axes.most_mbps
    room_ms = axes.most_ms - curve.base_ms(rtt_ms)
    if curve.slope and room_ms > 0:
        start = max(start, curve.slope / room_ms)
    if room_ms <= 0 or start >= end:
        return Shape("path", {"class": classes, "d": ""})
    steps = STEPS if curve.slope else 1
    points = []
    for step in range(steps + 1):
        mbps = start * (end / start) ** (step / steps)
        latency_ms = min(max(curve.latency_ms(mbps, rtt_ms), axes.least_ms), axes.most_ms)
        points.append(f"{axes.x(mbps):.1f},{axes.y(latency_ms):.1f}")
    return Shape("path", {"class": classes, "d": "M" + "L".join(points)})


def _crossings(axes: Axes, stretches: Sequence[Stretch]) -> list[Shape]:
    """Where the fastest changes; of two that are close one text stands left and one right, of more some have none."""
    frame, shapes = axes.frame, []
    places = [-math.inf, *(axes.x(stretch.from_mbps) for stretch in stretches[1:]), math.inf]
    for before, x, after, stretch in zip(places, places[1:], places[2:], stretches[1:], strict=False):
        ends = {"y1": STRIP_TOP + STRIP_HEIGHT, "y2": frame.height - frame.bottom}
        shapes.append(Shape("line", {"class": "crossing", "x1": _near(x), "x2": _near(x), **ends}))
        close_before, close_after = x - before < CROSSING_GAP, after - x < CROSSING_GAP
        if close_before and close_after:
            continue
        anchor = "start" if close_before else "end" if close_after else "middle"
        at = x if anchor != "middle" else min(max(x, frame.left + 14), frame.width - frame.right - 14)
        shapes.append(_text("halo", at, STRIP_TOP + STRIP_HEIGHT + 14, anchor, three_digits(stretch.from_mbps)))
    return shapes


def _upright(axes: Axes, mbps: float) -> list[Shape]:
    frame = axes.frame
    x = axes.x(mbps)
    bottom = frame.height - frame.bottom
    right_half = x > (frame.left + frame.width - frame.right) / 2
    told = f"{three_digits(mbps)} Mbit/s"
    return [
        Shape("line", {"class": "upright", "x1": _near(x), "x2": _near(x), "y1": frame.top, "y2": bottom}),
        _text("halo strong", x - 6 if right_half else x + 6, bottom - 8, "end" if right_half else "start", told),
    ]


def _badges(
    axes: Axes, stretches: Sequence[Stretch], named: Sequence[Named], mbps: float, rtt_ms: float
) -> list[Shape]:
    """A letter on each named line: in the middle of its stretch, or at the right end where it has none."""
    middles = {s.curve.at: _clear_of(axes, mbps, s) for s in stretches}
    left, right = axes.frame.left + BADGE + 2, axes.frame.width - axes.frame.right - BADGE - 2
    taken: list[tuple[float, float]] = []
    shapes = []
    for one in named:
        x = min(max(axes.x(middles.get(one.curve.at, axes.most_mbps)), left), right)
        # A letter in the way of another one goes left along its own line.
        while x >= left:
            latency_ms = one.curve.latency_ms(axes.mbps(x), rtt_ms)
            y = axes.y(min(latency_ms, axes.most_ms))
            if not any(abs(x - other[0]) < BADGE_GAP and abs(y - other[1]) < BADGE_GAP for other in taken):
                break
            x -= BADGE
        if x < left or latency_ms > axes.most_ms:
            continue
        taken.append((x, y))
        shapes.append(Shape("circle", {"class": f"badge {one.kind}", "cx": _near(x), "cy": _near(y), "r": BADGE}))
        shapes.append(_text("in-badge", x, y + 4, "middle", one.letter))
    return shapes


def _clear_of(axes: Axes, mbps: float, stretch: Stretch) -> float:
    """The middle of a stretch, or a quarter of it where the upright line stands in the middle."""
    middle = math.sqrt(stretch.from_mbps * stretch.to_mbps)
    if abs(axes.x(middle) - axes.x(mbps)) < BADGE_GAP:
        middle = math.sqrt(stretch.from_mbps * middle)
    return middle


def _ticks(least: float, most: float) -> list[float]:
    """1, 2 and 5 times powers of ten from least to most."""
    powers = range(math.floor(math.log10(least)) - 1, math.ceil(math.log10(most)) + 2)
    ticks = [float(f"{factor}e{power}") for power in powers for factor in (1, 2, 5)]
    return [tick for tick in ticks if least * (1 - 1e-9) <= tick <= most * (1 + 1e-9)]


def _is_decade(tick: float) -> bool:
    return f"{tick:.0e}".startswith("1e")


def _plain(tick: float) -> str:
    return f"{tick:,.6f}".rstrip("0").rstrip(".") if tick < 1 else f"{tick:,.0f}"


def three_digits(figure: float) -> str:
    """Three digits, without an exponent."""
    return f"{figure:,.0f}" if figure >= 1000 else f"{float(f'{figure:.3g}'):.10f}".rstrip("0").rstrip(".")

"""The page of a plan over a link: one HTML file that needs no network and no other file, and reads without scripts.

It shows who is fastest at which bandwidth, what each candidate sends and costs, and why others may not be chosen. Names
come from models and endpoints, and are escaped wherever they stand.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edge_sdk.errors import MissingExtra
from edge_sdk.planner.link_curves import AssumedLink, Curve, Stretch, assumed_links, chosen_at, curves_of, envelope
from edge_sdk.planner.link_plot import NARROW, WIDE, Named, Shape, draw, latency_range, three_digits
from edge_sdk.planner.link_rows import KINDS, Row, about_choice, leaks, rank, rows_of, stays_local, where_a_split_pays
from edge_sdk.planner.plans import Plan
from edge_sdk.storage import write_whole

__all__ = ["render", "require_page", "write_page"]

TEMPLATE, SCRIPT = "link_page.html.jinja", "link_page.js"
LEAST_MBPS, MOST_MBPS = 0.1, 1000.0
LEAST_RTT_SHOWN_MS = 200.0
BEST_SHOWN = 30
BARS = 8
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def require_page() -> None:
    """Makes sure that a page can be written, before time is spent on what goes into it.

    Raises:
        MissingExtra: jinja2 is not installed.
    """
    try:
        import jinja2  # noqa: F401 - whether it is there
    except ImportError:
        raise MissingExtra("the page of a plan needs jinja2: pip install 'edge-sdk[build]'") from None


def render(
    plan: Plan,
    rtt_ms: float,
    up_mbps: float,
    down_mbps: float,
    loss_share: float = 0.0,
    links: Mapping[str, AssumedLink] | None = None,
) -> str:
    """The page as text.

    Args:
        plan: a plan over a link.
        rtt_ms: round trip that the plan was made for.
        up_mbps, down_mbps: megabits a second from and to the device.
        loss_share: of packets, 0 to 1.
        links: by endpoint, where the links of several endpoints differ; the plan's own where None.

    Raises:
        MissingExtra: jinja2 is not installed.
        InputError: a figure of the link is out of its range.
    """
    link = AssumedLink(rtt_ms, up_mbps, down_mbps, loss_share)
    require_page()
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"percent": _percent, "share": _share, "number": _number, "size": _size}
    folder = Path(__file__).parent
    template = environment.from_string((folder / TEMPLATE).read_text(encoding="utf-8"))
    script = (folder / SCRIPT).read_text(encoding="utf-8")
    return template.render(script=script, **_content(plan, link, links))


def write_page(
    path: str | os.PathLike[str],
    plan: Plan,
    rtt_ms: float,
    up_mbps: float,
    down_mbps: float,
    loss_share: float = 0.0,
    links: Mapping[str, AssumedLink] | None = None,
) -> None:
    """Writes the page whole; arguments as for `render`.

    Raises:
        MissingExtra: jinja2 is not installed.
        InputError: a figure of the link is out of its range.
        StorageError: it cannot be written.
    """
    write_whole(path, render(plan, rtt_ms, up_mbps, down_mbps, loss_share, links).encode())


def _content(plan: Plan, link: AssumedLink, links: Mapping[str, AssumedLink] | None) -> dict[str, Any]:
    links = assumed_links(plan) if links is None else links
    curves = curves_of(plan, link, links)
    chosen = chosen_at(plan)
    rows = rows_of(plan, curves, chosen, link.up_mbps, link.rtt_ms)
    axis_mbps = (min(LEAST_MBPS, link.up_mbps), max(MOST_MBPS, link.up_mbps))
    stretches = envelope(curves, link.rtt_ms, *axis_mbps, first=chosen)
    kinds = [rows[stretch.curve.at].candidate.kind for stretch in stretches]
    ranked = rank(rows, plan)
    named = _named(rows, stretches, chosen)
    letters = {one.curve.at: one.letter for one in named}
    return {
        "plan": plan,
        "link": link,
        "chosen": None if chosen is None else rows[chosen],
        "links": {name: other for name, other in links.items() if other != link},
        "about_choice": about_choice(rows, stretches, chosen, link.rtt_ms),
        "pays": where_a_split_pays(stretches, kinds),
        "best_of_kinds": _best_of_kinds(rows),
        "named": [(rows[one.curve.at], next((s for s in stretches if s.curve == one.curve), None)) for one in named],
        "letters": letters,
        "drawings": _drawings(curves, stretches, named, chosen, link, axis_mbps),
        "best": ranked[:BEST_SHOWN],
        "rest": ranked[BEST_SHOWN:] + [row for row in rows if row.candidate.feasible and row.curve is None],
        "ruled_out": [row for row in rows if not row.candidate.feasible],
        "cuts": _cuts(plan),
        "bars": _bars(ranked, letters, chosen),
        "leaks": leaks(rows),
        "stays_local": stays_local(plan),
        "data": _data(plan, link, rows, curves, letters, chosen, axis_mbps),
    }


def _named(rows: Sequence[Row], stretches: Sequence[Stretch], chosen: int | None) -> list[Named]:
    """Those of the envelope in the order of their stretches, then the chosen one and the fastest of each kind, so that
    the plot shows how far behind they are."""
    curves = [stretch.curve for stretch in stretches]
    others = [] if chosen is None else [rows[chosen]]
    others += [row for _, row, _ in _best_of_kinds(rows) if row is not None]
    for row in others:
        if row.curve is not None and row.curve not in curves:
            curves.append(row.curve)
    return [
        Named(curve, _letter(place), rows[curve.at].candidate.kind, rows[curve.at].name)
        for place, curve in enumerate(curves)
    ]


def _letter(place: int) -> str:
    """A to Z, then A1 to Z1 and so on."""
    round_, at = divmod(place, len(LETTERS))
    return LETTERS[at] + (str(round_) if round_ else "")


def _drawings(
    curves: Sequence[Curve],
    stretches: Sequence[Stretch],
    named: Sequence[Named],
    chosen: int | None,
    link: AssumedLink,
    axis_mbps: tuple[float, float],
) -> list[tuple[Any, tuple[Shape, ...]]]:
    """The plot for wide screens and for narrow ones; none where nothing uses the link."""
    if not any(curve.slope for curve in curves):
        return []
    names = {one.curve.at for one in named}
    others = [curve for curve in curves if curve.at not in names]
    mine = next((curve for curve in curves if curve.at == chosen), None)
    shown = [one.curve.latency_ms(link.up_mbps, link.rtt_ms) for one in named]
    axis_ms = latency_range(stretches, shown, link.rtt_ms)
    return [
        (frame, draw(frame, stretches, named, others, mine, link.up_mbps, link.rtt_ms, axis_mbps, axis_ms))
        for frame in (WIDE, NARROW)
    ]


def _best_of_kinds(rows: Sequence[Row]) -> list[tuple[str, Row | None, str]]:
    """For each kind its fastest candidate at the assumed link, or why there is none."""
    found = []
    for kind in KINDS:
        of_kind = [row for row in rows if row.candidate.kind == kind]
        able = [row for row in of_kind if row.curve is not None]
        best = min(able, key=lambda row: (row.latency_ms or 0.0, not row.chosen), default=None)
        if best is None and not of_kind and kind == "cascade":
            continue
        why = next((row.candidate.reason for row in of_kind if row.candidate.reason), "")
        found.append((kind, best, why or ("not among the candidates" if not of_kind else "without figures")))
    return found


def _cuts(plan: Plan) -> list[tuple[str, str, tuple[str, ...]]]:
    """Variant (where there are several), id and tensors of each cut."""
    several = len({candidate.variant for candidate in plan.candidates}) > 1
    found = {
        (one.variant if several else "", one.remote.cut): one.remote.tensors
        for one in plan.candidates
        if one.remote is not None and one.remote.tensors
    }
    return [(variant, cut, tensors) for (variant, cut), tensors in found.items()]


def _bars(ranked: Sequence[Row], letters: Mapping[int, str], chosen: int | None) -> list[Row]:
    """The few that are named in the plot, and the best of each kind."""
    picked = [row for row in ranked if row.at in letters or row.at == chosen]
    for kind in KINDS:
        best = next((row for row in ranked if row.candidate.kind == kind), None)
        if best is not None and best not in picked:
            picked.append(best)
    local = [row for row in picked if row.candidate.kind == "local"][:1]
    others = [row for row in picked if row.candidate.kind != "local"]
    return [*local, *others[: BARS - len(local)]]


def _data(
    plan: Plan,
    link: AssumedLink,
    rows: Sequence[Row],
    curves: Sequence[Curve],
    letters: Mapping[int, str],
    chosen: int | None,
    axis_mbps: tuple[float, float],
) -> dict[str, Any]:
    """What the script needs to draw and rank for another link."""
    return {
        "up_mbps": link.up_mbps,
        "down_over_up": link.down_mbps / link.up_mbps,
        "rtt_ms": link.rtt_ms,
        "most_rtt_ms": max(LEAST_RTT_SHOWN_MS, 2 * link.rtt_ms),
        "axis_mbps": axis_mbps,
        "objective": plan.objective,
        "max_latency_ms": plan.holds.get("max_latency_ms"),
        "best_shown": BEST_SHOWN,
        "chosen": chosen,
        "frames": [asdict(frame) for frame in (WIDE, NARROW)],
        "curves": [_curve_data(rows[curve.at], curve, letters.get(curve.at)) for curve in curves],
    }


def _curve_data(row: Row, curve: Curve, letter: str | None) -> dict[str, Any]:
    remote = row.candidate.remote
    return {
        "at": curve.at,
        "letter": letter,
        "kind": row.candidate.kind,
        "name": row.name,
        "fixed_ms": curve.fixed_ms,
        "turns": curve.turns,
        "slope": curve.slope,
        "bytes": row.both_bytes,
        "energy_mj": row.energy_mj,
        "link_ms": None if remote is None else remote.link_ms,
        "share": row.share,
    }


def _percent(figure: float | None) -> str:
    return "" if figure is None else f"{figure * 100:.2f} %"


def _share(figure: float | None) -> str:
    return "" if figure is None else f"{figure * 100:.0f} %"


def _number(figure: float | None) -> str:
    return "" if figure is None else three_digits(figure)


def _size(count: int | None) -> str:
    if count is None:
        return ""
    if count < 1000:
        return f"{count} B"
    return f"{count / 1e6:.3g} MB" if count >= 999_500 else f"{count / 1e3:.3g} kB"

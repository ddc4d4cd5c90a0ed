"""The report of a build: one HTML page that needs no network and no other file, and reads without scripts, too."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from edge_sdk.building.plots import bars, quality, quality_name, scatter
from edge_sdk.building.result import BuildResult
from edge_sdk.errors import MissingExtra
from edge_sdk.storage import write_whole

__all__ = ["render", "require_report", "write_report"]

TEMPLATE = "report.html.jinja"


def require_report() -> None:
    """Makes sure that a report can be written, before hours of work are spent on what goes into it.

    Raises:
        MissingExtra: jinja2 is not installed.
    """
    try:
        import jinja2  # noqa: F401 - whether it is there
    except ImportError:
        raise MissingExtra("a report needs jinja2: pip install 'edge-sdk[build]'") from None


def render(result: BuildResult) -> str:
    """The page as text.

    Raises:
        MissingExtra: jinja2 is not installed.
    """
    require_report()
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"percent": _percent, "number": _number, "size": _size, "signed": _signed}
    template = environment.from_string(Path(__file__).with_name(TEMPLATE).read_text(encoding="utf-8"))
    return template.render(
        result=result,
        rows=[(row, quality(row)) for row in result.rows],
        quality_name=quality_name(result),
        scatter=scatter(result),
        bars=bars(result.rows),
    )


def write_report(path: str | os.PathLike[str], result: BuildResult) -> None:
    """Writes the page whole.

    Raises:
        MissingExtra: jinja2 is not installed.
        StorageError: it cannot be written.
    """
    write_whole(path, render(result).encode())


def _percent(figure: float | None) -> str:
    return "" if figure is None else f"{figure * 100:.2f} %"


def _signed(figure: float | None) -> str:
    """A drop in points of a percent: "+0.28" is 0.28 points lost."""
    return "" if figure is None else f"{figure * 100:+.2f}"


def _number(figure: Any) -> str:
    return "" if figure is None else f"{figure:.3g}"


def _size(count: int | None) -> str:
    if count is None:
        return ""
    return f"{count / 1e6:.2f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"

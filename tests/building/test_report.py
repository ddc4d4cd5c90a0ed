"""The report: one page that reads without scripts and without a network, and lets a person choose in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.building import report
from edge_sdk.building.plots import bars, quality, quality_name, scatter
from edge_sdk.building.report import render, write_report
from edge_sdk.building.result import BuildResult, VariantRow
from edge_sdk.errors import MissingExtra

pytest.importorskip("jinja2")

NASTY = "<script>alert('x')</script> & \"quotes\""


def row(name: str, status: str = "stored", latency_ms: float | None = None, **figures: Any) -> VariantRow:
    return VariantRow(name=name, status=status, latency_ms=latency_ms, metric="top-1", **figures)


def result(*rows: VariantRow, name: str = "digits") -> BuildResult:
    return BuildResult(
        name=name,
        source="digits.onnx",
        path="digits.edge",
        digest="0" * 64,
        release=1,
        size_bytes=123_456,
        device="a board",
        evaluation="held_out.npz",
        metric="top-1",
        source_accuracy=0.981,
        max_drop=0.01,
        rows=rows,
    )


FIVE = (
    row("fp32", "stored", 4.0, accuracy=0.981, size_bytes=4_000_000, drop=0.0),
    row("fp16", "stored", 3.0, accuracy=0.980, size_bytes=2_000_000, drop=0.001, speedup=1.3),
    row("int8-static", "stored", 1.0, accuracy=0.975, size_bytes=1_000_000, drop=0.006, speedup=4.0),
    row(
        "int8-dynamic", "dropped", None, accuracy=0.5, size_bytes=900_000, drop=0.48, layers=("conv2 (Conv): 0.3 off",)
    ),
    row("int4-weights", "not made", why="there is no matrix product in it"),
)


class Page(HTMLParser):
    """Tags, what they refer to, and the text of the table's cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.references: list[str] = []
        self.cells: list[str] = []
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._open = tag
        self.references += [value or "" for name, value in attributes if name in ("src", "href", "action", "data")]
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        if self.cells and self._open in ("td", "th", "span"):
            self.cells[-1] += data.strip()


def test_the_table_reads_without_scripts() -> None:
    page = Page(render(result(*FIVE)))
    for text in ("int8-static", "97.50 %", "+0.60", "1.00 MB", "dropped", "there is no matrix product in it"):
        assert text in page.cells, text


def test_nothing_is_fetched() -> None:
    text = render(result(*FIVE))
    page = Page(text)
    assert page.references == []
    assert not {"link", "img", "iframe", "object"} & set(page.tags)
    assert not re.search(r"https?:|@import|url\(", text)
    assert "default-src 'none'" in text


def test_names_and_reasons_are_escaped() -> None:
    text = render(result(row(NASTY, why=NASTY, layers=(NASTY,), notes=(NASTY,), recipe={NASTY: NASTY}), name=NASTY))
    assert "<script>alert" not in text
    assert text.count("<script>") == 1


def test_a_build_of_one_variant_without_figures_has_a_page_too() -> None:
    text = render(result(row("fp32")))
    assert "fp32" in Page(text).cells


def test_it_is_written_whole(tmp_path: Path) -> None:
    write_report(tmp_path / "r.html", result(*FIVE))
    assert (tmp_path / "r.html").read_text().startswith("<!doctype html>")


def test_without_jinja2_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "jinja2", None)
    with pytest.raises(MissingExtra, match=r"edge-sdk\[build\]"):
        report.require_report()


# --- plots ---


def test_quality_is_the_metric_else_agreement_else_the_error() -> None:
    assert quality(row("a", accuracy=0.9, agreement=0.8)) == 0.9
    assert quality(row("a", agreement=0.8, mean_error=0.1)) == 0.8
    assert quality(row("a", mean_error=0.1)) == 0.9
    assert quality(row("a", mean_error=float("inf"))) is None
    assert quality_name(result(row("a", agreement=0.8))) == "agreement with the source"


def test_the_plot_has_what_has_both_figures() -> None:
    plot = scatter(result(*FIVE))
    assert plot is not None
    assert [point.name for point in plot.points] == ["fp32", "fp16", "int8-static"]
    assert plot.points[0].x > plot.points[1].x > plot.points[2].x
    assert plot.points[0].y < plot.points[2].y  # better stands higher
    assert scatter(result(FIVE[0])) is None
    assert [bar.name for bar in bars(FIVE).bars] == ["fp32", "fp16", "int8-static", "int8-dynamic"]


@given(
    st.lists(
        st.tuples(st.floats(1e-3, 1e4), st.floats(0, 1), st.text("abcdefgh-", min_size=1, max_size=20)),
        min_size=2,
        max_size=12,
    )
)
def test_points_and_ticks_stay_within_the_plot(figures: list[tuple[float, float, str]]) -> None:
    plot = scatter(result(*(row(name, "stored", latency, accuracy=good) for latency, good, name in figures)))
    assert plot is not None
    for point in plot.points:
        assert plot.left <= point.x <= plot.right
        assert plot.top <= point.y <= plot.bottom
    ticks = [tick.at for tick in plot.x_ticks]
    assert ticks == sorted(ticks) and len(set(ticks)) == len(ticks) >= 2


# --- a real browser ---


@pytest.fixture
def page(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """The page of `FIVE`; a script that fails, or a request for anything else, fails the test."""
    write_report(tmp_path / "r.html", result(*FIVE))
    context = browser.new_context()
    opened = context.new_page()
    wrong: list[str] = []
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("console", lambda message: wrong.append(message.text))
    opened.on("request", lambda request: request.url.startswith("file:") or wrong.append(request.url))
    opened.goto((tmp_path / "r.html").as_uri())
    yield opened
    context.close()
    assert wrong == []


def slide(page: Any, name: str, share: float) -> None:
    page.eval_on_selector(
        f"#{name}", f"slider => {{ slider.value = {share * 1000}; slider.dispatchEvent(new Event('input')); }}"
    )


def picked(page: Any) -> list[str]:
    return [part.get_attribute("data-name") for part in page.query_selector_all("tbody.picked")]


@pytest.mark.slow
def test_the_fastest_that_fits_is_marked(page: Any) -> None:
    assert picked(page) == ["int8-static"]
    slide(page, "good", 0.9)
    assert picked(page) == ["fp32"]
    assert "fp32 is the fastest of 1 that fit: 4.00 ms" in page.inner_text("#pick")
    slide(page, "ms", 0.1)
    assert picked(page) == []
    assert "No variant fits" in page.inner_text("#pick")
    slide(page, "good", 0)
    slide(page, "ms", 1)
    slide(page, "mb", 0.5)
    assert picked(page) == ["int8-static"]
    assert page.query_selector('svg g.out[data-name="fp32"]') is not None


@pytest.mark.slow
def test_columns_sort_both_ways_and_what_has_no_figure_stands_last(page: Any) -> None:
    def order() -> list[str]:
        return [part.get_attribute("data-name") for part in page.query_selector_all("tbody")]

    page.click("th[data-key=ms] button")
    assert order()[:3] == ["int8-static", "fp16", "fp32"]
    page.click("th[data-key=ms] button")
    assert order() == ["fp32", "fp16", "int8-static", "int8-dynamic", "int4-weights"]
    assert page.get_attribute("th[data-key=ms]", "aria-sort") == "descending"
    page.click("th[data-key=name] button")
    assert order() == sorted(order())
    assert page.get_attribute("th[data-key=ms]", "aria-sort") is None


@pytest.mark.slow
def test_rows_are_filtered(page: Any) -> None:
    def shown() -> list[str]:
        return [p.get_attribute("data-name") for p in page.query_selector_all("tbody") if p.is_visible()]

    page.fill("#filter", "int8")
    assert shown() == ["int8-static", "int8-dynamic"]
    page.check("#only")
    assert shown() == ["int8-static"]


@pytest.mark.slow
def test_without_scripts_the_table_and_plots_are_there_and_the_rest_is_not(browser: Any, tmp_path: Path) -> None:
    write_report(tmp_path / "r.html", result(*FIVE))
    context = browser.new_context(java_script_enabled=False)
    plain = context.new_page()
    plain.goto((tmp_path / "r.html").as_uri())
    assert plain.locator("tbody").count() == 5
    assert plain.locator("svg circle").count() == 3
    assert not plain.locator("#constraints").is_visible()
    assert not plain.locator("#filters").is_visible()
    context.close()


@pytest.mark.slow
def test_it_follows_light_and_dark(browser: Any, tmp_path: Path) -> None:
    write_report(tmp_path / "r.html", result(*FIVE))
    colours = []
    for scheme in ("light", "dark"):
        context = browser.new_context(color_scheme=scheme)
        opened = context.new_page()
        opened.goto((tmp_path / "r.html").as_uri())
        colours.append(opened.evaluate("getComputedStyle(document.body).backgroundColor"))
        context.close()
    assert colours[0] != colours[1]

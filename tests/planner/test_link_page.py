"""The page of a plan over a link: it reads without scripts and without a network, and its sliders rank anew."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.errors import InputError, MissingExtra
from edge_sdk.planner import link_page
from edge_sdk.planner.link_curves import AssumedLink
from edge_sdk.planner.link_page import render, write_page
from edge_sdk.planner.plans import Candidate, Escalation, Figures, Plan, Remote
from edge_sdk.schedule.placing import Placement

pytest.importorskip("jinja2")

NASTY = "</script><script>alert('x')</script> & \"quotes\" <!-- "
RTT_MS, UP_MBPS, DOWN_MBPS = 40.0, 4.0, 8.0
PLACEMENT = Placement(threads=2)


def local(latency_ms: float, threads: int = 2, **more: Any) -> Candidate:
    return Candidate(
        variant="int8",
        engine="litert",
        placement=Placement(threads=threads),
        measured=Figures(latency_ms=latency_ms, energy_mj=latency_ms * 1.2, runs=9),
        accuracy=0.712,
        **more,
    )


def remote(
    kind: str,
    up_bytes: int,
    head_ms: float,
    endpoint_ms: float,
    *,
    codec: str = "none",
    coding: str = "none",
    cut: str = "in",
    tensors: tuple[str, ...] = ("input",),
    leakage: float | None = None,
    **more: Any,
) -> Candidate:
    link_ms = RTT_MS + 8e-3 * ((up_bytes + 700) / UP_MBPS + 4600 / DOWN_MBPS)
    return Candidate(
        kind=kind,
        variant="int8",
        engine="litert",
        placement=PLACEMENT,
        predicted=Figures(latency_ms=head_ms + link_ms + endpoint_ms, energy_mj=head_ms + link_ms / 10),
        remote=Remote(
            endpoint="http://192.0.2.1:8123",
            cut=cut,
            tensors=tensors,
            codec=codec,
            coding=coding,
            up_bytes=up_bytes,
            down_bytes=4000,
            head_ms=head_ms,
            link_ms=link_ms,
            endpoint_ms=endpoint_ms,
            leakage=leakage,
        ),
        **more,
    )


LOCAL, SLOWER = local(180.0, relative=1.0, reason="the default"), local(300.0, threads=1, relative=1.7)
SPLIT = remote(
    "split", 9_800, 60.0, 5.0, codec="int8", coding="zstd", cut="3f21b7aa10c2", tensors=("b6",), leakage=0.18
)
WIDE_SPLIT = remote("split", 50_000, 30.0, 6.0, codec="fp16", cut="0b63cad6f31e", tensors=("b3", "b2"), leakage=0.31)
POOR_SPLIT = remote("split", 6_000, 60.0, 5.0, codec="int4", feasible=False, reason="int4 costs 0.05 of accuracy")
RAW = remote("offload", 150_528, 0.2, 9.0, leakage=1.0)
KEPT_RAW = msgspec.structs.replace(RAW, feasible=False, reason="the input must stay on the device")
CASCADE = remote(
    "cascade",
    8_000,
    1.0,
    9.0,
    coding="webp@75",
    cascade=Escalation(
        small="tiny", big="int8", score="top", threshold=0.8, share=0.2, small_ms=20.0, big_ms=0, big_kind="offload"
    ),
)
ALL = (LOCAL, SLOWER, SPLIT, WIDE_SPLIT, POOR_SPLIT, RAW)


def plan(*candidates: Candidate, chosen: int = 0, **more: Any) -> Plan:
    one = candidates[chosen]
    return Plan(
        kind=one.kind,
        model=more.pop("model", "mobilenet"),
        device="a board",
        variant=one.variant,
        engine=one.engine,
        accelerator=one.accelerator,
        placement=one.placement,
        objective=more.pop("objective", "latency"),
        accuracy=one.accuracy,
        predicted=one.predicted,
        measured=one.measured,
        remote=one.remote,
        cascade=one.cascade,
        reason=more.pop("reason", "because it is the fastest"),
        candidates=candidates,
        **more,
    )


def page_of(table: Plan, **link: Any) -> str:
    figures: dict[str, Any] = {"rtt_ms": RTT_MS, "up_mbps": UP_MBPS, "down_mbps": DOWN_MBPS}
    return render(table, **(figures | link))


class Page(HTMLParser):
    """Tags, what they refer to, text of cells and of all, and scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.references: list[str] = []
        self.text = ""
        self.scripts: list[str] = []
        self._open = ""
        self.feed(text)
        self.text = re.sub(r"\s+", " ", self.text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._open = tag
        self.references += [value or "" for name, value in attributes if name in ("src", "href", "action", "data")]
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open == "script":
            self.scripts[-1] += data
        elif self._open != "style":
            self.text += data + " "

    @property
    def data(self) -> dict[str, Any]:
        return dict(json.loads(self.scripts[0]))


def test_it_says_what_was_chosen_why_and_for_which_link() -> None:
    text = Page(
        page_of(plan(*ALL, chosen=2, holds={"max_latency_ms": 50.0}, misses=("max_latency_ms",)), loss_share=0.01)
    ).text
    for told in (
        "because it is the fastest",
        "a board",
        "4 Mbit/s up, 8 down, 40 ms round trip, 1 % of packets lost",
        "max_latency_ms = 50 (not kept)",
        "Staying on the device is the fastest below",
        "split at b6 as int8+zstd",
        "offload, raw",
    ):
        assert told in text, told


def test_every_candidate_is_in_the_table_with_what_stands_against_it() -> None:
    html = page_of(plan(*ALL, chosen=2))
    text = Page(html).text
    assert html.count("<tbody role") == len(ALL)
    assert "may not be chosen: int4 costs 0.05 of accuracy" in text
    assert "b3, b2" in text  # all that travels at a cut of several tensors
    table = text[text.index("All candidates") :]
    row = table[table.index("b3 +1") :]
    for told in ("0b63cad6f31e", "fp16", "50 kB", "4 kB", "31 %", "predicted"):
        assert told in row[:200], told


def test_it_says_how_far_the_choice_holds_and_what_would_be_faster() -> None:
    text = Page(page_of(plan(*ALL, chosen=2))).text
    assert re.search(r"At a round trip of 40 ms the choice is the fastest from 1\.\d+ to 1\d.* Mbit/s\.", text)
    text = Page(page_of(plan(*ALL, chosen=1, holds={"max_bytes": 1e6}))).text
    assert "Faster at this link would be split at b6 as int8+zstd" in text
    assert "where the choice takes 306 ms" in text  # 1.7 times the other, by pairs of latency


def test_links_that_differ_are_told() -> None:
    text = Page(page_of(plan(*ALL, chosen=2), links={"http://192.0.2.1:8123": AssumedLink(2.0, 100.0, 100.0)})).text
    assert "link to http://192.0.2.1:8123 100 Mbit/s up, 100 down, 2 ms round trip" in text


def test_a_cascade_is_called_by_its_parts() -> None:
    text = Page(page_of(plan(LOCAL, CASCADE, chosen=1))).text
    assert "cascade: tiny, 20% to int8 as webp@75" in text
    assert "Bytes that one request sends, on average" in text
    bars = text[text.index("on average") :]
    assert "1.6 kB" in bars[: bars.index("Energy")]  # a fifth of 8 kB


def test_where_local_is_the_fastest_a_split_does_not_pay() -> None:
    text = Page(page_of(plan(local(2.0), SPLIT, RAW))).text
    assert (
        "Staying on the device is the fastest at any bandwidth from 0.1 to 1,000 Mbit/s: a split does not pay." in text
    )
    assert "A local: litert, 2 threads: a split does not pay here" in text  # in the plot, too


def test_a_plan_that_knows_no_endpoint_has_a_page_without_a_plot() -> None:
    page = Page(page_of(plan(LOCAL, SLOWER)))
    assert "svg" not in page.tags
    assert "a split does not pay" in page.text
    nothing = Page(page_of(plan(msgspec.structs.replace(LOCAL, measured=None))))
    assert "No candidate may be chosen and has a figure." in nothing.text


def test_keeping_the_input_here_tells_what_that_hides() -> None:
    text = Page(page_of(plan(LOCAL, SPLIT, WIDE_SPLIT, KEPT_RAW, chosen=1))).text
    assert "Inputs stay on the device" in text
    assert "it is no encryption" in text
    assert text.index("cut 3f21b7aa10c2") < text.index("cut 0b63cad6f31e")  # the least leakage first
    unknown = Page(page_of(plan(LOCAL, holds={"keep_input_local": 1.0}))).text
    assert "Nobody measured how well" in unknown
    assert "Inputs stay" not in Page(page_of(plan(LOCAL, SPLIT))).text


def test_names_are_escaped_everywhere() -> None:
    split = remote("split", 9_800, 60.0, 5.0, cut=NASTY, tensors=(NASTY,), codec=NASTY, coding=NASTY, reason=NASTY)
    html = page_of(plan(LOCAL, split, chosen=1, model=NASTY, reason=NASTY))
    assert "<script>alert" not in html
    page = Page(html)
    assert len(page.scripts) == 2
    assert page.data["curves"][1]["name"].startswith("split at </script")
    assert "<" not in page.scripts[0]


def test_nothing_is_fetched() -> None:
    html = page_of(plan(*ALL, chosen=2))
    page = Page(html)
    assert page.references == []
    assert not {"link", "img", "iframe", "object"} & set(page.tags)
    assert not re.search(r"@import|url\(|xmlns", html)
    assert "default-src 'none'" in html


def test_of_hundreds_the_best_thirty_stand_open() -> None:
    many = [remote("split", 5_000 + at * 100, 40.0, 5.0, cut=f"c{at}", tensors=(f"t{at}",)) for at in range(300)]
    html = page_of(plan(LOCAL, *many, chosen=1))
    best = html[html.index('id="best"') : html.index("</table>", html.index('id="best"'))]
    assert best.count("<tbody") == 30
    assert "271 more candidates" in html
    assert len(html) < 1_000_000


def test_it_is_written_whole(tmp_path: Path) -> None:
    write_page(tmp_path / "p.html", plan(*ALL, chosen=2), RTT_MS, UP_MBPS, DOWN_MBPS)
    assert (tmp_path / "p.html").read_text().lstrip().startswith("<!doctype html>")


def test_without_jinja2_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "jinja2", None)
    with pytest.raises(MissingExtra, match=r"edge-sdk\[build\]"):
        link_page.require_page()
    with pytest.raises(MissingExtra):
        page_of(plan(LOCAL))


def test_a_link_that_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, match="up_mbps"):
        page_of(plan(LOCAL), up_mbps=0.0)


@given(
    st.lists(
        st.builds(
            remote,
            st.sampled_from(["split", "offload", "cascade"]),
            st.integers(0, 10**7),
            st.floats(0, 1e4),
            st.floats(0, 1e4) | st.just(float("inf")),
            tensors=st.lists(st.text(max_size=40), max_size=3).map(tuple),
            feasible=st.booleans(),
            leakage=st.none() | st.floats(0, 1),
        ),
        max_size=8,
    ),
    st.floats(0, 1000),
    st.floats(0.01, 5000),
)
@settings(max_examples=25)
def test_any_plan_has_a_page(candidates: list[Candidate], rtt_ms: float, up_mbps: float) -> None:
    html = page_of(plan(LOCAL, *candidates), rtt_ms=rtt_ms, up_mbps=up_mbps)
    assert html.count("<tbody role") == len(candidates) + 1
    assert "nan" not in re.sub(r"<script.*?</script>", "", html, flags=re.S).replace("nano", "")


# --- a real browser ---


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """Opens a plan's page; a failing script, a word on the console, or a request for anything else fails the test."""
    contexts, wrong = [], []

    def open_page(table: Plan, **how: Any) -> Any:
        write_page(tmp_path / "p.html", table, RTT_MS, UP_MBPS, DOWN_MBPS)
        context = browser.new_context(**how)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text))
        page.on("request", lambda request: request.url.startswith("file:") or wrong.append(request.url))
        page.goto((tmp_path / "p.html").as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


def slide(page: Any, name: str, share: float) -> None:
    page.eval_on_selector(
        f"#{name}",
        f"slider => {{ slider.value = {share} * slider.max; slider.dispatchEvent(new Event('input')); }}",
    )


def order(page: Any, table: str = "best") -> list[int]:
    return [int(part.get_attribute("data-at")) for part in page.query_selector_all(f"#{table} tbody")]


@pytest.mark.slow
def test_the_sliders_rank_anew(opened: Any) -> None:
    page = opened(plan(*ALL, chosen=2))
    assert order(page)[0] == 2  # the split, at 4 Mbit/s
    slide(page, "bandwidth", 0)  # 0.1 Mbit/s
    assert order(page)[0] == 0
    assert "Fastest: local: litert, 2 threads, 180 ms" in page.inner_text("#now")
    assert "A split does not pay here." in page.inner_text("#now")
    slide(page, "bandwidth", 1)  # 1000 Mbit/s
    assert order(page)[0] == 5
    assert "Fastest: offload, raw" in page.inner_text("#now")
    assert page.inner_text("#legend tr.now th").startswith("D offload, raw")
    slide(page, "trip", 1)  # 200 ms: longer than all of it takes here
    assert order(page)[0] == 0
    assert "is the fastest at any bandwidth" in page.inner_text("#pays")
    page.click("#reset")
    assert order(page)[0] == 2
    assert "below" in page.inner_text("#pays")


NEAR_CROSSINGS = tuple(
    remote("split", 2_000 * 2**at, 100.0 - 12 * at, 5.0, cut=f"c{at}", tensors=(f"t{at}",)) for at in range(6)
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "table",
    [
        plan(*ALL, chosen=3),  # not the fastest: named beside the envelope
        plan(local(2.0), SPLIT, RAW),
        plan(LOCAL, *NEAR_CROSSINGS, RAW, chosen=2),
        plan(LOCAL, CASCADE, SPLIT, chosen=1, objective="bytes", holds={"max_latency_ms": 130.0}),
        plan(SPLIT, KEPT_RAW, objective="energy"),
    ],
    ids=["all", "local", "near", "cascade", "split alone"],
)
def test_the_script_draws_what_the_page_was_written_with(opened: Any, table: Plan) -> None:
    """Two programs draw the same plot, so that nothing jumps at the first touch."""
    shapes = """id => [...document.getElementById(id).children].map(one => [one.tagName, one.textContent,
      Object.fromEntries([...one.attributes].map(a => [a.name, a.value]))])"""
    content = "() => ['legend', 'best'].map(id => document.getElementById(id).textContent)"
    drawn, written = opened(table), opened(table, java_script_enabled=False)
    for frame in ("wide", "narrow"):
        ours, theirs = drawn.evaluate(shapes, frame), written.evaluate(shapes, frame)
        assert [shape[:2] for shape in ours] == [shape[:2] for shape in theirs]
        for (_, _, one), (_, _, other) in zip(ours, theirs, strict=True):
            assert one.keys() == other.keys()
            for key in one:
                assert numbers(one[key]) == pytest.approx(numbers(other[key]), abs=0.11), (key, one, other)
                assert re.sub(r"[\d.]+", "", one[key]) == re.sub(r"[\d.]+", "", other[key])
    said, written_down = (page.text_content("#pays") for page in (drawn, written))
    assert said == f"At this round trip: {written_down}"
    squeezed = [[re.sub(r"\s+", "", text) for text in page.evaluate(content)] for page in (drawn, written)]
    assert squeezed[0] == squeezed[1]


def numbers(text: str) -> list[float]:
    return [float(figure) for figure in re.findall(r"\d+\.?\d*", text)]


@pytest.mark.slow
def test_candidates_move_between_the_best_and_the_rest(opened: Any) -> None:
    # The more bytes, the less there is to compute: at a low bandwidth the order is another one.
    many = [remote("split", 2_000 * (at + 1), 120.0 - at, 5.0, cut=f"c{at}", tensors=(f"t{at}",)) for at in range(60)]
    page = opened(plan(LOCAL, *many, chosen=1))
    slide(page, "bandwidth", 1)
    fast = order(page)
    assert len(fast) == 30 and fast[0] == 60
    slide(page, "bandwidth", 0.25)
    assert len(order(page)) == 30 and order(page)[0] in (0, 1)
    assert sorted(order(page) + order(page, "rest")) == list(range(61))


@pytest.mark.slow
@pytest.mark.parametrize("width", [360, 768, 1280])
def test_nothing_runs_over_the_edge(opened: Any, width: int) -> None:
    long = remote("split", 9_800, 50.0, 5.0, tensors=("a" * 200, "b/" * 100), cut="c" * 12, reason="word " * 60)
    page = opened(plan(*ALL, long, chosen=6), viewport={"width": width, "height": 800})
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("svg:visible").count() == 1
    text_px = page.evaluate(
        "(() => { const text = [...document.querySelectorAll('svg text')].find(one => one.getClientRects().length);"
        " return text.getBoundingClientRect().height; })()"
    )
    assert text_px >= 10  # legible without zooming


@pytest.mark.slow
def test_without_scripts_all_but_the_sliders_is_there(opened: Any) -> None:
    page = opened(plan(*ALL, chosen=2), java_script_enabled=False)
    assert page.locator("#best tbody").count() == 5
    assert page.locator("#ruled-out tbody").count() == 1
    assert page.locator("#wide path.best").count() == 4
    assert not page.locator("#sliders").is_visible()


@pytest.mark.slow
def test_it_follows_light_and_dark(opened: Any) -> None:
    colours = [
        opened(plan(*ALL), color_scheme=scheme).evaluate("getComputedStyle(document.body).backgroundColor")
        for scheme in ("light", "dark")
    ]
    assert colours[0] != colours[1]


@pytest.mark.slow
def test_an_injected_name_runs_nothing(opened: Any) -> None:
    split = remote("split", 9_800, 60.0, 5.0, cut=NASTY, tensors=(NASTY,))
    page = opened(plan(LOCAL, split, chosen=1, model=NASTY, reason=NASTY))
    slide(page, "bandwidth", 0.9)
    assert page.locator("script").count() == 2
    assert "alert" in page.inner_text("h1")

"""Latency over bandwidth from a plan's table alone, and the lower envelope of it."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.errors import InputError
from edge_sdk.planner.link_curves import AssumedLink, Curve, assumed_links, chosen_at, curves_of, envelope
from edge_sdk.planner.plans import Candidate, Escalation, Figures, LinkFigures, Plan, Remote
from edge_sdk.schedule.placing import Placement
from edge_sdk.wire.link_estimate import DOWN_HEAD_BYTES, UP_HEAD_BYTES

LINK = AssumedLink(rtt_ms=40.0, up_mbps=4.0, down_mbps=8.0)
PLACEMENT = Placement(threads=2)


def local(latency_ms: float, **more: Any) -> Candidate:
    figures: dict[str, Any] = {"measured": Figures(latency_ms=latency_ms, runs=10)}
    return Candidate(variant="int8", engine="litert", placement=PLACEMENT, **(figures | more))


def remote(
    kind: str,
    up: int,
    head_ms: float,
    endpoint_ms: float,
    link: AssumedLink = LINK,
    beyond_ms: float = 0.0,
    **more: Any,
) -> Candidate:
    bytes_ms = 8e-3 * ((up + UP_HEAD_BYTES) / link.up_mbps + (4000 + DOWN_HEAD_BYTES) / link.down_mbps)
    link_ms = link.rtt_ms + bytes_ms + beyond_ms
    latency_ms = more.pop("latency_ms", head_ms + link_ms + endpoint_ms)
    return Candidate(
        kind=kind,
        variant="int8",
        engine="litert",
        placement=PLACEMENT,
        predicted=Figures(latency_ms=latency_ms),
        remote=Remote(
            endpoint=more.pop("endpoint", ""),
            cut="c",
            tensors=("t",),
            up_bytes=up,
            down_bytes=4000,
            head_ms=head_ms,
            link_ms=link_ms,
            endpoint_ms=endpoint_ms,
        ),
        **more,
    )


def plan(*candidates: Candidate, chosen: int = 0, **more: Any) -> Plan:
    one = candidates[chosen]
    return Plan(
        kind=one.kind,
        variant=one.variant,
        engine=one.engine,
        accelerator=one.accelerator,
        placement=one.placement,
        remote=one.remote,
        cascade=one.cascade,
        objective=more.pop("objective", "latency"),
        reason="",
        candidates=candidates,
        **more,
    )


def test_local_is_flat_and_a_split_falls_with_bandwidth() -> None:
    here, there = curves_of(plan(local(180.0), remote("split", 20_000, 45.0, 6.0)), LINK)
    assert here.latency_ms(0.1, 40) == here.latency_ms(1000, 500) == 180
    # head + endpoint + round trip, and the bytes up, with down twice as fast
    seconds = (20_000 + UP_HEAD_BYTES) * 8e-6 / 10 + (4000 + DOWN_HEAD_BYTES) * 8e-6 / 20
    assert there.latency_ms(10, 40) == pytest.approx(45 + 6 + 40 + seconds * 1e3)
    assert there.latency_ms(10, 5) == pytest.approx(45 + 6 + 5 + seconds * 1e3)


@pytest.mark.parametrize("loss_share", [0.0, 0.01])
@pytest.mark.parametrize("beyond_ms", [-30.0, 0.0, 25.0])
def test_at_the_assumed_link_a_curve_has_the_latency_of_the_table(loss_share: float, beyond_ms: float) -> None:
    link = AssumedLink(40.0, 4.0, 8.0, loss_share)
    table = plan(remote("split", 20_000, 45.0, 6.0, beyond_ms=beyond_ms))
    assert table.candidates[0].predicted is not None
    (curve,) = curves_of(table, link)
    assert curve.latency_ms(4.0, 40.0) == pytest.approx(table.candidates[0].predicted.latency_ms)


def test_what_loss_costs_grows_with_the_round_trip() -> None:
    (curve,) = curves_of(plan(remote("split", 20_000, 45.0, 6.0, beyond_ms=20.0)), AssumedLink(40.0, 4.0, 8.0, 0.01))
    assert curve.turns == pytest.approx(1.5)


def test_of_a_cascade_only_the_share_that_goes_up_pays_for_the_link() -> None:
    big = remote("offload", 20_000, 1.0, 6.0)
    assert big.figures is not None
    parts = Escalation(
        small="s", big="b", score="top", threshold=0.8, share=0.25, small_ms=12.0, big_ms=0.0, big_kind="offload"
    )
    cascade = remote("cascade", 20_000, 1.0, 6.0, latency_ms=12.0 + 0.25 * big.figures.latency_ms, cascade=parts)
    whole, partly = curves_of(plan(big, cascade), LINK)
    for mbps, rtt_ms in ((0.5, 40.0), (4.0, 40.0), (100.0, 5.0)):
        assert partly.latency_ms(mbps, rtt_ms) == pytest.approx(12.0 + 0.25 * whole.latency_ms(mbps, rtt_ms))
    both_here = local(12.0, kind="cascade", cascade=parts)
    assert curves_of(plan(both_here), LINK)[0].latency_ms(1, 1) == 12


def test_a_plan_tells_its_links_itself() -> None:
    told = LinkFigures(endpoint="box", up_mbps=100.0, down_mbps=None, rtt_ms=2.0)
    untold = LinkFigures(endpoint="cloud", up_mbps=None, down_mbps=None, rtt_ms=40.0)
    table = plan(
        remote("split", 20_000, 45.0, 6.0, AssumedLink(2.0, 100.0, 100.0), endpoint="box"), links=(told, untold)
    )
    assert assumed_links(table) == {"box": AssumedLink(2.0, 100.0, 100.0)}
    (curve,) = curves_of(table, LINK)
    assert table.candidates[0].predicted is not None
    assert curve.latency_ms(4.0, 40.0) == pytest.approx(table.candidates[0].predicted.latency_ms)


def test_links_of_several_endpoints_move_in_proportion() -> None:
    lan = AssumedLink(2.0, 100.0, 100.0)
    table = plan(
        remote("split", 20_000, 45.0, 6.0, endpoint="cloud"), remote("split", 20_000, 45.0, 6.0, lan, endpoint="box")
    )
    cloud, box = curves_of(table, LINK, {"box": lan})
    assert box.latency_ms(4.0, 40.0) == pytest.approx(table.candidates[1].predicted.latency_ms)
    bytes_ms = 8e-3 * (20_000 + UP_HEAD_BYTES + 4000 + DOWN_HEAD_BYTES) / 50
    assert box.latency_ms(2.0, 80.0) == pytest.approx(45 + 6 + 4 + bytes_ms)
    assert cloud.latency_ms(2.0, 80.0) > cloud.latency_ms(4.0, 40.0)


def test_what_may_not_run_or_has_no_figures_has_no_curve() -> None:
    table = plan(
        local(180.0),
        local(10.0, feasible=False),
        local(0.0, measured=None),
        local(0.0, measured=None, predicted=Figures(latency_ms=20.0)),  # not to be compared with a measured one
        remote("split", 20_000, 45.0, math.inf),
    )
    assert [curve.at for curve in curves_of(table, LINK)] == [0]


def test_pairs_decide_among_what_was_measured_here() -> None:
    table = plan(local(180.0, relative=1.0), local(170.0, relative=1.1), local(185.0, relative=0.97))
    assert [curve.fixed_ms for curve in curves_of(table, LINK)] == pytest.approx([180, 198, 180])
    for_energy = plan(local(180.0, relative=1.0), local(170.0, relative=1.1), objective="energy")
    assert [curve.fixed_ms for curve in curves_of(for_energy, LINK)] == [180, 170]


def test_the_chosen_one_is_found_in_the_table() -> None:
    table = (local(180.0), remote("split", 20_000, 45.0, 6.0), remote("split", 10_000, 50.0, 6.0))
    assert [chosen_at(plan(*table, chosen=at)) for at in range(3)] == [0, 1, 2]
    assert chosen_at(Plan(**_without_table(plan(*table)))) is None


def _without_table(whole: Plan) -> dict[str, Any]:
    return {name: getattr(whole, name) for name in whole.__struct_fields__ if name != "candidates"}


@pytest.mark.parametrize(
    "figures", [(-1, 4, 8, 0), (40, 0, 8, 0), (40, 4, math.inf, 0), (math.nan, 4, 8, 0), (40, 4, 8, 1)]
)
def test_a_link_that_cannot_be_is_refused(figures: tuple[float, float, float, float]) -> None:
    with pytest.raises(InputError, match="expected"):
        AssumedLink(*figures)


# --- the envelope ---

CURVES = st.lists(
    st.builds(
        Curve,
        at=st.just(0),
        fixed_ms=st.floats(0, 1e4),
        turns=st.floats(0, 3),
        slope=st.just(0.0) | st.floats(1e-6, 1e6),
    ),
    min_size=1,
    max_size=30,
).map(lambda curves: [Curve(at, c.fixed_ms, c.turns, c.slope) for at, c in enumerate(curves)])


@given(CURVES, st.floats(0, 1000), st.floats(0, 1))
@settings(max_examples=150)
def test_the_envelope_is_nowhere_above_any_candidate(curves: list[Curve], rtt_ms: float, place: float) -> None:
    stretches = envelope(curves, rtt_ms, 0.1, 1000.0)
    assert (stretches[0].from_mbps, stretches[-1].to_mbps) == (0.1, 1000.0)
    for before, after in itertools.pairwise(stretches):
        assert before.to_mbps == pytest.approx(after.from_mbps)
        assert before.curve.slope < after.curve.slope  # more bandwidth, more bytes
    for stretch in stretches:
        mbps = stretch.from_mbps * (stretch.to_mbps / stretch.from_mbps) ** place
        lowest = min(curve.latency_ms(mbps, rtt_ms) for curve in curves)
        assert stretch.curve.latency_ms(mbps, rtt_ms) <= lowest * (1 + 1e-6) + 1e-9


def test_of_equals_the_chosen_one_stands_for_all() -> None:
    twins = [Curve(at, 10.0) for at in range(3)]
    assert [s.curve.at for s in envelope(twins, 0, 0.1, 1000, first=2)] == [2]
    assert [s.curve.at for s in envelope(twins, 0, 0.1, 1000)] == [0]
    assert envelope([], 0, 0.1, 1000) == ()


def test_crossings_are_exact() -> None:
    slow, fast = Curve(0, 100.0), Curve(1, 20.0, slope=160.0)
    below, above = envelope([slow, fast], 0, 0.1, 1000)
    assert (below.curve, above.curve) == (slow, fast)
    assert below.to_mbps == above.from_mbps == pytest.approx(2.0)

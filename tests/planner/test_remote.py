"""What ways over a link cost, which are ever best, and what may not leave the device."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.errors import InputError
from edge_sdk.planner.radio import RADIOS, radio_named
from edge_sdk.planner.remote import (
    Bounds,
    RemotePlace,
    RemoteWay,
    barred_remote,
    cost_of,
    ever_best,
    parts_ms,
    way_energy_mj,
)
from edge_sdk.wire.link_estimate import LinkEstimate

ANY = Bounds(kinds=frozenset({"local", "split", "offload"}))


def way(cut: str = "c", **changes: object) -> RemoteWay:
    plain = RemoteWay(
        kind="split",
        variant="fp32",
        cut=cut,
        tensors=(cut,),
        up_bytes=10_000,
        down_bytes=400,
        head_ms=5.0,
        tail_share=0.5,
    )
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def place(up_mbps: float = 8.0, rtt_ms: float = 20.0, **changes: object) -> RemotePlace:
    link = LinkEstimate(rtt_ms=rtt_ms, up_mbps=up_mbps, down_mbps=up_mbps, up_head_bytes=0, down_head_bytes=0)
    plain = RemotePlace("http://there", link, 0.0, {"fp32": 4.0}, {})
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def test_a_request_takes_head_link_queue_and_tail() -> None:
    there = place(queue_ms=3.0)
    assert parts_ms(way(), there) == (5.0, pytest.approx(20.0 + 10_400 * 8e-3 / 8.0), 3.0 + 4.0 * 0.5)


def test_what_the_endpoint_tells_of_the_very_tail_counts_before_a_share_of_the_whole() -> None:
    one = way()
    assert place(tails_ms={one.tail_key: 0.7}).compute_ms(one) == 0.7


def test_nobody_goes_to_an_endpoint_whose_speed_nothing_tells() -> None:
    assert place(whole_ms={}).compute_ms(way()) == math.inf
    assert ever_best([way()], [place(whole_ms={})]) == ()


def test_energy_is_the_head_the_radio_and_the_waiting() -> None:
    lte = radio_named("lte")
    told = way_energy_mj(way(), place(), 2.0, lte)
    sends, receives = 10_000 * 8e-6 * 438.39, 400 * 8e-6 * 51.97
    waits = 1.28804 * sum(parts_ms(way(), place())[1:])
    assert told == pytest.approx(5.0 * 2.0 + sends + receives + waits)


def test_a_radio_that_is_not_known_is_refused_with_those_that_are() -> None:
    with pytest.raises(InputError, match="expected one of " + ", ".join(RADIOS)):
        radio_named("5g")


lines = st.tuples(st.floats(0.0, 100.0), st.integers(0, 1_000_000))


@given(st.lists(lines, min_size=1, max_size=30), st.floats(0.05, 2000.0))
def test_at_any_bandwidth_the_best_way_is_among_those_that_are_ever_best(
    figures: list[tuple[float, int]], mbps: float
) -> None:
    ways = [
        way(str(at), head_ms=head_ms, up_bytes=size, down_bytes=0, tail_share=0.0)
        for at, (head_ms, size) in enumerate(figures)
    ]
    there = place(up_mbps=mbps)
    few = ever_best(ways, [there])
    best = min(sum(parts_ms(one, there)) for one in ways)
    assert min(sum(parts_ms(one, there)) for one in few) == pytest.approx(best)


def test_only_ways_on_the_envelope_are_kept() -> None:
    early, middle, late = (
        way("early", head_ms=1.0, up_bytes=100_000, tail_share=0.0),
        way("middle", head_ms=9.0, up_bytes=60_000, tail_share=0.0),
        way("late", head_ms=10.0, up_bytes=1_000, tail_share=0.0),
    )
    assert {one.cut for one in ever_best([early, middle, late], [place()])} == {"early", "late"}


def test_barred_ways_are_never_best() -> None:
    assert ever_best([way(barred="for a reason")], [place()]) == ()


@pytest.mark.parametrize(
    ("changes", "bounds", "why"),
    [
        ({"barred": "too far off"}, {}, "too far off"),
        ({}, {"kinds": frozenset({"offload"})}, "split is not asked for"),
        ({"sends_input": True}, {"keep_input_local": True}, "can be read from this cut"),
        ({"sends_input": True, "kind": "offload"}, {"keep_input_local": True}, "must stay on the device"),
        ({}, {"max_bytes": 9_999}, "sends 10,000 bytes, more than max_bytes=9,999"),
        ({}, {"max_leakage": 0.3}, "nobody measured"),
        ({"leakage": 0.5}, {"max_leakage": 0.3}, "gives away 50% of the input"),
        ({"accuracy": 0.6}, {"min_accuracy": 0.7}, "accuracy 0.6 is below"),
    ],
)
def test_what_may_not_be_chosen_says_why(changes: dict[str, object], bounds: dict[str, object], why: str) -> None:
    assert why in barred_remote(way(**changes), dataclasses.replace(ANY, **bounds))  # type: ignore[arg-type]


def test_what_holds_all_bounds_may_be_chosen() -> None:
    strict = dataclasses.replace(ANY, keep_input_local=True, max_bytes=10_000, max_leakage=0.5, min_accuracy=0.7)
    assert barred_remote(way(leakage=0.5, accuracy=0.7), strict) == ""


def test_whatever_keeps_the_limit_comes_before_all_that_misses_it() -> None:
    keeps = cost_of("energy", 49.0, 900.0, 0, max_latency_ms=50.0)
    misses, misses_more = (cost_of("energy", ms, 1.0, 0, max_latency_ms=50.0) for ms in (51.0, 52.0))
    assert keeps < misses < misses_more < math.inf


def test_for_bytes_latency_counts_among_equals_only() -> None:
    local, slower, sends = (cost_of("bytes", ms, None, size) for ms, size in ((90.0, 0), (95.0, 0), (1.0, 1)))
    assert local < slower < sends

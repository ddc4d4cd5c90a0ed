"""A link as a person states it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.errors import InputError
from edge_sdk.wire.link_estimate import resending_ms
from edge_sdk.wire.link_spec import LinkSpec, parse_link


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10mbit,40ms,1%", LinkSpec(down_mbps=10, up_mbps=10, rtt_ms=40, loss_share=0.01)),
        ("10mbit", LinkSpec(down_mbps=10, up_mbps=10)),
        ("20mbit/5mbit,40ms", LinkSpec(down_mbps=20, up_mbps=5, rtt_ms=40)),
        ("1% , 0.5s , 250kbit", LinkSpec(down_mbps=0.25, up_mbps=0.25, rtt_ms=500, loss_share=0.01)),
        ("1GBIT/s,300us", LinkSpec(down_mbps=1000, up_mbps=1000, rtt_ms=0.3)),
        ("2mbit/s/500kbit/s", LinkSpec(down_mbps=2, up_mbps=0.5)),
    ],
)
def test_bandwidth_round_trip_and_loss(text: str, expected: LinkSpec) -> None:
    assert LinkSpec.parse(text) == expected
    assert LinkSpec.parse(str(expected)) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not understood"),
        ("40ms", "no bandwidth"),
        ("10mbit,20mbit", "bandwidth is given twice"),
        ("10mbit,1ms,2ms", "round trip is given twice"),
        ("10 furlongs", "not understood"),
        ("10mbps", "not understood"),
        ("-1mbit", "not understood"),
        ("0mbit", "beyond"),
        ("1/2/3mbit", "not understood"),
        ("10mbit,100%", "less than 100%"),
        ("10mbit,61s", "longer than"),
        ("10mbit,٣ms", "not understood"),
        ("nanmbit", "not understood"),
    ],
)
def test_anything_else_is_refused_with_what_is_expected(text: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        LinkSpec.parse(text)


@given(st.text(max_size=40) | st.text("0123456789.,%/mkgbits ", max_size=30))
@settings(max_examples=200, deadline=None)
def test_no_text_ends_otherwise_than_with_a_link_or_a_clear_error(text: str) -> None:
    try:
        estimate = parse_link(text)
    except InputError:
        return
    assert estimate.transfer_ms(1000, 1000) > 0


def test_what_a_request_takes_on_a_stated_link() -> None:
    estimate = parse_link("20mbit/5mbit,40ms")
    beside = estimate.transfer_ms(0, 0)
    assert 40 < beside < 43
    assert estimate.transfer_ms(500_000, 0) == pytest.approx(beside + 800)
    assert estimate.transfer_ms(0, 500_000) == pytest.approx(beside + 200)


def test_lost_packets_cost_round_trips() -> None:
    assert resending_ms(1, 0.5, 10) == pytest.approx(10, rel=1e-3)  # half, and half of that, and so on
    assert resending_ms(100, 0.0, 10) == 0
    assert resending_ms(100, 0.01, 10) < resending_ms(1000, 0.01, 10) < 20
    assert parse_link("10mbit,40ms,1%").transfer_ms(10_000) > parse_link("10mbit,40ms").transfer_ms(10_000)

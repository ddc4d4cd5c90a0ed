"""A single slow request is believed where such have mostly been right."""

from __future__ import annotations

from edge_sdk.wire.alarms import JUDGED_WITHIN_S, Alarms


def after(*judged: int, heeded: bool = False, later_s: float = 0.1) -> Alarms:
    """Alarms, each followed by a request that was so far off."""
    alarms = Alarms()
    for number, off in enumerate(judged):
        alarms.raised(float(number * 10), heeded)
        alarms.judge(off, number * 10 + later_s)
    return alarms


def test_nothing_is_believed_unseen() -> None:
    assert not Alarms().believed


def test_it_is_believed_once_more_were_right_than_wrong() -> None:
    assert after(2).believed
    assert after(1, 1).believed
    assert not after(0).believed
    assert not after(2, 0).believed


def test_one_that_was_heeded_is_right_when_the_next_is_as_expected_since() -> None:
    assert after(0, 0, heeded=True).believed
    assert not after(-1, -2, heeded=True).believed


def test_what_comes_much_later_judges_nothing() -> None:
    assert not after(2, 2, 2, later_s=2 * JUDGED_WITHIN_S).believed


def test_each_is_judged_once() -> None:
    alarms = after(2)
    for number in range(20):
        alarms.judge(-2, 10.0 + number)
    assert alarms.believed


def test_what_was_long_ago_weighs_little() -> None:
    assert not after(*[2] * 50, *[0] * 8).believed
    assert after(*[0] * 50, *[2] * 8).believed

"""What follows what is learnt from the sequence of uses, and forgotten when it no longer holds."""

from __future__ import annotations

from edge_sdk.schedule.successors import MOST, Successors


def after(sequence: str) -> Successors:
    successors = Successors()
    for name in sequence:
        successors.see(name)
    return successors


def test_what_follows_twice_is_likely_and_once_is_not() -> None:
    assert after("ab").likely("a") is None
    assert after("abab").likely("a") == "b"
    assert after("abcabc").likely("c") is None
    assert after("abcabca").likely("c") == "a"


def test_the_same_one_again_tells_nothing() -> None:
    assert after("aaabbbaaabbb").shares("a") == {"b": 1.0}


def test_where_each_follows_as_often_none_is_likely() -> None:
    assert after("abacad" * 5).likely("a") is None


def test_a_habit_that_changed_is_forgotten() -> None:
    assert after("ab" * 50 + "ac" * 10).likely("a") == "c"


def test_what_is_remembered_is_bounded() -> None:
    successors = Successors()
    for number in range(1000):
        successors.see("a")
        successors.see(str(number))
    assert len(successors.shares("a")) <= MOST


def test_what_is_gone_is_expected_no_longer() -> None:
    successors = after("abab")
    successors.forget("b")
    assert successors.likely("a") is None
    assert successors.shares("b") == {}

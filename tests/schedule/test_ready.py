"""Who computes next: priority, then the earliest deadline, and nobody waits for ever."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.schedule.ready import STARVED_S, Waiting, next_of


def waiting(key: str, priority: int = 0, deadline_s: float = math.inf, came_s: float = 0.0) -> Waiting[str]:
    return Waiting(key, priority, deadline_s, came_s)


def chosen(*every: Waiting[str], now_s: float = 0.0) -> str:
    found = next_of(every, now_s)
    assert found is not None
    return found.key


def test_nobody_waits() -> None:
    assert next_of([], 0.0) is None


def test_higher_priority_goes_first_whatever_its_deadline() -> None:
    assert chosen(waiting("low", 0, 0.01), waiting("high", 1, 0.5)) == "high"


def test_within_a_priority_the_earliest_deadline_goes_first() -> None:
    assert chosen(waiting("later", 0, 0.5), waiting("sooner", 0, 0.2), waiting("never", 0)) == "sooner"


def test_who_came_first_goes_first_where_nothing_is_due() -> None:
    assert chosen(waiting("second", came_s=0.2), waiting("first", came_s=0.1), now_s=0.3) == "first"


def test_who_is_long_overdue_goes_before_higher_priorities() -> None:
    low, high = waiting("low", 0, 0.1), waiting("high", 9, 5.0, came_s=0.0)
    assert chosen(low, high, now_s=0.1 + STARVED_S) == "high"
    assert chosen(low, high, now_s=0.2 + STARVED_S) == "low"


def test_who_has_no_deadline_is_not_starved_either() -> None:
    assert chosen(waiting("low"), waiting("high", 1, 9.0), now_s=1.1 * STARVED_S) == "low"


@given(
    st.lists(st.tuples(st.integers(-3, 3), st.floats(0, 9), st.floats(0, 9)), min_size=1, max_size=8),
    st.floats(0, 20),
)
def test_the_one_who_goes_is_not_behind_another_by_any_rule(
    asked: list[tuple[int, float, float]], now_s: float
) -> None:
    every = [waiting(str(number), *each) for number, each in enumerate(asked)]
    found = next_of(every, now_s)
    assert found is not None
    if found.starved(now_s):
        assert found.came_s == min(one.came_s for one in every if one.starved(now_s))
    else:
        assert not any(one.starved(now_s) for one in every)
        rivals = [one for one in every if one.priority >= found.priority]
        assert all(one.priority == found.priority and one.deadline_s >= found.deadline_s for one in rivals)

"""How long the endpoint has for itself before the local way begins."""

from __future__ import annotations

import gc
import math
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.errors import EdgeError, InvalidAnswer
from edge_sdk.offload import patience_ms
from edge_sdk.offload.hedge import MOST_SPARED, SPARED, HedgeBudget, Way, hedged
from edge_sdk.wire.timeline import REAL_TIMELINE


@pytest.mark.parametrize(
    "usual_ms, local_ms, left_ms, expected_ms",
    [
        (None, None, math.inf, 500.0),
        (20.0, None, math.inf, 20.0),
        (20.0, 30.0, 100.0, 20.0),
        (90.0, 30.0, 100.0, 63.5),
        (None, 30.0, 100.0, 63.5),
        (20.0, 95.0, 100.0, 0.0),
        (20.0, None, 100.0, 0.0),
        (20.0, 30.0, -5.0, 0.0),
    ],
)
def test_it_is_what_is_usual_unless_the_deadline_is_nearer(
    usual_ms: float | None, local_ms: float | None, left_ms: float, expected_ms: float
) -> None:
    assert patience_ms(usual_ms, 500.0, local_ms, left_ms) == pytest.approx(expected_ms)


@given(st.floats(0, 1e6), st.floats(0, 1e4), st.floats(0, 1e6))
def test_after_it_there_is_always_time_for_the_local_way_where_there_ever_was(
    usual_ms: float, local_ms: float, left_ms: float
) -> None:
    patience = patience_ms(usual_ms, 500.0, local_ms, left_ms)
    assert patience == 0.0 or patience + local_ms <= left_ms


def test_a_few_requests_may_be_hedged_at_once_and_then_a_share_of_them() -> None:
    budget = HedgeBudget()
    for _ in range(int(MOST_SPARED)):
        assert budget.spare()
        budget.ended(hedged=True)
    hedged = 0
    for _ in range(1600):
        spare = budget.spare()
        hedged += spare
        budget.ended(hedged=spare)
    assert hedged == pytest.approx(1600 * SPARED, rel=0.1)


def test_what_a_refused_answer_was_read_into_is_free_before_the_collector_comes_by() -> None:
    class Content(bytearray):
        pass

    contents: list[weakref.ref[Content]] = []

    def refused() -> str:
        content = Content(1 << 20)
        contents.append(weakref.ref(content))
        raise InvalidAnswer("the answer is too large")

    ways = iter([Way(refused, lambda: None, math.inf, remote=True), Way(lambda: "here", lambda: None, 0.0, False)])
    gc.disable()
    try:
        outcome = hedged(lambda busy: next(ways, None), REAL_TIMELINE)
        assert (outcome.result, outcome.remote) == ("here", False)
        assert isinstance(outcome.failure, EdgeError)
        assert contents[0]() is None
    finally:
        gc.enable()

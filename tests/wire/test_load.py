"""What an endpoint takes by itself, apart from the link."""

from __future__ import annotations

import pytest

from edge_sdk.wire.load import MOST_MODELS, Load
from edge_sdk.wire.passage import COMPUTE, QUEUE, Passage
from edge_sdk.wire.simulated import SimulatedTimeline


def answered(queue_ms: float, compute_ms: float, down_bytes: int = 100) -> Passage:
    return Passage(up_bytes=1, duration_ms=99.0, queue_ms=queue_ms, compute_ms=compute_ms, down_bytes=down_bytes)


def test_nothing_is_known_of_a_model_that_was_never_asked_for() -> None:
    load = Load()
    load.record("a", answered(1, 2))
    assert load.estimate("b") is None


def test_metadata_tell_until_own_requests_do() -> None:
    load = Load()
    load.told("m", {QUEUE: 3.0, COMPUTE: 40})
    told = load.estimate("m")
    assert told is not None and (told.queue_ms, told.compute_ms, told.measured) == (3.0, 40.0, False)
    load.record("m", answered(5, 20, down_bytes=4000))
    own = load.estimate("m")
    assert own is not None and (own.queue_ms, own.compute_ms, own.down_bytes) == (5.0, 20.0, 4000)


@pytest.mark.parametrize("value", ["12", True, -1.0, float("nan"), float("inf"), None, 1e300])
def test_what_cannot_be_a_time_is_no_news(value: object) -> None:
    load = Load()
    load.told("m", {COMPUTE: value})
    assert load.estimate("m") is None


def test_four_answers_outweigh_what_was_before_and_one_does_not() -> None:
    load = Load(SimulatedTimeline())
    for _ in range(20):
        load.record("m", answered(0, 10))
    load.record("m", answered(0, 100))
    assert load.estimate("m").compute_ms == 10  # type: ignore[union-attr]
    for _ in range(3):
        load.record("m", answered(0, 100))
    assert load.estimate("m").compute_ms == 100  # type: ignore[union-attr]


def test_after_a_pause_two_answers_do() -> None:
    timeline = SimulatedTimeline()
    load = Load(timeline)
    for _ in range(20):
        load.record("m", answered(0, 10))
    timeline.sleep(120)
    load.record("m", answered(0, 100))
    assert load.estimate("m").compute_ms == 100  # type: ignore[union-attr]


def test_it_keeps_few_models() -> None:
    load = Load()
    for number in range(MOST_MODELS + 1):
        load.record(str(number), answered(0, 1))
    assert load.estimate("0") is None
    assert load.estimate(str(MOST_MODELS)) is not None

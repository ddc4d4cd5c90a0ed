"""A session under a governor: steps beside its requests, with reasons, and a pace that users of cameras expect."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edge_sdk
from edge_sdk.engines.simulated import SimulatedClock
from edge_sdk.governed import Governed
from tests.governed.two_sizes import WAIT_S, SaidSensors, Ticks, TwoSizes

pytestmark = pytest.mark.usefixtures("untried")

X = {"x": np.ones((1, 8), np.float32)}
LARGE, SMALL = 64.0, 4.0
TARGET = edge_sdk.Target(max_c=70, rate_hz=15)


@pytest.fixture
def session(sizes: Path, engine: TwoSizes) -> Iterator[edge_sdk.Session]:
    """Planned for latency: it runs the small variant."""
    with edge_sdk.load(sizes, engine=engine, threads=1, plan_budget_s=2) as loaded:
        engine.timed = False
        yield loaded
        engine.gate.set()


@pytest.fixture
def governed(
    session: edge_sdk.Session, sensors: SaidSensors, clock: SimulatedClock, ticks: Ticks
) -> Iterator[Governed]:
    """Large as it comes, large at 15 Hz, small at 15, 7.5 and 3.75 Hz."""
    with govern(session, sensors, clock, ticks) as made:
        yield made


def govern(
    session: edge_sdk.Session, sensors: SaidSensors, clock: SimulatedClock, ticks: Ticks, **more: Any
) -> Governed:
    arguments = {"target": TARGET, "most_accurate": True, **more}
    made = Governed(session, sensors=sensors, clock=clock, wait=ticks.wait, **arguments)  # type: ignore[arg-type]
    ticks.settled()
    return made


def answer(session: edge_sdk.Session | Governed) -> float:
    return float(session.run(X)["y"][0, 0])


def step_down(sensors: SaidSensors, ticks: Ticks, governed: Governed, level: int) -> None:
    """To that level, by telling heat."""
    sensors.says["temperature_c"] = 70.0
    for _ in range(500):
        if governed.figures().level == level:
            sensors.says["temperature_c"] = 60.0
            return
        sensors.says["temperature_c"] += 0.7
        ticks.look()
    raise AssertionError(f"level {level} was never reached")


def test_levels_are_made_of_the_plan_by_itself(governed: Governed, engine: TwoSizes) -> None:
    assert [(level.candidate.variant, level.pace_hz) for level in governed.levels] == [
        ("large", float("inf")),
        ("large", 15),
        ("small", 15),
        ("small", 7.5),
        ("small", 3.75),
    ]
    assert answer(governed) == LARGE


def test_heat_is_answered_by_a_lighter_variant_and_both_tell_why(
    governed: Governed, session: edge_sdk.Session, sensors: SaidSensors, ticks: Ticks
) -> None:
    step_down(sensors, ticks, governed, 2)
    assert answer(session) == SMALL
    assert session.plan.variant == "small" and "°C" in session.plan.reason + session.report().events[-1]
    steps = [event for event in session.report().events if event.startswith("down to ")]
    assert len(steps) == 2 and "small" in steps[1] and "70 °C is the limit" in steps[1]
    figures = governed.figures()
    assert (figures.level, figures.levels, figures.steps, figures.pace_hz) == (2, 5, 2, 15)
    assert figures.hottest_c is not None and figures.hottest_c >= 70


def test_where_it_is_cool_for_long_it_goes_up_again(
    governed: Governed, session: edge_sdk.Session, sensors: SaidSensors, ticks: Ticks, engine: TwoSizes
) -> None:
    step_down(sensors, ticks, governed, 2)
    sensors.says["temperature_c"] = 40.0
    ticks.look(1000)
    assert governed.figures().level == 0
    assert answer(session) == LARGE
    assert engine.open == {"large": 1, "small": 1}
    assert any(event.startswith("up to large") for event in session.report().events)


def test_the_way_of_the_next_step_down_is_loaded_before_it_is_wanted(
    governed: Governed, sensors: SaidSensors, ticks: Ticks, engine: TwoSizes
) -> None:
    assert engine.open == {"large": 1, "small": 1}
    loads = len(engine.loads)
    step_down(sensors, ticks, governed, 2)
    assert len(engine.loads) == loads
    assert engine.open == {"large": 0, "small": 1}


def test_with_little_memory_nothing_is_loaded_ahead(
    sizes: Path, engine: TwoSizes, sensors: SaidSensors, clock: SimulatedClock, ticks: Ticks
) -> None:
    with edge_sdk.load(sizes, engine=engine, threads=1, plan_budget_s=2) as measured:
        needed_mb = max(row.memory_mb or 0.0 for row in measured.plan.candidates)
    if not needed_mb:
        pytest.skip("what a model takes is known only where its graph can be read")
    with edge_sdk.load(sizes, engine=engine, threads=1, plan_budget_s=2, max_memory_mb=1.01 * needed_mb) as session:
        engine.timed = False
        with govern(session, sensors, clock, ticks) as governed:
            assert engine.open == {"large": 1, "small": 0}
            step_down(sensors, ticks, governed, 2)
            assert engine.open == {"large": 0, "small": 1}


def test_a_request_in_flight_ends_where_it_began_and_no_step_waits_for_it(
    governed: Governed, session: edge_sdk.Session, sensors: SaidSensors, ticks: Ticks, engine: TwoSizes
) -> None:
    step_down(sensors, ticks, governed, 1)
    engine.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(answer, session)
        assert engine.entered.acquire(timeout=WAIT_S)
        step_down(sensors, ticks, governed, 2)
        assert engine.open["large"] == 1
        engine.gate.set()
        assert slow.result(WAIT_S) == LARGE
    assert answer(session) == SMALL
    assert engine.open == {"large": 0, "small": 1}


def test_requests_of_several_threads_all_have_their_answers_through_many_steps(
    governed: Governed, session: edge_sdk.Session, sensors: SaidSensors, ticks: Ticks, engine: TwoSizes
) -> None:
    over = threading.Event()

    def ask() -> list[float]:
        answers = []
        while not over.is_set():
            answers.append(answer(session))
        return answers

    with ThreadPoolExecutor(3) as pool:
        asking = [pool.submit(ask) for _ in range(3)]
        for _ in range(4):
            step_down(sensors, ticks, governed, 2)
            sensors.says["temperature_c"] = 40.0
            while governed.figures().level:
                ticks.look()
        over.set()
        answers = [one for each in asking for one in each.result(WAIT_S)]
    assert set(answers) == {LARGE, SMALL}


def test_a_way_that_does_not_load_leaves_the_one_that_runs_and_the_pace_counts(
    session: edge_sdk.Session, sensors: SaidSensors, clock: SimulatedClock, ticks: Ticks, engine: TwoSizes
) -> None:
    with govern(session, sensors, clock, ticks) as governed:
        step_down(sensors, ticks, governed, 2)
        engine.no_load = {"large"}
        sensors.says["temperature_c"] = 40.0
        ticks.look(300)
        assert governed.figures().level == 0
        assert answer(session) == SMALL
        assert any("does not load" in event and "out of order" in event for event in session.report().events)


def test_nothing_below_min_accuracy_is_a_level(
    sizes: Path, engine: TwoSizes, sensors: SaidSensors, clock: SimulatedClock, ticks: Ticks
) -> None:
    with edge_sdk.load(sizes, engine=engine, threads=1, plan_budget_s=2, min_accuracy=0.95) as session:
        engine.timed = False
        with govern(session, sensors, clock, ticks) as governed:
            assert {level.candidate.variant for level in governed.levels} == {"large"}
            assert len(governed.levels) > 2


def test_another_model_swapped_in_has_levels_of_its_own(
    governed: Governed, session: edge_sdk.Session, sizes: Path, sensors: SaidSensors, ticks: Ticks, engine: TwoSizes
) -> None:
    step_down(sensors, ticks, governed, 2)
    engine.timed = True
    session.swap(sizes)
    sensors.says["temperature_c"] = 50.0
    ticks.look()
    engine.timed = False
    assert governed.figures().level == 0
    assert answer(session) == LARGE
    assert sum(engine.open.values()) == 2


def test_frames_that_come_sooner_than_the_level_allows_are_dropped(
    governed: Governed, sensors: SaidSensors, ticks: Ticks, clock: SimulatedClock
) -> None:
    def camera() -> Iterator[dict[str, Any]]:
        for _ in range(300):
            clock.sleep(1 / 30)
            yield X

    assert len(list(governed.stream(camera(), ahead=0))) == 300
    step_down(sensors, ticks, governed, 2)
    assert len(list(governed.stream(camera(), ahead=0))) == pytest.approx(150, abs=2)
    assert sum(1 for _ in governed.paced(camera())) == pytest.approx(150, abs=2)
    assert governed.figures().skipped == pytest.approx(300, abs=4)


def test_a_single_request_waits_for_its_turn_and_for_nothing_longer_than_close(
    governed: Governed, sensors: SaidSensors, ticks: Ticks
) -> None:
    step_down(sensors, ticks, governed, 4)
    answers = [answer(governed), answer(governed)]
    with ThreadPoolExecutor(1) as pool:
        third = [pool.submit(answer, governed) for _ in range(200)]  # a minute of turns, were nobody to close
        governed.close()
        answers += [one.result(WAIT_S) for one in third]
    assert answers == [SMALL] * 202


def test_closing_gives_back_what_was_ready_and_leaves_the_session_as_it_runs(
    governed: Governed, session: edge_sdk.Session, sensors: SaidSensors, ticks: Ticks, engine: TwoSizes
) -> None:
    step_down(sensors, ticks, governed, 1)
    governed.close()
    governed.close()
    assert engine.open == {"large": 1, "small": 0}
    assert answer(session) == LARGE and governed.figures().pace_hz is None
    assert not [one for one in threading.enumerate() if one.name == "edge-sdk-govern"]


def test_a_session_closed_first_ends_governing(
    governed: Governed, session: edge_sdk.Session, ticks: Ticks, engine: TwoSizes
) -> None:
    session.close()
    governed.close()
    assert engine.open == {"large": 0, "small": 0}


def test_a_battery_on_mains_asks_for_nothing_and_by_itself_for_less(
    session: edge_sdk.Session, sensors: SaidSensors, clock: SimulatedClock, ticks: Ticks
) -> None:
    target = edge_sdk.Target(hours=4, rate_hz=15)
    sensors.says = {"source": "mains", "battery_percent": 90.0}
    with govern(session, sensors, clock, ticks, target=target) as governed:
        for tenth in range(40):
            sensors.says["battery_percent"] = 90 - tenth / 10
            ticks.look(5)
        assert governed.figures().level == 0
        sensors.says["source"] = "battery"
        for tenth in range(100):
            sensors.says["battery_percent"] = 86 - tenth / 10
            ticks.look(10)
        assert governed.figures().level > 0
        assert any("h are wanted" in event for event in session.report().events)


@pytest.mark.parametrize(
    ("says", "target", "told"),
    [
        ({}, edge_sdk.Target(max_c=70), "nothing here tells a temperature"),
        ({}, edge_sdk.Target(hours=4), "nothing here tells how full a battery is: 4 h"),
        ({"temperature_c": 40.0}, edge_sdk.Target(max_c=70, rate_hz=1e5), "100000 Hz cannot be held: the fastest"),
    ],
)
def test_what_cannot_be_held_is_told_at_once(
    session: edge_sdk.Session,
    sensors: SaidSensors,
    clock: SimulatedClock,
    ticks: Ticks,
    says: dict[str, Any],
    target: edge_sdk.Target,
    told: str,
) -> None:
    sensors.says = says
    with govern(session, sensors, clock, ticks, target=target):
        assert any(told in event for event in session.report().events)


def test_what_is_not_held_is_told_once_and_when_it_is_again(
    governed: Governed, session: edge_sdk.Session, sensors: SaidSensors, ticks: Ticks
) -> None:
    sensors.says["temperature_c"] = 71.0
    ticks.look(3)
    assert governed.figures().shortfall == "71.0 °C, and 70 °C is the limit"
    sensors.says["temperature_c"] = 60.0
    ticks.look(3)
    assert governed.figures().shortfall == ""
    told = [event for event in session.report().events if "held" in event]
    assert told == ["not held: 71.0 °C, and 70 °C is the limit", "held again"]


def test_a_session_that_carries_state_changes_only_its_rate(
    tmp_path: Path, sensors: SaidSensors, clock: SimulatedClock, ticks: Ticks
) -> None:
    models = pytest.importorskip("tests.models")
    pytest.importorskip("onnxruntime")
    path = tmp_path / "counter.onnx"
    path.write_bytes(models.onnx_state())
    with edge_sdk.load(path, state={"state": "next_state"}, plan_budget_s=0.2) as session:
        counts = [float(session.run(np.ones((1, 2), np.float32))["y"][0, 0])]
        with govern(session, sensors, clock, ticks, most_accurate=False) as governed:
            step_down(sensors, ticks, governed, len(governed.levels) - 1)
            assert {level.candidate.placement for level in governed.levels} == {session.plan.placement}
            counts.append(float(session.run(np.ones((1, 2), np.float32))["y"][0, 0]))
    assert counts == [1, 2]

"""What a device tells of itself as a plain dict: of which models, and what happens when they come, go and fail."""

from __future__ import annotations

import gc
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edge_sdk
from edge_sdk.engines.simulated import SimulatedBehaviour, SimulatedClock, SimulatedEngine
from edge_sdk.errors import InputError, InputValueError, SessionClosed
from edge_sdk.events import KINDS
from edge_sdk.schedule import Governor, Level, Reading, Target

models = pytest.importorskip("tests.models")

ONES = np.ones((2, 3), np.float32)


def load(behaviour: SimulatedBehaviour | None = None) -> edge_sdk.Session:
    return edge_sdk.load(models.onnx_add(), engine=SimulatedEngine(behaviour or SimulatedBehaviour()), plan_budget_s=0)


def scheduled(scheduler: edge_sdk.Scheduler, name: str, **arguments: Any) -> Any:
    engine = SimulatedEngine(SimulatedBehaviour())
    return scheduler.load(name, models.onnx_add(), engine=engine, plan_budget_s=0, **arguments)


def test_a_session_tells_each_of_its_requests_and_how_it_ran() -> None:
    metrics = edge_sdk.Metrics()
    with metrics.add(load(), "adder") as session:
        for _ in range(5):
            session.run(ONES)
        with session.stage("pre"):
            pass
        found = metrics.as_dict()
    told = json.loads(json.dumps(found))["models"]["adder"]["session"]
    (way,) = told["ways"]
    assert (way["engine"], way["accelerator"], way["run"]["count"]) == ("simulated", "cpu", 5)
    assert way["run"]["up_to"][-1] == 5 and len(way["run"]["up_to"]) == len(found["edges_ms"])
    assert told["report"]["stages"]["run"]["count"] == 5
    assert told["report"]["stages"]["pre"]["count"] == 1
    assert told["report"]["counts"] == dict.fromkeys(KINDS, 0)
    assert told["in_progress"] == 0 and told["split"] is None
    assert found["schema"] == 1 and found["unread"] == 0 and found["process"]["resident_mb"] > 1


def test_a_request_that_computes_is_in_progress() -> None:
    hold = threading.Event()
    metrics = edge_sdk.Metrics()
    with metrics.add(load(SimulatedBehaviour(hang_at={0: hold})), "adder") as session:
        asking = threading.Thread(target=session.run, args=(ONES,))
        asking.start()
        try:
            while session.in_progress == 0:
                pass
            assert metrics.as_dict()["models"]["adder"]["session"]["in_progress"] == 1
        finally:
            hold.set()
            asking.join()


def test_a_scheduler_tells_of_all_its_models_and_loads_none_for_that() -> None:
    metrics = edge_sdk.Metrics()
    with metrics.add(edge_sdk.Scheduler(cores=2, max_memory_mb=1e6)) as scheduler:
        camera = scheduled(scheduler, "camera", priority=1, rate_hz=20)
        scheduled(scheduler, "batch").run(ONES)
        camera.run(ONES)
        scheduler._residence._tenants["batch"].session.close()  # as if others had needed the room
        scheduler._residence._tenants["batch"].session = None
        told = metrics.as_dict()
        assert scheduler._residence.loaded("batch") is None
    camera_now, batch_now = told["models"]["camera"], told["models"]["batch"]
    part = camera_now["scheduled"]
    assert (part["priority"], part["deadline_ms"], part["rate_hz"]) == (1, 50.0, 20)
    assert (part["answered"], part["missed"], part["waiting"], part["loads"]) == (1, 0, 0, 1)
    assert part["queue"]["count"] == part["service"]["count"] == 1
    assert camera_now["session"]["ways"][0]["run"]["count"] == 1
    assert batch_now["session"] is None
    assert (batch_now["scheduled"]["deadline_ms"], batch_now["scheduled"]["memory_mb"]) == (None, 0.0)
    assert batch_now["scheduled"]["answered"] == 1
    assert told["schedulers"]["scheduler"]["max_memory_mb"] == 1e6


def test_what_is_closed_or_forgotten_is_told_no_more() -> None:
    metrics = edge_sdk.Metrics()
    kept = metrics.add(load(), "kept")
    closed = metrics.add(load(), "closed")
    metrics.add(load(), "forgotten")
    closed.close()
    gc.collect()
    assert set(metrics.as_dict()["models"]) == {"kept"}
    metrics.add(kept, "closed")  # its name is free again
    kept.close()
    assert metrics.as_dict()["models"] == {}


def test_a_model_of_a_scheduler_that_was_closed_is_told_no_more() -> None:
    metrics = edge_sdk.Metrics()
    with metrics.add(edge_sdk.Scheduler(cores=2)) as scheduler:
        scheduled(scheduler, "a")
        scheduled(scheduler, "b").close()
        assert set(metrics.as_dict()["models"]) == {"a"}
    assert metrics.as_dict()["models"] == {}


def test_no_two_have_one_name() -> None:
    metrics = edge_sdk.Metrics()
    first, second = load(), load()
    metrics.add(first)
    with pytest.raises(InputValueError, match=r"'model in memory' already; expected another name="):
        metrics.add(second)
    metrics.add(second, "a")
    with edge_sdk.Scheduler(cores=2) as one, edge_sdk.Scheduler(cores=2) as other:
        metrics.add(one, "one")
        metrics.add(other, "other")
        scheduled(one, "a")
        scheduled(other, "a")
        assert set(metrics.as_dict()["models"]) == {"model in memory", "a", "a (2)", "a (3)"}


def test_what_tells_nothing_is_refused() -> None:
    metrics = edge_sdk.Metrics()
    with edge_sdk.Scheduler(cores=2) as scheduler, pytest.raises(InputError, match="a Scheduled tells no metrics"):
        metrics.add(scheduled(scheduler, "a"))
    closed = load()
    closed.close()
    with pytest.raises(SessionClosed):
        metrics.add(closed)


def test_a_governor_tells_its_level() -> None:
    metrics = edge_sdk.Metrics()
    governor = metrics.add(Governor([Level("all", 30), Level("little", 10)], Target(max_c=70)))
    governor.see(Reading(0.0, 75.0))
    told = metrics.as_dict()["governors"]["governor"]
    assert told == {"level": 1, "levels": ["all", "little"], "max_c": 70, "rate_hz": None, "reachable": True}


def test_a_governed_session_tells_its_level() -> None:
    metrics = edge_sdk.Metrics()
    with (
        edge_sdk.load(models.onnx_mlp(), plan_budget_s=0) as session,
        edge_sdk.Governed(session, edge_sdk.Target(max_c=70, rate_hz=15)) as governed,
    ):
        metrics.add(governed, "camera")
        told = metrics.as_dict()["governors"]["camera"]
    assert told["level"] == 0 and told["max_c"] == 70
    assert told["levels"] == [level.name for level in governed.levels]


def test_the_machine_is_read_anew_each_time(tmp_path: Path) -> None:
    from tests.observing.whole_device import sensors

    metrics = edge_sdk.Metrics(sensors(tmp_path))
    device = metrics.as_dict()["device"]
    assert [(zone["name"], zone["temperature_c"], zone["trip_c"]) for zone in device["zones"]] == [
        ("cpu-thermal", 48.3, 80.0),
        ("cpu-thermal", 51.0, 80.0),
    ]
    assert device["cpu_mhz"] == {"0": 600, "1": 600} and device["throttled"] is False
    assert device["power"] == {"source": "battery", "battery_percent": 64} and device["memory_mb"] == 3906
    (tmp_path / "sys/class/thermal/thermal_zone1/temp").write_text("81000\n")
    device = metrics.as_dict()["device"]
    assert device["zones"][1]["temperature_c"] == 81.0 and device["throttled"] is True


def test_a_machine_that_tells_nothing_is_no_error(tmp_path: Path) -> None:
    told = edge_sdk.Metrics(tmp_path).as_dict()
    assert told["device"]["zones"] == [] and told["device"]["throttled"] is None and told["unread"] == 0


def test_one_that_cannot_be_read_takes_no_other_along(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = edge_sdk.Metrics()
    broken, well = metrics.add(load(), "broken"), metrics.add(load(), "well")

    def fails() -> Any:
        raise ZeroDivisionError("of a plug-in")

    monkeypatch.setattr(broken._active.runner, "placement", fails)  # type: ignore[union-attr]
    well.run(ONES)
    told = metrics.as_dict()
    assert set(told["models"]) == {"well"} and told["unread"] == 1
    assert metrics.as_dict()["unread"] == 2


def test_counts_only_grow_while_requests_run_and_models_are_swapped() -> None:
    metrics = edge_sdk.Metrics()
    session = metrics.add(load(SimulatedBehaviour(latency_ms=0.01, clock=SimulatedClock())), "adder")
    over = threading.Event()
    answered = [0, 0]

    def ask(asker: int) -> None:
        while not over.is_set():
            session.run(ONES)
            answered[asker] += 1

    askers = [threading.Thread(target=ask, args=(asker,)) for asker in range(2)]
    for asker in askers:
        asker.start()
    seen = [0]
    for turn in range(60):
        if turn % 20 == 10:
            session.swap(models.onnx_add())
        seen.append(metrics.as_dict()["models"]["adder"]["session"]["ways"][0]["run"]["count"])
    over.set()
    for asker in askers:
        asker.join()
    assert seen == sorted(seen) and seen[-1] > 0
    assert metrics.as_dict()["models"]["adder"]["session"]["ways"][0]["run"]["count"] == sum(answered)
    session.close()

"""What a session counts for its metrics: durations by the way the model ran, and what happened to it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import edge_sdk
from edge_sdk.device import Accelerator
from edge_sdk.engines.simulated import SimulatedBehaviour, SimulatedEngine
from edge_sdk.errors import AcceleratorError, EngineError
from edge_sdk.events import KINDS

models = pytest.importorskip("tests.models")

ONES = np.ones((2, 3), np.float32)
GPU = (Accelerator(kind="gpu", name="gpu", engine="simulated", present=True),)


def load(behaviour: SimulatedBehaviour, **arguments: Any) -> edge_sdk.Session:
    return edge_sdk.load(models.onnx_add(), engine=SimulatedEngine(behaviour), plan_budget_s=0, **arguments)


def counts(session: edge_sdk.Session) -> dict[str, int]:
    """Those that are not 0."""
    return {kind: count for kind, count in session.report().counts.items() if count}


def test_everything_counted_begins_at_nought() -> None:
    with load(SimulatedBehaviour()) as session:
        assert session.report().counts == dict.fromkeys(KINDS, 0)


def test_requests_are_told_apart_by_the_way_they_ran() -> None:
    gpu = SimulatedBehaviour(accelerators=GPU)
    with load(gpu, accelerator="gpu") as session:
        for _ in range(3):
            session.run(ONES)
        planned_anew = load(gpu)._active
        assert session._take(session._active, planned_anew)  # type: ignore[arg-type]
        session.run(ONES)
        by_accelerator = {way.accelerator: times.count for way, times in session.run_times().items()}
        assert by_accelerator == {"gpu": 3, "cpu": 1}
        assert session.report().stages["run"].count == session.stage_times()["run"].count == 4


def test_an_accelerator_that_is_given_up_when_loading_is_counted() -> None:
    behaviour = SimulatedBehaviour(accelerators=GPU, fail_load={"gpu": AcceleratorError("gpu: no driver")})
    for_good = edge_sdk.Guard(rest_s=math.inf)
    with (
        pytest.warns(edge_sdk.AcceleratorFallback),
        load(behaviour, accelerator="gpu", guard=for_good) as session,
    ):
        session.run(ONES)
        assert counts(session) == {"accelerator_fallback": 1}


def test_requests_that_nothing_could_answer_are_counted() -> None:
    with load(SimulatedBehaviour(fail_at={1: EngineError("out of order")})) as session:
        session.run(ONES)
        with pytest.raises(EngineError):
            session.run(ONES)
        assert counts(session) == {"request_failed": 1}
        assert session.in_progress == 0


def test_what_a_swapped_model_took_is_kept() -> None:
    with load(SimulatedBehaviour()) as session:
        session.run(ONES)
        session.swap(models.onnx_add())
        session.run(ONES)
        assert sum(times.count for times in session.run_times().values()) == 2
        assert counts(session) == {"swapped": 1}
    assert session.in_progress == 0

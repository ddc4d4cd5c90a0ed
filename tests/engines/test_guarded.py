"""An accelerator that fails costs no request, and comes back when it is well."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edge_sdk
from edge_sdk.device.facts import Accelerator
from edge_sdk.engines import LoadOptions
from edge_sdk.engines.guard import AcceleratorState, Guard
from edge_sdk.engines.guarded import GuardedRunner
from edge_sdk.engines.simulated import SimulatedBehaviour, SimulatedEngine
from edge_sdk.errors import AcceleratorError, EngineError, InputError, InputValueError
from edge_sdk.formats import open_model
from tests import models
from tests.engines.failing import FailingDelegate, Told, accelerator_processes, failing_delegate

F32 = np.float32
REQUESTS = 60
X = np.full((2, 3), 5, F32)
NPU = Accelerator(kind="npu", name="npu", engine="simulated", present=True, usable=True, why="")


@pytest.fixture(autouse=True)
def _fallbacks_are_expected() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", edge_sdk.AcceleratorFallback)
        yield


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> FailingDelegate:
    pytest.importorskip("ai_edge_litert")
    return failing_delegate(tmp_path_factory.mktemp("delegate"))


@pytest.fixture
def delegate(compiled: FailingDelegate) -> FailingDelegate:
    compiled.is_now("right")
    return compiled


def on_delegate(delegate: FailingDelegate, told: Told, **guard: Any) -> edge_sdk.Session:
    settings = Guard(**{"rest_s": 0.05, "timeout_s": 2.0, "tell": told, **guard})
    options = {"accelerator": str(delegate.library), "accelerator_options": delegate.options}
    return edge_sdk.load(models.tflite_add(), plan_budget_s=0, guard=settings, **options)


def state_of(session: edge_sdk.Session) -> AcceleratorState:
    (state,) = session.report().accelerators
    return state


def all_right(session: edge_sdk.Session, requests: int = REQUESTS) -> None:
    for _ in range(requests):
        assert (session.run({"x": X})["y"] == 6).all()


# --- a real library that fails while requests run ---


@pytest.mark.parametrize(
    ("mood", "kind", "cause"),
    [
        ("error", "error", "the device is busy"),
        ("crash", "crash", r"crashed (SIGSEGV): driver error: the device fell off the bus"),
        ("hang", "hang", "running took more than"),
        ("not a number", "wrong", "answers NaN or infinity where the CPU does not"),
    ],
)
def test_a_failure_loses_no_request_and_the_accelerator_comes_back(
    delegate: FailingDelegate, mood: str, kind: str, cause: str
) -> None:
    told = Told()
    with on_delegate(delegate, told) as session:
        all_right(session)
        assert (state_of(session).state, state_of(session).apart) == ("working", True)
        assert session.plan.accelerator == str(delegate.library)
        delegate.is_now(mood)
        all_right(session)
        failed = state_of(session)
        assert kind in failed.failures and cause in failed.cause
        assert failed.answered + failed.by_cpu == 2 * REQUESTS
        assert session.plan.accelerator == "cpu"
        delegate.is_now("right")
        told.wait_for("is back after")
        all_right(session)
        well = state_of(session)
        assert (well.state, well.restores, well.next_trial_s) == ("working", 1, None)
        assert well.answered >= 2 * REQUESTS
        assert [cause in event for event in session.report().events] == [True, True]


def test_checking_each_answer_lets_no_wrong_one_out(delegate: FailingDelegate) -> None:
    with on_delegate(delegate, Told(), check_every=1, rest_s=60) as session:
        all_right(session)
        delegate.is_now("wrong")
        all_right(session)
        state = state_of(session)
        assert (state.answered, state.by_cpu, state.failures) == (REQUESTS, REQUESTS, {"wrong": 1})


def test_wrong_answers_are_found_after_so_many_and_how_many_are_in_doubt_is_told(delegate: FailingDelegate) -> None:
    told = Told()
    with on_delegate(delegate, told, check_every=20, rest_s=60) as session:
        all_right(session, 25)
        delegate.is_now("wrong")
        answers = [float(session.run({"x": X})["y"][0, 0]) for _ in range(REQUESTS)]
        assert answers == [13.0] * 14 + [6.0] * (REQUESTS - 14)
        assert "does not compute what the CPU computes" in told.events[0]
        assert told.events[0].endswith("the 19 answers before may have been wrong")


@pytest.mark.parametrize(("mood", "cause"), [("options", "refuses its options"), ("prepare", "fails in Prepare")])
def test_one_that_does_not_start_again_stays_quarantined_until_it_does(
    delegate: FailingDelegate, mood: str, cause: str, request: pytest.FixtureRequest
) -> None:
    told, tried = Told(), Told()
    log = logging.getLogger("edge_sdk.engines.guarded")
    handler = logging.Handler(logging.INFO)
    handler.emit = lambda record: tried(record.getMessage())  # type: ignore[method-assign]
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    request.addfinalizer(lambda: (log.removeHandler(handler), log.setLevel(logging.NOTSET)))
    with on_delegate(delegate, told) as session:
        delegate.is_now("crash")
        all_right(session)
        delegate.is_now(mood)
        tried.wait_for(cause)
        all_right(session)
        assert state_of(session).failures["start"] >= 1
        delegate.is_now("right")
        told.wait_for("is back after")
        all_right(session)


def test_one_that_is_missing_at_first_takes_over_when_it_is_there(delegate: FailingDelegate, tmp_path: Path) -> None:
    told = Told()
    late = FailingDelegate(tmp_path / "late.so", delegate.mood)
    with on_delegate(late, told) as session:
        assert session.plan.accelerator == "cpu"
        all_right(session)
        state = state_of(session)
        assert (state.answered, state.by_cpu) == (0, REQUESTS)
        assert "cannot open shared object file" in state.cause
        partial = tmp_path / "copying"
        shutil.copy(delegate.library, partial)
        partial.rename(late.library)
        told.wait_for("is back after")
        all_right(session)
        assert state_of(session).answered == REQUESTS
        assert session.plan.accelerator == str(late.library)


def test_many_callers_lose_nothing_while_its_process_is_killed_again_and_again(delegate: FailingDelegate) -> None:
    told = Told()
    over = threading.Event()
    with on_delegate(delegate, told, rest_s=0.01, longest_rest_s=0.02) as session, ThreadPoolExecutor(4) as pool:

        def ask() -> int:
            answered = 0
            while not over.is_set():
                assert (session.run({"x": X})["y"] == 6).all()
                answered += 1
            return answered

        asking = [pool.submit(ask) for _ in range(4)]
        try:
            for times in range(1, 4):
                for process_id in accelerator_processes():
                    os.kill(process_id, signal.SIGKILL)
                told.wait_for("is back after", times)
        finally:
            over.set()
        answered = sum(one.result(60) for one in asking)
        state = state_of(session)
        assert state.restores == 3 and state.failures["crash"] >= 3
        assert state.answered + state.by_cpu == answered


# --- what counts, and what does not ---


@contextmanager
def simulated(behaviour: SimulatedBehaviour, **options: Any) -> Iterator[tuple[GuardedRunner, SimulatedEngine]]:
    engine = SimulatedEngine(behaviour)
    guard = Guard(**{"rest_s": 60.0, "check_every": 0, **options.pop("guard", {})})
    runner = GuardedRunner(
        engine, open_model(models.onnx_add()), LoadOptions(accelerator="npu", guard=guard, **options)
    )
    try:
        yield runner, engine
    finally:
        runner.close()
        assert engine.open_runners == 0


def behaviour(**how: Any) -> SimulatedBehaviour:
    return SimulatedBehaviour(accelerators=(NPU,), outputs=lambda feeds: {"y": feeds["x"] + 1}, **how)


def test_a_single_error_is_answered_by_the_cpu_and_forgotten() -> None:
    with simulated(behaviour(fail_at={2: EngineError("busy"), 5: EngineError("busy")})) as (runner, engine):
        for _ in range(5):
            assert (runner.run({"x": X})["y"] == 6).all()
        (state,) = runner.accelerators()
        assert (state.state, state.answered, state.by_cpu, state.failures) == ("working", 3, 2, {"error": 2})
        assert [call.options.accelerator for call in engine.calls][2:] == [
            "npu",
            "cpu",
            "npu",
            "npu",
            "cpu",
            "npu",
            "npu",
        ]


def test_what_the_cpu_cannot_either_is_the_requests_own_fault() -> None:
    failures = {number: EngineError("no such index") for number in range(2, 12)}
    with simulated(behaviour(fail_at=failures)) as (runner, _):
        for _ in range(5):
            with pytest.raises(EngineError, match="no such index"):
                runner.run({"x": X})
        (state,) = runner.accelerators()
        assert (state.state, state.failures) == ("working", {})


def test_a_shape_that_only_the_cpu_takes_is_no_failure() -> None:
    with simulated(behaviour(fail_at={2: InputError("fixed at 2")})) as (runner, _):
        assert (runner.run({"x": X})["y"] == 6).all()
        (state,) = runner.accelerators()
        assert (state.state, state.by_cpu, state.failures) == ("working", 1, {})


def test_infinity_that_is_the_models_own_is_no_failure() -> None:
    def outputs(feeds: Any) -> dict[str, Any]:
        return {"y": np.full((2, 3), np.inf, F32) if feeds["x"][0, 0] == 5 else feeds["x"]}

    with simulated(SimulatedBehaviour(accelerators=(NPU,), outputs=outputs)) as (runner, engine):
        for _ in range(3):
            assert np.isinf(runner.run({"x": X})["y"]).all()
        assert runner.accelerators()[0].failures == {}
        assert [call.options.accelerator for call in engine.calls].count("cpu") == 2, "the kept request, and one doubt"


def test_one_that_computes_wrongly_does_not_start() -> None:
    with pytest.raises(AcceleratorError, match="does not compute what the CPU computes: output 'y'"):
        GuardedRunner(
            engine := SimulatedEngine(behaviour(wrong_at={1, 2})),
            open_model(models.onnx_add()),
            LoadOptions(accelerator="npu"),
        )
    assert engine.open_runners == 0


def test_one_that_computes_wrongly_may_have_been_compiled_long_ago() -> None:
    with simulated(behaviour(wrong_at={1})) as (runner, engine):
        assert (runner.run({"x": X})["y"] == 6).all()
        loads = [(options.accelerator, options.cache) for options in engine.loads]
        assert loads == [("npu", True), ("cpu", True), ("npu", False)]


def test_strict_answers_nothing_from_the_cpu() -> None:
    failures = {number: EngineError("busy") for number in range(2, 5)}
    with simulated(behaviour(fail_at=failures), strict=True) as (runner, engine):
        for _ in range(3):
            with pytest.raises(EngineError, match="busy"):
                runner.run({"x": X})
        with pytest.raises(AcceleratorError, match="left alone for a while: busy"):
            runner.run({"x": X})
        assert [call.options.accelerator for call in engine.calls][2:] == ["npu"] * 3


def test_without_a_standby_the_cpus_runner_is_loaded_when_it_is_needed() -> None:
    with simulated(behaviour(fail_at={2: EngineError("busy")}), guard={"standby": False}) as (runner, engine):
        assert engine.open_runners == 1
        assert (runner.run({"x": X})["y"] == 6).all()
        assert engine.open_runners == 2


def test_what_fails_again_soon_rests_longer_each_time() -> None:
    told = Told()
    failures = {number: EngineError("busy") for number in range(2, 200)}
    rests: list[float] = []
    with simulated(behaviour(fail_at=failures), guard={"rest_s": 0.001, "tell": told}) as (runner, engine):
        engine.behaviour.fail_at.clear()  # type: ignore[attr-defined]
        for times in range(1, 5):
            calls = len(engine.calls)
            engine.behaviour.fail_at.update({n: EngineError("busy") for n in range(calls, calls + 12, 2)})  # type: ignore[attr-defined]
            while len(told.events) < 2 * times - 1:
                assert (runner.run({"x": X})["y"] == 6).all()
            rests.append(runner._rest_s)
            engine.behaviour.fail_at.clear()  # type: ignore[attr-defined]
            told.wait_for("is back after", times)
    assert rests == sorted(rests)


def test_what_the_caller_does_with_events_cannot_cost_a_request() -> None:
    def tell(_: str) -> None:
        raise RuntimeError("the caller's own")

    failures = {number: EngineError("busy") for number in (2, 4, 6)}
    with simulated(behaviour(fail_at=failures), guard={"tell": tell}) as (runner, _):
        for _ in range(4):
            assert (runner.run({"x": X})["y"] == 6).all()
        assert runner.accelerators()[0].state == "quarantined"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"timeout_s": 0}, "timeout_s is 0; expected a number above 0"),
        ({"timeout_s": float("inf")}, "timeout_s is infinite"),
        ({"rest_s": -1}, "rest_s is -1"),
        ({"tolerance": float("nan")}, "tolerance is nan"),
        ({"check_every": -1}, "check_every is -1; expected 0 or more"),
    ],
)
def test_a_guard_that_makes_no_sense_is_told(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(InputValueError, match=words):
        Guard(**wrong)

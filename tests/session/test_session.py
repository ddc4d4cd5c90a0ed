"""A session from load to close: what it answers, what it tells, and what happens when things change or fail."""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import edge_sdk
from edge_sdk.engines import LoadOptions, PlacementReport, Runner
from edge_sdk.engines.base import Engine
from edge_sdk.errors import (
    AcceleratorError,
    DamagedModel,
    EngineError,
    InputError,
    InputShapeError,
    InputValueError,
    ModelNotFound,
    SessionClosed,
    UnsupportedFormat,
)
from edge_sdk.formats import ModelFile
from edge_sdk.metrics import Histogram
from edge_sdk.tensors import TensorSpec

models = pytest.importorskip("tests.models")
pytest.importorskip("onnxruntime")

ONES = np.ones((2, 3), np.float32)


def load(model: Any = None, **arguments: Any) -> edge_sdk.Session:
    """A session without measuring and without the trial, which have tests of their own."""
    arguments = {"plan_budget_s": 0, "trusted": True, **arguments}
    return edge_sdk.load(models.onnx_add() if model is None else model, **arguments)


class Gate(Engine):
    """Adds 1 as `onnx_add` does; each request waits until the gate is open, or fails where told to."""

    name = "gate"
    formats = frozenset({"onnx"})
    native = False

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self.refuses: set[str] = set()
        self.fails: set[str] = set()
        self.closed: list[str] = []

    def version(self) -> str | None:
        return "1"

    def load(self, model: ModelFile, options: LoadOptions) -> Runner:
        if options.accelerator in self.refuses:
            raise AcceleratorError(f"{options.accelerator}: no such device")
        return GateRunner(self, options)


class GateRunner(Runner):
    def __init__(self, engine: Gate, options: LoadOptions) -> None:
        self._engine, self.options = engine, options
        self.engine, self.model, self.queue = engine.name, "m.onnx", Histogram()
        self.inputs = (TensorSpec("x", "float32", (2, 3)),)
        self.outputs = (TensorSpec("y", "float32", (2, 3)),)

    def run(self, feeds: Mapping[str, Any], out: Mapping[str, Any] | None = None) -> dict[str, Any]:
        self._engine.entered.release()
        assert self._engine.gate.wait(30)
        if self.options.accelerator in self._engine.fails:
            raise AcceleratorError(f"{self.options.accelerator}: device lost")
        return {"y": feeds["x"] + 1}

    def placement(self) -> PlacementReport:
        return PlacementReport((), (), False)

    def close(self) -> None:
        self._engine.closed.append(self.options.accelerator)


# --- the main job ---


def test_from_a_file_to_an_answer_and_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "add.onnx"
    path.write_bytes(models.onnx_add())
    with edge_sdk.load(path, plan_budget_s=3) as session:
        np.testing.assert_array_equal(session.run({"x": ONES})["y"], ONES + 1)
        np.testing.assert_array_equal(session.run(ONES)["y"], ONES + 1)
        assert session.plan.kind == "local"
        assert session.plan.engine == "onnxruntime"
        assert session.plan.measured is not None
        assert "ms" in session.plan.reason
        assert [spec.name for spec in session.inputs] == ["x"]
        assert [spec.name for spec in session.outputs] == ["y"]


def test_the_second_load_takes_the_kept_plan() -> None:
    with load(plan_budget_s=3) as first, load(plan_budget_s=3) as second:
        assert not first.plan.cached
        assert second.plan.cached
        assert second.plan.placement == first.plan.placement


def test_outputs_never_change_after_return() -> None:
    with load() as session:
        answers = [session.run(ONES * i)["y"] for i in range(30)]
        for index, answer in enumerate(answers):
            np.testing.assert_array_equal(answer, ONES * index + 1)


def test_out_reuses_the_callers_array_and_refuses_the_feeds_own() -> None:
    with load() as session:
        target = np.empty((2, 3), np.float32)
        assert session.run(ONES, out={"y": target})["y"] is target
        np.testing.assert_array_equal(target, ONES + 1)
        with pytest.raises(InputError, match="shares memory"):
            session.run(target, out={"y": target})
        with pytest.raises(InputError, match="no output 'z'"):
            session.run(ONES, out={"z": target})


def test_arun_leaves_the_loop_free() -> None:
    async def many() -> list[dict[str, Any]]:
        with load() as session:
            return await asyncio.gather(*(session.arun(ONES * i) for i in range(20)))

    for index, outputs in enumerate(asyncio.run(many())):
        np.testing.assert_array_equal(outputs["y"], ONES * index + 1)


def test_state_is_carried_and_can_be_forgotten() -> None:
    with load(models.onnx_state(), state={"state": "next_state"}) as session:
        x = np.ones((1, 2), np.float32)
        assert [session.run(x)["y"][0, 0] for _ in range(3)] == [1, 2, 3]
        session.reset_state()
        assert session.run({"x": x})["y"][0, 0] == 1
        session.warm_up()
        assert session.run(x)["y"][0, 0] == 1


# --- streams ---


def test_a_stream_answers_in_order_and_takes_items_ahead() -> None:
    engine = Gate()
    taken: list[int] = []

    def frames() -> Iterator[Any]:
        for index in range(6):
            taken.append(index)
            yield ONES * index

    with load(engine=engine) as session:
        answers = []
        for outputs in session.stream(frames(), ahead=2):
            answers.append(outputs["y"][0, 0])
            assert len(taken) <= len(answers) + 2
        assert answers == [1, 2, 3, 4, 5, 6]
        assert [o["y"][0, 0] for o in session.stream([ONES, 2 * ONES], ahead=0)] == [2, 3]
        with pytest.raises(InputError):
            next(session.stream([ONES], ahead=-1))


def test_a_stream_raises_at_the_item_that_failed() -> None:
    with load() as session:
        answers = session.stream([ONES, np.ones(3, np.float32), ONES])
        assert next(answers)["y"][0, 0] == 2
        with pytest.raises(InputShapeError):
            next(answers)


def test_a_stream_that_is_left_early_ends_its_thread() -> None:
    with load() as session:
        before = threading.active_count()
        for _ in session.stream(ONES for _ in range(1000)):
            break
        assert threading.active_count() <= before + 1


# --- swap and close ---


def test_swap_loses_no_request_in_flight() -> None:
    engine = Gate()
    session = load(engine=engine)
    engine.gate.clear()
    answers: list[Any] = []
    requests = [threading.Thread(target=lambda: answers.append(session.run(ONES)["y"][0, 0])) for _ in range(3)]
    for thread in requests:
        thread.start()
        assert engine.entered.acquire(timeout=30)
    swapping = threading.Thread(target=session.swap, args=(models.onnx_add(),))
    swapping.start()
    assert engine.closed == []  # three requests still hold the old model
    engine.gate.set()
    for thread in [*requests, swapping]:
        thread.join(30)
    assert answers == [2, 2, 2]
    assert engine.closed == ["cpu"]
    assert session.run(ONES)["y"][0, 0] == 2
    assert "swapped" in session.report().events[0]
    session.close()


def test_requests_keep_flowing_while_models_are_swapped() -> None:
    session = load()
    stop = threading.Event()
    failures: list[BaseException] = []
    served = [0] * 3

    def ask(lane: int) -> None:
        while not stop.is_set():
            try:
                np.testing.assert_array_equal(session.run(ONES)["y"], ONES + 1)
                served[lane] += 1
            except BaseException as error:  # noqa: BLE001 - told by the test's own assertion
                failures.append(error)
                return

    threads = [threading.Thread(target=ask, args=(lane,)) for lane in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        session.swap(models.onnx_add())
    stop.set()
    for thread in threads:
        thread.join(30)
    session.close()
    assert not failures
    assert all(served)


def test_a_new_model_that_does_not_load_leaves_the_old_one(tmp_path: Path) -> None:
    with load() as session:
        broken = tmp_path / "broken.onnx"
        broken.write_bytes(models.onnx_add()[:40])
        with pytest.raises(DamagedModel):
            session.swap(broken)
        with pytest.raises(ModelNotFound):
            session.swap(tmp_path / "missing.onnx")
        np.testing.assert_array_equal(session.run(ONES)["y"], ONES + 1)


def test_a_closed_session_says_so() -> None:
    session = load()
    session.close()
    session.close()
    assert "closed" in repr(session)
    for call in (lambda: session.run(ONES), lambda: session.plan, session.report, session.warm_up):
        with pytest.raises(SessionClosed, match="closed"):
            call()
    with pytest.raises(SessionClosed):
        session.swap(models.onnx_add())


def test_close_waits_for_the_request_in_flight() -> None:
    engine = Gate()
    session = load(engine=engine)
    engine.gate.clear()
    answers: list[Any] = []
    request = threading.Thread(target=lambda: answers.append(session.run(ONES)["y"][0, 0]))
    request.start()
    assert engine.entered.acquire(timeout=30)
    closing = threading.Thread(target=session.close)
    closing.start()
    engine.gate.set()
    closing.join(30)
    request.join(30)
    assert answers == [2]
    assert engine.closed == ["cpu"]


# --- accelerators that fail ---


def test_an_accelerator_that_refuses_falls_back_with_its_cause() -> None:
    engine = Gate()
    engine.refuses = {"npu"}
    with pytest.warns(edge_sdk.AcceleratorFallback, match="npu: no such device"):
        session = load(engine=engine, accelerator="npu")
    np.testing.assert_array_equal(session.run(ONES)["y"], ONES + 1)
    assert session.plan.accelerator == "cpu"
    assert "no such device" in session.report().events[0]
    session.close()


def test_an_accelerator_that_fails_at_run_time_loses_no_request() -> None:
    engine = Gate()
    with load(engine=engine, accelerator="npu") as session:
        assert session.plan.accelerator == "npu"
        session.run(ONES)
        engine.fails = {"npu"}
        with pytest.warns(edge_sdk.AcceleratorFallback, match="device lost"):
            for _ in range(3):
                np.testing.assert_array_equal(session.run(ONES)["y"], ONES + 1)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            np.testing.assert_array_equal(session.run(ONES)["y"], ONES + 1)
        assert session.plan.accelerator == "cpu"
        assert "device lost" in session.report().events[-1]
        (state,) = session.report().accelerators
        assert (state.state, state.answered, state.by_cpu, state.failures) == ("quarantined", 1, 4, {"error": 3})
    assert sorted(engine.closed) == ["cpu", "npu"]


def test_strict_raises_instead_of_falling_back() -> None:
    engine = Gate()
    engine.refuses = {"npu"}
    with pytest.raises(AcceleratorError):
        load(engine=engine, accelerator="npu", strict=True)
    engine.refuses = set()
    with load(engine=engine, accelerator="npu", strict=True) as session:
        engine.fails = {"npu"}
        with pytest.raises(EngineError, match="device lost"):
            session.run(ONES)


def test_a_provider_that_this_build_lacks_falls_back() -> None:
    with pytest.warns(edge_sdk.AcceleratorFallback, match="cuda"):
        session = load(accelerator="cuda")
    np.testing.assert_array_equal(session.run(ONES)["y"], ONES + 1)
    session.close()


# --- what it tells ---


def test_the_report_divides_a_requests_time_and_says_where_nodes_ran() -> None:
    with load(models.onnx_mlp()) as session:
        x = np.ones((1, 8), np.float32)
        assert session.report().first_result_ms is None
        for _ in range(5):
            with session.stage("decode"):
                pass
            session.run(x)
        report = session.report()
        assert report.stages["run"].count == 5
        assert report.stages["decode"].count == 5
        assert report.stages["pre"].count == 0
        assert report.stages["queue"].count == 0
        assert report.verified
        assert sum(place.count for place in report.nodes) >= 1
        assert report.nodes[0].where == "cpu"
        assert report.first_result_ms is not None
        assert report.first_result_ms > 0
        assert msgspec.json.decode(report.to_json())["schema"] == 1


def test_warm_up_does_not_count_in_the_report() -> None:
    with load() as session:
        assert session.warm_up(3) > 0
        assert session.report().stages["run"].count == 0


# --- bad input ---


def test_infinity_is_refused_only_where_asked() -> None:
    bad = ONES.copy()
    bad[1, 2] = np.nan
    with load() as session:
        assert np.isnan(session.run(bad)["y"][1, 2])
    with load(check_finite=True) as session, pytest.raises(InputValueError, match=r"nan at \[1, 2\]"):
        session.run(bad)


@pytest.mark.parametrize("arguments", [{"threads": 0}, {"threads": True}, {"cpus": []}, {"cpus": [9999]}])
def test_arguments_that_make_no_sense_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="expected"):
        load(**arguments)


def test_an_engine_that_does_not_run_the_format_is_named() -> None:
    with pytest.raises(InputError, match="'litert' runs tflite, not onnx"):
        load(engine="litert")


def test_a_foreign_format_names_the_way(tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(UnsupportedFormat, match=r"ONNX|TFLite"):
        load(path)


def test_an_unknown_file_is_tried_in_a_child_first(own_cache: Path) -> None:
    with edge_sdk.load(models.onnx_add(), plan_budget_s=0):
        assert len(list((own_cache / "trials").iterdir())) == 1


def test_the_request_that_fails_lets_go_of_the_session() -> None:
    with load() as session:
        for _ in range(3):
            with pytest.raises(InputShapeError):
                session.run(np.ones(3, np.float32))
        session.swap(models.onnx_add())  # would wait for ever if a failed request still held the old model

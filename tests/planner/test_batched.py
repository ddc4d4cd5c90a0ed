"""Requests are computed together where the model allows it and it was measured to pay, and nowhere else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import edge_sdk
from edge_sdk.engines import LoadOptions, PlacementReport, Runner
from edge_sdk.errors import EdgeError, InputError
from edge_sdk.measuring import concurrent_block
from edge_sdk.metrics import Histogram
from edge_sdk.planner.batched import BatchedRunner, Batching, batched
from edge_sdk.planner.lanes import LanesRunner
from edge_sdk.planner.overlapping import overlapping
from edge_sdk.tensors import TensorSpec

models = pytest.importorskip("tests.models")


class Rows(Runner):
    """Doubles any number of rows. A call takes as long whatever their number, or longer for each the more there are;
    one goes on at a time, as on a device of one core."""

    def __init__(self, each: bool = False, mixes: bool = False, rows: int | str = "batch") -> None:
        self.options, self.engine, self.model, self.queue = LoadOptions(), "rows", "m", Histogram()
        self.inputs = (TensorSpec("x", "float32", (rows, 2)),)
        self.outputs = (TensorSpec("y", "float32", (rows, 2)),)
        self._each, self._mixes, self._core = each, mixes, threading.Lock()
        self.closed = False

    def run(self, feeds: Mapping[str, Any], out: Mapping[str, Any] | None = None) -> dict[str, Any]:
        x = feeds["x"]
        with self._core:
            time.sleep(2e-3 * (len(x) ** 1.5 if self._each else 1))
        return {"y": x * 2 + (x.mean() if self._mixes else 0)}

    def placement(self) -> PlacementReport:
        return PlacementReport((), (), False)

    def close(self) -> None:
        self.closed = True


def test_where_a_call_takes_as_long_for_many_rows_they_are_computed_together() -> None:
    runner = batched(Rows(), Batching(8), 1.0)
    assert isinstance(runner, BatchedRunner)
    assert "up to 8 requests are computed together:" in runner.notes[-1]
    assert runner.at_once == 8
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(runner.run, [{"x": np.full((1, 2), n, np.float32)} for n in range(80)]))
    assert [answer["y"][0, 0] for answer in answers] == [2.0 * n for n in range(80)]
    assert runner.batches.batches < runner.batches.requests


def test_where_rows_take_longer_together_than_one_by_one_nothing_changes() -> None:
    plain = Rows(each=True)
    runner = batched(plain, Batching(8), 1.0)
    assert runner is plain
    assert runner.notes[-1].startswith("requests are computed one by one: together they take")


@pytest.mark.parametrize(
    ("plain", "why"),
    [(Rows(mixes=True), "are not independent of each other"), (Rows(rows=4), "first axis has a fixed length")],
    ids=["rows that mix", "a fixed first axis"],
)
def test_rows_that_cannot_be_joined_are_computed_one_by_one(plain: Rows, why: str) -> None:
    runner = batched(plain, Batching(8), 1.0)
    assert runner is plain
    assert why in runner.notes[-1]


def test_blocks_are_long_beside_what_the_last_callers_of_each_wait_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds: list[float] = []

    def measured(request: Callable[[], object], callers: int, block_s: float) -> Callable[[], list[float]]:
        seconds.append(block_s)
        return concurrent_block(request, callers, 0.01)

    monkeypatch.setattr("edge_sdk.planner.batched.concurrent_block", measured)
    for max_delay_ms in (0.0, 10.0):
        batched(Rows(), Batching(8, max_delay_ms), 1.0)
    at_once_s, delayed_s = seconds[0], seconds[-1]
    assert seconds == [at_once_s, at_once_s, delayed_s, delayed_s], "both sides alike"
    assert delayed_s - at_once_s >= 3 * 0.010


def test_without_a_budget_they_are_joined_where_the_model_allows_it() -> None:
    runner = batched(Rows(each=True), Batching(4), 0)
    assert isinstance(runner, BatchedRunner)
    assert "not measured" in runner.notes[-1]
    runner.close()
    assert runner.inner is not None and runner.inner.closed  # type: ignore[attr-defined]


def test_a_batch_that_would_make_requests_late_is_smaller_or_none() -> None:
    """Eight rows take 45 ms here, two take 6: of requests that are due in 24 ms only a few are joined, in 1 ms none."""
    few = batched(Rows(each=True), Batching(8, due_ms=24), 0.01)
    assert "up to 8 requests" not in few.notes[-1]
    none = batched(Rows(), Batching(8, due_ms=1), 0.01)
    assert none.notes[-1].endswith("a batch would take more than half of the 1 ms a request may take")
    assert isinstance(none, Rows)


def test_the_report_tells_of_lanes_behind_a_batch() -> None:
    lanes = LanesRunner([Rows(), Rows()])
    runner = BatchedRunner(lanes, Batching(4))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(runner.run, [{"x": np.zeros((1, 2), np.float32)}] * 8))
    lanes = overlapping(runner)
    assert isinstance(lanes, LanesRunner)
    assert sum(lane.requests for lane in lanes.lanes()) == runner.batches.batches


def test_a_model_whose_batching_cannot_be_tried_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    loaded: list[Runner] = []

    def fail(runner: Runner, *_: Any) -> Runner:
        loaded.append(runner)
        raise RuntimeError("not foreseen")

    monkeypatch.setattr("edge_sdk.planner.batched.batched", fail)
    with pytest.raises(RuntimeError, match="not foreseen"):
        edge_sdk.load(models.onnx_mlp(), plan_budget_s=0, trusted=True, max_batch=4)
    with pytest.raises(EdgeError, match="closed"):
        loaded[0].run({"x": np.zeros((1, 8), np.float32)})


@pytest.mark.parametrize("wrong", [{"max_batch": 1}, {"max_batch": 8, "max_delay_ms": -1.0}, {"max_batch": 2.5}])
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="expected"):
        edge_sdk.load(models.onnx_add(), trusted=True, **wrong)


def test_a_session_gives_the_same_answers_joined_or_not() -> None:
    pytest.importorskip("onnxruntime")
    model = models.onnx_mlp()
    generator = np.random.default_rng(0)
    requests = [{"x": generator.standard_normal((1, 8)).astype(np.float32)} for _ in range(60)]
    with edge_sdk.load(model, plan_budget_s=0, trusted=True) as plain:
        expected = [plain.run(feeds) for feeds in requests]
    with edge_sdk.load(model, plan_budget_s=0, trusted=True, max_batch=16, max_delay_ms=1) as session:
        found = list(session.stream(requests))
        notes = session.report().notes
    assert any("together" in note or "one by one" in note for note in notes)
    for one, other in zip(expected, found, strict=True):
        for name in one:
            np.testing.assert_allclose(other[name], one[name], rtol=1e-5, atol=1e-6)

"""Where threads may run, as the kernel tells while requests compute: on the CPUs of the placement, and on no others."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import msgspec
import numpy as np
import pytest

import edge_sdk
from edge_sdk.activation import active_as
from edge_sdk.device.affinity import thread_cpus, thread_ids, usable_cpus
from edge_sdk.schedule.placing import Placement
from tests.awaiting import until

models = pytest.importorskip("tests.models")

CPUS = usable_cpus()
pytestmark = pytest.mark.skipif(len(CPUS) < 2, reason="needs two CPUs")

SUBSETS = [CPUS[:1], CPUS[-1:], CPUS]
THREADS = [1, 2, None]
MOST_LOOKS = 20_000


def wide_mlp() -> bytes:
    """Products that are large enough to be shared out among threads."""
    found: bytes = models.onnx_mlp(inputs=512, hidden=2048, outputs=512)
    return found


def model_for(engine: str) -> tuple[bytes, dict[str, Any]]:
    pytest.importorskip("onnxruntime" if engine == "onnxruntime" else "ai_edge_litert")
    if engine == "onnxruntime":
        return wide_mlp(), {"x": np.ones((1, 512), np.float32)}
    return models.tflite_float_conv(), {"image": np.zeros((1, 8, 8, 3), np.float32)}


@contextmanager
def asking(session: edge_sdk.Session, feeds: dict[str, Any]) -> Iterator[int]:
    """A thread that asks all the time; its id."""
    over, begun, tid = threading.Event(), threading.Event(), [0]

    def ask() -> None:
        tid[0] = threading.get_native_id()
        session.run(feeds)
        begun.set()
        while not over.is_set():
            session.run(feeds)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        assert begun.wait(30)
        yield tid[0]
    finally:
        over.set()
        thread.join(30)


def seen_on(thread_id: int, wanted: tuple[int, ...]) -> bool:
    """Whether the kernel says at some moment that the thread may run on exactly these."""
    return any(thread_cpus(thread_id) == wanted for _ in range(MOST_LOOKS))


def feeds_of(session: edge_sdk.Session, given: dict[str, Any]) -> dict[str, Any]:
    return dict(zip((spec.name for spec in session.inputs), given.values(), strict=True))


@pytest.mark.parametrize("threads", THREADS, ids=["one", "two", "default"])
@pytest.mark.parametrize("cpus", SUBSETS, ids=["first", "last", "all"])
@pytest.mark.parametrize("engine", ["onnxruntime", "litert"])
def test_workers_and_caller_compute_on_the_cpus_of_the_placement(
    engine: str, cpus: tuple[int, ...], threads: int | None
) -> None:
    model, given = model_for(engine)
    before, known = os.sched_getaffinity(0), thread_ids()
    with edge_sdk.load(model, engine=engine, threads=threads, cpus=cpus, trusted=True, plan_budget_s=0) as session:
        assert session.plan.placement.cpus == cpus
        with asking(session, feeds_of(session, given)) as caller:
            assert seen_on(caller, cpus)
            workers = session.report().workers
            started = thread_ids() - known - {caller}
        assert [worker.cpus for worker in workers] == [cpus] * len(workers)
        assert {worker.thread_id for worker in workers} == started, "no thread of the engine is overlooked"
        if threads is not None:
            assert len(workers) == threads - 1
        session.run(feeds_of(session, given))
        assert os.sched_getaffinity(0) == before
    assert os.sched_getaffinity(0) == before
    assert not thread_ids() & started, "its threads end with it"


def test_another_plan_computes_on_its_own_cpus_only() -> None:
    model, given = model_for("onnxruntime")
    with edge_sdk.load(model, engine="onnxruntime", threads=2, cpus=CPUS[:1], trusted=True, plan_budget_s=0) as session:
        feeds = feeds_of(session, given)
        session.run(feeds)
        old = {worker.thread_id for worker in session.report().workers}
        with asking(session, feeds):
            session.swap(wide_mlp())
            new = session.report().workers
        assert new and not old & {worker.thread_id for worker in new}
        assert all(worker.cpus == CPUS[:1] for worker in new)
        assert not thread_ids() & old


@pytest.mark.parametrize("engine", ["onnxruntime", "litert"])
def test_a_plan_that_takes_over_computes_on_its_own_cpus(engine: str) -> None:
    """As planning anew does when latency has left the plan, and a governor when it gets hot."""
    model, given = model_for(engine)
    before, known = os.sched_getaffinity(0), thread_ids()
    with edge_sdk.load(model, engine=engine, threads=2, cpus=CPUS[:1], trusted=True, plan_budget_s=0) as session:
        feeds = feeds_of(session, given)
        with asking(session, feeds) as caller:
            assert seen_on(caller, CPUS[:1])
            old = {worker.thread_id for worker in session.report().workers}
            active, settings = session.running()
            there = Placement(cpus=CPUS[-1:], threads=2, label="elsewhere")
            wanted = msgspec.structs.replace(session.plan.candidates[0], placement=there)
            session.switch(active_as(active, wanted, settings), "elsewhere").retire()
            assert session.plan.placement.cpus == CPUS[-1:]
            assert seen_on(caller, CPUS[-1:])
            workers = session.report().workers
            assert [worker.cpus for worker in workers] == [CPUS[-1:]]
            assert thread_ids() - known - {caller} == {worker.thread_id for worker in workers}
        assert not thread_ids() & old
    assert os.sched_getaffinity(0) == before
    assert not thread_ids() - known, "nothing is left"


def test_each_lane_computes_on_its_own_core() -> None:
    from edge_sdk.engines.base import LoadOptions
    from edge_sdk.engines.registry import find_engine
    from edge_sdk.formats import open_model
    from edge_sdk.planner import Placement
    from edge_sdk.planner.lanes import LanesRunner
    from edge_sdk.planner.placed import placed

    model, given = model_for("onnxruntime")
    engine, file = find_engine("onnxruntime"), open_model(model)
    placement = Placement(label="cores", lanes=(CPUS[:1], CPUS[-1:]))
    runner = placed(file, engine.load, LoadOptions(), placement)
    assert isinstance(runner, LanesRunner)
    before, lanes = os.sched_getaffinity(0), [thread.thread_id for thread in runner.placement().threads]
    assert [thread_cpus(lane) for lane in lanes] == [CPUS[:1], CPUS[-1:]]
    with ThreadPoolExecutor(4) as callers:
        feeds = {runner.inputs[0].name: next(iter(given.values()))}
        over = threading.Event()

        def ask() -> None:
            while not over.is_set():
                runner.run(feeds)
                assert os.sched_getaffinity(0) == before, "who asks stays where it was"

        asking = [callers.submit(ask) for _ in range(4)]
        try:
            until(lambda: all(lane.requests > 100 for lane in runner.lanes()))
            assert [thread_cpus(lane) for lane in lanes] == [CPUS[:1], CPUS[-1:]]
        finally:
            over.set()
        for each in asking:
            each.result(30)
    runner.close()
    assert not thread_ids() & set(lanes)

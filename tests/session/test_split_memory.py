"""A device that runs the head holds the whole model and one head at most, and the tail only once it is needed."""

from __future__ import annotations

import gc
import threading
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import edge_sdk
from edge_sdk.engines import LoadOptions, Runner
from edge_sdk.engines.registry import find_engine
from edge_sdk.formats import ModelFile
from edge_sdk.session import Session
from edge_sdk.wire.simulated import SimulatedEndpoint
from tests import models

STEPS, SIZE = 8, 256
STEP_BYTES = 4 * SIZE * SIZE
WHOLE_BYTES = STEPS * STEP_BYTES
HEAD_BYTES = 3 * STEP_BYTES
SLACK_BYTES = STEP_BYTES // 2
X = np.ones((1, SIZE), np.float32)


class Watch:
    """What engines hold: the bytes of all model files that are loaded now.

    Attributes:
        now_bytes, most_bytes: now, and at any moment so far.
        loaded: names of all that was ever loaded, in order.
    """

    def __init__(self) -> None:
        self.now_bytes = self.most_bytes = 0
        self.loaded: list[str] = []
        self._lock = threading.Lock()

    def add(self, runner: Runner, name: str, size_bytes: int) -> None:
        with self._lock:
            self.loaded.append(name)
            self.now_bytes += size_bytes
            self.most_bytes = max(self.most_bytes, self.now_bytes)
        close = runner.close
        open_ = [size_bytes]

        def closing() -> None:
            with self._lock:
                self.now_bytes -= open_.pop() if open_ else 0
            close()

        runner.close = closing  # type: ignore[method-assign]


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    seen = Watch()
    kind = type(find_engine("onnxruntime"))
    load = kind.load

    def watched(self: object, model: ModelFile, options: LoadOptions) -> Runner:
        runner = load(self, model, options)  # type: ignore[arg-type]
        with model.content() as content:
            seen.add(runner, model.name, len(content))
        return runner

    monkeypatch.setattr(kind, "load", watched)
    return seen


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """x ─ MatMul ─ t0 ─ … ─ MatMul ─ y, with weights of 256 KB a step."""
    node, last = models.helper.make_node, STEPS - 1
    weights = [models.constant(f"w{n}", np.eye(SIZE) * (n + 1)) for n in range(STEPS)]
    names = ["x", *(f"t{n}" for n in range(last)), "y"]
    nodes = [node("MatMul", [names[n], f"w{n}"], [names[n + 1]]) for n in range(STEPS)]
    x, y = models.value("x", [1, SIZE]), models.value("y", [1, SIZE])
    path = tmp_path / "steps.onnx"
    path.write_bytes(models.onnx_bytes(nodes, [x], [y], weights))
    return path


@pytest.fixture
def session(watch: Watch, model: Path) -> Iterator[Session]:
    """Not asked yet; its endpoint does not answer anything."""
    with edge_sdk.load(model, plan_budget_s=0, endpoints=[SimulatedEndpoint({})], cut="t2") as loaded:
        yield loaded


def test_while_loading_there_is_never_more_than_the_whole_and_one_head(watch: Watch, session: Session) -> None:
    assert watch.most_bytes <= WHOLE_BYTES + HEAD_BYTES + SLACK_BYTES
    assert any("tail" in name or name == "steps.onnx" for name in watch.loaded), "head and tail were made and compared"


def test_before_a_fault_only_the_head_is_loaded_and_after_it_the_tail_once(watch: Watch, session: Session) -> None:
    assert abs(watch.now_bytes - HEAD_BYTES) <= SLACK_BYTES
    before = len(watch.loaded)
    with ThreadPoolExecutor(8) as threads:
        for answer in threads.map(lambda _: session.run(X)["y"], range(50)):
            np.testing.assert_allclose(answer, 40320.0)
    assert watch.loaded[before:] == ["steps.onnx (tail)"]
    assert abs(watch.now_bytes - WHOLE_BYTES) <= SLACK_BYTES
    assert watch.most_bytes <= WHOLE_BYTES + HEAD_BYTES + SLACK_BYTES
    session.close()
    assert watch.now_bytes == 0


def test_after_the_second_start_no_copy_of_any_part_is_held_beside_the_engines(model: Path) -> None:
    with edge_sdk.load(model, plan_budget_s=0, endpoints=[SimulatedEndpoint({})], cut="t2") as first:
        first.run(X)  # the engine keeps its optimised head and tail, so that it need not keep their files' bytes
    tracemalloc.start(12)
    try:
        with edge_sdk.load(model, plan_budget_s=0, endpoints=[SimulatedEndpoint({})], cut="t2") as second:
            gc.collect()
            assert tracemalloc.get_traced_memory()[0] < STEP_BYTES, "no head, no tail"
            second.run(X)
            gc.collect()
            assert tracemalloc.get_traced_memory()[0] < STEP_BYTES
    finally:
        tracemalloc.stop()

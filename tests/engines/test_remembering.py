"""Inputs that come again byte for byte are answered from what is kept: never wrongly, within a bound of bytes."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edge_sdk
from edge_sdk.engines import LoadOptions, PlacementReport, Runner
from edge_sdk.engines.answers import ARRAY_BYTES, ENTRY_BYTES, KeptAnswers
from edge_sdk.engines.remembering import RememberingRunner
from edge_sdk.errors import EngineError, InputError, InputValueError
from edge_sdk.metrics import Histogram
from edge_sdk.tensors import TensorSpec

models = pytest.importorskip("tests.models")

WAIT_S = 30
ONE = ENTRY_BYTES + ARRAY_BYTES + 4
"""Bytes of an answer of one float."""


class Doubling(Runner):
    """Doubles; counts how often, waits at its gate, and fails where told to."""

    def __init__(self) -> None:
        self.options, self.engine, self.model, self.queue = LoadOptions(), "doubling", "m", Histogram()
        self.inputs = (TensorSpec("x", "float32", (None,)),)
        self.outputs = (TensorSpec("y", "float32", (None,)),)
        self.computed = self.failures = 0
        self.gate, self.entered = threading.Event(), threading.Semaphore(0)
        self.gate.set()

    def run(self, feeds: Mapping[str, Any], out: Mapping[str, Any] | None = None) -> dict[str, Any]:
        self.computed += 1
        self.entered.release()
        assert self.gate.wait(WAIT_S)
        if self.failures:
            self.failures -= 1
            raise EngineError("told to fail")
        y = feeds["x"] * 2
        if out:
            np.copyto(out["y"], y)
            return dict(out)
        return {"y": y}

    def placement(self) -> PlacementReport:
        return PlacementReport((), (), False)

    def close(self) -> None:
        pass


def x(*values: float, dtype: str = "float32") -> dict[str, Any]:
    return {"x": np.array(values, dtype)}


def test_an_input_that_comes_again_is_not_computed_again() -> None:
    inner = Doubling()
    runner = RememberingRunner(inner, 10 * ONE)
    assert [runner.run(x(1))["y"].tolist() for _ in range(3)] == [[2], [2], [2]]
    assert inner.computed == 1
    assert runner.figures() == KeptAnswers(hits=2, misses=1, kept=1, kept_bytes=ONE)


@pytest.mark.parametrize(
    "other",
    [
        {"x": np.zeros(2, np.float32)},
        {"x": np.zeros((1, 1), np.float32)},
        x(0, dtype="int32"),
        {"z": x(0)["x"]},
        x(-0.0),
    ],
    ids=["longer", "another shape", "another dtype", "another name", "minus zero"],
)
def test_inputs_that_differ_in_anything_are_others(other: dict[str, Any]) -> None:
    runner = RememberingRunner(Doubling(), 10 * ONE)
    runner.run(x(0))
    runner.answers.answer(other, lambda: {"y": np.ones(1)})
    assert runner.figures().misses == 2


def test_an_input_is_known_however_it_lies_in_memory() -> None:
    runner = RememberingRunner(Doubling(), 10 * ONE)
    wide = np.arange(8, dtype=np.float32)
    runner.run({"x": wide[::2]})
    assert runner.run({"x": wide[::2].copy()})["y"].tolist() == [0, 4, 8, 12]
    assert runner.figures().hits == 1


def test_an_answer_is_the_callers_own() -> None:
    runner = RememberingRunner(Doubling(), 10 * ONE)
    for _ in range(3):
        answer = runner.run(x(1))["y"]
        assert answer.tolist() == [2]
        answer[:] = 99


def test_out_is_filled_and_handed_back() -> None:
    runner = RememberingRunner(Doubling(), 10 * ONE)
    for _ in range(2):
        room = np.zeros(1, np.float32)
        assert runner.run(x(1), {"y": room})["y"] is room
        assert room.tolist() == [2]
        room[:] = 99
    with pytest.raises(ValueError, match="broadcast"):  # the runner behind says what does not fit
        runner.run(x(1, 2), {"y": np.zeros(3, np.float32)})
    runner.run(x(1, 2))
    with pytest.raises(ValueError, match="broadcast"):
        runner.run(x(1, 2), {"y": np.zeros(3, np.float32)})


def test_the_least_recently_used_goes_first() -> None:
    inner = Doubling()
    runner = RememberingRunner(inner, 2 * ONE)
    for value in (1, 2, 1, 3, 1, 2):
        runner.run(x(value))
    assert inner.computed == 4  # 2 was forgotten for 3; 1 never was
    assert runner.figures().kept_bytes == 2 * ONE


def test_an_answer_that_is_too_large_is_not_kept() -> None:
    inner = Doubling()
    runner = RememberingRunner(inner, ONE - 1)
    runner.run(x(1))
    runner.run(x(1))
    assert (inner.computed, runner.figures().kept) == (2, 0)


def test_texts_and_sequences_are_computed_each_time() -> None:
    runner = RememberingRunner(Doubling(), 10 * ONE)
    for feeds in ({"x": np.array(["a"], object)}, {"x": [np.zeros(1)]}):
        assert runner.answers.answer(feeds, lambda: {"y": ["a"]}) == {"y": ["a"]}
    assert runner.figures().kept == 0


def waiting_equal(runner: RememberingRunner, inner: Doubling, callers: int) -> list[Any]:
    """What callers get who all ask for the same while the first of them is computed."""
    inner.gate.clear()
    with ThreadPoolExecutor(callers) as pool:
        first = pool.submit(runner.run, x(1))
        assert inner.entered.acquire(timeout=WAIT_S)
        rest = [pool.submit(runner.run, x(1)) for _ in range(callers - 1)]
        (computing,) = runner.answers._computing.values()
        while computing.waiting < callers - 1:
            threading.Event().wait(0.001)
        inner.gate.set()
        return [asked.exception(WAIT_S) or asked.result()["y"].tolist() for asked in (first, *rest)]


@pytest.mark.parametrize("max_bytes", [10 * ONE, 1], ids=["kept", "too large to keep"])
def test_equal_inputs_at_once_are_computed_once(max_bytes: int) -> None:
    inner = Doubling()
    runner = RememberingRunner(inner, max_bytes)
    assert waiting_equal(runner, inner, 4) == [[2]] * 4
    assert inner.computed == 1
    assert (runner.figures().hits, runner.figures().misses) == (3, 1)


def test_where_the_first_fails_another_one_computes() -> None:
    inner = Doubling()
    inner.failures = 1
    runner = RememberingRunner(inner, 10 * ONE)
    first, *rest = waiting_equal(runner, inner, 4)
    assert isinstance(first, EngineError)
    assert rest == [[2]] * 3
    assert inner.computed == 2


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(1, 3), st.booleans()), max_size=60),
    st.integers(0, 6 * ONE),
)
@settings(max_examples=150, deadline=None)
def test_no_sequence_gives_a_wrong_answer_or_passes_the_bound(
    requests: list[tuple[int, int, bool]], max_bytes: int
) -> None:
    runner = RememberingRunner(Doubling(), max_bytes)
    for value, size, into in requests:
        feeds = {"x": np.full(size, value, np.float32)}
        answer = runner.run(feeds, {"y": np.zeros(size, np.float32)} if into else None)["y"]
        assert answer.tolist() == [2 * value] * size
        answer[:] = -1
        feeds["x"][:] = -1
        assert runner.figures().kept_bytes <= max_bytes
    figures = runner.figures()
    assert figures.hits + figures.misses == len(requests)


def test_many_threads_get_their_own_answers() -> None:
    runner = RememberingRunner(Doubling(), 5 * ONE)

    def ask(seed: int) -> bool:
        values = np.random.default_rng(seed).integers(0, 9, 200).tolist()
        return all(runner.run(x(value))["y"].tolist() == [2 * value] for value in values)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(8)))
    assert runner.figures().kept_bytes <= 5 * ONE


def load(**arguments: Any) -> edge_sdk.Session:
    pytest.importorskip("onnxruntime")
    return edge_sdk.load(models.onnx_add(), plan_budget_s=0, trusted=True, **arguments)


def test_a_session_keeps_answers_and_tells_of_them() -> None:
    with load(keep_answers_mb=1) as session:
        ones = np.ones((2, 3), np.float32)
        first, again = session.run(ones), session.run(ones)
        assert all(np.array_equal(first[name], again[name]) for name in first)
        answers = session.report().answers
        assert answers is not None
        assert (answers.hits, answers.misses, answers.kept) == (1, 1, 1)
        session.warm_up(3, ones)  # measures the model, not what is kept
        assert session.report().answers == answers
        session.swap(models.onnx_add())
        swapped = session.report().answers
        assert swapped is not None and swapped.misses == swapped.kept == 0
    with load() as session:
        assert session.report().answers is None


def test_answers_of_batches_are_kept_too() -> None:
    pytest.importorskip("onnxruntime")
    arguments: dict[str, Any] = {"plan_budget_s": 0, "trusted": True, "max_batch": 4, "keep_answers_mb": 1}
    with edge_sdk.load(models.onnx_mlp(), **arguments) as session:
        feeds = {"x": np.ones((1, 8), np.float32)}
        answers = list(session.stream([feeds] * 20))
        kept = session.report().answers
    assert kept is not None and (kept.hits, kept.misses) == (19, 1)
    assert all(np.array_equal(answer[name], answers[0][name]) for answer in answers for name in answer)


@pytest.mark.parametrize("wrong", [-1, float("inf"), float("nan")])
def test_a_bound_that_makes_no_sense_is_refused(wrong: float) -> None:
    with pytest.raises(InputValueError, match="keep_answers_mb"):
        load(keep_answers_mb=wrong)


def test_a_model_with_state_is_refused() -> None:
    with pytest.raises(InputError, match="state"):
        load(keep_answers_mb=1, state={"x": "y"})


def test_a_model_whose_graph_carries_state_is_refused() -> None:
    inner = Doubling()
    inner.keeps_state = True
    with pytest.raises(InputError, match="carries state from request to request"):
        RememberingRunner(inner, ONE)

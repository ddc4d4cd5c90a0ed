"""Sessions and commands where LiteRT is the only engine; run inside the emulated armv7l machine.

Not collected with the suite, which has the same tests on ONNX models: `test_emulated_arm` names this file to pytest.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import edge_sdk
from edge_sdk.errors import DamagedModel, EdgeError, EngineNotInstalled, InputShapeError, UnsupportedOp
from tests import models

ONES = np.ones((2, 3), np.float32)


@pytest.fixture
def add(tmp_path: Path) -> Path:
    path = tmp_path / "add.tflite"
    path.write_bytes(models.tflite_add())
    return path


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "edge_sdk.cli", *(str(argument) for argument in arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def test_from_a_file_to_an_answer_and_a_reason(add: Path) -> None:
    with edge_sdk.load(add, plan_budget_s=2) as session:
        np.testing.assert_array_equal(session.run({"x": ONES})["y"], ONES + 1)
        assert (session.plan.kind, session.plan.engine) == ("local", "litert")
        assert session.plan.reason
        report = session.report()
    assert report.stages["run"].count == 1
    assert report.first_result_ms is not None
    assert sum(place.count for place in report.nodes) == 1


def test_the_second_load_takes_the_kept_plan(add: Path) -> None:
    with edge_sdk.load(add, plan_budget_s=60) as first, edge_sdk.load(add, plan_budget_s=60) as second:
        assert (first.plan.cached, second.plan.cached) == (False, True)


def test_four_threads_share_a_session(add: Path) -> None:
    wrong: list[int] = []

    def call(session: edge_sdk.Session, number: int) -> None:
        answers = [(value, session.run(ONES * value)["y"]) for value in range(number, number + 25)]
        wrong.extend(value for value, answer in answers if not np.array_equal(answer, ONES * value + 1))

    with edge_sdk.load(add, plan_budget_s=0) as session:
        threads = [threading.Thread(target=call, args=(session, 100 * number)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_futures_and_streams(add: Path) -> None:
    async def many(session: edge_sdk.Session) -> list[dict[str, np.ndarray]]:
        return await asyncio.gather(*(session.arun(ONES * value) for value in range(5)))

    with edge_sdk.load(add, plan_budget_s=0) as session:
        answers = [*asyncio.run(many(session)), *session.stream(ONES * value for value in range(5))]
    assert [answer["y"][0, 0] for answer in answers] == [1, 2, 3, 4, 5] * 2


def test_a_session_takes_another_model(add: Path) -> None:
    with edge_sdk.load(add, plan_budget_s=0) as session:
        session.swap(models.tflite_dynamic())
        np.testing.assert_array_equal(session.run(ONES)["y"], ONES * 2)


def test_a_quantised_model_takes_and_gives_real_numbers() -> None:
    with edge_sdk.load(models.tflite_int8(), plan_budget_s=0, float_io=True) as session:
        (scores,) = session.run(np.full((1, 4), 0.5, np.float32)).values()
    expected = 0.5 * 0.25 * np.arange(-6, 6).reshape(3, 4).sum(axis=1) + [1, 0, -1]
    np.testing.assert_allclose(scores[0], expected, atol=1.0)


@pytest.mark.skipif(find_spec("onnxruntime") is not None, reason="onnxruntime is installed here")
@pytest.mark.parametrize("engine", [None, "onnxruntime"])
def test_an_onnx_model_names_the_engine_that_is_missing(engine: str | None) -> None:
    with pytest.raises(EngineNotInstalled, match="onnxruntime"):
        edge_sdk.load(models.onnx_add(), engine=engine)


def test_what_cannot_run_is_told_in_a_line() -> None:
    with pytest.raises(UnsupportedOp):
        edge_sdk.load(models.tflite_custom_op())
    with pytest.raises(DamagedModel):
        edge_sdk.load(models.tflite_float_conv()[:300])
    with edge_sdk.load(models.tflite_add()) as session, pytest.raises(InputShapeError, match="x"):
        session.run(np.ones((5, 7), np.float32))


def test_every_damaged_file_gives_an_answer_or_one_of_our_errors() -> None:
    whole = models.tflite_float_conv()
    rng = np.random.default_rng(0)
    for _ in range(8):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(whole), 4):
            damaged[place] ^= 0xFF
        try:
            with edge_sdk.load(bytes(damaged), plan_budget_s=0) as session:
                session.warm_up()
        except EdgeError as error:
            assert "\n" not in str(error)


def test_the_command_runs_arrays(add: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "ones.npy", ONES)
    done = command("run", add, "--input", tmp_path / "ones.npy", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["engine"] == "litert"


def test_the_command_inspects_what_it_cannot_run(add: Path, tmp_path: Path) -> None:
    (tmp_path / "add.onnx").write_bytes(models.onnx_add())
    for path in (add, tmp_path / "add.onnx"):
        done = command("inspect", path, "--json")
        assert done.returncode == 0, done.stderr
        assert [given["name"] for given in json.loads(done.stdout)["inputs"]] == ["x"]

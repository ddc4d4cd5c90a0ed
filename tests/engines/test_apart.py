"""A model in a process of its own: the same answers, and no crash or hang of it is one of this process."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from edge_sdk.engines import LoadOptions, find_engine
from edge_sdk.engines.apart import ApartRunner, runs_apart
from edge_sdk.engines.guard import Guard
from edge_sdk.engines.shared_tensors import SharedTensors
from edge_sdk.engines.simulated import SimulatedEngine
from edge_sdk.errors import AcceleratorCrashed, AcceleratorHung, EngineError, InputError, ModelError
from edge_sdk.formats import open_model
from tests import models
from tests.engines.failing import failing_delegate

ONNX = find_engine("onnxruntime")
F32 = np.float32


@contextmanager
def apart(content: bytes | Path, **options: Any) -> Iterator[ApartRunner]:
    timeout_s = options.pop("timeout_s", None)
    runner = ApartRunner(ONNX, open_model(content), LoadOptions(**options), timeout_s)
    try:
        yield runner
    finally:
        runner.close()


def here(content: bytes, feeds: dict[str, Any]) -> dict[str, Any]:
    runner = ONNX.load(open_model(content), LoadOptions())
    try:
        return runner.run(feeds)
    finally:
        runner.close()


# --- the same as here ---


def test_it_answers_as_the_model_does_here(tmp_path: Path) -> None:
    path = tmp_path / "mlp.onnx"
    path.write_bytes(models.onnx_mlp())
    feeds = {"x": np.linspace(0, 1, 8, dtype=F32)[None]}
    expected = here(models.onnx_mlp(), feeds)
    for source in (path, models.onnx_mlp()):
        with apart(source) as runner:
            given = runner.run(feeds)
            assert given.keys() == expected.keys()
            for name, array in expected.items():
                np.testing.assert_array_equal(given[name], array)
            assert [spec.name for spec in runner.inputs] == ["x"]


def test_answers_belong_to_the_caller_and_out_is_written() -> None:
    with apart(models.onnx_add()) as runner:
        first = runner.run({"x": np.full((2, 3), 1, F32)})["y"]
        target = np.empty((2, 3), F32)
        second = runner.run({"x": np.full((2, 3), 5, F32)}, {"y": target})["y"]
        assert second is target
        assert (first == 2).all() and (target == 6).all()
        with pytest.raises(InputError, match="no output"):
            runner.run({"x": np.ones((2, 3), F32)}, {"z": target})


def test_requests_of_any_size_fit() -> None:
    with apart(models.onnx_dynamic()) as runner:
        for rows in (1, 50_000, 3, 400_000, 0):
            feeds = {"x": np.arange(rows * 3, dtype=F32).reshape(rows, 3)}
            np.testing.assert_array_equal(runner.run(feeds)["y"], here(models.onnx_dynamic(), feeds)["y"])


def test_many_threads_wait_in_line() -> None:
    with apart(models.onnx_add()) as runner, ThreadPoolExecutor(8) as pool:
        fed = [np.full((2, 3), number, F32) for number in range(200)]
        for number, answer in enumerate(pool.map(lambda x: runner.run({"x": x})["y"], fed)):
            assert (answer == number + 1).all()


def test_errors_keep_their_kind() -> None:
    with apart(models.onnx_add()) as runner:
        with pytest.raises((InputError, EngineError)) as failed:
            runner.run({"x": np.ones((5, 5), F32)})
        assert "\n" not in str(failed.value)
        assert (runner.run({"x": np.ones((2, 3), F32)})["y"] == 2).all(), "and the process is still there"
    with pytest.raises((EngineError, ModelError)), apart(models.onnx_unknown_op()):
        pass


def test_threads_and_cpus_are_those_asked_for() -> None:
    cpu = min(os.sched_getaffinity(0))
    with apart(models.onnx_add(), threads=2, cpus=(cpu,)) as runner:
        runner.run({"x": np.ones((2, 3), F32)})
        placement = runner.placement()
        assert [thread.cpus for thread in placement.threads] == [(cpu,)]
        assert placement.threads[0].thread_id in map(int, os.listdir(f"/proc/{runner.process_id}/task"))


def test_what_a_process_of_its_own_cannot_run_is_known() -> None:
    options = LoadOptions(accelerator="npu")
    assert runs_apart(ONNX, open_model(models.onnx_add()), options)
    assert not runs_apart(ONNX, open_model(models.onnx_add()), LoadOptions())
    assert not runs_apart(ONNX, open_model(models.onnx_add()), LoadOptions(accelerator="npu", guard=Guard(apart=False)))
    assert not runs_apart(SimulatedEngine(), open_model(models.onnx_add()), options), "found by its name, it is another"
    assert not runs_apart(ONNX, open_model(models.onnx_string()), options)


# --- crashes and hangs ---


def test_a_process_that_dies_is_told_and_every_later_request_fails_at_once() -> None:
    with apart(models.onnx_add()) as runner:
        os.kill(runner.process_id, signal.SIGKILL)
        for _ in range(2):
            with pytest.raises(AcceleratorCrashed, match=r"crashed \(SIGKILL\)"):
                runner.run({"x": np.ones((2, 3), F32)})


def test_one_that_does_not_answer_is_ended() -> None:
    with apart(models.onnx_add(), timeout_s=0.2) as runner:
        process = os.pidfd_open(runner.process_id)
        os.kill(runner.process_id, signal.SIGSTOP)
        with pytest.raises(AcceleratorHung, match=r"running took more than 0\.2 s"):
            runner.run({"x": np.ones((2, 3), F32)})
        assert select.select([process], [], [], 0)[0], "the process has ended"
        os.close(process)


def test_a_child_that_hangs_ends_with_its_parent(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    delegate = failing_delegate(tmp_path)
    code = f"""
import threading, numpy as np
from edge_sdk.engines import LoadOptions, find_engine
from edge_sdk.engines.apart import ApartRunner
from edge_sdk.formats import open_model
from tests.models import tflite_add
options = LoadOptions(accelerator={str(delegate.library)!r}, accelerator_options={delegate.options!r})
runner = ApartRunner(find_engine("litert"), open_model(tflite_add()), options, 600.0)
open({str(delegate.mood)!r}, "w").write("hang")
threading.Thread(target=lambda: runner.run({{"x": np.ones((2, 3), np.float32)}})).start()
print(runner.process_id, flush=True)
"""
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=root) as parent:
        assert parent.stdout is not None
        child = os.pidfd_open(int(parent.stdout.readline()))
        parent.kill()
    assert select.select([child], [], [], 30)[0], "the child has ended too"
    os.close(child)


# --- the memory that both share ---


@given(
    st.lists(
        st_numpy.arrays(
            st.sampled_from(["f4", "f2", "i1", "u1", "i8", "?", "c8"]),
            st_numpy.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
        ),
        max_size=5,
    )
)
def test_tensors_come_out_as_they_were_laid_in(arrays: list[Any]) -> None:
    fd = os.memfd_create("test")
    try:
        written, read = SharedTensors(fd), SharedTensors(fd)
        places, end = written.lay((str(number), array) for number, array in enumerate(arrays))
        behind, _ = written.lay([("behind", np.arange(7))], end)
        found = dict(read.arrays((*places, *behind)))
        for number, array in enumerate(arrays):
            assert found[str(number)].dtype == array.dtype and found[str(number)].shape == array.shape
            assert found[str(number)].tobytes() == array.tobytes()
        assert found["behind"].tolist() == list(range(7))
    finally:
        os.close(fd)

"""The simulated engine executes nothing, in the time and with the failures that a test tells it."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sdk.device.facts import Accelerator
from edge_sdk.engines import LoadOptions, NodePlacement, PlacementReport, Runner, find_engine
from edge_sdk.engines.simulated import SimulatedBehaviour, SimulatedClock, SimulatedEngine
from edge_sdk.errors import AcceleratorError, EngineError, InputShapeError, ModelError, SessionClosed
from edge_sdk.formats import open_model
from tests import models

FEEDS = {"a": np.array([1, 2, 3], np.float32), "b": np.array([4, 5, 6], np.float32)}


def runner_of(content: bytes, options: LoadOptions | None = None, **behaviour: Any) -> tuple[Runner, SimulatedEngine]:
    engine = SimulatedEngine(SimulatedBehaviour(**behaviour))
    return engine.load(open_model(content), options or LoadOptions()), engine


class TestOutputs:
    @pytest.mark.parametrize("name", sorted(models.TFLITE_MODELS))
    def test_by_default_all_outputs_are_zeros_of_the_shape_and_dtype_in_the_file(self, name: str) -> None:
        runner, _ = runner_of(models.TFLITE_MODELS[name]())
        feeds = {s.name: np.ones([1 if d is None else d for d in s.shape or ()], s.dtype) for s in runner.inputs}
        for spec, value in zip(runner.outputs, runner.run(feeds).values(), strict=True):
            assert value.dtype.name == spec.dtype
            assert value.ndim == len(spec.shape or ())
            assert not value.any()

    def test_open_sizes_follow_what_is_fed(self) -> None:
        runner, _ = runner_of(models.tflite_dynamic())
        assert runner.run({"x": np.ones((5, 3), np.float32)})["y"].shape == (5, 3)

    def test_onnx_models_too(self) -> None:
        runner, _ = runner_of(models.onnx_add())
        feeds = {
            s.name: np.ones([d if isinstance(d, int) else 1 for d in s.shape or ()], s.dtype) for s in runner.inputs
        }
        assert set(runner.run(feeds)) == {spec.name for spec in runner.outputs}

    def test_a_function_computes_them_and_what_it_leaves_out_is_zeros(self) -> None:
        runner, _ = runner_of(models.tflite_two_io(), outputs=lambda feeds: {"sum": feeds["a"] + feeds["b"]})
        assert {n: v.tolist() for n, v in runner.run(FEEDS).items()} == {"sum": [5, 7, 9], "product": [0, 0, 0]}

    def test_what_the_function_keeps_does_not_change_under_the_caller(self) -> None:
        kept = np.zeros(3, np.float32)
        runner, _ = runner_of(models.tflite_two_io(), outputs=lambda feeds: {"sum": kept})
        first = runner.run(FEEDS)["sum"]
        kept[:] = 9
        assert first.tolist() == [0, 0, 0]

    def test_an_output_that_the_model_has_not_is_named(self) -> None:
        runner, _ = runner_of(models.tflite_two_io(), outputs=lambda feeds: {"quotient": feeds["a"]})
        with pytest.raises(EngineError, match="gives 'quotient'; expected 'sum', 'product'"):
            runner.run(FEEDS)

    def test_out_is_written_into_or_refused(self) -> None:
        runner, _ = runner_of(models.tflite_two_io(), outputs=lambda feeds: {"sum": feeds["a"]})
        mine = np.empty(3, np.float32)
        assert runner.run(FEEDS, out={"sum": mine})["sum"] is mine
        assert mine.tolist() == [1, 2, 3]
        with pytest.raises(InputShapeError, match="out"):
            runner.run(FEEDS, out={"sum": np.empty(4, np.float32)})


class TestTime:
    @pytest.mark.parametrize(("threads", "expected_ms"), [(None, 20), (1, 20), (2, 12), (3, 12), (4, 6), (8, 6)])
    def test_a_call_takes_what_is_told_for_its_threads_and_no_real_time(
        self, threads: int | None, expected_ms: float
    ) -> None:
        clock = SimulatedClock()
        options = LoadOptions(threads=threads)
        runner, _ = runner_of(
            models.tflite_two_io(), options, latency_ms={1: 20, 2: 12, 4: 6}, clock=clock, load_ms=500
        )
        assert clock() == pytest.approx(0.5)
        runner.run(FEEDS)
        assert clock() == pytest.approx(0.5 + expected_ms / 1e3)

    def test_time_by_operations(self) -> None:
        behaviour = SimulatedBehaviour(latency_ms=1.0, ms_per_mac=1e-6, macs=8_000_000)
        assert [behaviour.call_ms(threads) for threads in (None, 1, 2, 4)] == [9, 9, 5, 3]

    def test_threads_share_a_clock(self) -> None:
        clock = SimulatedClock(10.0)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(clock.sleep, [0.25] * 400))
        assert clock() == pytest.approx(110.0)


class TestFailures:
    def test_a_chosen_call_raises_and_the_others_do_not(self) -> None:
        runner, engine = runner_of(models.tflite_two_io(), fail_at={1: EngineError("the driver is gone")})
        runner.run(FEEDS)
        with pytest.raises(EngineError, match="the driver is gone"):
            runner.run(FEEDS)
        runner.run(FEEDS)
        assert [call.number for call in engine.calls] == [0, 1, 2]

    def test_a_chosen_call_hangs_until_released(self) -> None:
        release = threading.Event()
        runner, _ = runner_of(models.tflite_two_io(), hang_at={0: release})
        with ThreadPoolExecutor(1) as pool:
            hanging = pool.submit(runner.run, FEEDS)
            assert not hanging.done()
            release.set()
            assert set(hanging.result(30)) == {"sum", "product"}

    def test_chosen_calls_give_wrong_results(self) -> None:
        runner, _ = runner_of(models.tflite_two_io(), wrong_at={1})
        sums = [runner.run(FEEDS)["sum"].tolist() for _ in range(3)]
        assert sums == [[0, 0, 0], [1, 1, 1], [0, 0, 0]]

    def test_loading_fails_for_all_or_for_one_accelerator(self) -> None:
        npu = Accelerator(kind="npu", name="npu", engine="simulated", present=True)
        engine = SimulatedEngine(
            SimulatedBehaviour(fail_load={"npu": AcceleratorError("firmware missing")}, accelerators=(npu,))
        )
        model = open_model(models.tflite_add())
        with pytest.raises(AcceleratorError, match="firmware missing"):
            engine.load(model, LoadOptions(accelerator="npu"))
        engine.load(model, LoadOptions())
        assert [options.accelerator for options in engine.loads] == ["npu", "cpu"]
        with pytest.raises(ModelError, match="refused"):
            runner_of(models.tflite_add(), fail_load=ModelError("refused"))

    def test_loading_may_take_the_process_down_as_a_native_library_would(self, tmp_path: Path) -> None:
        (tmp_path / "model.tflite").write_bytes(models.tflite_add())
        code = (
            "import signal, sys; from edge_sdk.engines import LoadOptions; from edge_sdk.formats import open_model\n"
            "from edge_sdk.engines.simulated import SimulatedBehaviour, SimulatedEngine\n"
            "engine = SimulatedEngine(SimulatedBehaviour(crash_load=signal.SIGKILL))\n"
            "engine.load(open_model(sys.argv[1]), LoadOptions())"
        )
        child = subprocess.run([sys.executable, "-c", code, str(tmp_path / "model.tflite")], check=False)
        assert child.returncode == -signal.SIGKILL

    def test_an_accelerator_that_is_not_simulated_is_refused(self) -> None:
        with pytest.raises(AcceleratorError, match="accelerator 'tpu' is not simulated"):
            runner_of(models.tflite_add(), LoadOptions(accelerator="tpu"))


class TestRecords:
    def test_calls_remember_copies_of_what_was_fed(self) -> None:
        runner, engine = runner_of(models.tflite_two_io(), LoadOptions(threads=3))
        feeds = {name: value.copy() for name, value in FEEDS.items()}
        runner.run(feeds)
        feeds["a"][:] = 0
        (call,) = engine.calls
        assert (call.feeds["a"].tolist(), call.options.threads, call.model) == ([1, 2, 3], 3, "model in memory")

    def test_only_the_latest_calls_are_kept_but_all_are_counted(self) -> None:
        runner, engine = runner_of(models.tflite_two_io(), keep_calls=2)
        for _ in range(5):
            runner.run(FEEDS)
        assert [call.number for call in engine.calls] == [3, 4]

    def test_every_call_of_many_threads_is_counted_once(self) -> None:
        runner, engine = runner_of(models.tflite_two_io())
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: runner.run(FEEDS), range(200)))
        assert sorted(call.number for call in engine.calls) == list(range(200))

    def test_open_runners_are_counted_and_a_closed_one_says_so(self) -> None:
        runner, engine = runner_of(models.tflite_two_io())
        assert engine.open_runners == 1
        runner.close()
        runner.close()
        assert engine.open_runners == 0
        with pytest.raises(SessionClosed):
            runner.run(FEEDS)

    def test_placement_is_what_was_asked_for_unverified_or_what_is_told(self) -> None:
        runner, _ = runner_of(models.tflite_two_io())
        assert runner.placement() == PlacementReport((), (NodePlacement("cpu", 2),), verified=False)
        told = PlacementReport((), (NodePlacement("npu", 2),), verified=True)
        assert runner_of(models.tflite_two_io(), placement=told)[0].placement() == told


def test_it_is_found_by_name_with_defaults() -> None:
    engine = find_engine("simulated")
    assert isinstance(engine, SimulatedEngine)
    assert engine.formats == {"onnx", "tflite"}
    assert engine.version()

"""LiteRT runs TFLite models: named arrays in and out, any sizes, several callers at once, errors in one line."""

from __future__ import annotations

import functools
import gc
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.device.affinity import usable_cpus
from edge_sdk.engines import LoadOptions, litert_library
from edge_sdk.engines.litert import LiteRtEngine
from edge_sdk.engines.litert_runner import LiteRtRunner
from edge_sdk.errors import (
    EdgeError,
    EngineError,
    EngineNotInstalled,
    InputNameError,
    InputShapeError,
    InputTypeError,
    ModelError,
    SessionClosed,
    UnsupportedOp,
    UnsupportedVersion,
)
from edge_sdk.formats import open_model
from tests import models

pytest.importorskip("ai_edge_litert")
from tests.engines import litert_models

F32 = np.float32


def load(content: bytes | Path, **options: Any) -> LiteRtRunner:
    """Loads a model by path or from memory."""
    runner = LiteRtEngine().load(open_model(content), LoadOptions(**options))
    assert isinstance(runner, LiteRtRunner)
    return runner


def array(*values: Any, dtype: Any = F32) -> np.ndarray[Any, Any]:
    return np.array(values, dtype)


class TestNamesAndValues:
    def test_a_model_gives_named_arrays_from_memory_and_from_a_file(self, tmp_path: Path) -> None:
        file = tmp_path / "add.tflite"
        file.write_bytes(models.tflite_add())
        for runner in (load(models.tflite_add()), load(file)):
            assert [spec.name for spec in runner.inputs] == ["x"]
            y = runner.run({"x": np.zeros((2, 3), F32)})["y"]
            np.testing.assert_array_equal(y, np.ones((2, 3)))

    def test_several_inputs_and_outputs(self) -> None:
        runner = load(models.tflite_two_io())
        results = runner.run({"b": array(1, 2, 3), "a": array(4, 5, 6)})
        assert list(results) == ["sum", "product"]
        np.testing.assert_array_equal(results["product"], [4, 10, 18])

    def test_the_names_of_a_single_signature_count_whatever_its_order(self) -> None:
        runner = load(litert_models.swapped_signature())
        assert [spec.name for spec in runner.inputs] == ["a", "b"]
        results = runner.run({"a": array(1, 2), "b": array(3, 4)})
        assert {name: value.tolist() for name, value in results.items()} == {"one": [2, 4], "two": [9, 16]}

    def test_the_second_of_two_equal_names_gets_a_number(self) -> None:
        results = load(litert_models.same_names()).run({"x": array(1, 2)})
        assert {name: value.tolist() for name, value in results.items()} == {"y": [2, 4], "y#2": [2, 3]}

    def test_a_scalar_is_an_array_without_dimensions(self) -> None:
        y = load(models.tflite_scalar()).run({"x": array(3.0).reshape(())})["y"]
        assert isinstance(y, np.ndarray)
        assert (y.shape, float(y)) == ((), 9.0)

    def test_float16_int64_and_bool(self) -> None:
        feeds = {"half": array(1, 2, dtype=np.float16), "long": array(2**40, 1, dtype=np.int64)}
        results = load(litert_models.halves()).run(feeds | {"flag": array(True, False, dtype=bool)})
        assert {name: (value.dtype.name, value.tolist()) for name, value in results.items()} == {
            "twice": ("float16", [2, 4]),
            "negative": ("int64", [-(2**40), -1]),
            "inverted": ("bool", [False, True]),
        }

    def test_quantised_numbers_pass_as_they_are_stored(self) -> None:
        runner = load(models.tflite_int8())
        assert runner.inputs[0].quantization is not None
        assert runner.run({"x": np.ones((1, 4), np.int8)})["y"].tolist() == [[1, -5, -9]]

    def test_strings_are_str_both_ways_and_lose_no_byte(self) -> None:
        runner = load(litert_models.texts())
        given = np.array([["a", "ü"], ["", b"\xff"]], object)
        assert runner.run({"texts": given})["flat"].tolist() == ["a", "ü", "", "\udcff"]
        assert runner.run({"texts": np.array([["\udcff"]], object)})["flat"].tolist() == ["\udcff"]

    def test_control_flow_inside_the_graph(self) -> None:
        branches = load(models.tflite_if())
        assert branches.run({"flag": array(True, dtype=bool), "x": array(3, 4)})["y"].tolist() == [6, 8]
        assert branches.run({"flag": array(False, dtype=bool), "x": array(3, 4)})["y"].tolist() == [9, 16]
        assert load(litert_models.loop()).run({"n": np.array(5, np.int32)})["total"] == 10

    @pytest.mark.parametrize("layout", [np.asfortranarray, lambda x: x[:, ::-1], lambda x: x.T.copy().T])
    def test_any_memory_layout_is_read_right(self, layout: Callable[[Any], Any]) -> None:
        x = layout(np.arange(6, dtype=F32).reshape(2, 3))
        np.testing.assert_array_equal(load(models.tflite_add()).run({"x": x})["y"], x + 1)


class TestResults:
    def test_arrays_handed_out_never_change_afterwards(self) -> None:
        runner = load(models.tflite_add())
        first = runner.run({"x": np.zeros((2, 3), F32)})["y"]
        for value in range(1, 20):
            runner.run({"x": np.full((2, 3), value, F32)})
        runner.close()
        np.testing.assert_array_equal(first, np.ones((2, 3)))

    def test_out_takes_the_results_and_is_what_comes_back(self) -> None:
        runner = load(models.tflite_two_io())
        mine = np.empty(3, F32)
        results = runner.run({"a": array(1, 2, 3), "b": array(1, 1, 1)}, out={"sum": mine})
        assert results["sum"] is mine
        assert (mine.tolist(), results["product"].tolist()) == ([2, 3, 4], [1, 2, 3])

    @pytest.mark.parametrize(
        ("out", "error", "words"),
        [
            ({"none": np.empty(3, F32)}, InputNameError, "'none'"),
            ({"sum": np.empty(3)}, InputTypeError, "float64"),
            ({"sum": np.empty((1, 3), F32)}, InputShapeError, r"\[1, 3\].*\[3\]"),
        ],
    )
    def test_out_that_does_not_fit_is_refused(self, out: dict[str, Any], error: type, words: str) -> None:
        with pytest.raises(error, match=words):
            load(models.tflite_two_io()).run({"a": array(1, 2, 3), "b": array(1, 1, 1)}, out=out)


class TestSizes:
    def test_an_open_size_may_change_with_each_call_and_back(self) -> None:
        runner = load(models.tflite_dynamic())
        for rows in (1, 4, 2, 1, 0, 3):
            x = np.arange(rows * 3, dtype=F32).reshape(rows, 3)
            np.testing.assert_array_equal(runner.run({"x": x})["y"], 2 * x)

    def test_the_number_of_results_may_be_known_after_the_run_only(self) -> None:
        runner = load(litert_models.places())
        for mask in ([True, False, True, True], [False] * 4, [False, True, False, False]):
            found = runner.run({"mask": array(*mask, dtype=bool)})["found"]
            assert (found.dtype, found.tolist()) == (np.int64, [[i] for i, true in enumerate(mask) if true])

    def test_a_model_that_does_not_suit_the_placeholder_of_an_open_size_loads_all_the_same(self) -> None:
        runner = load(litert_models.open_sizes())
        assert runner.run({"x": np.ones((2, 3), F32)})["y"].tolist() == [[3, 12], [3, 12]]

    def test_a_size_that_only_the_graph_can_judge(self) -> None:
        runner = load(litert_models.open_sizes())
        with pytest.raises(InputShapeError, match=r"'x' \[2, 4\]") as refused:
            runner.run({"x": np.ones((2, 4), F32)})
        assert "\n" not in str(refused.value)
        assert runner.run({"x": np.ones((1, 3), F32)})["y"].tolist() == [[3, 12]], "the runner goes on"

    def test_a_fixed_size_stays_fixed(self) -> None:
        with pytest.raises(InputShapeError, match=r"\[4, 3\].*float32\[2, 3\]"):
            load(models.tflite_add()).run({"x": np.ones((4, 3), F32)})

    @settings(max_examples=40)
    @given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=5))
    def test_sizes_fit_or_are_refused_in_any_order(self, shapes: list[tuple[int, int]]) -> None:
        runner = _kept(litert_models.open_sizes)
        for shape in shapes:
            x = np.ones(shape, F32)
            try:
                y = runner.run({"x": x})["y"]
            except InputShapeError:
                assert shape[1] != 3 or shape[0] == 0
            else:  # the op reads its input as rows of three
                np.testing.assert_allclose(y, x.reshape(-1, 3) @ np.arange(6, dtype=F32).reshape(2, 3).T)


class TestState:
    def test_variables_keep_their_value_from_call_to_call_until_reset(self) -> None:
        runner = load(litert_models.counter())
        totals = [runner.run({"x": array(value)})["total"].item() for value in (1, 2, 3)]
        runner.reset_state()
        assert (totals, runner.run({"x": array(5)})["total"].item()) == ([1, 3, 6], 5)

    def test_tensors_that_an_op_keeps_are_reset_too(self) -> None:
        runner = load(litert_models.memory())
        feeds = {"x": array(1).reshape(1, 1)}
        sums = [runner.run(feeds)["y"].item() for _ in range(3)]
        runner.reset_state()
        assert (sums, runner.run(feeds)["y"].item()) == ([1, 2, 2], 1)

    def test_all_threads_see_the_same_state(self) -> None:
        runner = load(litert_models.counter())
        with ThreadPoolExecutor(4) as pool:
            totals = list(pool.map(lambda _: runner.run({"x": array(1)})["total"].item(), range(40)))
        assert sorted(totals) == list(range(1, 41))

    def test_a_failed_call_does_not_take_the_state_away(self) -> None:
        runner = load(litert_models.counter())
        runner.run({"x": array(4)})
        with pytest.raises(InputShapeError):
            runner.run({"x": array(1, 2)})
        assert runner.run({"x": array(1)})["total"].item() == 5


class TestThreads:
    def test_eight_callers_get_their_own_right_answers_which_never_change(self) -> None:
        runner = load(models.tflite_float_conv())
        pictures = np.random.default_rng(1).normal(size=(64, 1, 8, 8, 3)).astype(F32)
        alone = load(models.tflite_float_conv())
        expected = [alone.run({"image": picture})["scores"] for picture in pictures]
        start = threading.Barrier(8)

        def call(first: int) -> list[tuple[int, Any]]:
            start.wait(30)
            turns = [i for _ in range(10) for i in range(first, 64, 8)]
            return [(i, runner.run({"image": pictures[i]})["scores"]) for i in turns]

        with ThreadPoolExecutor(8) as pool:
            answers = [answer for part in pool.map(call, range(8)) for answer in part]
        assert len(answers) == 640
        for i, scores in answers:
            np.testing.assert_array_equal(scores, expected[i])

    def test_callers_with_different_sizes_do_not_disturb_each_other(self) -> None:
        runner = load(models.tflite_dynamic())

        def call(rows: int) -> bool:
            x = np.full((rows, 3), rows, F32)
            return all(np.array_equal(runner.run({"x": x})["y"], 2 * x) for _ in range(50))

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(call, range(1, 9)))

    def test_who_never_waited_leaves_no_trace_in_the_queue(self) -> None:
        runner = load(models.tflite_add())
        for _ in range(5):
            runner.run({"x": np.zeros((2, 3), F32)})
        assert runner.queue.count == 0

    def test_the_workers_are_found_and_end_with_the_runner(self) -> None:
        runner = load(models.tflite_float_conv(), threads=3)
        runner.run({"image": np.zeros((1, 8, 8, 3), F32)})
        workers = {thread.thread_id for thread in runner.placement().threads}
        assert len(workers) == 2, "the caller is the third"
        runner.close()
        gc.collect()
        assert not workers & {int(tid) for tid in os.listdir("/proc/self/task")}

    def test_one_runner_does_not_claim_the_workers_of_another(self) -> None:
        def workers(runner: LiteRtRunner) -> set[int]:
            runner.run({"image": np.zeros((1, 8, 8, 3), F32)})
            return {thread.thread_id for thread in runner.placement().threads}

        with ThreadPoolExecutor(4) as pool:
            runners = list(pool.map(lambda _: load(models.tflite_float_conv(), threads=2), range(4)))
            found = list(pool.map(workers, runners))
        assert [len(tids) for tids in found] == [1, 1, 1, 1]
        assert len(set.union(*found)) == 4

    @pytest.mark.skipif(len(usable_cpus()) < 2, reason="needs two CPUs")
    def test_workers_and_callers_stay_on_the_cpus_asked_for(self) -> None:
        before, cpu = os.sched_getaffinity(0), usable_cpus()[-1]
        runner = load(models.tflite_float_conv(), threads=2, cpus=(cpu,))
        seen: list[Any] = []
        loaded = runner._pool.take()
        call = loaded.call
        loaded.call = lambda *args: (seen.append(os.sched_getaffinity(0)), call(*args))[1]  # type: ignore[method-assign]
        runner._pool.give(loaded)
        for _ in range(2):
            runner.run({"image": np.zeros((1, 8, 8, 3), F32)})
        assert seen == [{cpu}, {cpu}]
        assert [thread.cpus for thread in runner.placement().threads] == [(cpu,)]
        assert os.sched_getaffinity(0) == before, "nothing leaks"

    def test_a_number_of_threads_that_makes_no_sense_is_refused(self) -> None:
        with pytest.raises(EngineError, match="threads is 0"):
            load(models.tflite_add(), threads=0)

    def test_cpus_that_this_process_may_not_use_are_named(self) -> None:
        with pytest.raises(EngineError, match=r"\[4095\]"):
            load(models.tflite_add(), cpus=(4095,))


class TestPlacement:
    def test_nodes_are_told_by_place_and_name(self) -> None:
        report = load(litert_models.halves()).placement()
        places = {place.where: place.nodes for place in report.nodes}
        assert places["xnnpack"] == ("ADD -> wider",)
        assert "LOGICAL_NOT -> inverted" in places["cpu"]
        assert (sum(place.count for place in report.nodes), report.verified) == (5, True)

    def test_a_graph_in_parts_is_counted_whole(self, assets: Path) -> None:
        report = load(assets / "models" / "ultraface_rfb320.tflite").placement()
        assert {place.where: place.count for place in report.nodes} == {"xnnpack": 81, "cpu": 34}


class TestErrors:
    def test_an_op_that_the_engine_has_not_is_named(self) -> None:
        with pytest.raises(UnsupportedOp, match="model in memory: op Frobnicate") as refused:
            load(models.tflite_custom_op())
        assert refused.value.ops == ("Frobnicate",)

    def test_the_model_that_must_fail_names_its_op(self, assets: Path) -> None:
        with pytest.raises(UnsupportedOp, match=r"must_fail_custom_op\.tflite: op fake-op-double") as refused:
            load(assets / "models" / "must_fail_custom_op.tflite")
        assert refused.value.ops == ("fake-op-double",)

    def test_an_op_newer_than_the_engine_is_told_as_such(self) -> None:
        with pytest.raises(UnsupportedVersion, match="op ADD is of version 99"):
            load(litert_models.newer_op())

    def test_a_graph_that_cannot_be_laid_out(self) -> None:
        with pytest.raises(ModelError, match="refuses it") as refused:
            load(litert_models.impossible())
        assert "\n" not in str(refused.value)

    def test_a_failure_while_running_names_the_reason_and_the_next_call_works(self) -> None:
        runner = load(litert_models.picked())
        for _ in range(2):
            with pytest.raises(EngineError, match="gather index out of bounds") as failed:
                runner.run({"index": array(7, dtype=np.int32)})
            assert str(failed.value).count("out of bounds") == 1, "only what happened now"
        assert runner.run({"index": array(1, dtype=np.int32)})["picked"].tolist() == [[2, 3]]

    def test_a_wrong_dtype_that_got_past_the_check_names_the_input(self) -> None:
        with pytest.raises(InputTypeError, match=r"'x'.*FLOAT64.*float32"):
            load(models.tflite_add()).run({"x": np.zeros((2, 3))})

    def test_a_string_input_that_holds_something_else(self) -> None:
        with pytest.raises(InputTypeError, match="'texts' holds 1 "):
            load(litert_models.texts()).run({"texts": np.array([[1]], object)})

    def test_a_closed_runner_says_so(self) -> None:
        runner = load(models.tflite_add())
        runner.close()
        runner.close()
        with pytest.raises(SessionClosed, match="closed"):
            runner.run({"x": np.zeros((2, 3), F32)})

    @settings(max_examples=60)
    @given(
        builder=st.sampled_from([models.tflite_add, models.tflite_scalar, litert_models.texts, litert_models.picked]),
        value=st.one_of(
            st.lists(st.integers(-3, 3), max_size=4).map(np.array),
            st.lists(st.floats(width=32), max_size=4).map(lambda x: np.array(x, F32)),
            st.lists(st.text(max_size=3), max_size=3).map(lambda x: np.array([x], object)),
            st.lists(st.integers(-5, 5), max_size=2).map(lambda x: np.array(x, np.int32)),
        ),
    )
    def test_whatever_array_is_fed_the_answer_is_arrays_or_one_of_our_errors(self, builder: Any, value: Any) -> None:
        runner = _kept(builder)
        try:
            results = runner.run({runner.inputs[0].name: value})
        except EdgeError as error:
            assert str(error).startswith("model in memory: ")
        else:
            assert all(isinstance(result, np.ndarray) for result in results.values())


@functools.cache
def _kept(builder: Callable[[], bytes]) -> LiteRtRunner:
    """One runner that has to stand whatever came before."""
    return load(builder())


class TestInstallation:
    def test_nothing_installed_names_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("edge_sdk.engines.litert.installed", lambda: None)
        assert LiteRtEngine().version() is None
        with pytest.raises(EngineNotInstalled, match=r"edge-sdk\[tflite\]"):
            load(models.tflite_add())

    def test_tflite_runtime_with_a_numpy_too_new_says_which_is_needed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = ("tflite-runtime", "2.14.0", "tflite_runtime.interpreter")
        monkeypatch.setattr(litert_library, "installed", lambda: found)
        monkeypatch.setattr(np, "__version__", "2.1.0")
        with pytest.raises(EngineNotInstalled, match=r"needs numpy<2, numpy 2\.1\.0 is installed"):
            litert_library.import_interpreter()

    def test_a_library_that_does_not_load_here_says_why(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(litert_library, "installed", lambda: ("ai-edge-litert", "9.9", "ai_edge_litert.absent"))
        with pytest.raises(EngineNotInstalled, match=r"ai-edge-litert 9\.9 is installed but does not load here: No"):
            litert_library.import_interpreter()

    def test_the_version_is_told_without_importing_the_library(self) -> None:
        code = (
            "import sys; from edge_sdk.engines.litert import LiteRtEngine; print(LiteRtEngine().version());"
            "assert not {'ai_edge_litert', 'tflite_runtime'} & set(sys.modules)"
        )
        told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert told.stdout.strip() == LiteRtEngine().version()


class TestQuiet:
    CODE = """
import sys
import numpy as np
from edge_sdk.engines import LoadOptions
from edge_sdk.engines.litert import LiteRtEngine
from edge_sdk.formats import open_model
runner = LiteRtEngine().load(open_model(sys.argv[1]), LoadOptions())
runner.run({"x": np.zeros((2, 3), np.float32)})
"""

    def test_the_engine_writes_nothing_on_stderr(self, tmp_path: Path) -> None:
        (tmp_path / "add.tflite").write_bytes(models.tflite_add())
        run = [sys.executable, "-c", self.CODE, str(tmp_path / "add.tflite")]
        told = subprocess.run(run, capture_output=True, text=True, check=True)
        assert (told.stdout, told.stderr) == ("", "")

    def test_what_others_write_meanwhile_is_passed_on(self, capfd: pytest.CaptureFixture[str]) -> None:
        with litert_library.sifted(1, 2) as told:
            os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\nsomebody else\n")
            os.write(1, b"a result\n")
        captured = capfd.readouterr()
        assert (captured.out, captured.err) == ("a result\n", "somebody else\n")
        assert told == ["INFO: Created TensorFlow Lite XNNPACK delegate for CPU."]


class TestFiles:
    def test_a_file_replaced_after_loading_does_not_get_into_the_runner(self, tmp_path: Path) -> None:
        file = tmp_path / "model.tflite"
        file.write_bytes(models.tflite_two_io())
        runner = load(file)
        other = tmp_path / "other"
        other.write_bytes(models.tflite_add())
        shutil.move(other, file)
        first, second = runner._pool.take(), runner._pool.take()  # the second interpreter is made now
        for loaded in (first, second):
            results = loaded.call({"a": array(1, 1, 1), "b": array(2, 2, 2)}, None)
            assert results["sum"].tolist() == [3, 3, 3]

    def test_loading_and_closing_keeps_no_memory_and_no_descriptor(self, tmp_path: Path) -> None:
        file = tmp_path / "model.tflite"
        file.write_bytes(models.tflite_float_conv())

        def cycles(count: int) -> None:
            for _ in range(count):
                runner = load(file, threads=2)
                runner.run({"image": np.zeros((1, 8, 8, 3), F32)})
                runner.close()

        cycles(20)
        descriptors, resident_kb = len(os.listdir("/proc/self/fd")), _resident_kb()
        cycles(200)
        assert len(os.listdir("/proc/self/fd")) <= descriptors
        assert _resident_kb() - resident_kb < 20_000


def _resident_kb() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


class TestRealModels:
    def test_a_float_and_an_int8_model_agree_with_the_bare_interpreter(self, assets: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter

        for name in ("resnet8_cifar10_fp32", "resnet8_cifar10_int8"):
            path = assets / "models" / f"{name}.tflite"
            runner, bare = load(path), Interpreter(model_path=str(path))
            bare.allocate_tensors()
            spec = runner.inputs[0]
            x = np.random.default_rng(0).integers(0, 100, (1, 32, 32, 3)).astype(spec.dtype)
            bare.set_tensor(bare.get_input_details()[0]["index"], x)
            bare.invoke()
            expected = bare.get_tensor(bare.get_output_details()[0]["index"])
            np.testing.assert_array_equal(runner.run({spec.name: x})[runner.outputs[0].name], expected)

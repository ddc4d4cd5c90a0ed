"""One model in stages: cut where they take as long as each other, each in its own thread, chosen where it pays."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edge_sdk.device.affinity import thread_cpus, usable_cpus
from edge_sdk.engines import LoadOptions, Runner
from edge_sdk.engines.quantised import FloatRunner
from edge_sdk.engines.registry import find_engine
from edge_sdk.engines.samples import made_up_feeds
from edge_sdk.engines.simulated import SimulatedBehaviour, SimulatedEngine
from edge_sdk.errors import AcceleratorError, EngineError, InputError, ModelError, SessionClosed
from edge_sdk.formats import ModelFile, open_model
from edge_sdk.graph import open_graph
from edge_sdk.graph.cuts import single_cuts
from edge_sdk.graph.splitting import compared
from edge_sdk.planner.overlapping import overlapping
from edge_sdk.planner.placed import placed
from edge_sdk.planner.stages import StagesRunner
from edge_sdk.schedule.placing import Placement, Stage
from tests.awaiting import until

models = pytest.importorskip("tests.models")

CPUS = usable_cpus()


def cut_in(content: bytes, count: int, cpus: tuple[tuple[int, ...], ...] = ()) -> tuple[ModelFile, Placement]:
    """A model, cut in so many stages of about as many cuts each."""
    file = open_model(content)
    cuts = single_cuts(open_graph(file))
    chosen = [cuts[len(cuts) * number // count] for number in range(1, count)]
    ends = [*(cut.tensors for cut in chosen), ()]
    places = cpus or (None,) * count
    return file, Placement(
        label="stages",
        stages=tuple(Stage(cpus=on, threads=1, tensors=end) for on, end in zip(places, ends, strict=True)),
    )


def in_stages(file: ModelFile, placement: Placement, load: Callable[..., Runner] | None = None) -> StagesRunner:
    engine = find_engine("onnxruntime" if file.format == "onnx" else "litert")
    runner = placed(file, load or engine.load, LoadOptions(), placement)
    assert isinstance(runner, StagesRunner)
    return runner


@pytest.mark.parametrize(
    ("content", "count"),
    [
        (models.onnx_mlp(), 2),
        (models.onnx_mlp(), 3),
        (models.onnx_conv(), 2),
        (models.onnx_int8_qdq(), 2),
        (models.tflite_float_conv(), 2),
        (models.tflite_float_conv(), 3),
    ],
    ids=["mlp 2", "mlp 3", "conv 2", "int8 qdq 2", "tflite 2", "tflite 3"],
)
def test_stages_answer_what_the_whole_does(content: bytes, count: int) -> None:
    file, placement = cut_in(content, count)
    runner = in_stages(file, placement)
    whole = find_engine(runner.engine).load(file, LoadOptions())
    assert (runner.inputs, runner.outputs) == (whole.inputs, whole.outputs)
    feeds = made_up_feeds(whole.inputs)
    expected, given = whole.run(feeds), runner.run(feeds)
    assert list(given) == list(expected)
    found = compared(expected, given)
    assert found.exact if file.format == "tflite" else found.relative <= 1e-5
    assert f"{count} stages" in runner.notes
    runner.close()
    whole.close()


def test_an_int8_tflite_file_in_stages_is_exact(assets: Path) -> None:
    content = (assets / "models" / "resnet8_cifar10_int8.tflite").read_bytes()
    file, placement = cut_in(content, 3)
    runner = in_stages(file, placement)
    whole = find_engine("litert").load(file, LoadOptions())
    feeds = made_up_feeds(whole.inputs)
    assert compared(whole.run(feeds), runner.run(feeds)).exact
    runner.close()
    whole.close()


def test_inputs_and_outputs_may_belong_to_any_stage() -> None:
    """a ─ Add ─ s ─┬─ Mul ─ product, with b fed behind the cut; s is an answer of the first stage, and travels."""
    from onnx import helper

    content = models.onnx_bytes(
        [
            helper.make_node("Add", ["a", "one"], ["s"], name="first"),
            helper.make_node("Mul", ["s", "b"], ["product"], name="second"),
        ],
        [models.value("a", [3]), models.value("b", [3])],
        [models.value("product", [3]), models.value("s", [3])],
        [models.constant("one", 1.0)],
    )
    file = open_model(content)
    stages = (Stage(threads=1, tensors=("b", "s")), Stage(threads=1))
    runner = in_stages(file, Placement(label="stages", stages=stages))
    feeds = {"a": np.arange(3, dtype=np.float32), "b": np.full(3, 2, np.float32)}
    answer = runner.run(feeds)
    assert list(answer) == ["product", "s"]
    np.testing.assert_array_equal(answer["s"], [1, 2, 3])
    np.testing.assert_array_equal(answer["product"], [2, 4, 6])
    mine = {"product": np.empty(3, np.float32), "s": np.empty(3, np.float32)}
    into = runner.run(feeds, mine)
    assert into["product"] is mine["product"] and into["s"] is mine["s"]
    np.testing.assert_array_equal(mine["product"], [2, 4, 6])
    runner.close()


def test_many_callers_each_get_their_own_answer() -> None:
    file, placement = cut_in(models.onnx_mlp(), 3)
    runner = in_stages(file, placement)
    whole = find_engine("onnxruntime").load(file, LoadOptions())
    feeds = [{"x": np.full((1, 8), number / 100, np.float32)} for number in range(100)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(runner.run, feeds))
    for one, answer in zip(feeds, answers, strict=True):
        np.testing.assert_allclose(answer["y"], whole.run(one)["y"], rtol=1e-5)
    assert [figures.requests for figures in runner.figures()] == [100, 100, 100]
    assert all(figures.service_ms is not None for figures in runner.figures())
    assert runner.request_ms() > 0
    runner.close()


@pytest.mark.skipif(len(CPUS) < 2, reason="needs two CPUs")
def test_each_stage_computes_on_its_own_cpus_and_its_callers_where_they_were() -> None:
    file, placement = cut_in(models.onnx_mlp(256, 1024, 64), 2, (CPUS[:1], CPUS[-1:]))
    before = os.sched_getaffinity(0)
    runner = in_stages(file, placement)
    runner.run(made_up_feeds(runner.inputs))
    assert os.sched_getaffinity(0) == before
    first, second = runner.figures()
    assert [thread.cpus for thread in first.threads] == [CPUS[:1]]
    assert [thread.cpus for thread in second.threads] == [CPUS[-1:]]
    assert runner.placement().threads == first.threads + second.threads
    ids = [thread.thread_id for thread in runner.placement().threads]
    runner.close()
    for tid in ids:
        until(lambda tid=tid: not thread_cpus(tid))  # the threads end with the runner
    assert os.sched_getaffinity(0) == before


def test_one_request_is_in_its_second_stage_while_the_next_is_in_its_first() -> None:
    """Both wait for each other, so that they end only if they compute at the same time."""
    meet = threading.Barrier(2, timeout=30)
    inside: dict[str, int] = {"first": 0, "second": 0}
    most = dict(inside)
    calls = dict(inside)

    def outputs(given: Mapping[str, Any]) -> dict[str, Any]:
        stage = "first" if "x" in given else "second"
        inside[stage] += 1
        most[stage] = max(most[stage], inside[stage])
        calls[stage] += 1
        number = calls[stage]
        if (stage == "first" and number > 1) or (stage == "second" and number < 5):
            meet.wait()  # the first stage of a request, and the second of the one before
        inside[stage] -= 1
        return {}

    file, placement = cut_in(models.onnx_mlp(), 2)
    runner = in_stages(file, placement, SimulatedEngine(SimulatedBehaviour(outputs=outputs)).load)
    feeds = made_up_feeds(runner.inputs)
    with ThreadPoolExecutor(runner.at_once) as pool:
        list(pool.map(runner.run, [feeds] * 5))
    assert calls == {"first": 5, "second": 5}
    assert most == {"first": 1, "second": 1}, "a stage has one request at a time"
    runner.close()


def test_no_more_requests_are_let_in_than_keep_the_stages_busy() -> None:
    """What waits between stages would hold memory that nobody bounds."""
    held = threading.Event()
    first = [0]

    def outputs(given: Mapping[str, Any]) -> dict[str, Any]:
        if "x" in given:
            first[0] += 1
        elif not held.wait(30):
            raise EngineError("nobody let it go")
        return {}

    engine = SimulatedEngine(SimulatedBehaviour(outputs=outputs))
    file, placement = cut_in(models.onnx_mlp(), 2)
    runner = in_stages(file, placement, engine.load)
    assert runner.at_once == 3
    feeds = made_up_feeds(runner.inputs)
    with ThreadPoolExecutor(12) as pool:
        waiting = [pool.submit(runner.run, feeds) for _ in range(12)]
        until(lambda: first[0] == 3)
        assert runner.queue.count == 3, "those that were let in"
        assert first[0] == 3, "nine others wait before the first stage"
        held.set()
        for one in waiting:
            one.result(30)
    assert first[0] == 12
    runner.close()


def test_a_stage_that_fails_fails_the_request_and_goes_on() -> None:
    engine = SimulatedEngine(SimulatedBehaviour(fail_at={1: AcceleratorError("lost"), 2: EngineError("broken")}))
    file, placement = cut_in(models.onnx_mlp(), 2)
    runner = in_stages(file, placement, engine.load)
    feeds = made_up_feeds(runner.inputs)
    with pytest.raises(AcceleratorError, match="lost"):
        runner.run(feeds)  # calls 0 and 1: the second stage
    with pytest.raises(EngineError, match="broken"):
        runner.run(feeds)  # call 2: the first stage
    assert list(runner.run(feeds)) == ["y"]
    runner.close()
    assert engine.open_runners == 0


def test_closing_answers_what_is_under_way_and_refuses_what_comes_later() -> None:
    begun, held = threading.Event(), threading.Event()

    def outputs(given: Mapping[str, Any]) -> dict[str, Any]:
        begun.set()
        assert held.wait(30)
        return {}

    engine = SimulatedEngine(SimulatedBehaviour(outputs=outputs))
    file, placement = cut_in(models.onnx_mlp(), 2)
    runner = in_stages(file, placement, engine.load)
    feeds = made_up_feeds(runner.inputs)
    with ThreadPoolExecutor(2) as pool:
        answer = pool.submit(runner.run, feeds)
        assert begun.wait(30)
        closing = pool.submit(runner.close)
        held.set()
        assert list(answer.result(30)) == ["y"]
        closing.result(30)
    runner.close()
    assert engine.open_runners == 0
    with pytest.raises(SessionClosed):
        runner.run(feeds)


def test_threads_of_a_runner_that_nobody_closes_end_with_it() -> None:
    file, placement = cut_in(models.onnx_mlp(), 2)
    engine = SimulatedEngine()
    runner = in_stages(file, placement, engine.load)
    threads = [line.thread for line in runner._lines]
    del runner
    gc.collect()
    for thread in threads:
        assert thread is not None
        thread.join(30)
        assert not thread.is_alive()
    assert engine.open_runners == 0


def test_where_a_stage_does_not_load_none_stays_open() -> None:
    engine = SimulatedEngine()

    def load(file: ModelFile, options: LoadOptions) -> Runner:
        if "stage 2" in file.name:
            raise EngineError("no more memory")
        return engine.load(file, options)

    file, placement = cut_in(models.onnx_mlp(), 3)
    with pytest.raises(EngineError, match="no more memory"):
        in_stages(file, placement, load)
    assert (len(engine.loads), engine.open_runners) == (1, 0)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("stage-") and thread.is_alive()]


def test_an_accelerators_options_are_for_its_stage_alone() -> None:
    loads: list[LoadOptions] = []

    def load(file: ModelFile, options: LoadOptions) -> Runner:
        loads.append(options)
        return SimulatedEngine().load(file, replace(options, accelerator="cpu"))

    file, placement = cut_in(models.onnx_mlp(), 2)
    there = msgspec.structs.replace(placement.stages[0], accelerator="npu", threads=None)
    options = LoadOptions(accelerator="npu", accelerator_options={"speed": "high"})
    stages = Placement(label="stages", stages=(there, placement.stages[1]))
    runner = placed(file, load, options, stages)
    assert [(one.accelerator, dict(one.accelerator_options)) for one in loads] == [
        ("npu", {"speed": "high"}),
        ("cpu", {}),
    ]
    assert runner.options.accelerator == "npu", "its failures are an accelerator's"
    assert stages.describe() == "stages on npu, then all CPUs"
    runner.close()


def test_a_cut_that_is_none_of_the_model_is_refused() -> None:
    file, _ = cut_in(models.onnx_mlp(), 2)
    with pytest.raises(ModelError, match="nothing_here"):
        in_stages(file, Placement(stages=(Stage(tensors=("nothing_here",)), Stage())))


def test_behind_wrappers_it_is_still_known_that_requests_overlap() -> None:
    file, placement = cut_in(models.onnx_mlp(), 2)
    runner = in_stages(file, placement)
    wrapped = FloatRunner(runner)
    assert overlapping(wrapped) is runner
    assert wrapped.at_once == runner.at_once == 3
    wrapped.close()


def test_initialisers_that_callers_feed_need_the_model_whole() -> None:
    file, placement = cut_in(models.onnx_mlp(), 2)
    with pytest.raises(InputError, match="needs the model whole"):
        placed(file, SimulatedEngine().load, LoadOptions(initializer_inputs=("w1",)), placement)


def test_parts_are_made_once_and_made_again_where_they_were_altered(own_cache: Any) -> None:
    from edge_sdk.planner.stage_parts import stage_parts

    file, placement = cut_in(models.onnx_mlp(), 2)
    cuts = [stage.tensors for stage in placement.stages[:-1]]
    made = [bytes(part.content().__enter__()) for part in stage_parts(file, cuts)]
    (kept,) = (own_cache / "stages").glob("*.parts")
    written = kept.stat().st_ino
    assert [bytes(part.content().__enter__()) for part in stage_parts(file, cuts)] == made
    assert kept.stat().st_ino == written, "read, not made again"
    content = bytearray(kept.read_bytes())
    content[-1] ^= 1
    kept.write_bytes(content)
    assert [bytes(part.content().__enter__()) for part in stage_parts(file, cuts)] == made

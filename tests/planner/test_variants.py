"""Among several variants: constraints rule out, measuring decides, golden requests have the last word."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import pytest

from edge_sdk.device.facts import Accelerator, Device
from edge_sdk.engines import Engine, LoadOptions, PlacementReport, Runner
from edge_sdk.engines.simulated import SimulatedClock as Clock
from edge_sdk.errors import DamagedModel, EngineError, InputError
from edge_sdk.formats import ModelFile, open_model
from edge_sdk.metrics import Histogram
from edge_sdk.planner import Choice, Golden, Variant, Wish, choose, explain
from edge_sdk.tensors import TensorSpec
from tests.machines import TWO_CORES

models = pytest.importorskip("tests.models")

X = np.ones(1, np.float32)


class Bench(Engine):
    """Takes as long as a table by model name says; answers with the answer it has for a model, or zeros."""

    formats = frozenset({"onnx"})
    native = False

    def __init__(self, clock: Clock, ms: Mapping[str, float], answers: Mapping[str, float] | None = None) -> None:
        self.name, self.clock, self.ms, self.answers = "bench", clock, ms, answers or {}
        self.loaded: list[tuple[str, str]] = []

    def version(self) -> str | None:
        return "1"

    def load(self, model: ModelFile, options: LoadOptions) -> Runner:
        if model.name not in self.ms:
            raise EngineError(f"{model.name}: no memory for it")
        self.loaded.append((model.name, options.accelerator))
        return BenchRunner(self, model.name, options)


class BenchRunner(Runner):
    def __init__(self, engine: Bench, model: str, options: LoadOptions) -> None:
        self._by, self.engine, self.model, self.options, self.queue = engine, engine.name, model, options, Histogram()
        self.inputs = self.outputs = (TensorSpec("x", "float32", (1,)),)

    def run(self, feeds: Mapping[str, Any], out: Mapping[str, Any] | None = None) -> dict[str, Any]:
        speed = 4.0 if self.options.accelerator == "npu" else 1.0
        self._by.clock.sleep(self._by.ms[self.model] / speed * (1.5 if self.options.threads == 1 else 1.0) / 1e3)
        return {"x": np.full(1, self._by.answers.get(self.model, 0.0), np.float32)}

    def placement(self) -> PlacementReport:
        return PlacementReport((), (), False)

    def close(self) -> None:
        pass


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("time.perf_counter", made)
    monkeypatch.setattr("edge_sdk.planner.choosing.usable_cpus", lambda: (0, 1))
    return made


def variant(name: str, **facts: Any) -> Variant:
    content = models.onnx_add()
    return Variant(name, "onnx", f"digest of {name}", lambda: open_model(content, name=name), **facts)


FP32 = variant("fp32", accuracy=0.98, accuracy_of="top-1 on 100 samples of digits")
INT8 = variant("int8", accuracy=0.95, accuracy_of="top-1 on 100 samples of digits")
MS = {"fp32": 4.0, "int8": 2.0}


def pick(engine: Bench, *variants: Variant, device: Device = TWO_CORES, **wish: Any) -> Choice:
    return choose(variants, device, {"onnx": [engine]}, Wish(**{"budget_s": 10.0, **wish}), LoadOptions(), model="m")


def test_the_fastest_variant_wins_and_the_plan_names_it(clock: Clock) -> None:
    choice = pick(Bench(clock, MS), FP32, INT8)
    assert choice.plan.variant == "int8"
    assert choice.variant is INT8
    assert choice.plan.accuracy == 0.95
    assert "int8 on bench, default threads on all CPUs: 2 ms" in choice.plan.reason
    fp32 = next(c for c in choice.plan.candidates if c.variant == "fp32")
    assert fp32.relative == pytest.approx(2.0)


def test_a_variant_below_the_accuracy_is_listed_with_the_reason_and_never_loaded(clock: Clock) -> None:
    engine = Bench(clock, MS)
    plan = pick(engine, FP32, INT8, min_accuracy=0.97).plan
    assert plan.variant == "fp32"
    assert ("int8", "cpu") not in engine.loaded
    barred = [c for c in plan.candidates if not c.feasible]
    assert {c.variant for c in barred} == {"int8"}
    assert "accuracy 0.95 is below min_accuracy=0.97 (top-1 on 100 samples of digits)" in barred[0].reason


def test_without_a_figure_for_accuracy_a_variant_among_others_is_out(clock: Clock) -> None:
    plan = pick(Bench(clock, {**MS, "plain": 1.0}), FP32, variant("plain"), min_accuracy=0.9).plan
    assert plan.variant == "fp32"
    assert any("nobody measured its accuracy" in c.reason for c in plan.candidates if c.variant == "plain")


def test_a_model_alone_stays_and_the_plan_says_that_its_accuracy_is_not_known(clock: Clock) -> None:
    plan = pick(Bench(clock, {"plain": 1.0}), variant("plain"), min_accuracy=0.9).plan
    assert plan.misses == ("min_accuracy",)
    assert "is not checked" in plan.reason


def test_where_nothing_holds_the_error_tells_what_each_lacks(clock: Clock) -> None:
    with pytest.raises(InputError, match=r"fp32: accuracy 0\.98 is below .*; int8: accuracy 0\.95 is below"):
        pick(Bench(clock, MS), FP32, INT8, min_accuracy=0.99)


def test_memory_is_a_constraint_too(clock: Clock) -> None:
    pytest.importorskip("onnx", reason="estimates are read from the graph")
    with pytest.raises(InputError, match="more than max_memory_mb=1"):
        pick(Bench(clock, MS), FP32, max_memory_mb=1)


def test_a_variant_that_the_bundle_advises_against_is_out(clock: Clock) -> None:
    plan = pick(Bench(clock, MS), FP32, variant("int8", barred="beyond max-drop")).plan
    assert plan.variant == "fp32"
    assert any(c.reason == "beyond max-drop" for c in plan.candidates)


def test_a_variant_that_answers_otherwise_here_is_ruled_out_and_the_next_wins(clock: Clock) -> None:
    golden = [Golden({"x": X}, {"x": np.array([0.5], np.float32)}, 1e-3)]
    choice = pick(Bench(clock, MS, {"fp32": 0.5, "int8": 0.9}), FP32, variant("int8", golden=lambda: golden))
    assert choice.plan.variant == "fp32"
    (why,) = {c.reason for c in choice.plan.candidates if c.variant == "int8"}
    assert "golden request 0 gave other answers here: output 'x'" in why


def test_a_variant_that_answers_as_it_did_is_kept(clock: Clock) -> None:
    golden = [Golden({"x": X}, {"x": np.array([0.9], np.float32)}, 1e-3)]
    assert pick(Bench(clock, MS, {"int8": 0.9}), FP32, variant("int8", golden=lambda: golden)).plan.variant == "int8"


def test_golden_requests_are_run_unmeasured_too(clock: Clock) -> None:
    golden = [Golden({"x": X}, {"x": np.array([0.9], np.float32)}, 1e-3)]
    wrong = variant("int8", golden=lambda: golden)
    assert pick(Bench(clock, MS), wrong, FP32, budget_s=0).plan.variant == "fp32"
    with pytest.raises(InputError, match="gave other answers here"):
        pick(Bench(clock, MS), wrong, budget_s=0)


def test_a_variant_that_does_not_load_is_told_and_the_others_go_on(clock: Clock) -> None:
    plan = pick(Bench(clock, {"fp32": 4.0}), FP32, INT8).plan
    assert plan.variant == "fp32"
    assert all("no memory for it" in c.reason for c in plan.candidates if c.variant == "int8")


def test_what_is_not_admitted_is_never_loaded(clock: Clock) -> None:
    def admit(file: ModelFile, engine: Engine, options: LoadOptions) -> None:
        if file.name == "int8":
            raise DamagedModel("int8: crashed in a trial")

    engine = Bench(clock, MS)
    choice = choose([FP32, INT8], TWO_CORES, {"onnx": [engine]}, Wish(budget_s=10), LoadOptions(), admit=admit)
    assert choice.plan.variant == "fp32"
    assert {name for name, _ in engine.loaded} == {"fp32"}


def test_a_proven_accelerator_is_a_candidate_and_one_not_proven_says_how(clock: Clock) -> None:
    def machine(usable: bool | None) -> Device:
        npu = Accelerator(kind="npu", name="npu", engine="bench", present=True, usable=usable, why="driver 1.2")
        return msgspec.structs.replace(TWO_CORES, accelerators=(npu,))

    assert pick(Bench(clock, MS), FP32, device=machine(True)).plan.accelerator == "npu"
    waiting = pick(Bench(clock, MS), FP32, device=machine(None)).plan
    assert waiting.accelerator == "cpu"
    assert any("edge-sdk device --prove" in c.reason for c in waiting.candidates)
    failed = pick(Bench(clock, MS), FP32, device=machine(False)).plan
    assert any(c.reason == "its proof failed: driver 1.2" for c in failed.candidates)


def test_a_variant_without_an_engine_is_listed(clock: Clock) -> None:
    twin = Variant("twin", "tflite", "digest", lambda: open_model(models.onnx_add()))
    plan = pick(Bench(clock, MS), FP32, twin).plan
    assert any(c.variant == "twin" and "no engine for tflite is installed" in c.reason for c in plan.candidates)


def test_the_cache_knows_constraints_and_variants_apart(clock: Clock) -> None:
    engine = Bench(clock, MS)
    assert not pick(engine, FP32, INT8).plan.cached
    assert pick(engine, FP32, INT8).plan.cached
    assert not pick(engine, FP32, INT8, min_accuracy=0.97).plan.cached
    assert not pick(engine, FP32).plan.cached


def test_a_plan_is_dropped_when_frequency_limits_change(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Bench(clock, MS)
    for limits in ((1800,), (600,)):
        monkeypatch.setattr("edge_sdk.planner.choosing.frequency_limits_mhz", lambda limits=limits: limits)
        assert not pick(engine, FP32, INT8).plan.cached
        assert pick(engine, FP32, INT8).plan.cached


@pytest.mark.parametrize("sample", [{"wrong": X}, {"x": np.ones((2, 2), np.float32)}, {"x": "text"}, {"": "text"}])
def test_a_sample_that_does_not_fit_is_refused_and_not_taken_for_a_model_that_fails(clock: Clock, sample: Any) -> None:
    with pytest.raises(InputError, match="m: sample"):
        pick(Bench(clock, MS), FP32, INT8, sample=sample)


def test_one_array_is_a_sample_for_the_only_input(clock: Clock) -> None:
    assert pick(Bench(clock, MS), FP32, INT8, sample={"": X}).plan.variant == "int8"


class TestExplaining:
    def test_winner_rival_other_variants_and_what_was_ruled_out_are_told(self, clock: Clock) -> None:
        lossy = variant("int4", accuracy=0.6, accuracy_of="top-1")
        lines = explain(pick(Bench(clock, {**MS, "int4": 1.0}), FP32, INT8, lossy, min_accuracy=0.9).plan)
        text = "\n".join(lines)
        assert lines[0].startswith("int8 on bench, default threads on all CPUs was chosen for latency: 2 ms measured")
        assert "Variant fp32: 2.00 times as much at its best, accuracy 0.98." in lines
        assert "Ruled out: int4 with bench: accuracy 0.6 is below min_accuracy=0.9 (top-1)." in lines
        assert "the choice is right with a confidence of" in text

    def test_what_was_left_out_for_want_of_time_is_told(self, clock: Clock) -> None:
        lines = explain(pick(Bench(clock, {"fp32": 400.0, "int8": 200.0}), FP32, INT8, budget_s=1.0).plan)
        assert any("for want of time" in line for line in lines)

    def test_an_unmeasured_plan_says_so(self, clock: Clock) -> None:
        assert "not measured" in explain(pick(Bench(clock, MS), FP32, budget_s=0).plan)[0]

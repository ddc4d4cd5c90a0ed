"""Where a model is cut in stages, and that it is so where answers then come more often, on made-up accelerators."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import edge_sdk
from edge_sdk.device.facts import Accelerator
from edge_sdk.engines import Engine, LoadOptions, PlacementReport, Runner
from edge_sdk.engines.registry import find_engine
from edge_sdk.errors import AcceleratorError, EngineError
from edge_sdk.formats import ModelFile, open_model
from edge_sdk.graph import open_graph
from edge_sdk.metrics import Histogram
from edge_sdk.planner import Candidate, Choice, Placement, Plan, Variant, Wish, choose, variant_of_file
from edge_sdk.planner.staging import Staging, balanced, checked, staged
from edge_sdk.schedule.placing import Stage, stages
from tests.machines import TWO_CORES, cluster, device

models = pytest.importorskip("tests.models")
pytest.importorskip("onnxruntime")

pytestmark = pytest.mark.usefixtures("untried")

WHOLE_S, PART_S = 0.016, 0.008
NPU = Accelerator(kind="npu", name="npu", engine="two-places", present=True, usable=True, why="made up")
MACHINE = msgspec.structs.replace(TWO_CORES, accelerators=(NPU,))


def chain(layers: int = 8, width: int = 16) -> bytes:
    """x ─ MatMul ─ h1 ─ MatMul ─ … ─ y, each as heavy as the others."""
    from onnx import helper

    rng = np.random.default_rng(0)
    names = ["x", *(f"h{number}" for number in range(1, layers)), "y"]
    nodes = [helper.make_node("MatMul", [names[i], f"w{i}"], [names[i + 1]], name=f"layer{i}") for i in range(layers)]
    weights = [models.constant(f"w{i}", rng.normal(size=(width, width)) / width**0.5) for i in range(layers)]
    found: bytes = models.onnx_bytes(nodes, [models.value("x", [1, width])], [models.value("y", [1, width])], weights)
    return found


class Place(Runner):
    """A real runner that takes its time, alone at its place."""

    def __init__(self, engine: TwoPlaces, inner: Runner, options: LoadOptions) -> None:
        self.of, self.inner, self.options = engine, inner, options
        self.engine, self.model, self.queue, self.notes = engine.name, inner.model, Histogram(), inner.notes
        self.inputs, self.outputs = inner.inputs, inner.outputs

    def run(self, feeds: Mapping[str, Any], out: Mapping[str, Any] | None = None) -> dict[str, Any]:
        place = self.options.accelerator
        with self.of.places[place]:
            time.sleep(PART_S if "(stage" in self.model else WHOLE_S)
            if place in self.of.broken:
                raise AcceleratorError(f"{place} is lost")
        assert self.inner is not None
        found = self.inner.run(feeds, out)
        return {name: array + 1 for name, array in found.items()} if place in self.of.wrong else found

    def placement(self) -> PlacementReport:
        assert self.inner is not None
        return self.inner.placement()

    def close(self) -> None:
        assert self.inner is not None
        self.inner.close()
        self.of.open.discard(self)


class TwoPlaces(Engine):
    """A CPU and an accelerator, equally fast, each for one request at a time: several runners on one gain nothing."""

    name, formats, native = "two-places", frozenset({"onnx"}), False

    def __init__(self) -> None:
        self.places = {"cpu": threading.Lock(), "npu": threading.Lock()}
        self.broken: set[str] = set()
        self.wrong: set[str] = set()
        self.refuses_whole = False
        self.open: set[Place] = set()

    def version(self) -> str | None:
        return "1"

    def accelerators(self) -> tuple[Accelerator, ...]:
        return (NPU,)

    def load(self, model: ModelFile, options: LoadOptions) -> Runner:
        if self.refuses_whole and options.accelerator == "npu" and "(stage" not in model.name:
            raise AcceleratorError("npu: not every node can run there")
        inner = find_engine("onnxruntime").load(model, replace(options, accelerator="cpu", cpus=None, threads=1))
        self.open.add(runner := Place(self, inner, options))
        return runner


@pytest.fixture(autouse=True)
def two_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_sdk.planner.choosing.usable_cpus", lambda: (0, 1))
    monkeypatch.setattr("edge_sdk.planner.choosing.core_groups", lambda cpus: (tuple(cpus),))


def chosen(engine: Engine, content: bytes, use_cache: bool = False, **wish: Any) -> Choice:
    variant = variant_of_file(open_model(content))
    asked = Wish(objective="throughput", budget_s=20.0, **wish)
    return choose([variant], MACHINE, {"onnx": [engine]}, asked, LoadOptions(), use_cache=use_cache)


def rows_in_stages(plan: Plan) -> list[Candidate]:
    return [row for row in plan.candidates if row.placement.stages]


class TestCuts:
    def test_stages_take_as_long_as_each_other(self) -> None:
        staging = Staging(open_graph(chain()), None)
        even = staging.balance([8.0, 8.0])
        assert even is not None
        assert even.cuts[0].tensors == ("h4",)
        assert even.shares == (0.5, 0.5)
        assert max(even.stage_ms) == pytest.approx(4.0, rel=0.05)

    def test_a_place_three_times_as_fast_gets_three_times_as_much(self) -> None:
        staging = Staging(open_graph(chain()), None)
        for whole_ms, cut in (([4.0, 12.0], "h6"), ([12.0, 4.0], "h2")):
            found = staging.balance(whole_ms)
            assert found is not None
            assert found.cuts[0].tensors == (cut,)

    def test_three_stages(self) -> None:
        found = Staging(open_graph(chain(6)), None).balance([1.0, 1.0, 1.0])
        assert found is not None
        assert [cut.tensors for cut in found.cuts] == [("h2",), ("h4",)]

    def test_a_stage_gets_no_more_than_it_may(self) -> None:
        found = Staging(open_graph(chain()), None).balance([1.0, 1.0], most=[0.25, 1.0])
        assert found is not None
        assert found.cuts[0].tensors == ("h2",)

    def test_what_cannot_be_cut_says_so(self) -> None:
        row = Candidate(variant="v", engine="e", placement=stages(MACHINE, (0, 1))[0])
        one_op = staged(row, Staging(open_graph(models.onnx_add()), None))
        assert (one_op.feasible, one_op.reason) == (False, "the model cannot be cut in 2 stages")

    def test_stages_stand_on_clusters_where_they_differ_and_else_on_halves(self) -> None:
        (halves,) = stages(MACHINE, (0, 1))
        assert [stage.cpus for stage in halves.stages] == [(0,), (1,)]
        assert halves.describe() == "stages on CPU 0, then CPU 1"
        unequal = device(cluster("0", "big", 0, 1), cluster("1", "little", 2, 3))
        (clusters,) = stages(unequal, (0, 1, 2, 3))
        assert [stage.cpus for stage in clusters.stages] == [(0, 1), (2, 3)]
        assert stages(MACHINE, (0,)) == ()


class TestBalancing:
    def placement(self, engine: TwoPlaces, refuse_above: int = 99) -> tuple[Placement, list[str]]:
        """Balances a chain of 8 with its first stage on the accelerator; where it was cut, and what was tried."""
        variant = variant_of_file(open_model(chain()))
        graph = open_graph(chain())
        staging, tried = Staging(graph, None), []
        both = (Stage(accelerator="npu"), Stage())
        begin = staged(
            Candidate(variant="v", engine="e", placement=Placement(label="stages", stages=both)), staging
        ).placement

        def load(placement: Placement) -> Runner:
            from edge_sdk.planner.placed import placed

            (name,) = placement.stages[0].tensors
            tried.append(name)
            if int(name[1:]) > refuse_above:
                raise AcceleratorError("an op there is not supported")
            return placed(variant.file(), engine.load, LoadOptions(accelerator="npu"), placement)

        def request(runner: Runner) -> Any:
            return lambda: runner.run({"x": np.ones((1, 16), np.float32)})

        runner, found = balanced(begin, staging, load, request)
        runner.close()
        return found, tried

    @staticmethod
    def takes(monkeypatch: pytest.MonkeyPatch, seconds: Callable[[str, int], float]) -> None:
        """How long a part takes, by its accelerator and how many layers it has."""

        def run(self: Place, feeds: Mapping[str, Any], out: Mapping[str, Any] | None = None) -> dict[str, Any]:
            assert self.inner is not None
            places = {"x": 0, "y": 8} | {f"h{number}": number for number in range(1, 8)}
            layers = places[self.outputs[0].name] - places[self.inputs[0].name]
            time.sleep(seconds(self.options.accelerator, layers))
            return self.inner.run(feeds, out)

        monkeypatch.setattr(Place, "run", run)

    def test_a_cut_that_was_measured_to_be_uneven_is_put_right(self, monkeypatch: pytest.MonkeyPatch) -> None:
        engine = TwoPlaces()
        self.takes(monkeypatch, lambda place, layers: 0.05 * layers if place == "npu" else 0.0)
        found, tried = self.placement(engine)
        assert tried == ["h4", "h1"], "the accelerator turned out to be slow, and gets the least there is"
        assert found.stages[0].tensors == ("h1",)
        assert not engine.open

    def test_a_measurement_that_misled_is_taken_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The CPU was slow for a moment; with more to do the accelerator is slower than both were."""
        engine = TwoPlaces()

        def seconds(place: str, layers: int) -> float:
            if place == "npu" and layers > 4:
                return 0.2
            return 0.05 if (place, layers) == ("cpu", 4) else 0.001

        self.takes(monkeypatch, seconds)
        found, tried = self.placement(engine)
        assert tried[0] == tried[-1] == "h4"
        assert tried[1] != "h4"
        assert found.stages[0].tensors == ("h4",)
        assert not engine.open

    def test_an_accelerator_that_refuses_its_part_is_offered_less(self) -> None:
        engine = TwoPlaces()
        found, tried = self.placement(engine, refuse_above=2)
        assert tried == ["h4", "h2"]
        assert found.stages[0].tensors == ("h2",)
        assert not engine.open

    def test_what_is_refused_every_time_is_an_error(self) -> None:
        with pytest.raises(AcceleratorError, match="not supported"):
            self.placement(TwoPlaces(), refuse_above=0)

    def test_other_answers_than_the_wholes_are_refused(self) -> None:
        class Named:
            model, options = "m", LoadOptions()

        answer = {"y": np.ones(3, np.float32)}
        checked(Named, {"y": answer["y"] * np.float32(1 + 5e-6)}, answer)  # type: ignore[arg-type]
        with pytest.raises(EngineError, match=r"m: in stages its output 'y' differs .* by 0\.01"):
            checked(Named, {"y": answer["y"] * np.float32(1.01)}, answer)  # type: ignore[arg-type]


class TestChoice:
    def test_accelerator_and_cpu_share_a_model_where_that_answers_more_often(self) -> None:
        engine = TwoPlaces()
        choice = chosen(engine, chain())
        plan = choice.plan
        assert {stage.accelerator for stage in plan.placement.stages} == {"cpu", "npu"}
        assert plan.accelerator == "npu"
        figures = plan.measured
        assert figures is not None and figures.interval_ms is not None
        assert figures.interval_ms < figures.latency_ms, "two requests are in it at the same time"
        assert plan.placement.stages[0].tensors and not plan.placement.stages[-1].tensors
        assert "stages on" in plan.reason
        assert choice.runner is not None
        choice.runner.close()
        assert not engine.open
        assert msgspec.json.decode(msgspec.json.encode(plan), type=Plan) == plan

    def test_for_latency_there_are_no_stages(self) -> None:
        variant = variant_of_file(open_model(chain()))
        choice = choose([variant], MACHINE, {"onnx": [TwoPlaces()]}, Wish(budget_s=1.0), LoadOptions(), use_cache=False)
        assert not rows_in_stages(choice.plan)
        assert choice.runner is not None
        choice.runner.close()

    def test_where_they_hold_too_much_memory_lanes_are_out_and_stages_stay(self) -> None:
        content = chain(4, 512)  # 4 MB of weights
        once = next(row.memory_mb for row in chosen_rows(content) if row.placement.stages)
        lanes = next(row.memory_mb for row in chosen_rows(content) if row.placement.lanes)
        assert once is not None and lanes == 2 * once
        rows = chosen_rows(content, max_memory_mb=1.5 * once)
        assert not any(row.feasible for row in rows if row.placement.lanes)
        assert all(row.feasible for row in rows if row.placement.stages)

    def test_what_cannot_be_cut_stands_in_the_table_with_the_reason(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for content, reason in (
            (models.onnx_add(), "cannot be cut in 2 stages"),
            (models.onnx_if(), "control flow"),
        ):
            rows = [row for row in chosen_rows(content) if row.placement.stages]
            assert rows and not any(row.feasible for row in rows)
            assert all(reason in row.reason for row in rows)

    def test_without_the_extra_for_graphs_there_are_no_stages_and_the_table_says_why(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def missing(source: object) -> None:
            raise edge_sdk.errors.MissingExtra("reading graphs needs onnx; pip install edge-sdk[graph]")

        monkeypatch.setattr("edge_sdk.graph.open_graph", missing)
        rows = [row for row in chosen_rows(chain()) if row.placement.stages]
        assert rows and all("edge-sdk[graph]" in row.reason and not row.feasible for row in rows)

    def test_stages_that_answer_otherwise_than_the_whole_are_ruled_out(self) -> None:
        engine = TwoPlaces()
        engine.wrong.add("npu")
        plan = closed(chosen(engine, chain()))
        rows = [row for row in rows_in_stages(plan) if row.accelerator == "npu"]
        assert rows and all("does not compute what the CPU computes" in row.reason for row in rows)
        assert not plan.placement.stages or plan.accelerator == "cpu"

    def test_an_accelerator_that_does_not_take_the_whole_may_take_a_part(self) -> None:
        engine = TwoPlaces()
        engine.refuses_whole = True
        plan = closed(chosen(engine, chain()))
        assert plan.accelerator == "npu" and plan.placement.stages
        (whole,) = (row for row in plan.candidates if row.accelerator == "npu" and not row.placement.stages)
        assert "not every node" in whole.reason


def closed(choice: Choice) -> Plan:
    if choice.runner is not None:
        choice.runner.close()
    return choice.plan


def chosen_rows(content: bytes, **wish: Any) -> tuple[Candidate, ...]:
    """The table, unmeasured."""
    variant: Variant = variant_of_file(open_model(content))
    asked = Wish(objective="throughput", budget_s=0.0, **wish)
    choice = choose([variant], MACHINE, {"onnx": [TwoPlaces()]}, asked, LoadOptions(), use_cache=False)
    return closed(choice).candidates


class TestSession:
    @pytest.fixture
    def engine(self) -> TwoPlaces:
        return TwoPlaces()

    @pytest.fixture
    def session(self, engine: TwoPlaces, tmp_path_factory: pytest.TempPathFactory) -> Iterator[edge_sdk.Session]:
        """In stages; the plan that the first test measured serves the others too."""
        kept, cache = tmp_path_factory.getbasetemp() / "plan-in-stages", Path(os.environ["EDGE_SDK_CACHE"])
        if kept.exists():
            shutil.copytree(kept, cache, dirs_exist_ok=True)
        with self.load(engine) as session:
            if not kept.exists():
                shutil.copytree(cache, kept)
            yield session

    def load(self, engine: TwoPlaces) -> edge_sdk.Session:
        return edge_sdk.load(
            chain(), engine=engine, device=MACHINE, objective="throughput", plan_budget_s=20.0, trusted=True
        )

    def frames(self, count: int) -> list[dict[str, Any]]:
        return [{"x": np.full((1, 16), number, np.float32)} for number in range(count)]

    def answers(self, frames: list[dict[str, Any]]) -> list[Any]:
        with edge_sdk.load(chain(), plan_budget_s=0, trusted=True) as whole:
            return [whole.run(frame)["y"] for frame in frames]

    def test_a_stream_is_answered_in_order_and_the_report_tells_of_the_stages(self, session: edge_sdk.Session) -> None:
        frames = self.frames(20)
        given = [answer["y"] for answer in session.stream(frames)]
        np.testing.assert_allclose(given, self.answers(frames), rtol=1e-5)
        report = session.report()
        assert {stage.accelerator for stage in report.pipeline} == {"cpu", "npu"}
        assert all(stage.requests >= 20 and stage.workers for stage in report.pipeline)
        assert report.lanes == ()
        assert b'"pipeline":[{"cpus":' in report.to_json()

    def test_a_kept_plan_is_loaded_in_the_same_stages(self, engine: TwoPlaces, session: edge_sdk.Session) -> None:
        with self.load(engine) as again:
            assert again.plan.cached
            assert again.plan.placement == session.plan.placement
            assert len(again.report().pipeline) == 2

    def test_a_kept_plan_whose_cuts_are_no_longer_there_is_made_anew(
        self, engine: TwoPlaces, session: edge_sdk.Session, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        old = session.plan.placement
        nowhere = (msgspec.structs.replace(old.stages[0], tensors=("nowhere",)), *old.stages[1:])
        stale = msgspec.structs.replace(
            session.plan, cached=True, placement=msgspec.structs.replace(old, stages=nowhere)
        )
        monkeypatch.setattr("edge_sdk.planner.choosing.cached_plan", lambda key: stale)
        with self.load(engine) as again:
            assert not again.plan.cached
            np.testing.assert_allclose(again.run(self.frames(2)[1])["y"], self.answers(self.frames(2))[1], rtol=1e-5)

    def test_swapped_for_another_model_no_request_is_lost_and_all_threads_end(
        self, engine: TwoPlaces, session: edge_sdk.Session
    ) -> None:
        before = set(threading.enumerate())
        frames = self.frames(30)
        with ThreadPoolExecutor(1) as pool:
            given = pool.submit(lambda: [answer["y"] for answer in session.stream(frames)])
            session.swap(chain())
            np.testing.assert_allclose(given.result(60), self.answers(frames), rtol=1e-5)
        session.close()
        assert not engine.open
        assert not [thread for thread in before if thread.name.startswith("stage-") and thread.is_alive()]

    @pytest.mark.filterwarnings("ignore::edge_sdk.AcceleratorFallback")
    def test_when_the_accelerator_fails_in_a_stream_the_cpu_answers_every_request(
        self, engine: TwoPlaces, session: edge_sdk.Session
    ) -> None:
        frames = self.frames(20)
        given = []
        for number, answer in enumerate(session.stream(frames)):
            given.append(answer["y"])
            if number == 5:
                engine.broken.add("npu")
        np.testing.assert_allclose(given, self.answers(frames), rtol=1e-5)
        assert session.plan.accelerator == "cpu"
        assert any("npu is lost" in event for event in session.report().events)

"""A session on a bundle: the variant that fits runs, and another takes over when it no longer does."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edge_sdk
from edge_sdk import replanning
from edge_sdk.engines import Engine, LoadOptions, PlacementReport, Runner
from edge_sdk.errors import InputError, ModelNotFound, OutOfMemory
from edge_sdk.formats import ModelFile
from edge_sdk.metrics import Histogram
from edge_sdk.planner import watching
from tests.two_variants import ACCURACY, X, two_variants

models = pytest.importorskip("tests.models")


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A bundle of a large and a small variant of one network."""
    return two_variants(tmp_path)


class Swing(Engine):
    """Takes as long for a variant as `ms` says at that moment, and fails for those in `no_memory`."""

    name = "swing"
    formats = frozenset({"onnx"})
    native = False

    def __init__(self, **ms: float) -> None:
        self.ms = ms
        self.no_memory: set[str] = set()

    def version(self) -> str | None:
        return "1"

    def load(self, model: ModelFile, options: LoadOptions) -> Runner:
        return SwingRunner(self, model, options)


class SwingRunner(Runner):
    def __init__(self, engine: Swing, model: ModelFile, options: LoadOptions) -> None:
        info = model.describe()
        self._by, self.engine, self.model, self.options, self.queue = (
            engine,
            engine.name,
            model.name,
            options,
            Histogram(),
        )
        self.inputs, self.outputs = info.inputs, info.outputs
        self._variant = model.name.rpartition("/")[2]

    def run(self, feeds: Mapping[str, Any], out: Mapping[str, Any] | None = None) -> dict[str, Any]:
        if self._variant in self._by.no_memory:
            raise OutOfMemory(f"{self.model}: refused memory")
        end = time.perf_counter() + self._by.ms[self._variant] / 1e3
        while time.perf_counter() < end:
            pass
        return {"y": np.full((1, 4), len(self._variant), np.float32)}

    def placement(self) -> PlacementReport:
        return PlacementReport((), (), False)

    def close(self) -> None:
        pass


def test_a_bundle_runs_and_the_plan_names_the_variant(made: Path) -> None:
    pytest.importorskip("onnxruntime")
    with edge_sdk.load(made) as session:
        assert session.plan.variant in ACCURACY
        assert session.run({"x": X})["y"].shape == (1, 4)
        assert {candidate.variant for candidate in session.plan.candidates} == set(ACCURACY)


def test_the_faster_variant_is_chosen_and_accuracy_holds_it_back(made: Path) -> None:
    engine = Swing(large=2.0, small=1.0)
    with edge_sdk.load(made, engine=engine) as session:
        assert session.plan.variant == "small"
    with edge_sdk.load(made, engine=engine, min_accuracy=0.95) as session:
        assert session.plan.variant == "large"
    with pytest.raises(InputError, match="min_accuracy"):
        edge_sdk.load(made, engine=engine, min_accuracy=0.99)


def test_a_variant_may_be_asked_for_by_name(made: Path) -> None:
    with edge_sdk.load(made, engine=Swing(large=2.0, small=1.0), variant="large") as session:
        assert session.plan.variant == "large"
    with pytest.raises(ModelNotFound, match="expected one of"):
        edge_sdk.load(made, variant="tiny")
    with pytest.raises(ModelNotFound, match="has no variant"):
        edge_sdk.load(models.onnx_add(), variant="tiny")


def test_a_swap_from_a_model_to_a_bundle(made: Path) -> None:
    with edge_sdk.load(
        models.onnx_mlp(8, 16, 4), engine=Swing(**{"model in memory": 1.0}, large=2.0, small=1.0)
    ) as session:
        session.swap(made)
        assert session.plan.variant == "small"
        assert session.run({"x": X})["y"][0, 0] == len("small")


class TestPlanningAnew:
    @pytest.fixture(autouse=True)
    def impatient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A tenth of a second counts as long, so that nobody waits."""
        monkeypatch.setattr(watching, "PATIENCE_S", 0.1)
        monkeypatch.setattr(replanning, "BATCH_S", 0.02)

    def run_until_told(self, session: edge_sdk.Session, most: int = 20_000) -> str:
        for _ in range(most):
            session.run({"x": X})
            if events := session.report().events:
                return events[-1]
        raise AssertionError(f"no event in {most} requests")

    def test_when_latency_leaves_the_plan_for_long_another_variant_takes_over(self, made: Path) -> None:
        engine = Swing(large=2.0, small=1.0)
        with edge_sdk.load(made, engine=engine, plan_budget_s=0.5) as session:
            assert session.plan.variant == "small"
            engine.ms["small"] = 4.0  # as where its kernels suffer most from a frequency cap
            event = self.run_until_told(session)
            assert "planned anew because requests take" in event
            assert "now large on swing" in event
            assert session.plan.variant == "large"
            assert session.run({"x": X})["y"][0, 0] == len("large")

    def test_what_does_not_hold_the_accuracy_does_not_take_over(self, made: Path) -> None:
        engine = Swing(large=1.0, small=0.5)
        with edge_sdk.load(made, engine=engine, plan_budget_s=0.5, min_accuracy=0.95) as session:
            engine.ms["large"] = 3.0
            assert "planned anew" in self.run_until_told(session)
            assert session.plan.variant == "large"

    def test_no_request_is_lost_while_plans_change(self, made: Path) -> None:
        engine = Swing(large=2.0, small=1.0)
        with edge_sdk.load(made, engine=engine, plan_budget_s=0.3) as session:
            engine.ms["small"] = 4.0
            while not session.report().events:
                assert session.run({"x": X})["y"].shape == (1, 4)

    @pytest.mark.parametrize("arguments", [{"plan_budget_s": 0}, {"variant": "small", "threads": 1}])
    def test_who_wants_no_measuring_or_leaves_no_choice_is_not_watched(
        self, made: Path, arguments: dict[str, Any]
    ) -> None:
        engine = Swing(large=2.0, small=0.5)
        with edge_sdk.load(made, engine=engine, **arguments) as session:
            engine.ms["small"] = engine.ms["large"] = 2.0
            for _ in range(300):
                session.run({"x": X})
            assert session.report().events == ()

    def test_closing_waits_for_a_plan_in_the_making(self, made: Path) -> None:
        engine = Swing(large=2.0, small=1.0)
        session = edge_sdk.load(made, engine=engine, plan_budget_s=0.5)
        engine.ms["small"] = 4.0
        replanner = session._replanner
        assert replanner is not None
        while replanner._planning is None:
            session.run({"x": X})
        session.close()
        assert replanner._planning is None


class TestMemory:
    def test_a_variant_refused_memory_gives_way_to_a_lighter_one_and_the_request_is_answered(self, made: Path) -> None:
        engine = Swing(large=1.0, small=2.0)
        with edge_sdk.load(made, engine=engine) as session:
            assert session.plan.variant == "large"
            engine.no_memory.add("large")
            assert session.run({"x": X})["y"][0, 0] == len("small")
            assert session.plan.variant == "small"
            assert "small takes over from large" in session.report().events[-1]

    def test_where_no_lighter_one_holds_the_accuracy_the_error_comes_through(self, made: Path) -> None:
        engine = Swing(large=1.0, small=2.0)
        with edge_sdk.load(made, engine=engine, min_accuracy=0.95) as session:
            engine.no_memory.add("large")
            with pytest.raises(OutOfMemory):
                session.run({"x": X})

"""The engine's default stands until something beats it clearly; the plan tells why."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import pytest

from edge_sdk.device.facts import Device
from edge_sdk.engines import Engine, LoadOptions, PlacementReport, Runner
from edge_sdk.engines.simulated import SimulatedClock as Clock
from edge_sdk.errors import EngineError, InputError
from edge_sdk.formats import ModelFile, open_model
from edge_sdk.measuring import MAX_PAIRS, compare
from edge_sdk.metrics import Histogram
from edge_sdk.planner import Choice, Plan, Variant, Wish, choose, variant_of_file
from edge_sdk.planner.candidates import candidates
from edge_sdk.schedule.placing import Placement
from edge_sdk.tensors import TensorSpec
from tests.machines import ALIKE

models = pytest.importorskip("tests.models")


class Timed(Engine):
    """An engine whose requests take as long as a table says, on a clock of its own."""

    formats = frozenset({"onnx"})
    native = False

    def __init__(self, clock: Clock, ms: Mapping[int | None, float], name: str = "timed", load_ms: float = 1.0) -> None:
        self.clock, self.ms, self.name, self.load_ms = clock, ms, name, load_ms
        self.open: list[int | None] = []
        self.most_open = 0

    def version(self) -> str | None:
        return "1"

    def load(self, model: ModelFile, options: LoadOptions) -> Runner:
        if options.threads not in self.ms:
            raise EngineError(f"no figure for {options.threads} threads")
        self.clock.sleep(self.load_ms / 1e3)
        self.open.append(options.threads)
        self.most_open = max(self.most_open, len(self.open))
        return TimedRunner(self, options)


class TimedRunner(Runner):
    def __init__(self, engine: Timed, options: LoadOptions) -> None:
        self._engine, self.options = engine, options
        self.engine, self.model, self.queue = engine.name, "m.onnx", Histogram()
        self.inputs = self.outputs = (TensorSpec("x", "float32", (1,)),)

    def run(self, feeds: Mapping[str, Any], out: Mapping[str, Any] | None = None) -> dict[str, Any]:
        self._engine.clock.sleep(self._engine.ms[self.options.threads] / 1e3)
        return {"x": np.zeros(1, np.float32)}

    def placement(self) -> PlacementReport:
        return PlacementReport((), (), False)

    def close(self) -> None:
        self._engine.open.remove(self.options.threads)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("time.perf_counter", made)
    return made


@pytest.fixture
def file() -> ModelFile:
    return open_model(models.onnx_add())


@pytest.fixture(autouse=True)
def four_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_sdk.planner.choosing.usable_cpus", lambda: (0, 1, 2, 3))


def pick(file: ModelFile, machine: Device, engines: list[Engine], wish: Wish, options: LoadOptions) -> Choice:
    """Chooses for a plain model file."""
    return choose([variant_of_file(file)], machine, {"onnx": engines}, wish, options)


def test_the_clearly_fastest_thread_count_is_chosen_and_the_table_tells(clock: Clock, file: ModelFile) -> None:
    engine = Timed(clock, {None: 4.0, 2: 2.0, 1: 3.0})
    choice = pick(file, ALIKE, [engine], Wish(budget_s=5), LoadOptions())
    assert choice.plan.placement.threads == 2
    assert choice.plan.measured is not None
    assert choice.plan.measured.latency_ms == pytest.approx(2.0)
    assert "best of 3 measured" in choice.plan.reason
    assert [c.placement.threads for c in choice.plan.candidates] == [None, 2, 1]
    assert all(c.measured is not None and c.reason for c in choice.plan.candidates)
    assert choice.runner is not None
    assert engine.open == [2]  # the winner stays open, the others are closed
    assert engine.most_open == 2


def test_a_small_difference_leaves_the_engines_default(clock: Clock, file: ModelFile) -> None:
    engine = Timed(clock, {None: 4.0, 2: 3.9, 1: 3.95})
    plan = pick(file, ALIKE, [engine], Wish(budget_s=5), LoadOptions()).plan
    assert plan.placement == Placement()
    assert "none of 2 others was clearly faster" in plan.reason


def test_the_budget_is_kept_and_what_was_left_out_says_so(clock: Clock, file: ModelFile) -> None:
    engine = Timed(clock, {None: 40.0, 2: 20.0, 1: 30.0}, load_ms=100)
    plan = pick(file, ALIKE, [engine], Wish(budget_s=0.5), LoadOptions()).plan
    assert plan.planning_ms < 1500
    assert any("budget was spent" in candidate.reason for candidate in plan.candidates)


def test_a_budget_of_zero_measures_nothing(clock: Clock, file: ModelFile) -> None:
    engine = Timed(clock, {})
    choice = pick(file, ALIKE, [engine], Wish(budget_s=0), LoadOptions())
    assert choice.runner is None
    assert choice.plan.measured is None
    assert "not measured" in choice.plan.reason


def test_the_second_plan_comes_from_the_cache_and_changes_with_the_device(clock: Clock, file: ModelFile) -> None:
    engine = Timed(clock, {None: 4.0, 2: 2.0, 1: 3.0})
    first = pick(file, ALIKE, [engine], Wish(budget_s=5), LoadOptions()).plan
    again = pick(file, ALIKE, [engine], Wish(budget_s=5), LoadOptions())
    assert again.plan.cached
    assert again.runner is None
    assert again.plan.placement == first.placement
    other = msgspec.structs.replace(ALIKE, fingerprint="another")
    assert not pick(file, other, [engine], Wish(budget_s=5), LoadOptions()).plan.cached


def test_the_faster_of_two_engines_is_chosen(clock: Clock, file: ModelFile) -> None:
    slow = Timed(clock, {None: 4.0, 2: 4.0, 1: 4.0}, "slow")
    fast = Timed(clock, {None: 2.0, 2: 2.0, 1: 2.0}, "fast")
    assert pick(file, ALIKE, [slow, fast], Wish(budget_s=5), LoadOptions()).plan.engine == "fast"


def test_an_engine_that_does_not_load_the_model_leaves_it_to_the_next(clock: Clock, file: ModelFile) -> None:
    broken, good = Timed(clock, {}, "broken"), Timed(clock, {None: 2.0, 2: 3.0, 1: 3.0}, "good")
    plan = pick(file, ALIKE, [broken, good], Wish(budget_s=5), LoadOptions()).plan
    assert plan.engine == "good"
    assert all("cannot load" in c.reason for c in plan.candidates if c.engine == "broken")
    with pytest.raises(EngineError, match="no figure"):
        pick(file, ALIKE, [broken], Wish(budget_s=5), LoadOptions())


def test_threads_given_by_the_caller_are_kept(clock: Clock, file: ModelFile) -> None:
    plan = pick(file, ALIKE, [Timed(clock, {3: 1.0})], Wish(), LoadOptions(threads=3)).plan
    assert plan.placement.threads == 3
    assert plan.reason == "given by the caller"


def test_a_missed_latency_is_said(clock: Clock, file: ModelFile) -> None:
    engine = Timed(clock, {None: 4.0, 2: 4.0, 1: 4.0})
    plan = pick(file, ALIKE, [engine], Wish(budget_s=5, max_latency_ms=3), LoadOptions()).plan
    assert "misses max_latency_ms=3" in plan.reason


@pytest.mark.parametrize("wish", [{"objective": "speed"}, {"power_mode": "turbo"}, {"budget_s": -1.0}])
def test_a_wish_that_makes_no_sense_is_refused(wish: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="expected"):
        Wish(**wish)


def test_a_plan_has_a_json_form_that_reads_back(clock: Clock, file: ModelFile) -> None:
    plan = pick(file, ALIKE, [Timed(clock, {None: 4.0, 2: 2.0, 1: 3.0})], Wish(budget_s=5), LoadOptions()).plan
    assert msgspec.json.decode(msgspec.json.encode(plan), type=Plan) == plan


def test_under_a_narrow_mask_the_default_is_bounded_too() -> None:
    engine = Timed(Clock(), {})
    only = [Variant("m", "onnx", "digest", lambda: open_model(models.onnx_add()))]
    table = candidates(only, {"onnx": [engine]}, ALIKE, (0, 1))
    assert table[0].placement == Placement(threads=2)
    assert candidates(only, {"onnx": [engine]}, ALIKE, (0, 1, 2, 3))[0].placement == Placement()


def test_one_request_entered_twice_is_no_win(clock: Clock) -> None:
    noise = itertools.cycle([1.0, 1.02, 0.99, 1.01])

    def request() -> None:
        clock.sleep(next(noise) / 1e3)

    comparison = compare(request, request, 2.0)
    assert comparison is not None
    assert abs(comparison.ratio - 1) < 0.03
    assert not comparison.second_wins(0.03)
    assert len(comparison.ratios) <= MAX_PAIRS


def test_drift_of_the_machine_falls_out_of_the_ratio(clock: Clock) -> None:
    heat = itertools.count()

    def request(ms: float) -> None:
        clock.sleep(ms * (1 + next(heat) * 1e-3) / 1e3)

    comparison = compare(lambda: request(2.0), lambda: request(1.0), 2.0)
    assert comparison is not None
    assert comparison.ratio == pytest.approx(0.5, rel=0.1)
    assert comparison.second_wins(0.03)


def test_a_model_that_no_made_up_input_fits_keeps_the_default_unmeasured(clock: Clock, file: ModelFile) -> None:
    class Picky(Timed):
        def load(self, model: ModelFile, options: LoadOptions) -> Runner:
            runner = super().load(model, options)
            runner.run = lambda feeds, out=None: (_ for _ in ()).throw(InputError("wants 512 samples"))  # type: ignore[method-assign]
            return runner

    choice = pick(file, ALIKE, [Picky(clock, {None: 1.0, 2: 1.0, 1: 1.0})], Wish(budget_s=5), LoadOptions())
    assert choice.plan.placement == Placement()
    assert "a trial request failed" in choice.plan.reason
    assert "give a sample" in choice.plan.reason
    assert choice.runner is not None

"""Calibration: what is timed, what does not count, and rates of this very machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from edge_sdk.device import probe
from edge_sdk.engines.registry import engine_versions
from edge_sdk.errors import EngineNotInstalled, InputError
from edge_sdk.graph import open_graph
from edge_sdk.planner.calibration import calibrate, places_of
from edge_sdk.planner.calibration_stand import Loaded, Stand, in_turn, totals_us
from edge_sdk.planner.calibration_tflite import tflite_probe
from edge_sdk.planner.calibration_timing import Delays, Pace, Sample, most_usual_ms, undisturbed
from edge_sdk.planner.cost import CostModel
from edge_sdk.planner.rates import Place, Rates

models = pytest.importorskip("tests.models")


class Machine:
    """A clock that moves when something runs, at a pace that can change."""

    def __init__(self) -> None:
        self.now, self.pace, self.waited, self.steals = 0.0, 1.0, 0.0, 0.0

    def __call__(self) -> float:
        return self.now

    def work(self, ms: float) -> Callable[[], None]:
        def run() -> None:
            self.now += ms * self.pace / 1e3 + self.steals
            self.waited += self.steals

        return run

    def delays(self) -> float:
        return self.waited


def sample(ms: float = 1.0, probe_ms: float = 1.0, steady: bool = True, delay: float = 0.0) -> Sample:
    return Sample(ms, probe_ms, steady, delay)


def test_a_timing_is_told_at_the_pace_of_its_probe() -> None:
    machine = Machine()
    pace = Pace(machine.work(2.0), machine.delays, machine)
    usual = pace.sample(machine.work(5.0), 3)

    machine.pace = 1.5
    slowed = pace.sample(machine.work(5.0), 3)

    assert usual.ms == pytest.approx(5.0) and slowed.ms == pytest.approx(7.5)
    assert slowed.at_pace(usual.probe_ms) == pytest.approx(5.0)


def test_a_run_that_waited_for_a_cpu_is_no_good() -> None:
    machine = Machine()
    pace = Pace(machine.work(2.0), machine.delays, machine)
    machine.steals = 1e-3

    found = pace.sample(machine.work(5.0), 3)

    assert not found.is_good


def test_times_are_told_at_the_pace_that_most_timings_are_near() -> None:
    """A machine that others use too has several paces, and their mean is none of them."""
    samples = [sample(probe_ms=ms) for ms in (1.0, 1.02, 0.99, 1.01, 1.6, 1.62, 1.58)]

    assert most_usual_ms([*samples, sample(probe_ms=5.0, delay=0.5)]) == pytest.approx(1.0, rel=0.03)


def test_disturbed_timings_and_those_at_another_pace_do_not_count_where_there_are_others() -> None:
    good = [sample(1.0), sample(1.1), sample(0.9)]
    bad = [sample(9.0, delay=0.5), sample(8.0, steady=False), sample(7.0, probe_ms=2.0)]

    assert undisturbed(bad + good, probe_ms=1.0) == good


def test_where_few_are_at_the_pace_the_nearest_count() -> None:
    samples = [sample(probe_ms=ms) for ms in (3.0, 1.0, 1.5, 2.0)]

    assert [one.probe_ms for one in undisturbed(samples, probe_ms=1.0)] == [1.0, 1.5, 2.0]


def test_where_all_were_disturbed_they_still_tell_something() -> None:
    samples = [sample(delay=0.5), sample(delay=0.2)]

    assert undisturbed(samples, probe_ms=1.0) == samples


def test_networks_are_timed_in_turn_so_that_none_has_a_bad_minute_for_itself() -> None:
    machine = Machine()
    times_ms = {b"short": 2.0, b"long": 6.0, b"probe": 1.0}

    def opener(content: bytes, threads: int, profile: Path | None) -> Loaded:
        return Loaded(machine.work(times_ms[content] / threads))

    stands = [Stand(Place(("0",), n), None, opener, b"probe", Delays(), machine) for n in (1, 2)]
    in_turn(stands, {"short": b"short", "long": b"long"}, machine.now + 1.0, machine)

    assert totals_us(stands, [1.0, 0.5]) == [
        pytest.approx({"short": 2000, "long": 6000}),
        pytest.approx({"short": 1000, "long": 3000}),
    ]
    counts = [len(subject.samples) for stand in stands for subject in stand.subjects.values()]
    assert max(counts) - min(counts) <= 1


def test_networks_that_do_not_fit_into_the_time_are_left_out() -> None:
    machine = Machine()
    stand = Stand(Place(("0",), 1), None, lambda *_: Loaded(machine.work(400.0)), b"", Delays(), machine)

    in_turn([stand], {str(n): b"" for n in range(50)}, machine.now + 3.0, machine)

    assert 0 < len(stand.subjects) < 50


def test_each_cluster_is_calibrated_with_one_thread_two_and_all() -> None:
    from edge_sdk.device import load_profile

    found = [(place.clusters, place.threads, cpus) for place, cpus in places_of(load_profile("rk3399").device())]

    big, little = (4, 5), (0, 1, 2, 3)
    assert sorted({cpus for _, _, cpus in found if cpus is not None}) == [little, big]
    assert [threads for _, threads, cpus in found if cpus == big] == [1, 2]
    assert [threads for _, threads, cpus in found if cpus == little] == [1, 2, 4]


def test_a_quota_of_cpu_time_bounds_the_threads() -> None:
    from edge_sdk.device import load_profile

    device = replace(load_profile("raspberry-pi-5").device(), cpu_quota=1.5)

    assert [place.threads for place, _ in places_of(device)] == [1, 2]


@pytest.mark.parametrize("budget_s", [0.0, -1.0, float("nan"), float("inf")])
def test_a_budget_that_is_none_is_refused(budget_s: float) -> None:
    with pytest.raises(InputError, match="budget_s"):
        calibrate(probe(engines=engine_versions()), ["onnxruntime"], budget_s)


def test_an_engine_that_cannot_be_calibrated_is_named_with_those_that_can() -> None:
    with pytest.raises(InputError, match=r"'tensorrt' cannot be calibrated; known: onnxruntime, litert"):
        calibrate(probe(), ["tensorrt"], 1.0)


def test_without_an_engine_there_is_nothing_to_calibrate() -> None:
    with pytest.raises(EngineNotInstalled, match="pip install"):
        calibrate(replace(probe(), engines={}), None, 1.0)


@pytest.mark.parametrize("engine", ["onnxruntime", "litert"])
def test_rates_of_this_machine_know_that_more_work_takes_longer(engine: str) -> None:
    """The real engine in a tenth of the usual time: few networks, but all that prediction needs."""
    versions = engine_versions()
    if engine not in versions:
        pytest.skip(f"{engine} is not installed")
    device = probe(engines=versions)
    told: list[float] = []

    values = calibrate(device, [engine], 3.0, lambda _, share: told.append(share))

    rates = Rates("calibrated", values, {c.id: c.cpus for c in device.clusters}, device.usable_cpus)
    contents = {
        "litert": (models.tflite_add(), tflite_probe()),
        "onnxruntime": (models.onnx_add(), models.onnx_mlp(1024, 1024, 1024)),
    }[engine]
    small, large = (CostModel(open_graph(content), engine, rates).predict(1).latency_ms for content in contents)
    assert 0 < small < large
    assert told == sorted(told) and told[-1] == 1.0


def test_a_budget_for_one_network_still_gives_rates() -> None:
    """On a slow device loading alone may take the whole of it."""
    if "litert" not in (versions := engine_versions()):
        pytest.skip("litert is not installed")

    values = calibrate(probe(engines=versions), ["litert"], 1e-6)

    assert Rates("calibrated", values).covers("litert")

"""The judge of plans over a link counts what it says, and can be stopped and gone on with."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")

from benchmarks import split, split_judge, split_trace
from benchmarks.shaped_link import Shape
from benchmarks.split_judge import Cell, Known, Row, told_of, way_of
from benchmarks.split_models import Model
from benchmarks.split_stage import LOCAL, Asked, Stage, Way

HEAD = Way("split", ("features",), "int8", "deflate")
ROW = Row(
    model="sound",
    speed=0.4,
    rtt_ms=20.0,
    mbps=4.0,
    keep_input_local=False,
    chosen=str(LOCAL),
    best=str(HEAD),
    chosen_ms=110.0,
    best_ms=100.0,
    regret=0.1,
    predicted_ms=99.0,
    load_ms=1.0,
    local_ms=110.0,
    raw_ms=400.0,
    jpeg_ms=None,
    estimated=("raw",),
    measured={"local": (110.0, 99.0), str(HEAD): (100.0, 130.0)},
    ruled_out=7,
    left=0,
    first=str(LOCAL),
    again=(1.1, 0.8),
    overhead=0.03,
)


def test_no_way_is_faster_than_its_bytes_and_the_round_trip() -> None:
    assert Cell("sound", 0.4, 20.0, 4.0).transfer_ms(50_000) == pytest.approx(20 + 100)


def test_figures_are_of_all_rows_and_errors_by_kind() -> None:
    right = dataclasses.replace(ROW, keep_input_local=True, chosen=str(HEAD), regret=0.0)
    figures = split.summary([ROW, right])
    assert (figures["mean_regret"], figures["worst_regret"]) == (0.05, 0.1)
    assert (figures["share_local"], figures["share_split"], figures["share_offload"]) == (0.5, 0.5, 0.0)
    assert figures["prediction_median_error_by_kind"] == pytest.approx({"local": 0.1, "split": 0.3})
    assert figures["prediction_median_error"] == pytest.approx(0.2)
    # In local requests: 130 / 99 predicted, 100 / 110 measured.
    assert figures["prediction_median_error_against_local"] == pytest.approx({"split": 130 / 99 / (100 / 110) - 1})
    assert figures["baselines"] == pytest.approx({"local": 0.1, "raw": 3.0}), "nothing is told of what cannot be"
    assert figures["median_overhead"] == pytest.approx(0.03)
    assert figures["measured_again_median_difference"] == pytest.approx(0.15)
    assert "mean regret 5.0%" in split.table(figures)
    assert ">400" in split.line(ROW), "a bound is marked as one"


def test_a_row_of_many_ways_counts_once() -> None:
    alone = dataclasses.replace(ROW, measured={"local": (110.0, 99.0)})
    many = dataclasses.replace(ROW, measured={f"split {number} none none": (100.0, 150.0) for number in range(9)})
    figures = split.summary([alone, alone, many])
    assert figures["prediction_median_error"] == pytest.approx(0.5)
    assert figures["prediction_median_error_of_rows"] == pytest.approx(0.1)


def test_what_was_measured_is_found_again(tmp_path: Path) -> None:
    kept = split.Kept(tmp_path / "rows.json")
    kept.rows.append(ROW)
    kept.known["sound"] = {HEAD: Known(10.0, {"0.4": 12.0}, 3.0)}
    kept.write()
    again = split.Kept(tmp_path / "rows.json")
    assert split.summary(again.rows)["mean_regret"] == 0.1
    assert again.known == kept.known
    assert split.run([Cell("sound", 0.4, 20.0, 4.0)], again, tmp_path, 0.0, print), "it is done already"


class Scripted:
    """Device and link of a stage where every way takes what a test says."""

    def __init__(self, base_ms: dict[Way, float], size_bytes: dict[Way, int], chosen: Way) -> None:
        self.base_ms, self.size_bytes, self.chosen = base_ms, size_bytes, chosen
        self.speed, self.shape, self.passed = 1.0, Shape(), {"up_bytes": 0, "down_bytes": 0}
        self.asked: set[str] = set()
        self.raced: set[Way] = set()

    def way(self, key: str) -> Way:
        name = key.partition("|")[2]
        return next((way for way in self.base_ms if str(way) == name), self.chosen)

    def set(self, **settings: float) -> None:
        self.shape = dataclasses.replace(self.shape, **settings)

    def open(self, key: str, model: Path, options: dict[str, Any], cache: Path) -> dict[str, Any]:
        return self.report(key) | {"load_ms": 1.0}

    def report(self, key: str) -> dict[str, Any]:
        candidates = [
            {"way": told_of(way), "predicted_ms": 1.1 * ms / self.speed, "feasible": True}
            for way, ms in self.base_ms.items()
        ]
        return {"way": told_of(self.way(key)), "candidates": candidates, "events": ["goes there"]}

    def ask(self, key: str, count: int, seconds: float, start: int) -> Asked:
        way = self.way(key)
        self.asked.add(str(way))
        ms = self.base_ms[way] / self.speed
        if way != LOCAL:
            ms += Cell("m", 1.0, self.shape.rtt_ms, self.shape.up_mbps).transfer_ms(self.size_bytes[way])
            self.passed = {**self.passed, "up_bytes": self.passed["up_bytes"] + count * self.size_bytes[way]}
        return Asked((ms,) * count, self.base_ms[way], float(way != LOCAL), float(way in self.raced))

    def settle(self, key: str) -> bool:
        return False

    def close(self, key: str) -> None:
        pass


RAW = Way("offload", ("image",))
LATE = Way("split", ("late",), "int8")


def judged(
    chosen: Way, mbps: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raced: frozenset[Way] = frozenset()
) -> tuple[list[Row], set[str]]:
    base_ms = {LOCAL: 100.0, RAW: 5.0, HEAD: 20.0, LATE: 80.0}
    size_bytes = {RAW: 150_000, HEAD: 10_000, LATE: 1_000}
    scripted: Any = Scripted(base_ms, size_bytes, chosen)
    scripted.raced |= raced
    ways = [(way, float(size_bytes.get(way, 0)), True) for way in base_ms]
    monkeypatch.setattr(split_judge, "ways_of", lambda model: ways)
    model = Model(tmp_path / "m" / "model.edge", (), (), pictures=True)
    stage = Stage(scripted, scripted, {model.path: "m"}, tmp_path, 0, 0)
    scripted.url = "http://link"
    return split_judge.Judge(stage, model, {}).judge(Cell("m", 1.0, 20.0, mbps)), scripted.asked


def test_the_judge_finds_the_best_way_and_measures_none_that_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (free, kept), asked = judged(LOCAL, 10.0, tmp_path, monkeypatch)  # raw takes 145 ms, the head 48, the late cut 101
    assert (free.chosen, free.best, kept.best) == ("local", str(HEAD), str(HEAD))
    assert free.regret == pytest.approx(100 / 48 - 1)
    assert (free.overhead, free.events) == (0, ("goes there",))
    assert free.measured["local"] == pytest.approx((100.0, 110.0))
    assert str(LATE) not in asked or free.ruled_out == 0


def test_no_regret_where_the_best_was_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (free, _), asked = judged(LOCAL, 0.25, tmp_path, monkeypatch)
    assert (free.best, free.regret) == ("local", 0.0)
    assert asked == {"local", str(LATE)}, "the bytes of the others alone take longer"
    assert free.raw_ms == pytest.approx(20 + 4800) and free.estimated == ("raw",)


def test_what_sends_the_input_is_not_best_where_it_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (free, _), _ = judged(RAW, 100.0, tmp_path, monkeypatch)
    assert (free.chosen, free.best) == (str(RAW), str(RAW))


def test_nothing_predicts_what_a_race_with_the_local_tail_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (free, _), _ = judged(LOCAL, 10.0, tmp_path, monkeypatch, frozenset({HEAD}))
    assert free.best == str(HEAD), "it is as good as any other all the same"
    assert free.measured[str(HEAD)] == pytest.approx((48.0, None))
    assert free.measured["local"] == pytest.approx((100.0, 110.0))


def test_typical_is_the_mean_without_the_slowest() -> None:
    assert Asked((10.0, 20.0, 30.0, 1000.0), 1.0, 1.0).typical_ms == 20.0
    assert Asked((7.0,), 1.0, 1.0).typical_ms == 7.0


def test_a_way_goes_through_json() -> None:
    assert way_of(told_of(HEAD)) == HEAD and way_of(told_of(LOCAL)) == LOCAL


def test_a_ride_is_the_same_each_time_and_as_its_regimes_are() -> None:
    ride = split_trace.drawn(20_000, seed=3)
    assert ride == split_trace.drawn(20_000, seed=3)
    for state, (mean, deviation, stay_s) in enumerate(split_trace.STATES):
        here = [mbps for mbps, one in zip(ride.mbps, ride.states, strict=True) if one == state]
        assert np.mean(here) == pytest.approx(mean, abs=0.25 * deviation)
        entered = sum(a != state == b for a, b in zip(ride.states, ride.states[1:], strict=False))
        assert len(here) / entered == pytest.approx(stay_s, rel=0.2)
    assert min(ride.mbps) >= split_trace.LEAST_MBPS


def a_run(times_ms: list[float], ways: list[Way], sent_bytes: int) -> split_trace.Run:
    stayed = ways.count(LOCAL)
    return split_trace.Run(tuple(times_ms), sent_bytes, tuple(ways), tuple(map(float, range(len(ways)))), (), stayed)


def test_following_the_link_is_judged_against_the_best_single_plan() -> None:
    trace = split_trace.Trace((20.0, 20.0, 0.5, 0.5, 0.5), (3, 3, 0, 0, 0))
    runs = {
        "adaptive": a_run([50, 50, 400, 90, 90], [HEAD, HEAD, HEAD, LOCAL, LOCAL], 200),
        "local": a_run([200] * 5, [LOCAL] * 5, 0),
        str(HEAD): a_run([50, 50, 400, 400, 400], [HEAD] * 5, 500),
    }
    found = split_trace.figures(trace, runs, deadline_ms=300)
    assert found["best_single_plan"] == "local"
    assert found["adaptive_latency_gain"] == pytest.approx(1 - 136 / 200)
    assert found["adaptive_bytes_gain"] is None, "no single plan is as fast"
    assert found["hindsight_gain"] == pytest.approx(1 - (50 + 50 + 3 * 200) / 5 / 200)
    assert found["adaptive_latency_gain_error"] is None, "there is one piece only"
    assert (found["switches"], found["link_changes"], found["late"]) == (1, 1, 1)
    assert {name: run["stayed"] for name, run in found["runs"].items()} == {"adaptive": 2, "local": 5, str(HEAD): 0}
    assert "1 switches at 1 changes" in split_trace.table(found)


def test_the_error_of_a_gain_is_that_of_its_pieces() -> None:
    due_s = (0.0, 5.0, split_trace.PIECE_S + 1.0)

    def run(*times_ms: float) -> split_trace.Run:
        return split_trace.Run(times_ms, 0, (LOCAL,) * 3, due_s, ())

    # Gains of 10 % in the first piece and 30 % in the second.
    assert split_trace.error_of_gain(run(90, 90, 70), run(100, 100, 100)) == pytest.approx(0.1)

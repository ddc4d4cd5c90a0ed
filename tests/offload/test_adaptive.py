"""A runner that goes the way its guide names: no request waits for a switch, none is lost by one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from edge_sdk.engines.base import LoadOptions, PlacementReport, Runner
from edge_sdk.errors import EndpointUnreachable
from edge_sdk.metrics import Histogram
from edge_sdk.offload.adaptive import MOST_PREPARED, AdaptiveRunner
from edge_sdk.tensors import TensorSpec


class Named(Runner):
    """Answers with its name. Where there is a gate, not before that opens."""

    def __init__(self, name: str, gate: threading.Event | None = None) -> None:
        self.name, self.gate, self.entered = name, gate, threading.Event()
        self.engine = self.model = "named"
        self.inputs = self.outputs = (TensorSpec("x", "float32", (1,)),)
        self.options, self.queue, self.closed = LoadOptions(), Histogram(), False

    def run(self, feeds: Mapping[str, Any], out: Mapping[str, Any] | None = None) -> dict[str, Any]:
        assert not self.closed, f"{self.name} was closed before the call"
        self.entered.set()
        if self.gate is not None:
            assert self.gate.wait(30)
        assert not self.closed, f"{self.name} was closed during the call"
        return {"x": self.name}

    def placement(self) -> PlacementReport:
        return PlacementReport((), (), verified=False)

    def close(self) -> None:
        self.closed = True


class Told:
    """A guide that says what a test tells it."""

    def __init__(self) -> None:
        self.says: str | None = None
        self.may_prepare, self.asked = threading.Event(), threading.Event()
        self.may_prepare.set()
        self.refuses = False
        self.made: dict[str, Named] = {}
        self.switches: list[str] = []
        self.times: list[tuple[str, float]] = []
        self.closed = False

    def took(self, key: str, latency_ms: float) -> None:
        self.times.append((key, latency_ms))

    def next_way(self, able: Callable[[str], bool]) -> str | None:
        return self.says if self.says is not None and able(self.says) else None

    def prepare(self, key: str) -> Runner:
        self.asked.set()
        assert self.may_prepare.wait(30)
        if self.refuses:
            raise EndpointUnreachable("nobody there")
        self.made[key] = Named(key)
        return self.made[key]

    def close(self) -> None:
        self.closed = True

    def switched(self, key: str) -> None:
        self.switches.append(key)
        self.says = None


@pytest.fixture
def guide() -> Told:
    return Told()


def adaptive(guide: Told, **ways: Named) -> AdaptiveRunner:
    ways.setdefault("here", Named("here"))
    return AdaptiveRunner("here", ways, frozenset({"here"}), guide, judged_every_s=0.0)


def answer(runner: AdaptiveRunner) -> Any:
    return runner.run({})["x"]


def until(runner: AdaptiveRunner, key: str) -> None:
    """Asks until a way that is being prepared is gone."""
    ended = threading.Event()
    for _ in range(30_000):
        if answer(runner) == key:
            return
        ended.wait(0.001)
    raise AssertionError(f"{key} was never gone")


def test_the_next_request_goes_another_way_that_is_prepared(guide: Told) -> None:
    runner = adaptive(guide, there=Named("there"))
    guide.says = "there"
    assert [answer(runner), answer(runner)] == ["here", "there"]
    assert guide.switches == ["there"]


def test_requests_go_on_while_another_way_is_prepared(guide: Told) -> None:
    runner = adaptive(guide)
    guide.may_prepare.clear()
    guide.says = "there"
    answer(runner)
    assert guide.asked.wait(30)
    known = len(guide.times)
    assert [answer(runner) for _ in range(20)] == ["here"] * 20
    assert len(guide.times) == known, "what is prepared beside slows them: their times say nothing of the way"
    guide.may_prepare.set()
    until(runner, "there")


def test_a_way_that_cannot_be_prepared_is_left_alone(guide: Told) -> None:
    runner = adaptive(guide)
    guide.refuses, guide.says = True, "there"
    answer(runner)
    assert guide.asked.wait(30)
    for thread in threading.enumerate():
        if thread.name == "edge-sdk-prepare":
            thread.join(30)
    guide.asked.clear()
    assert [answer(runner) for _ in range(20)] == ["here"] * 20
    assert not guide.asked.is_set()


def test_every_request_tells_its_time_to_the_guide(guide: Told) -> None:
    runner = adaptive(guide)
    answer(runner)
    assert [key for key, ms in guide.times if ms >= 0] == ["here"]
    assert runner.counts() == {"here": 1}


def test_what_was_gone_longest_ago_is_put_away(guide: Told) -> None:
    runner = adaptive(guide)
    for number in range(MOST_PREPARED + 3):
        guide.says = f"way {number}"
        until(runner, f"way {number}")
    assert len(runner.prepared) == MOST_PREPARED
    assert "here" in runner.prepared
    assert guide.made["way 0"].closed
    assert not guide.made[f"way {MOST_PREPARED + 2}"].closed


def test_a_request_ends_on_the_way_it_began(guide: Told) -> None:
    gate = threading.Event()
    slow = Named("slow", gate)
    runner = AdaptiveRunner("slow", {"slow": slow, "here": Named("here")}, frozenset({"here"}), guide, 0.0)
    answers: list[Any] = []
    asking = threading.Thread(target=lambda: answers.append(answer(runner)))
    asking.start()
    assert slow.entered.wait(30)
    guide.says = "here"
    runner.judge()
    assert answer(runner) == "here"
    for number in range(MOST_PREPARED + 2):  # so many that the slow one would be put away
        guide.says = f"way {number}"
        until(runner, f"way {number}")
    gate.set()
    asking.join(30)
    assert answers == ["slow"]


def test_closing_closes_every_way(guide: Told) -> None:
    here, there = Named("here"), Named("there")
    runner = adaptive(guide, here=here, there=there)
    runner.close()
    runner.close()
    assert here.closed
    assert there.closed
    assert guide.closed


def test_many_threads_lose_nothing_while_ways_change(guide: Told) -> None:
    runner = adaptive(guide, there=Named("there"))
    stop, failures = threading.Event(), []

    def ask() -> None:
        while not stop.is_set():
            try:
                assert answer(runner) in {"here", "there", *(f"way {n}" for n in range(40))}
            except BaseException as error:  # noqa: BLE001 - told by the test
                failures.append(error)
                return

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(40):
        guide.says = f"way {number}"
        until(runner, f"way {number}")
    stop.set()
    for thread in threads:
        thread.join(30)
    assert failures == []

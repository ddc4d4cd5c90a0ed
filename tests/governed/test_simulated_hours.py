"""Whole hours of a session on devices whose constants are drawn at random and hidden from it.

A camera gives frames twice as fast as the target asks, each request that the engine answers costs energy, and the
kernel throttles; in one of the hours all of that is read from files.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import edge_sdk
from edge_sdk.device import Moment, Sensors
from edge_sdk.device.simulated_heat import Heat, SimulatedHeat
from edge_sdk.engines.simulated import SimulatedClock
from edge_sdk.governed import Governed
from tests.governed.two_sizes import WAIT_S, TwoSizes
from tests.heat import heats

pytestmark = pytest.mark.usefixtures("untried")

X = {"x": np.ones((1, 8), np.float32)}
HOUR_S, CAMERA_HZ = 3600.0, 6.0
LIMIT_C, RATE_HZ = 70.0, 3.0
POLICY = "sys/devices/system/cpu/cpufreq/policy0"
ZONE = "sys/class/thermal/thermal_zone0"


@dataclass
class Made:
    """A device, and what a request of each variant takes: nothing of it is told to the session."""

    heat: Heat
    joules: dict[str, float]


@dataclass
class Hour:
    """What became of it."""

    hottest_c: float = 0.0
    answered: Counter[str] = field(default_factory=Counter)
    slow_minutes: int = 0
    turns_s: list[float] = field(default_factory=list)


class Device:
    """Time, heat, camera and kernel in one: what `Governed` waits by."""

    def __init__(self, made: Made, engine: TwoSizes, root: Path | None) -> None:
        self.clock = SimulatedClock(0.0)
        self.hour, self.over = Hour(), threading.Event()
        self.governed: Governed | None = None
        self.began = threading.Event()
        self.warm = SimulatedHeat(made.heat)
        self._made, self._root = made, root
        self._answers, self._left_s = "large", 0.0
        self._minute, self._minute_ends_s = 0, 60.0
        self._level, self._direction = 0, 1
        self._files: dict[str, str] = {}
        trip = f"{made.heat.trip_c * 1000:.0f}"
        self._write({f"{ZONE}/type": "cpu-thermal", f"{ZONE}/trip_point_0_type": "passive"})
        self._write({f"{ZONE}/trip_point_0_temp": trip})
        self._write(self._told())
        engine.computed = self._computed

    def read(self) -> Moment:
        """As `Sensors.read`, without files."""
        return Moment(at_s=self.clock(), temperature_c=self.warm.read_c, throttled=self.warm.throttled)

    def _told(self) -> dict[str, str]:
        mhz = 1200 if self.warm.throttled else 2400
        return {f"{ZONE}/temp": f"{self.warm.read_c * 1000:.0f}", f"{POLICY}/scaling_max_freq": f"{mhz}000"}

    def _write(self, files: dict[str, str]) -> None:
        for path, content in files.items():
            if self._root is not None and self._files.get(path) != content:
                (self._root / path).parent.mkdir(parents=True, exist_ok=True)
                (self._root / path).write_text(content)
        self._files |= files

    def _computed(self, variant: str) -> None:
        if self.governed is None:
            return  # loaded ahead
        self.hour.answered[variant] += 1
        self._answers = variant

    def _camera(self, seconds: float) -> Iterator[dict[str, np.ndarray]]:
        left_s = self._left_s + seconds
        while left_s >= 1 / CAMERA_HZ:
            left_s -= 1 / CAMERA_HZ
            self.clock.sleep(1 / CAMERA_HZ)
            yield X
        self._left_s = left_s

    def wait(self, stopped: threading.Event, seconds: float) -> bool:
        """An hour passes in pieces as long as the governor waits, and then it is over."""
        assert self.began.wait(WAIT_S) and self.governed is not None
        before = sum(self.hour.answered.values())
        began_s = self.clock()
        for _ in self.governed.stream(self._camera(seconds), ahead=0):
            pass
        passed_s = self.clock() - began_s
        # Each request stands for many small ones, whose energy does not come in bursts: hence by rate, not by request.
        often_hz = min(self.governed.figures().pace_hz or CAMERA_HZ, CAMERA_HZ)
        self.warm.passes(passed_s, self._made.heat.idle_watts + self._made.joules[self._answers] * often_hz)
        self._write(self._told())
        self._note(sum(self.hour.answered.values()) - before)
        if self.clock() >= HOUR_S:
            self.over.set()
            return True
        return stopped.is_set()

    def _note(self, answered: int) -> None:
        assert self.governed is not None
        hour, level = self.hour, self.governed.figures().level
        hour.hottest_c = max(hour.hottest_c, self.warm.chip_c)
        if level != self._level:
            toward = 1 if level > self._level else -1
            if toward != self._direction:
                hour.turns_s.append(self.clock())
            self._level, self._direction = level, toward
        self._minute += answered
        if self.clock() >= self._minute_ends_s:
            hour.slow_minutes += self._minute < 0.97 * 60 * RATE_HZ
            self._minute, self._minute_ends_s = 0, self._minute_ends_s + 60


@st.composite
def devices(draw: st.DrawFn, held: bool = True) -> Made:
    """One that throttles while it answers all frames by the large variant; `held`: and would hold limit and rate for
    ever by the small one."""
    heat = draw(heats(35))
    per_watt = heat.chip_c_per_w + heat.case_c_per_w
    most_w = (heat.trip_c + draw(st.floats(5, 30)) - heat.ambient_c) / per_watt - heat.idle_watts
    large_j = max(most_w, 0.5) / CAMERA_HZ
    small_w = (LIMIT_C - 4.0 - heat.ambient_c) / per_watt - heat.idle_watts
    small_w *= draw(st.floats(0.4, 1.0)) if held else draw(st.floats(1.5, 1.8))
    small_j = small_w / RATE_HZ
    if held:
        return Made(heat, {"large": large_j, "small": min(small_j, 0.95 * large_j)})
    return Made(heat, {"large": max(large_j, 1.2 * small_j), "small": small_j})


def an_hour(made: Made, sizes: Path, root: Path | None = None) -> tuple[Device, tuple[str, ...], str]:
    """The device afterwards, the session's events, and what was not held at the end."""
    engine = TwoSizes()
    with edge_sdk.load(sizes, engine=engine, threads=1, plan_budget_s=2) as session:
        engine.timed = False
        device = Device(made, engine, root)
        sensors = device if root is None else Sensors(root, device.clock)
        target = edge_sdk.Target(max_c=LIMIT_C, rate_hz=RATE_HZ)
        with Governed(
            session,
            target,
            most_accurate=True,
            sensors=sensors,
            clock=device.clock,
            wait=device.wait,  # type: ignore[arg-type]
        ) as governed:
            device.governed = governed
            device.began.set()
            assert device.over.wait(120)
            return device, session.report().events, governed.figures().shortfall


def throttles_ungoverned(made: Made) -> bool:
    device = SimulatedHeat(made.heat)
    device.passes(HOUR_S, made.heat.idle_watts + made.joules["large"] * CAMERA_HZ)
    return device.throttled_s > 0


@given(made=devices())
@settings(max_examples=5, derandomize=True, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
def test_an_hour_holds_limit_and_rate_and_does_not_swing(made: Made, sizes: Path) -> None:
    holds(made, *an_hour(made, sizes))


def test_an_hour_read_from_files(sizes: Path, tmp_path: Path) -> None:
    made = Made(Heat(ambient_c=30.0, rounded_c=0.5), {"large": 1.2, "small": 0.7})
    holds(made, *an_hour(made, sizes, tmp_path))


def holds(made: Made, device: Device, events: tuple[str, ...], shortfall: str) -> None:
    """Limit and rate for the whole hour, without swinging, where the kernel would have throttled."""
    hour = device.hour
    assert throttles_ungoverned(made)
    assert device.warm.throttled_s == 0
    assert hour.hottest_c <= LIMIT_C
    assert hour.slow_minutes == 0 and sum(hour.answered.values()) >= 0.99 * RATE_HZ * HOUR_S
    assert all(later - turn >= 60 for turn, later in zip(hour.turns_s, hour.turns_s[2:], strict=False))
    assert shortfall == ""
    assert any(event.startswith("down to ") and "is the limit" in event for event in events)


@given(made=devices(held=False))
@settings(max_examples=2, derandomize=True, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
def test_where_both_cannot_be_held_the_limit_is_and_the_rate_is_said_not_to_be(made: Made, sizes: Path) -> None:
    device, events, _ = an_hour(made, sizes)
    assert device.warm.throttled_s == 0
    assert device.hour.slow_minutes > 0
    assert any(event.startswith("not held: 3 Hz are wanted, and small") for event in events)

"""What is read again and again: the hottest zone that counts, throttling, and how long a battery lasts."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.device import Moment, Sensors
from edge_sdk.device.moment import POWER_EVERY_S
from edge_sdk.engines.simulated import SimulatedClock

ZONES = "sys/class/thermal/thermal_zone"
POLICY = "sys/devices/system/cpu/cpufreq/policy0"
SUPPLY = "sys/class/power_supply"


def zone(machine: Any, index: int, name: str, milli_c: int, passive: int | None = None) -> None:
    machine.write(f"{ZONES}{index}/type", name).write(f"{ZONES}{index}/temp", milli_c)
    if passive is not None:
        machine.write(f"{ZONES}{index}/trip_point_0_type", "passive")
        machine.write(f"{ZONES}{index}/trip_point_0_temp", passive)


def supply(machine: Any, name: str, **files: str | int) -> None:
    for key, content in files.items():
        machine.write(f"{SUPPLY}/{name}/{key}", content)


def read(machine: Any) -> Moment:
    return Sensors(machine.root, SimulatedClock(3.0)).read()


def test_a_machine_that_tells_nothing(machine: Any) -> None:
    assert read(machine) == Moment(at_s=3.0)


def test_the_hottest_zone_of_the_chip_counts(machine: Any) -> None:
    zone(machine, 0, "cpu-0-0-usr", 51200, 90000)
    zone(machine, 1, "gpuss-0-usr", 58400, 95000)
    zone(machine, 2, "battery", 61000)
    zone(machine, 3, "pm8998_tz", 64000)
    zone(machine, 4, "cpu-1-0-usr", 0)
    moment = read(machine)
    assert (moment.zone, moment.temperature_c, moment.trip_c) == ("gpuss-0-usr", 58.4, 95.0)
    assert moment.throttled is False


def test_what_qualcomm_calls_soc_is_the_charge_of_the_battery(machine: Any) -> None:
    zone(machine, 0, "soc", 88)
    zone(machine, 1, "pm8150b-vbat-lvl0", 4123)
    zone(machine, 2, "cpuss-0-usr", 44000)
    assert read(machine).zone == "cpuss-0-usr"


def test_where_no_zone_is_named_after_the_chip_any_other_will_do(machine: Any) -> None:
    zone(machine, 0, "thermal_zone0", 47000)
    zone(machine, 1, "battery", 55000)
    assert read(machine).temperature_c == 47.0


def test_machines_without_zones_tell_by_hwmon(machine: Any) -> None:
    machine.write("sys/class/hwmon/hwmon1/name", "k10temp").write("sys/class/hwmon/hwmon1/temp1_input", 63125)
    machine.write("sys/class/hwmon/hwmon0/name", "nvme").write("sys/class/hwmon/hwmon0/temp1_input", 71000)
    moment = read(machine)
    assert (moment.zone, moment.temperature_c) == ("k10temp", 63.1)


def test_a_zone_is_read_anew_and_one_that_breaks_is_left_out(machine: Any) -> None:
    zone(machine, 0, "cpu-thermal", 50000)
    zone(machine, 1, "gpu-thermal", 60000)
    sensors = Sensors(machine.root)
    machine.write(f"{ZONES}0/temp", 55000).write(f"{ZONES}1/temp", "garbage")
    assert sensors.read().temperature_c == 55.0
    machine.write(f"{ZONES}0/temp", 250000)
    assert sensors.read().temperature_c is None


def test_a_limit_that_stood_before_is_a_setting_and_one_that_falls_is_throttling(machine: Any) -> None:
    machine.write(f"{POLICY}/cpuinfo_max_freq", 2400000).write(f"{POLICY}/scaling_max_freq", 1800000)
    sensors = Sensors(machine.root)
    assert sensors.read().throttled is False
    machine.write(f"{POLICY}/scaling_max_freq", 1200000)
    held = sensors.read()
    assert (held.throttled, held.why) == (True, "policy0 is held at 1200 of 1800 MHz")
    machine.write(f"{POLICY}/scaling_max_freq", 2400000)
    assert sensors.read().throttled is False
    machine.write(f"{POLICY}/scaling_max_freq", 1800000)
    assert sensors.read().why == "policy0 is held at 1800 of 2400 MHz"


def test_a_counter_of_intel_throttles_while_it_rises(machine: Any) -> None:
    counter = "sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count"
    machine.write(counter, 41)
    sensors = Sensors(machine.root)
    assert sensors.read().throttled is False
    machine.write(counter, 43)
    assert sensors.read().why == "package_throttle_count rose to 43"
    assert sensors.read().throttled is False


@pytest.mark.parametrize(
    ("path", "content", "why"),
    [
        ("sys/devices/platform/soc/soc:firmware/get_throttled", "0x4", "throttled"),
        ("sys/class/thermal/cooling_device0/cur_state", "2", "cpufreq-cpu0 cools in state 2"),
        (f"{ZONES}0/temp", "86000", "cpu-thermal at 86 C, throttles from 85 C"),
    ],
)
def test_what_else_tells_of_throttling(machine: Any, path: str, content: str, why: str) -> None:
    zone(machine, 0, "cpu-thermal", 50000, 85000)
    machine.write("sys/class/thermal/cooling_device0/type", "cpufreq-cpu0")
    sensors = Sensors(machine.root)
    assert not sensors.read().throttled
    machine.write(path, content)
    moment = sensors.read()
    assert (moment.throttled, moment.why) == (True, why)


def test_a_battery_in_energy(machine: Any) -> None:
    supply(machine, "BAT0", type="Battery", status="Discharging", capacity=63, present=1)
    supply(machine, "BAT0", energy_now=31_420_000, energy_full=50_000_000, power_now=7_855_000)
    moment = read(machine)
    assert (moment.source, moment.battery_percent, moment.battery_wh) == ("battery", 62.84, 31.42)
    assert (moment.battery_watts, moment.battery_h) == (7.855, 4.0)


def test_a_battery_in_charge_with_a_current_of_either_sign(machine: Any) -> None:
    supply(machine, "battery", type="Battery", status="Discharging", capacity=50)
    supply(machine, "battery", charge_now=2_000_000, voltage_now=4_000_000, current_now=-500_000)
    moment = read(machine)
    assert (moment.battery_percent, moment.battery_wh, moment.battery_watts, moment.battery_h) == (50, 8.0, 2.0, 4.0)


def test_on_mains_nothing_is_drawn_from_the_battery(machine: Any) -> None:
    supply(machine, "BAT0", type="Battery", status="Charging", capacity=63, energy_now=31_000_000, power_now=9_000_000)
    supply(machine, "AC", type="Mains", online=1)
    supply(machine, "mouse", type="Battery", status="Discharging", capacity=5, scope="Device", power_now=100)
    moment = read(machine)
    assert (moment.source, moment.battery_percent, moment.battery_watts) == ("mains", 63, None)


def test_batteries_are_asked_now_and_then(machine: Any) -> None:
    clock = SimulatedClock()
    supply(machine, "BAT0", type="Battery", status="Discharging", capacity=63)
    sensors = Sensors(machine.root, clock)
    assert sensors.read().battery_percent == 63
    supply(machine, "BAT0", capacity=62)
    assert sensors.read().battery_percent == 63
    clock.sleep(POWER_EVERY_S)
    assert sensors.read().battery_percent == 62


FILES = [
    f"{ZONES}0/temp",
    f"{ZONES}0/type",
    f"{ZONES}0/trip_point_0_temp",
    "sys/class/hwmon/hwmon0/temp1_input",
    "sys/class/thermal/cooling_device0/cur_state",
    f"{POLICY}/scaling_max_freq",
    "sys/devices/platform/soc/soc:firmware/get_throttled",
    "sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count",
    *(f"{SUPPLY}/BAT0/{name}" for name in ("type", "status", "capacity", "present", "scope")),
    *(f"{SUPPLY}/BAT0/{name}" for name in ("energy_now", "energy_full", "power_now", "charge_now", "voltage_now")),
]
CONTENT = st.binary(max_size=40) | st.integers(-(10**25), 10**25).map(lambda number: str(number).encode())


@given(st.lists(st.dictionaries(st.sampled_from(FILES), CONTENT), min_size=1, max_size=3))
@settings(max_examples=150)
def test_no_content_makes_it_fail_or_lie_beyond_reason(rounds: list[dict[str, bytes]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        usual = {f"{ZONES}0/type": b"cpu", f"{ZONES}0/temp": b"40000", "sys/class/hwmon/hwmon0/name": b"coretemp"}
        usual |= {f"{SUPPLY}/BAT0/type": b"Battery", f"{SUPPLY}/BAT0/status": b"Discharging"}
        sensors = None
        for files in [usual, *rounds]:
            for path, content in files.items():
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_bytes(content)
            for reader in (sensors or Sensors(root), Sensors(root)):
                moment = reader.read()
                assert moment.temperature_c is None or -100 < moment.temperature_c < 150
                assert moment.battery_percent is None or 0 <= moment.battery_percent <= 100
                assert moment.battery_wh is None or 0 < moment.battery_wh <= 1e9
                sensors = sensors or reader

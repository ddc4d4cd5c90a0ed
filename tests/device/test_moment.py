"""Temperatures, frequencies, throttling and power: what changes from moment to moment."""

from __future__ import annotations

from typing import Any

import pytest

from edge_sdk.device import Power, ThermalZone, fingerprint

ZONE = "sys/class/thermal/thermal_zone"
POLICY = "sys/devices/system/cpu/cpufreq/policy0"


@pytest.fixture
def quad(machine: Any) -> Any:
    return machine.cpus("0-3").cpu(range(4), max_khz=2400000, policy="0 1 2 3")


def zone(machine: Any, index: int, name: str, milli_c: int, *trips: tuple[str, int]) -> None:
    machine.write(f"{ZONE}{index}/type", name).write(f"{ZONE}{index}/temp", milli_c)
    for trip, (kind, limit) in enumerate(trips):
        machine.write(f"{ZONE}{index}/trip_point_{trip}_type", kind)
        machine.write(f"{ZONE}{index}/trip_point_{trip}_temp", limit)


def test_zones_with_the_lowest_trip_that_throttles(quad: Any) -> None:
    zone(quad, 10, "gpu", 41, ("hot", 95))
    zone(quad, 2, "cpu-thermal", 48312, ("active", 50000), ("hot", 90000), ("passive", 80000), ("critical", 110000))
    zone(quad, 3, "broken", 2147483647, ("passive", 0))
    assert quad.probe().thermal == (
        ThermalZone(name="cpu-thermal", temperature_c=48.3, trip_c=80.0),
        ThermalZone(name="broken"),
        ThermalZone(name="gpu", temperature_c=41.0, trip_c=95.0),
    )


def test_frequencies_now(quad: Any) -> None:
    for cpu in range(3):
        quad.write(f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq", 600000 + cpu)
    cpus = quad.probe().cpus
    assert cpus.now_mhz == {"0": 600, "1": 600, "2": 600}
    assert cpus.throttled is None


def test_frequencies_of_x86_without_cpufreq(machine: Any) -> None:
    machine.x86_cpuinfo(2, 6, 85)
    assert machine.probe().cpus.now_mhz == {"0": 1234, "1": 1234}


@pytest.mark.parametrize(("bits", "throttled"), [("0x0", False), ("50000", False), ("50005", True), ("0x2", True)])
def test_raspberry_pi_firmware_tells(quad: Any, bits: str, throttled: bool) -> None:
    """Bits from 16 on say that it happened since boot; bit 0 is the voltage."""
    quad.write("sys/devices/platform/soc/soc:firmware/get_throttled", bits)
    assert quad.probe().cpus.throttled is throttled


def test_cooling_device_at_work(quad: Any) -> None:
    quad.write("sys/class/thermal/cooling_device0/type", "gpu").write("sys/class/thermal/cooling_device0/cur_state", 3)
    quad.write("sys/class/thermal/cooling_device1/type", "cpufreq-cpu0")
    quad.write("sys/class/thermal/cooling_device1/cur_state", 0)
    assert quad.probe().cpus.throttled is False
    quad.write("sys/class/thermal/cooling_device1/cur_state", 2)
    cpus = quad.probe().cpus
    assert (cpus.throttled, cpus.why) == (True, "cpufreq-cpu0 cools in state 2")


def test_capped_policy(quad: Any) -> None:
    quad.write(f"{POLICY}/related_cpus", "0-3").write(f"{POLICY}/cpuinfo_max_freq", 2400000)
    quad.write(f"{POLICY}/scaling_max_freq", 1500000)
    cpus = quad.probe().cpus
    assert (cpus.throttled, cpus.why) == (True, "policy0 is held at 1500 of 2400 MHz")


def test_hot_cpu_zone(quad: Any) -> None:
    zone(quad, 0, "cpu-thermal", 86000, ("passive", 85000))
    zone(quad, 1, "battery", 45000, ("passive", 40000))
    cpus = quad.probe().cpus
    assert (cpus.throttled, cpus.why) == (True, "cpu-thermal at 86 C, throttles from 85 C")


def supply(machine: Any, name: str, **files: str | int) -> None:
    for key, content in files.items():
        machine.write(f"sys/class/power_supply/{name}/{key}", content)


def test_power(quad: Any) -> None:
    assert quad.probe().power == Power()
    supply(quad, "BAT0", type="Battery", status="Discharging", capacity=63, present=1)
    supply(quad, "hid-mouse", type="Battery", status="Discharging", capacity=5, scope="Device")
    assert quad.probe().power == Power(source="battery", battery_percent=63)
    supply(quad, "AC", type="Mains", online=1)
    assert quad.probe().power == Power(source="mains", battery_percent=63)


def test_fingerprint_keeps_through_the_moment_and_follows_the_machine(quad: Any) -> None:
    first = quad.probe()
    zone(quad, 0, "cpu-thermal", 70000)
    quad.write("sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", 600000)
    supply(quad, "BAT0", type="Battery", status="Discharging", capacity=63)
    later = quad.probe()
    assert later != first
    assert later.fingerprint == first.fingerprint == fingerprint(first)
    assert len(first.fingerprint) == 16
    quad.cpu(range(4), max_khz=2000000)
    assert quad.probe().fingerprint != first.fingerprint

"""Energy is read from sensors below a root; where there is none, nothing is made up."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_sdk.device.sysroot import Sysroot
from edge_sdk.engines.simulated import SimulatedClock
from edge_sdk.measuring import Energy, EnergyMeter, EnergySource, energy_sources

RAPL = "sys/class/powercap"
HWMON = "sys/class/hwmon"
BATTERY = "sys/class/power_supply"


def write(root: Path, files: dict[str, str | int]) -> Sysroot:
    for name, value in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")
    return Sysroot(root)


def names(sysroot: Sysroot) -> list[str]:
    return [source.name for source in energy_sources(sysroot)[0]]


def test_without_a_sensor_there_is_no_figure(tmp_path: Path) -> None:
    sources, note = energy_sources(Sysroot(tmp_path))
    assert sources == () and note.startswith("not measured")
    with EnergyMeter(sources) as meter:
        pass
    assert meter.energy is None


def test_packages_are_added_up_and_their_parts_and_the_platform_are_not(tmp_path: Path) -> None:
    files: dict[str, str | int] = {}
    for zone, name in (
        ("intel-rapl:0", "package-0"),
        ("intel-rapl:0:0", "core"),
        ("intel-rapl:1", "package-1"),
        ("intel-rapl:2", "psys"),
        ("intel-rapl-mmio:0", "package-0"),
    ):
        files |= {f"{RAPL}/{zone}/name": name, f"{RAPL}/{zone}/energy_uj": 5_000_000}
    sysroot = write(tmp_path, files)
    assert names(sysroot) == ["rapl package-0", "rapl package-1"]
    sources, note = energy_sources(sysroot)
    clock = SimulatedClock()
    with EnergyMeter(sources, clock) as meter:
        clock.sleep(2.0)
        write(tmp_path, {f"{RAPL}/intel-rapl:0/energy_uj": 9_000_000, f"{RAPL}/intel-rapl:1/energy_uj": 7_000_000})
    assert meter.energy == Energy(source="rapl package-0 + rapl package-1", joules=6.0, seconds=2.0, watts=3.0)
    assert note == "measured by rapl package-0 + rapl package-1"


def test_a_counter_that_begins_again_is_followed(tmp_path: Path) -> None:
    zone = f"{RAPL}/intel-rapl:0"
    sysroot = write(
        tmp_path, {f"{zone}/name": "package-0", f"{zone}/energy_uj": 99_000_000, f"{zone}/max_energy_range_uj": 10**8}
    )
    clock = SimulatedClock()
    with EnergyMeter(energy_sources(sysroot)[0], clock) as meter:
        clock.sleep(1.0)
        write(tmp_path, {f"{zone}/energy_uj": 2_000_000})
    assert meter.energy is not None and meter.energy.joules == pytest.approx(3.0)


def test_a_counter_for_root_only_is_told(tmp_path: Path) -> None:
    zone = f"{RAPL}/intel-rapl:0"
    sysroot = write(tmp_path, {f"{zone}/name": "package-0"})
    (tmp_path / zone / "energy_uj").mkdir()  # cannot be read by anybody, root included
    sources, note = energy_sources(sysroot)
    assert sources == () and "rapl package-0" in note and "root" in note


def test_the_boards_input_is_taken_where_a_label_tells_it(tmp_path: Path) -> None:
    chip = f"{HWMON}/hwmon3"
    files: dict[str, str | int] = {f"{chip}/name": "ina3221"}
    for channel, label in ((1, "VDD_CPU"), (2, "VDD_IN"), (3, "NC")):
        files |= {f"{chip}/in{channel}_label": label, f"{chip}/in{channel}_input": 5000}
        files |= {f"{chip}/curr{channel}_input": 800}
    sysroot = write(tmp_path, files)
    assert names(sysroot) == ["ina3221 VDD_IN"]
    clock = SimulatedClock()
    with EnergyMeter(energy_sources(sysroot)[0], clock) as meter:
        clock.sleep(3.0)
    assert meter.energy is not None
    assert meter.energy.watts == pytest.approx(4.0) and meter.energy.joules == pytest.approx(12.0)


def test_rails_without_a_total_are_added_up(tmp_path: Path) -> None:
    chip = f"{HWMON}/hwmon0"
    files: dict[str, str | int] = {f"{chip}/name": "ina3221"}
    for channel, label in ((1, "GPU"), (2, "CPU"), (3, "NC")):
        files |= {f"{chip}/in{channel}_label": label, f"{chip}/in{channel}_input": 1000}
        files |= {f"{chip}/curr{channel}_input": 1000}
    assert names(write(tmp_path, files)) == ["ina3221 GPU", "ina3221 CPU"]


def test_a_single_sensor_tells_power_itself(tmp_path: Path) -> None:
    sysroot = write(tmp_path, {f"{HWMON}/hwmon0/name": "ina226", f"{HWMON}/hwmon0/power1_input": 2_500_000})
    (source,) = energy_sources(sysroot)[0]
    assert source.name == "ina226 channel 1" and source.watts is not None and source.watts() == pytest.approx(2.5)


def test_older_jetson_kernels_tell_it_through_iio(tmp_path: Path) -> None:
    device = "sys/bus/iio/devices/iio:device0"
    sysroot = write(
        tmp_path,
        {f"{device}/name": "ina3221x", f"{device}/rail_name_0": "POM_5V_IN", f"{device}/in_power0_input": 3100},
    )
    (source,) = energy_sources(sysroot)[0]
    assert source.name == "ina POM_5V_IN" and source.watts is not None and source.watts() == pytest.approx(3.1)


def test_other_sensors_are_not_taken_for_power(tmp_path: Path) -> None:
    assert names(write(tmp_path, {f"{HWMON}/hwmon0/name": "k10temp", f"{HWMON}/hwmon0/power1_input": 1})) == []


@pytest.mark.parametrize(
    ("readings", "watts"),
    [
        ({"power_now": 7_000_000}, 7.0),
        ({"current_now": 1_500_000, "voltage_now": 4_000_000}, 6.0),
        ({"power_now": -7_000_000}, 7.0),
    ],
)
def test_a_battery_tells_while_it_is_discharged(tmp_path: Path, readings: dict[str, int], watts: float) -> None:
    battery = f"{BATTERY}/BAT0"
    files: dict[str, str | int] = {f"{battery}/type": "Battery", f"{battery}/status": "Discharging"}
    sysroot = write(tmp_path, files | {f"{battery}/{name}": value for name, value in readings.items()})
    clock = SimulatedClock()
    with EnergyMeter(energy_sources(sysroot)[0], clock) as meter:
        clock.sleep(1.0)
    assert meter.energy is not None and meter.energy.watts == pytest.approx(watts)
    assert meter.energy.source == "battery BAT0"


@pytest.mark.parametrize("change", [{"status": "Charging"}, {"type": "Mains"}, {"scope": "Device"}, {"power_now": "?"}])
def test_a_battery_that_says_nothing_about_the_machine_is_left_out(tmp_path: Path, change: dict[str, str]) -> None:
    battery = f"{BATTERY}/BAT0"
    files: dict[str, str | int] = {"type": "Battery", "status": "Discharging", "power_now": 7_000_000}
    assert names(write(tmp_path, {f"{battery}/{name}": value for name, value in (files | change).items()})) == []


def test_a_sensor_that_goes_away_gives_no_figure() -> None:
    values = iter([1.0])
    source = EnergySource(name="gone", joules=lambda: next(values, None))
    with EnergyMeter((source,)) as meter:
        pass
    assert meter.energy is None

"""How warm the device is now, whether it is held down, and what feeds it: read again and again.

Which files there are is found once: a phone has a hundred zones, some take milliseconds to read, and few tell of its
cores.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator

import msgspec

from edge_sdk.device.cpu_topology import CPU_TREE
from edge_sdk.device.facts import ThermalZone
from edge_sdk.device.sysroot import Sysroot
from edge_sdk.device.thermal import celsius, cpu_coolers, firmware_limits, hot_zones, read_power, read_zones

__all__ = ["Moment", "Sensors"]

POWER_EVERY_S = 5.0
"""Between readings of the batteries: some answer over a slow bus."""
_MAX_COUNTERS = 64
_HOTTEST_C = 150.0
"""What tells more is broken: silicon is dead by then."""

_CHIP = re.compile(r"cpu|soc|pkg|package|cluster|core|gpu|npu|tpu|acpitz|apc\d", re.IGNORECASE)
_NO_TEMPERATURE = re.compile(r"^soc$|bcl|lmh|vbat|ibat", re.IGNORECASE)
"""Zones of Qualcomm's kernels that count percents, volts and amperes; "soc" is the state of charge there."""
_BESIDE = re.compile(r"batt|bms|charg|pm[a-z]*\d|pmic|wifi|wlan|modem|usb|skin|case", re.IGNORECASE)
_HWMON = re.compile(r"coretemp|k10temp|zenpower|cpu_thermal|scpi_sensors", re.IGNORECASE)


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """The device at one moment; what no file tells is None.

    Attributes:
        at_s: when, by the clock of whoever read it.
        zone: name of the hottest zone that tells of cores or accelerators; "" where there is none.
        temperature_c: of it.
        trip_c: where the kernel begins to throttle for it.
        throttled: whether the kernel or firmware holds frequencies down.
        why: what says so.
        source: "mains", "battery" or "unknown".
        battery_percent: how full it is, 0 to 100.
        battery_wh: what it still holds, in watt-hours.
        battery_watts: what is drawn from it, by the whole device; None while it charges.
        battery_h: until it is empty if that goes on.
    """

    at_s: float
    zone: str = ""
    temperature_c: float | None = None
    trip_c: float | None = None
    throttled: bool | None = None
    why: str = ""
    source: str = "unknown"
    battery_percent: float | None = None
    battery_wh: float | None = None
    battery_watts: float | None = None
    battery_h: float | None = None


class Sensors:
    """The files that tell of heat and power on one machine. Not for several threads at once.

    A frequency limit counts as throttling where it falls below what it was when this object was made: one that stood
    before is somebody's setting. Counters of throttling (Intel) count from then on too.

    Args:
        sysroot: "/" for this machine, or a folder with its `sys/`.
        clock: seconds.
    """

    def __init__(self, sysroot: str | os.PathLike[str] = "/", clock: Callable[[], float] = time.monotonic) -> None:
        self._files, self._clock = Sysroot(sysroot), clock
        self._zones = tuple(_relevant_zones(self._files)) or tuple(_hwmon_inputs(self._files))
        self._policies = {policy: khz for policy in _policies(self._files) if (khz := self._limit_khz(policy))}
        self._counters = {path: self._files.number(path) for path in _throttle_counters(self._files)}
        self._power = Moment(at_s=0.0)
        self._power_s = float("-inf")

    def read(self) -> Moment:
        """The device now. Nothing in the files makes it fail."""
        now_s = self._clock()
        if now_s - self._power_s >= POWER_EVERY_S:
            self._power, self._power_s = _power(self._files), now_s
        zones = [self._zone(*zone) for zone in self._zones]
        known = [zone for zone in zones if zone.temperature_c is not None]
        hottest = max(known, key=lambda zone: zone.temperature_c or 0.0, default=ThermalZone(name=""))
        told = list(self._throttling(zones))
        reasons = [reason for reason in told if reason]
        return msgspec.structs.replace(
            self._power,
            at_s=now_s,
            zone=hottest.name,
            temperature_c=hottest.temperature_c,
            trip_c=hottest.trip_c,
            throttled=bool(reasons) if told else None,
            why="; ".join(reasons[:4]),
        )

    def _zone(self, path: str, name: str, trip_c: float | None) -> ThermalZone:
        now_c = celsius(self._files.number(path))
        plausible = now_c is not None and now_c < _HOTTEST_C
        return ThermalZone(name=name, temperature_c=now_c if plausible else None, trip_c=trip_c)

    def _limit_khz(self, policy: str) -> int | None:
        return self._files.number(f"{policy}/scaling_max_freq")

    def _throttling(self, zones: list[ThermalZone]) -> Iterator[str]:
        """One line a source that is there: the reason it gives, or "" for none."""
        yield from firmware_limits(self._files)
        yield from cpu_coolers(self._files)
        yield from hot_zones(zones)
        for policy, usual_khz in self._policies.items():
            now_khz = self._limit_khz(policy)
            if now_khz is None:
                continue
            self._policies[policy] = max(usual_khz, now_khz)
            held = f"{os.path.basename(policy)} is held at {now_khz // 1000} of {usual_khz // 1000} MHz"
            yield held if now_khz < usual_khz else ""
        for path, before in self._counters.items():
            now = self._files.number(path)
            if now is None:
                continue
            self._counters[path] = now
            yield f"{os.path.basename(path)} rose to {now}" if before is not None and now > before else ""


def _relevant_zones(files: Sysroot) -> Iterator[tuple[str, str, float | None]]:
    """File, name and trip of the zones on the chip; of all that are no battery and the like where none is named so."""
    found = [(path, zone) for path, zone in read_zones(files).items() if not _NO_TEMPERATURE.search(zone.name)]
    found = [(path, zone) for path, zone in found if zone.temperature_c]  # those of what is switched off say 0
    chip = [(path, zone) for path, zone in found if _CHIP.search(zone.name)]
    for path, zone in chip or [(path, zone) for path, zone in found if not _BESIDE.search(zone.name)]:
        yield f"{path}/temp", zone.name, zone.trip_c


def _hwmon_inputs(files: Sysroot) -> Iterator[tuple[str, str, float | None]]:
    """Of machines whose kernel has no zones."""
    for name in files.listing("sys/class/hwmon")[:64]:
        folder = f"sys/class/hwmon/{name}"
        driver = (files.text(f"{folder}/name") or "")[:64]
        if _HWMON.search(driver):
            for entry in files.listing(folder):
                if re.fullmatch(r"temp\d{1,3}_input", entry):
                    limit = celsius(files.number(f"{folder}/{entry[:-6]}_max"))
                    yield f"{folder}/{entry}", driver, limit if limit and limit > 0 else None


def _policies(files: Sysroot) -> Iterator[str]:
    for name in files.listing(f"{CPU_TREE}/cpufreq"):
        if re.fullmatch(r"policy\d{1,5}", name):
            yield f"{CPU_TREE}/cpufreq/{name}"


def _throttle_counters(files: Sysroot) -> list[str]:
    """Intel's, of the cores; the package's is the same for all of its cores."""
    found = [f"{CPU_TREE}/cpu0/thermal_throttle/package_throttle_count"]
    cpus = [name for name in files.listing(CPU_TREE) if re.fullmatch(r"cpu\d{1,5}", name)]
    found += [f"{CPU_TREE}/{name}/thermal_throttle/core_throttle_count" for name in cpus]
    return [path for path in found[:_MAX_COUNTERS] if files.number(path) is not None]


def _power(files: Sysroot) -> Moment:
    """What feeds the machine, and how long a battery lasts. Units of the kernel are micro-: µWh, µW, µAh, µA, µV."""
    power = read_power(files)
    held, drawn, full = 0.0, 0.0, 0.0
    for folder in _batteries(files):
        volts = _micro(files, f"{folder}/voltage_now") or 0.0
        held += _micro(files, f"{folder}/energy_now") or (_micro(files, f"{folder}/charge_now") or 0.0) * volts
        full += _micro(files, f"{folder}/energy_full") or (_micro(files, f"{folder}/charge_full") or 0.0) * volts
        if (files.text(f"{folder}/status") or "").lower() == "discharging":
            drawn += _micro(files, f"{folder}/power_now") or (_micro(files, f"{folder}/current_now") or 0.0) * volts
    percent: float | None = power.battery_percent
    if percent is not None and 0 < held <= full and abs(100 * held / full - percent) <= 1:
        percent = round(100 * held / full, 2)  # the same, with the digits that the whole number lacks
    return Moment(
        at_s=0.0,
        source=power.source,
        battery_percent=percent,
        battery_wh=round(held, 3) or None,
        battery_watts=round(drawn, 3) or None,
        battery_h=round(held / drawn, 2) if held > 0 and drawn > 0.001 else None,
    )


def _batteries(files: Sysroot) -> Iterator[str]:
    """Those that feed the machine, and not a mouse."""
    for name in files.listing("sys/class/power_supply")[:64]:
        folder = f"sys/class/power_supply/{name}"
        kind = (files.text(f"{folder}/type") or "").lower()
        own = (files.text(f"{folder}/scope") or "").lower() != "device"
        if kind == "battery" and own and files.number(f"{folder}/present") != 0:
            yield folder


def _micro(files: Sysroot, path: str) -> float | None:
    """In whole units; drivers disagree on the sign of what is drawn. None beyond what a battery can have."""
    value = files.number(path)
    return None if value is None or abs(value) > 10**10 else abs(value) / 1e6

"""What changes from moment to moment: temperatures, frequencies, throttling, the source of power."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator

from edge_sdk.device.cpu_topology import CPU_TREE
from edge_sdk.device.cpuinfo import CpuInfo
from edge_sdk.device.facts import Cpus, Power, ThermalZone
from edge_sdk.device.sysroot import Sysroot

__all__ = [
    "celsius",
    "cpu_coolers",
    "firmware_limits",
    "hot_zones",
    "read_frequencies",
    "read_power",
    "read_zones",
]

_ZONES = "sys/class/thermal"
_MAX_ZONES = 256
_MAX_TRIPS = 16
_FREQUENCY_BUDGET_S = 0.05
"""Some x86 kernels sample for 10 ms a CPU; what the budget does not reach is left out."""

_CPU_ZONE = re.compile(r"cpu|soc|pkg|package|cluster|core", re.IGNORECASE)
_FIRMWARE = "sys/devices/platform/soc/soc:firmware/get_throttled"
"""Raspberry Pi: bits 1 to 3 mean frequency capped, throttled and soft temperature limit now."""


def read_zones(sysroot: Sysroot) -> dict[str, ThermalZone]:
    """The temperature sensors by their folders, in the kernel's order."""
    names = [name for name in sysroot.listing(_ZONES) if re.fullmatch(r"thermal_zone\d{1,4}", name)]
    names.sort(key=lambda name: int(name[12:]))
    return {f"{_ZONES}/{name}": _read_zone(sysroot, f"{_ZONES}/{name}", name) for name in names[:_MAX_ZONES]}


def _read_zone(sysroot: Sysroot, folder: str, name: str) -> ThermalZone:
    trips = []
    for trip in range(_MAX_TRIPS):
        kind = sysroot.text(f"{folder}/trip_point_{trip}_type")
        if kind is None:
            break
        limit_c = celsius(sysroot.number(f"{folder}/trip_point_{trip}_temp"))
        # Vendors leave trips that are not used at 0 or below.
        if kind in ("passive", "hot") and limit_c is not None and limit_c > 0:
            trips.append(limit_c)
    label = (sysroot.text(f"{folder}/type") or name)[:64]
    return ThermalZone(
        name=label,
        temperature_c=celsius(sysroot.number(f"{folder}/temp")),
        trip_c=min(trips, default=None),
    )


def celsius(value: int | None) -> float | None:
    """What a file tells in thousandths of a degree, as the kernel's interface says, or in whole ones, as some vendors
    write."""
    if value is None:
        return None
    degrees = float(value) if -200 < value < 200 else value / 1000
    return round(degrees, 1) if -100 < degrees < 300 else None


def read_frequencies(
    sysroot: Sysroot, info: CpuInfo | None, online: Iterable[int], zones: Iterable[ThermalZone]
) -> Cpus:
    """Frequencies now, and whether something holds them down.

    Args:
        sysroot: where to read.
        info: what `/proc/cpuinfo` says ("cpu MHz" on x86 without cpufreq).
        online: CPUs to read.
        zones: temperatures already read.
    """
    now_mhz: dict[str, int] = {}
    end_s = time.monotonic() + _FREQUENCY_BUDGET_S
    for cpu in online:
        mhz = _now_mhz(sysroot, info, cpu)
        if mhz is not None:
            now_mhz[str(cpu)] = mhz
        if time.monotonic() > end_s:
            break
    seen, reasons = False, []
    for source in (firmware_limits(sysroot), cpu_coolers(sysroot), _caps(sysroot), hot_zones(zones)):
        for reason in source:
            seen = True
            if reason:
                reasons.append(reason)
    return Cpus(now_mhz=now_mhz, throttled=bool(reasons) if seen else None, why="; ".join(reasons[:4]))


def _now_mhz(sysroot: Sysroot, info: CpuInfo | None, cpu: int) -> int | None:
    khz = sysroot.number(f"{CPU_TREE}/cpu{cpu}/cpufreq/scaling_cur_freq")
    if khz is not None and 0 < khz < 100_000_000:
        return round(khz / 1000)
    block = info.cpus.get(cpu) if info is not None else None
    match = re.fullmatch(r"(\d{1,6})(\.\d+)?", block.fields.get("cpu mhz", "")) if block is not None else None
    return int(match[1]) or None if match else None


# Each of these yields one line a source that is there: the reason it gives for throttling, or "" for none.


def firmware_limits(sysroot: Sysroot) -> Iterator[str]:
    """Of a Raspberry Pi."""
    bits = sysroot.number(_FIRMWARE, 16)
    if bits is not None:
        words = {1: "frequency capped", 2: "throttled", 3: "soft temperature limit"}
        yield ", ".join(word for bit, word in words.items() if bits >> bit & 1)


def cpu_coolers(sysroot: Sysroot) -> Iterator[str]:
    """Cooling devices that hold cores down."""
    for name in sysroot.listing(_ZONES)[: 4 * _MAX_ZONES]:
        if name.startswith("cooling_device"):
            kind = (sysroot.text(f"{_ZONES}/{name}/type") or "")[:64]
            state = sysroot.number(f"{_ZONES}/{name}/cur_state")
            if state is not None and re.search(r"cpufreq|processor|cpu[-_ ]?\d|cpu-cluster", kind, re.IGNORECASE):
                yield f"{kind} cools in state {state}" if state > 0 else ""


def _caps(sysroot: Sysroot) -> Iterator[str]:
    for name in sysroot.listing(f"{CPU_TREE}/cpufreq"):
        if re.fullmatch(r"policy\d{1,5}", name):
            folder = f"{CPU_TREE}/cpufreq/{name}"
            now, full = sysroot.number(f"{folder}/scaling_max_freq"), sysroot.number(f"{folder}/cpuinfo_max_freq")
            if now and full:
                yield f"{name} is held at {now // 1000} of {full // 1000} MHz" if now < full else ""


def hot_zones(zones: Iterable[ThermalZone]) -> Iterator[str]:
    """Zones of cores beyond their trip."""
    for zone in zones:
        if zone.trip_c is not None and zone.temperature_c is not None and _CPU_ZONE.search(zone.name):
            hot = zone.temperature_c >= zone.trip_c
            yield f"{zone.name} at {zone.temperature_c:g} C, throttles from {zone.trip_c:g} C" if hot else ""


def read_power(sysroot: Sysroot) -> Power:
    """Whether mains or a battery feeds the machine."""
    base = "sys/class/power_supply"
    plugged, battery_percent, discharging, has_battery = False, None, False, False
    for name in sysroot.listing(base)[:64]:
        folder = f"{base}/{name}"
        kind = (sysroot.text(f"{folder}/type") or "").lower()
        if (sysroot.text(f"{folder}/scope") or "").lower() == "device":
            continue  # the battery of a mouse
        if kind == "battery" and sysroot.number(f"{folder}/present") != 0:
            has_battery = True
            percent = sysroot.number(f"{folder}/capacity")
            if percent is not None and 0 <= percent <= 100:
                battery_percent = percent
            discharging = discharging or (sysroot.text(f"{folder}/status") or "").lower() == "discharging"
        elif kind in ("mains", "wireless") or kind.startswith("usb"):
            plugged = plugged or sysroot.number(f"{folder}/online") == 1
    if discharging and not plugged:
        return Power(source="battery", battery_percent=battery_percent)
    if plugged or has_battery:
        return Power(source="mains", battery_percent=battery_percent)
    return Power()

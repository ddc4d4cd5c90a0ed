"""Energy as the machine's own sensors measure it; where there is none, nothing is made up.

Three kinds of source, best first: counters of the processor (RAPL, in Linux's powercap tree), sensors on the board's
supply (INA219, INA226, INA3221 and their like, through hwmon or, on older Jetson kernels, iio), and a battery that is
being discharged. All are files below a root that can be replaced.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

import msgspec

from edge_sdk.device.sysroot import Sysroot
from edge_sdk.measuring.clocks import REAL_TIME, Clock

__all__ = ["Energy", "EnergyMeter", "EnergySource", "energy_sources"]

SAMPLE_S = 0.1
_INA = re.compile(r"ina(2\d\d|3221|700|780)\w*")
_MAX_SENSORS = 64
_TOTAL_RAILS = ("VDD_IN", "POM_5V_IN", "VDD_TOTAL")
"""What the boards' makers call the rail that everything hangs on; the other rails are parts of it."""
_NO_RAILS = re.compile(r"NC|sum of .*", re.IGNORECASE)
"""Labels of channels that are not connected, or add up others."""


class Energy(msgspec.Struct, frozen=True, kw_only=True):
    """Energy over one stretch of time, measured.

    Attributes:
        source: which sensor, and what it covers.
        joules: all that the source delivered meanwhile, to whoever.
        seconds: how long.
        watts: mean power.
    """

    source: str
    joules: float
    seconds: float
    watts: float


@dataclass(frozen=True, slots=True)
class EnergySource:
    """One sensor that can be read now.

    Attributes:
        name: kind and what it covers: "rapl package-0", "ina3221 VDD_IN", "battery BAT0".
        joules: counts up; None for a sensor of power.
        watts: power now; None for a counter.
        wraps_at_joules: where the counter begins again.
    """

    name: str
    joules: Callable[[], float | None] | None = None
    watts: Callable[[], float | None] | None = None
    wraps_at_joules: float | None = None


def energy_sources(sysroot: Sysroot | None = None) -> tuple[tuple[EnergySource, ...], str]:
    """The sensors that together tell what this machine takes, and one line about them.

    Returns:
        Sources to be added up (all counters, or one sensor of power), empty where there is none that can be read; and
        what was found, or why nothing.
    """
    root = sysroot or Sysroot()
    unreadable: list[str] = []
    for find in (_rapl, _board_sensor, _battery):
        found = find(root, unreadable)
        if found:
            return tuple(found), "measured by " + " + ".join(source.name for source in found)
    if unreadable:
        return (), f"not measured: {', '.join(unreadable)} may be read by root only"
    return (), "not measured: no RAPL counter, INA sensor or discharging battery here"


def _rapl(root: Sysroot, unreadable: list[str]) -> list[EnergySource]:
    base = "sys/class/powercap"
    found = []
    for zone in root.listing(base)[:_MAX_SENSORS]:
        # Sub-zones ("intel-rapl:0:0") are parts of their package; the mmio tree repeats the same counters.
        if not re.fullmatch(r"(intel|amd)-rapl:\d{1,3}", zone):
            continue
        folder = f"{base}/{zone}"
        name = (root.text(f"{folder}/name") or zone)[:32]
        if name == "psys" or not root.exists(f"{folder}/energy_uj"):
            continue  # the platform's zone holds the packages and more, and is wired on few machines
        if root.number(f"{folder}/energy_uj") is None:
            unreadable.append(f"rapl {name}")
            continue
        wraps = root.number(f"{folder}/max_energy_range_uj")
        found.append(
            EnergySource(
                name=f"rapl {name}",
                joules=_scaled(root, f"{folder}/energy_uj", 1e-6),
                wraps_at_joules=wraps * 1e-6 if wraps else None,
            )
        )
    return found


def _scaled(root: Sysroot, path: str, factor: float) -> Callable[[], float | None]:
    def read() -> float | None:
        value = root.number(path)
        return None if value is None else value * factor

    return read


def _product(root: Sysroot, path: str, other: str, factor: float) -> Callable[[], float | None]:
    def read() -> float | None:
        one, two = root.number(path), root.number(other)
        return None if one is None or two is None else one * two * factor

    return read


def _board_sensor(root: Sysroot, unreadable: list[str]) -> list[EnergySource]:
    """The rail that everything hangs on where one says so by its label, otherwise all labelled ones, or the first."""
    found = [*_hwmon_sensors(root), *_iio_sensors(root)]
    found = [(label, s) for label, s in found if not _NO_RAILS.fullmatch(label) and s.watts and s.watts() is not None]
    for rail in _TOTAL_RAILS:
        for label, source in found:
            if label.upper() == rail:
                return [source]
    labelled = [source for label, source in found if label]
    return labelled or [source for _, source in found[:1]]


def _hwmon_sensors(root: Sysroot) -> list[tuple[str, EnergySource]]:
    found = []
    for entry in root.listing("sys/class/hwmon")[:_MAX_SENSORS]:
        folder = f"sys/class/hwmon/{entry}"
        chip = (root.text(f"{folder}/name") or "")[:32]
        if not _INA.fullmatch(chip):
            continue
        files = set(root.listing(folder))
        for channel in range(1, 9):
            label = (root.text(f"{folder}/in{channel}_label") or "")[:32]
            if f"power{channel}_input" in files:  # microwatts
                watts = _scaled(root, f"{folder}/power{channel}_input", 1e-6)
            elif {f"in{channel}_input", f"curr{channel}_input"} <= files:  # millivolts and milliamperes
                watts = _product(root, f"{folder}/in{channel}_input", f"{folder}/curr{channel}_input", 1e-6)
            else:
                continue
            found.append((label, EnergySource(name=f"{chip} {label or f'channel {channel}'}", watts=watts)))
    return found


def _iio_sensors(root: Sysroot) -> list[tuple[str, EnergySource]]:
    found = []
    for entry in root.listing("sys/bus/iio/devices")[:_MAX_SENSORS]:
        folder = f"sys/bus/iio/devices/{entry}"
        if not re.match(r"ina3221|ina2", root.text(f"{folder}/name") or ""):
            continue
        for channel in range(3):
            label = (root.text(f"{folder}/rail_name_{channel}") or "")[:32]
            watts = _scaled(root, f"{folder}/in_power{channel}_input", 1e-3)  # milliwatts
            found.append((label, EnergySource(name=f"ina {label or f'channel {channel}'}", watts=watts)))
    return found


def _battery(root: Sysroot, unreadable: list[str]) -> list[EnergySource]:
    base = "sys/class/power_supply"
    for name in root.listing(base)[:_MAX_SENSORS]:
        folder = f"{base}/{name}"
        if (root.text(f"{folder}/type") or "").lower() != "battery":
            continue
        if (root.text(f"{folder}/scope") or "").lower() == "device":
            continue  # the battery of a mouse
        if (root.text(f"{folder}/status") or "").lower() != "discharging":
            continue  # what flows into a battery says nothing about what the machine takes
        # Microwatts; some drivers give current (µA) and voltage (µV) instead, and some a negative sign.
        for watts in (
            _scaled(root, f"{folder}/power_now", 1e-6),
            _product(root, f"{folder}/current_now", f"{folder}/voltage_now", 1e-12),
        ):
            if watts() is not None:
                return [EnergySource(name=f"battery {name[:32]}", watts=watts)]
    return []


class _Reading:
    """What one source delivered since it was first read."""

    def __init__(self, source: EnergySource) -> None:
        self.source = source
        self.total: float | None = None
        self._last: tuple[float, float] | None = None

    def read(self, now: float) -> None:
        """Adds what came since the last time; a reading that fails is left to the next one."""
        source = self.source
        value = source.joules() if source.joules else source.watts() if source.watts else None
        if value is None:
            return
        if self._last is not None:
            before, earlier = self._last
            if source.watts:
                more = (now - before) * (abs(value) + abs(earlier)) / 2
            elif value < earlier:
                more = value - earlier + source.wraps_at_joules if source.wraps_at_joules else 0.0
            else:
                more = value - earlier
            self.total = (self.total or 0.0) + more
        self._last = (now, value)


class EnergyMeter:
    """Measures the energy over a stretch of time. A context manager; `energy` tells afterwards.

    A thread reads the sensors ten times a second: power is added up by the trapezoid rule, and a counter never wraps
    twice between two readings.

    Args:
        sources: from `energy_sources`; with none, `energy` stays None.
        clock: what times it.

    Attributes:
        energy: what was measured; None before the end, without sources, or where a sensor could not be read.
    """

    def __init__(self, sources: tuple[EnergySource, ...], clock: Clock = REAL_TIME) -> None:
        self.energy: Energy | None = None
        self._readings = [_Reading(source) for source in sources]
        self._clock = clock
        self._began = 0.0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> EnergyMeter:
        self._began = self._clock()
        if self._readings:
            self._read()
            self._thread = threading.Thread(target=self._watch, name="edge-sdk-energy", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is None:
            return
        self._stop.set()
        self._thread.join()
        self._read()
        seconds = self._clock() - self._began
        totals = [reading.total for reading in self._readings]
        known = [total for total in totals if total is not None]
        if len(known) == len(totals) and seconds > 0:
            joules = sum(known)
            self.energy = Energy(
                source=" + ".join(reading.source.name for reading in self._readings),
                joules=round(joules, 6),
                seconds=round(seconds, 4),
                watts=round(joules / seconds, 4),
            )

    def _watch(self) -> None:
        while not self._stop.wait(SAMPLE_S):
            self._read()

    def _read(self) -> None:
        now = self._clock()
        for reading in self._readings:
            reading.read(now)

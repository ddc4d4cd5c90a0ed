"""A device's warmth, simulated: for tests of what steps down before the kernel does, an hour in a moment.

Two bodies: the chip, which warms within seconds, and the case that it sits in, which takes minutes. The kernel
throttles the chip at its trip point until it is cooler again, as the step-wise governor of Linux does.

Source: the usual lumped model of thermal resistances and capacities, as in K. Skadron et al., "Temperature-aware
microarchitecture", ACM TACO 1 (2004).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Heat", "SimulatedHeat"]

STEP_S = 0.5


@dataclass(frozen=True, slots=True)
class Heat:
    """What a device is made of.

    Attributes:
        ambient_c: around it.
        chip_c_per_w: from chip to case: what each watt makes the chip warmer than the case.
        case_c_per_w: from case to air.
        chip_s, case_s: in which chip and case come to 63 % of a step.
        idle_watts: that it takes while it does nothing.
        trip_c: where the kernel throttles.
        cooler_c: by so much it must be cooler before the kernel lets go.
        throttled_share: of its speed that is left, and of the power beyond idle.
        rounded_c: what the sensor rounds to.
    """

    ambient_c: float = 25.0
    chip_c_per_w: float = 4.0
    case_c_per_w: float = 6.0
    chip_s: float = 4.0
    case_s: float = 240.0
    idle_watts: float = 0.8
    trip_c: float = 80.0
    cooler_c: float = 5.0
    throttled_share: float = 0.5
    rounded_c: float = 0.1


class SimulatedHeat:
    """One device as time passes.

    Args:
        heat: what it is made of.

    Attributes:
        throttled: whether the kernel holds it down now.
        throttled_s: for how long it has in all.
    """

    def __init__(self, heat: Heat) -> None:
        self.heat = heat
        self._case_c = heat.ambient_c + heat.idle_watts * heat.case_c_per_w
        self._chip_c = self._case_c + heat.idle_watts * heat.chip_c_per_w
        self.throttled = False
        self.throttled_s = 0.0

    @property
    def chip_c(self) -> float:
        """As it is."""
        return self._chip_c

    @property
    def read_c(self) -> float:
        """As the sensor tells."""
        return round(self._chip_c / self.heat.rounded_c) * self.heat.rounded_c

    def passes(self, seconds: float, watts: float) -> None:
        """Lets time pass.

        Args:
            seconds: of it.
            watts: what would be drawn unthrottled.
        """
        heat = self.heat
        while seconds > 1e-9:
            step_s = min(seconds, STEP_S)
            seconds -= step_s
            drawn = heat.idle_watts + (watts - heat.idle_watts) * (heat.throttled_share if self.throttled else 1.0)
            case_ends_c = heat.ambient_c + drawn * heat.case_c_per_w
            self._case_c += (case_ends_c - self._case_c) * -math.expm1(-step_s / heat.case_s)
            chip_ends_c = self._case_c + drawn * heat.chip_c_per_w
            self._chip_c += (chip_ends_c - self._chip_c) * -math.expm1(-step_s / heat.chip_s)
            self.throttled_s += step_s * self.throttled
            if self._chip_c >= heat.trip_c:
                self.throttled = True
            elif self._chip_c < heat.trip_c - heat.cooler_c:
                self.throttled = False

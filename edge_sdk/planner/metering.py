"""Power of a request as the machine's own sensors tell it."""

from __future__ import annotations

import time
from collections.abc import Callable

from edge_sdk.measuring import EnergyMeter, energy_sources

__all__ = ["METERED_S", "metered_watts"]

METERED_S = 0.3
"""RAPL counts every millisecond, INA sensors are read ten times a second: below this a figure is chance."""


def metered_watts(request: Callable[[], object]) -> float | None:
    """Mean power while a request runs again and again, in watts: of all that the sensor covers, idle power included.

    None where the machine has no sensor that can be read.
    """
    sources, _ = energy_sources()
    if not sources:
        return None
    with EnergyMeter(sources) as meter:
        end = time.perf_counter() + METERED_S
        while time.perf_counter() < end:
            request()
    return None if meter.energy is None else meter.energy.watts

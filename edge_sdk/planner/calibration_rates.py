"""From fitted numbers to the flat table that `Rates` reads."""

from __future__ import annotations

from collections.abc import Mapping

from edge_sdk.planner.rates import UNITS, Place, place_key
from edge_sdk.tensors import Array

__all__ = ["flat_rates"]


def flat_rates(
    engine: str,
    rates: Mapping[tuple[str, str], Array],
    places: Mapping[Place, tuple[Mapping[str, tuple[float, float]], float]],
    spread: float,
) -> dict[str, float]:
    """The table.

    Args:
        engine: name.
        rates: by precision and sort, see `calibration_fit.fit_rates`.
        places: class to share and microseconds, and those of a request; see `calibration_fit.fit_places`.
        spread: see `Rates.spread`.
    """
    table: dict[str, float] = {}
    for (precision, sort), values in sorted(rates.items()):
        for (unit, scale), value in zip(UNITS.items(), values, strict=True):
            if value > 0 or unit == "us_per_call":
                table[f"{engine}.kernel.{precision}.{sort}.{unit}"] = _rounded(value / scale)
    for place, (classes, request_us) in places.items():
        head = place_key(engine, place.clusters[0], place.threads)
        table[f"{head}.request_us"] = _rounded(request_us)
        for name, (share, extra_us) in sorted(classes.items()):
            table[f"{head}.{name}.share"] = _rounded(share)
            table[f"{head}.{name}.us"] = _rounded(extra_us)
    table[f"{engine}.spread"] = _rounded(spread)
    return table


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")

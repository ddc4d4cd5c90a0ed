"""Rates of a device that is not here, derived from its cores: what they do in a clock cycle, and how fast they are
clocked.

The figures (`rates_cores.json`) are fitted to latencies that another engine's authors publish for many boards. Ranks
and ratios carry over to the engines here; absolute times are estimates.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import msgspec

from edge_sdk.device.cpu_cores import design
from edge_sdk.device.facts import Cluster, Device
from edge_sdk.planner.cost_work import CLASSES
from edge_sdk.planner.rates import ANY, THREAD_EXPONENT, place_key

__all__ = ["CoreFigures", "core_class", "core_speed", "derived_rates", "maker", "shipped_figures"]

_REFERENCE = {"neon": "cortex-a72", "fp16": "cortex-a76"}
_SPREAD = 0.6
CALL_CYCLES = 6000.0
_USUAL_EXPONENTS = {"recurrent": 0.0, "light": 0.0}
_EACH = 12
"""Up to so many threads each count has its own figures."""
_HALF = 0.5
"""Floats of 32 bits are computed with at half the speed of those of 16, where a core can do these at all."""


class CoreFigures(msgspec.Struct, frozen=True):
    """The figures that rates are derived from.

    Attributes:
        classes: class of instruction sets ("neon", "fp16", "avx2", …) to figures of its reference core: "float.SORT"
            and "int8.SORT" in multiply-accumulates a cycle, "bytes" a cycle that light kernels move.
        cores: speed of a core at one clock beside the reference core of its class.
        threads: class of kernels to the exponent e with which N threads take N to the power of minus e of the time;
            "crowding" and "crowding.MAKER": how much longer they take for each thread beside the first, whatever their
            class, since all share one memory.
    """

    classes: dict[str, dict[str, float]]
    cores: dict[str, float]
    threads: dict[str, float]
    about: str = ""


@lru_cache(maxsize=1)
def shipped_figures() -> CoreFigures:
    """The figures that come with the package."""
    return msgspec.json.decode(Path(__file__).with_name("rates_cores.json").read_bytes(), type=CoreFigures)


def derived_rates(device: Device, figures: CoreFigures | None = None) -> dict[str, float] | None:
    """The flat table of `edge_sdk.planner.rates` for any engine; None where no cluster's core and clock are known.

    Args:
        device: probed, or of a profile.
        figures: to derive from; those of the package where None.
    """
    figures = figures or shipped_figures()
    group = core_class(device)
    known = [cluster for cluster in device.clusters if cluster.max_mhz]
    if group not in figures.classes or not known:
        return None
    first = known[0]
    assert first.max_mhz is not None
    table = _kernels(figures.classes[group], core_speed(first.core, group, figures) * first.max_mhz, group == "fp16")
    cpus = sum(len(cluster.cpus) for cluster in known)
    for cluster in known:
        table |= _places(cluster, first, cpus, device, group, figures)
    return table | {f"{ANY}.spread": _SPREAD, f"{ANY}.channel_block": _channel_block(device)}


def core_class(device: Device) -> str:
    """The class of instruction sets that sets a core's pace."""
    isa = set(device.isa)
    if device.arch.startswith(("x86", "amd64", "i686")):
        if any(feature.startswith("avx512") for feature in isa):
            return "avx512 vnni" if "vnni" in isa else "avx512"
        return ("avx2 vnni" if "vnni" in isa else "avx2") if "avx2" in isa else "sse"
    return "fp16" if {"fp16", "dotprod"} <= isa else "neon"


def core_speed(core: str | None, group: str, figures: CoreFigures) -> float:
    """Speed of a core at one clock beside the reference of its class; by its rank among designs where nobody
    measured."""
    if core in figures.cores:
        return figures.cores[core]
    found, reference = design(core), design(_REFERENCE.get(group))
    if found is None or reference is None:
        return 1.0
    return found.rank / reference.rank


def _kernels(group: Mapping[str, float], speed_mhz: float, halves: bool) -> dict[str, float]:
    table: dict[str, float] = {}
    us_per_mb = 1e6 / (group["bytes"] * speed_mhz)
    for name, macs_per_cycle in group.items():
        precision, _, sort = name.partition(".")
        if not sort:
            continue
        us_per_mmac = 1e6 / (macs_per_cycle * speed_mhz)
        if precision == "int8":
            speeds = {"int8": us_per_mmac}
        else:
            speeds = {"float16": us_per_mmac, "float32": us_per_mmac / _HALF if halves else us_per_mmac}
        for own, value in speeds.items():
            table |= _kernel(own, sort, value, us_per_mb, speed_mhz)
    for precision in ("float32", "float16", "int8"):
        table |= _kernel(precision, ANY, 0.0, us_per_mb, speed_mhz)
    return table


def _kernel(precision: str, sort: str, us_per_mmac: float, us_per_mb: float, speed_mhz: float) -> dict[str, float]:
    head = f"{ANY}.kernel.{precision}.{sort}"
    table = {f"{head}.us_per_call": CALL_CYCLES / speed_mhz}
    if us_per_mmac:
        table[f"{head}.us_per_mmac"] = us_per_mmac
    for what in ("input", "output", "parameter"):
        table[f"{head}.us_per_{what}_mb"] = us_per_mb
    return table


def _places(
    cluster: Cluster, first: Cluster, cpus: int, device: Device, group: str, figures: CoreFigures
) -> dict[str, float]:
    assert cluster.max_mhz is not None and first.max_mhz is not None
    speeds = [core_speed(c.core, group, figures) * c.max_mhz for c in (first, cluster) if c.max_mhz]
    crowding = figures.threads.get(f"crowding.{maker(device)}", figures.threads.get("crowding", 0.0))
    table: dict[str, float] = {}
    for threads in _thread_counts(cpus):
        for name in CLASSES:
            exponent = figures.threads.get(name, _USUAL_EXPONENTS.get(name, THREAD_EXPONENT))
            share = speeds[0] / speeds[-1] / threads**exponent * (1 + crowding * (threads - 1))
            table[f"{place_key(ANY, cluster.id, threads)}.{name}.share"] = share
    return table


def _thread_counts(cpus: int) -> list[int]:
    return [n for n in range(1, cpus + 1) if n <= _EACH or n == cpus or not n & (n - 1)]


def maker(device: Device) -> str:
    """Who made the chip, in lower case: chips of one maker have memory systems of one kind."""
    return (device.soc or "").partition(" ")[0].lower()


def _channel_block(device: Device) -> float:
    from edge_sdk.planner.calibration import channel_block

    return float(channel_block(device))

"""Calibration: the rates of this machine, measured once. `rates_kept` keeps them."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence

from edge_sdk.device.facts import Device
from edge_sdk.errors import EngineNotInstalled, InputError
from edge_sdk.planner.rates import Place

__all__ = ["BUDGET_S", "calibrate", "places_of"]

_log = logging.getLogger(__name__)
BUDGET_S = 30.0
_MEMORY_SHARE = 1 / 20
"""Share of the machine's memory that all calibration networks together may take in their files."""
_SHARES = {"onnxruntime": 0.7, "litert": 0.3}


def calibrate(
    device: Device,
    engines: Sequence[str] | None = None,
    budget_s: float = BUDGET_S,
    progress: Callable[[str, float], object] = lambda engine, share: None,
) -> dict[str, float]:
    """Measures how fast the engines run each sort of kernel on this machine. Nothing is kept: see `rates_kept`.

    Args:
        device: this machine.
        engines: those to calibrate; all installed ones that can be where None.
        budget_s: how long it may take, in seconds.
        progress: told engine and share done, from 0 to 1.

    Returns:
        The flat table of `edge_sdk.planner.rates`.

    Raises:
        EngineNotInstalled: none of the engines is.
        InputError: `budget_s` is not above 0, or an engine cannot be calibrated.
    """
    if not 0 < budget_s < math.inf:
        raise InputError(f"budget_s is {budget_s!r}; expected seconds, above 0")
    known = _calibrators()
    unknown = sorted(set(engines or ()) - set(known))
    if unknown:
        raise InputError(f"engine {unknown[0]!r} cannot be calibrated; known: {', '.join(known)}")
    chosen = [name for name in (known if engines is None else engines) if name in device.engines]
    if not chosen:
        raise EngineNotInstalled("nothing to calibrate: none of the engines is installed: pip install onnxruntime")
    total = sum(_SHARES[name] for name in chosen)
    rates: dict[str, float] = {}
    for name in chosen:
        part_s = budget_s * _SHARES[name] / total
        rates |= known[name](device, part_s, lambda share, name=name: progress(name, share))  # type: ignore[misc]
    return rates


def places_of(device: Device) -> list[tuple[Place, tuple[int, ...] | None]]:
    """Places to calibrate with the CPUs to pin to (None where they are all): each cluster with one thread, two, and as
    many as it has CPUs; one thread of the fastest first."""
    found: list[tuple[Place, tuple[int, ...] | None]] = []
    usable = set(device.usable_cpus)
    bound = math.ceil(device.cpu_quota) if device.cpu_quota is not None else len(usable)
    for cluster in device.clusters:
        cpus = tuple(sorted(set(cluster.cpus) & usable))
        if cpus:
            most = max(1, min(len(cpus), bound))
            pinned = None if set(cpus) == usable else cpus
            found += [(Place((cluster.id,), threads), pinned) for threads in sorted({1, min(2, most), most})]
    return found


_Calibrator = Callable[[Device, float, Callable[[float], object]], dict[str, float]]


def _calibrators() -> dict[str, _Calibrator]:
    return {"onnxruntime": _onnxruntime, "litert": _litert}


def _onnxruntime(device: Device, budget_s: float, progress: Callable[[float], object]) -> dict[str, float]:
    from edge_sdk.planner.calibration_onnxruntime import calibrate_onnxruntime

    return calibrate_onnxruntime(
        places_of(device),
        budget_s,
        channel_block=channel_block(device),
        max_bytes=_max_bytes(device),
        progress=progress,
    )


def _litert(device: Device, budget_s: float, progress: Callable[[float], object]) -> dict[str, float]:
    from edge_sdk.planner.calibration_litert import calibrate_litert

    return calibrate_litert(places_of(device), budget_s, max_bytes=_max_bytes(device), progress=progress)


def _max_bytes(device: Device) -> float:
    return (device.memory_mb or 4096) * 2**20 * _MEMORY_SHARE


def channel_block(device: Device) -> int:
    """How many channels ONNX Runtime keeps together on this processor; 0 where it does not."""
    if not device.arch.startswith(("x86", "amd64", "i686")):
        return 0
    return 16 if any(feature.startswith("avx512") for feature in device.isa) else 8

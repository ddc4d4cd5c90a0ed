"""The ways to run one model file on one device: engine × placement, likeliest first."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edge_sdk.device.facts import Cluster, Device
from edge_sdk.engines.base import Engine
from edge_sdk.planner.plan import Candidate, Placement

__all__ = ["POWER_MODES", "candidates", "placements"]

POWER_MODES = ("performance", "balanced", "efficiency")


def placements(device: Device, usable_cpus: Sequence[int], power_mode: str = "balanced") -> tuple[Placement, ...]:
    """Placements worth measuring besides the engine's own default, likeliest first.

    Threads never outnumber the CPUs they run on, since engines are then 2 to 4 times slower. Where cores differ, each
    role is a placement of its own: a request is as slow as its slowest worker. A CPU quota bounds the threads too.
    """
    usable = tuple(sorted(usable_cpus))
    bound = len(usable)
    if device.cpu_quota is not None:
        bound = max(1, min(bound, math.ceil(device.cpu_quota)))
    found: list[Placement] = []
    for label, cpus in _groups(device.clusters, usable, power_mode):
        most = min(bound, len(cpus))
        counts = sorted({most, max(1, most // 2), min(2, most), 1}, reverse=True)
        pinned = None if cpus == usable else cpus
        found += [Placement(cpus=pinned, threads=count, label=label) for count in counts]
    return tuple(found)


def _groups(clusters: Sequence[Cluster], usable: tuple[int, ...], power_mode: str) -> list[tuple[str, tuple[int, ...]]]:
    by_role: dict[str, list[int]] = {}
    groups: list[tuple[str, tuple[int, ...]]]
    for cluster in clusters:
        allowed = sorted(set(cluster.cpus) & set(usable))
        if allowed:
            by_role.setdefault(cluster.role, []).extend(allowed)
    if len(by_role) < 2:
        return [("all", usable)]
    order: tuple[str, ...] = ("big", "mid", "little")
    roles = [(role, tuple(sorted(by_role[role]))) for role in order if role in by_role]
    if power_mode == "efficiency":
        return roles[::-1][:1]
    combined = tuple(sorted(cpu for role, cpus in roles if role != "little" for cpu in cpus))
    groups = [roles[0], ("all", usable), *roles[1:]]
    if combined not in (cpus for _, cpus in groups):
        groups.insert(1, ("big and mid", combined))
    return groups


def default_placement(engine: Engine, device: Device, usable_cpus: Sequence[int], power_mode: str) -> Placement:
    """What the engine would do by itself, bounded by what this process may use.

    An engine counts the machine's cores; under an affinity mask, a cpuset or a quota that is too many.
    """
    usable = tuple(sorted(usable_cpus))
    if power_mode == "efficiency":
        return placements(device, usable, power_mode)[0]
    online = {cpu for cluster in device.clusters for cpu in cluster.online}
    quota = math.ceil(device.cpu_quota) if device.cpu_quota is not None else len(usable)
    if online <= set(usable) and quota >= len(usable):
        return Placement()
    return Placement(threads=max(1, min(len(usable), quota, engine.default_threads(len(usable)))))


def candidates(
    variant: str, engines: Sequence[Engine], device: Device, usable_cpus: Sequence[int], power_mode: str = "balanced"
) -> tuple[Candidate, ...]:
    """Every engine's own default first, then the other placements, without repeats."""
    found: list[Candidate] = []
    for engine in engines:
        default = default_placement(engine, device, usable_cpus, power_mode)
        same_as_default = default.threads or engine.default_threads(len(usable_cpus))
        found.append(Candidate(variant=variant, engine=engine.name, placement=default, reason="the engine's default"))
        for placement in placements(device, usable_cpus, power_mode):
            repeats = placement.cpus == default.cpus and placement.threads == same_as_default
            if not repeats:
                found.append(Candidate(variant=variant, engine=engine.name, placement=placement))
    return tuple(found)

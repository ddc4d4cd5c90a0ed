"""The ways to run one model on one device: variant × engine × accelerator × placement, likeliest first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec

from edge_sdk.device.facts import Accelerator, Cluster, Device
from edge_sdk.engines.base import Engine
from edge_sdk.planner.plans import Candidate, Placement
from edge_sdk.planner.variants import Variant

__all__ = ["DEFAULT", "POWER_MODES", "barred", "candidates", "placements"]

POWER_MODES = ("performance", "balanced", "efficiency")
DEFAULT = "the engine's default"


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
    variants: Sequence[Variant],
    engines: Mapping[str, Sequence[Engine]],
    device: Device,
    usable_cpus: Sequence[int],
    power_mode: str = "balanced",
) -> tuple[Candidate, ...]:
    """All ways: of each variant and engine the engine's own default first, then the other placements, then the
    accelerators that engine reaches.

    Args:
        variants: of one model.
        engines: by model format those that run it; a format without one makes an infeasible candidate.
        device: its clusters and accelerators.
        usable_cpus: those this process may use.
        power_mode: one of `POWER_MODES`.
    """
    found: list[Candidate] = []
    for variant in variants:
        able = engines.get(variant.format, ())
        if not able:
            reason = f"no engine for {variant.format} is installed"
            none = Candidate(variant=variant.name, engine="", placement=Placement(), feasible=False, reason=reason)
            found.append(_with_accuracy(none, variant))
        for engine in able:
            ways = [
                *_on_cpu(variant, engine, device, usable_cpus, power_mode),
                *_on_accelerators(variant, engine, device),
            ]
            found += [_with_accuracy(way, variant) for way in ways]
    return tuple(found)


def _on_cpu(
    variant: Variant, engine: Engine, device: Device, usable_cpus: Sequence[int], power_mode: str
) -> list[Candidate]:
    default = default_placement(engine, device, usable_cpus, power_mode)
    same_as_default = default.threads or engine.default_threads(len(usable_cpus))
    found = [Candidate(variant=variant.name, engine=engine.name, placement=default, reason=DEFAULT)]
    for placement in placements(device, usable_cpus, power_mode):
        repeats = placement.cpus == default.cpus and placement.threads == same_as_default
        if not repeats:
            found.append(Candidate(variant=variant.name, engine=engine.name, placement=placement))
    return found


def _on_accelerators(variant: Variant, engine: Engine, device: Device) -> list[Candidate]:
    found = []
    for accelerator in device.accelerators:
        if accelerator.engine != engine.name or not accelerator.present:
            continue
        against = _against(accelerator)
        candidate = Candidate(
            variant=variant.name,
            engine=engine.name,
            accelerator=accelerator.name,
            placement=Placement(),
            feasible=not against,
            reason=against,
        )
        found.append(candidate)
    return found


def _against(accelerator: Accelerator) -> str:
    if accelerator.usable:
        return ""
    if accelerator.usable is None:
        return "not proven: edge-sdk device --prove runs a small model there"
    return f"its proof failed: {accelerator.why}"


def _with_accuracy(candidate: Candidate, variant: Variant) -> Candidate:
    return msgspec.structs.replace(candidate, accuracy=variant.accuracy)


def barred(
    candidate: Candidate, variant: Variant, min_accuracy: float | None, max_memory_mb: float | None, alone: bool
) -> str:
    """What stands against a candidate before anything is measured; "" where nothing does.

    Args:
        candidate: with its memory filled in where that is known.
        variant: its variant.
        min_accuracy, max_memory_mb: the constraints stated.
        alone: whether this is the only variant there is: without any figure for accuracy it then stays.
    """
    if not candidate.feasible:
        return candidate.reason
    if variant.barred:
        return variant.barred
    if min_accuracy is not None:
        if candidate.accuracy is None and not alone:
            return f"nobody measured its accuracy, and min_accuracy={min_accuracy:g} must hold"
        if candidate.accuracy is not None and candidate.accuracy < min_accuracy:
            return f"accuracy {candidate.accuracy:.4g} is below min_accuracy={min_accuracy:g} ({variant.accuracy_of})"
    if max_memory_mb is not None and candidate.memory_mb is not None and candidate.memory_mb > max_memory_mb:
        return f"needs about {candidate.memory_mb:.1f} MB, more than max_memory_mb={max_memory_mb:g}"
    return ""

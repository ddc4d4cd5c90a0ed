"""The ways to run one model on one device: variant × engine × accelerator × placement, likeliest first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from edge_sdk.device.facts import Accelerator, Device
from edge_sdk.engines.base import Engine
from edge_sdk.planner.plans import Candidate
from edge_sdk.planner.variants import Variant
from edge_sdk.schedule.placing import Placement, Stage, cpus_at_once, lanes, placements, stages

__all__ = ["DEFAULT", "barred", "candidates", "default_placement", "stages_with"]

DEFAULT = "the engine's default"


def default_placement(engine: Engine, device: Device, usable_cpus: Sequence[int], power_mode: str) -> Placement:
    """What the engine would do by itself, bounded by what this process may use.

    An engine counts the machine's cores; under an affinity mask, a cpuset or a quota that is too many.
    """
    usable = tuple(sorted(usable_cpus))
    if power_mode == "efficiency":
        return placements(device, usable, power_mode)[0]
    online = {cpu for cluster in device.clusters for cpu in cluster.online}
    bound = cpus_at_once(device, usable)
    if online <= set(usable) and bound >= len(usable):
        return Placement()
    return Placement(threads=max(1, min(bound, engine.default_threads(len(usable)))))


def candidates(
    variants: Sequence[Variant],
    engines: Mapping[str, Sequence[Engine]],
    device: Device,
    usable_cpus: Sequence[int],
    power_mode: str = "balanced",
    by_speed: Sequence[Sequence[int]] = (),
    shared: bool = False,
) -> tuple[Candidate, ...]:
    """All ways: of each variant and engine the engine's own default first, then the other placements, then the
    accelerators that engine reaches.

    Args:
        variants: of one model.
        engines: by model format those that run it; a format without one makes an infeasible candidate.
        device: its clusters and accelerators.
        usable_cpus: those this process may use.
        power_mode: one of `POWER_MODES`.
        by_speed: groups of CPUs as measured; see `placements`.
        shared: whether requests are independent, so that several may compute at once: in lanes, or in stages.
    """
    where = _Where(device, tuple(usable_cpus), power_mode, tuple(by_speed), shared)
    found: list[Candidate] = []
    for variant in variants:
        able = engines.get(variant.format, ())
        if not able:
            reason = f"no engine for {variant.format} is installed"
            none = Candidate(variant=variant.name, engine="", placement=Placement(), feasible=False, reason=reason)
            found.append(_with_accuracy(none, variant))
        for engine in able:
            ways = [
                *_on_cpu(variant, engine, where),
                *_on_accelerators(variant, engine, where),
            ]
            found += [_with_accuracy(way, variant) for way in ways]
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Where:
    """What the placements of all ways are made from; see `candidates`."""

    device: Device
    usable_cpus: tuple[int, ...]
    power_mode: str
    by_speed: tuple[Sequence[int], ...]
    shared: bool


def _on_cpu(variant: Variant, engine: Engine, where: _Where) -> list[Candidate]:
    device, usable_cpus = where.device, where.usable_cpus
    default = default_placement(engine, device, usable_cpus, where.power_mode)
    same_as_default = default.threads or engine.default_threads(len(usable_cpus))
    wanted = placements(device, usable_cpus, where.power_mode, where.by_speed)
    others = [one for one in wanted if one.cpus != default.cpus or one.threads != same_as_default]
    if where.shared:
        # Likelier than all others where requests need not wait for each other: no core waits for another one's threads.
        others = [*lanes(device, usable_cpus, where.by_speed), *others, *stages(device, usable_cpus, where.by_speed)]
    return [
        Candidate(variant=variant.name, engine=engine.name, placement=default, reason=DEFAULT),
        *(Candidate(variant=variant.name, engine=engine.name, placement=one) for one in others),
    ]


def stages_with(accelerator: str, on_cpu: Placement) -> tuple[Placement, ...]:
    """Placements of a model whose one part is computed by an accelerator and the other by the CPU, in both orders.

    Args:
        accelerator: of an engine.
        on_cpu: where the CPU's part computes.
    """
    there, here = Stage(accelerator=accelerator), Stage(cpus=on_cpu.cpus, threads=on_cpu.threads)
    return tuple(Placement(label="stages", stages=order) for order in ((there, here), (here, there)))


def _on_accelerators(variant: Variant, engine: Engine, where: _Where) -> list[Candidate]:
    found = []
    for accelerator in where.device.accelerators:
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
        if where.shared and not against:
            on_cpu = default_placement(engine, where.device, where.usable_cpus, where.power_mode)
            both = stages_with(accelerator.name, on_cpu)
            found += [msgspec.structs.replace(candidate, placement=placement) for placement in both]
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

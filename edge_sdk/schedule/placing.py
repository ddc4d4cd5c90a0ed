"""On which CPUs, and with how many threads, a model may compute: clusters to placements, per power mode."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from edge_sdk.device.facts import Cluster, Device
from edge_sdk.device.sysroot import cpu_list_text, parse_cpu_list
from edge_sdk.errors import InputValueError

__all__ = ["POWER_MODES", "Placement", "Stage", "cores_named", "cpus_at_once", "lanes", "placements", "stages"]

POWER_MODES = ("performance", "balanced", "efficiency")


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a model, and where it computes while others compute theirs for other requests.

    Attributes:
        cpus: CPU ids; None for all the process may use.
        threads: threads for one request; None for the engine's own default.
        accelerator: "cpu", or the accelerator of the engine that this part runs on.
        tensors: where the model is cut behind it: all that flows from here and from before to later stages. Empty for
            the last stage, and while nobody has chosen a cut.
    """

    cpus: tuple[int, ...] | None = None
    threads: int | None = None
    accelerator: str = "cpu"
    tensors: tuple[str, ...] = ()

    def describe(self) -> str:
        """One phrase: "CPUs 0-3", "CPU 4", "all CPUs", "gpu"."""
        if self.accelerator != "cpu":
            return self.accelerator
        if self.cpus is None:
            return "all CPUs"
        return f"CPU{'s' * (len(self.cpus) != 1)} {cpu_list_text(self.cpus)}"


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """The CPUs and thread count a runner computes on.

    Attributes:
        cpus: CPU ids; None for all the process may use (nothing is pinned).
        threads: threads for one request; None for the engine's own default.
        label: "all", "big", "mid", "little", "fast", "slow" or "given"; with lanes, "clusters" or "cores"; with
            stages, "stages".
        lanes: CPUs of each lane, where independent requests are shared out among several runners; each has as many
            threads as CPUs. Empty for one runner.
        stages: the parts that the model is cut in, first to last. Empty where it is whole.
    """

    cpus: tuple[int, ...] | None = None
    threads: int | None = None
    label: str = "all"
    lanes: tuple[tuple[int, ...], ...] = ()
    stages: tuple[Stage, ...] = ()

    def describe(self) -> str:
        """One phrase: "2 threads on all CPUs", "4 threads on big CPUs 4-7", "a lane on each of CPUs 0-3 and 4-7",
        "stages on gpu, then all CPUs"."""
        if self.stages:
            return f"stages on {', then '.join(stage.describe() for stage in self.stages)}"
        if self.lanes:
            return f"a lane on each of CPUs {' and '.join(map(cpu_list_text, self.lanes))}"
        threads = "default threads" if self.threads is None else f"{self.threads} thread{'s' * (self.threads != 1)}"
        if self.cpus is None:
            return f"{threads} on all CPUs"
        return f"{threads} on {self.label} CPUs {cpu_list_text(self.cpus)}"


def placements(
    device: Device,
    usable_cpus: Sequence[int],
    power_mode: str = "balanced",
    by_speed: Sequence[Sequence[int]] = (),
) -> tuple[Placement, ...]:
    """Placements worth measuring besides the engine's own default, likeliest first.

    Threads never outnumber the CPUs they run on, since engines are then 2 to 4 times slower. Where cores differ, each
    role is a placement of its own, since a request is as slow as its slowest worker; all of them are one for more
    threads than there are fastest cores. A CPU quota bounds the threads too.

    Args:
        device: its clusters.
        usable_cpus: those this process may use.
        power_mode: one of `POWER_MODES`.
        by_speed: groups of CPUs as they were measured to compute now, the fastest first; they count where the device
            tells of one kind of core only.
    """
    usable = tuple(sorted(usable_cpus))
    bound = cpus_at_once(device, usable)
    found: list[Placement] = []
    groups = _groups(device.clusters, usable, power_mode, by_speed)
    fastest = groups[0][1]
    for label, cpus in groups:
        # Fewer threads are better off on the fastest cores than now here, now there, as the kernel likes.
        least = len(fastest) + 1 if set(cpus) > set(fastest) else 1
        most = min(bound, len(cpus))
        counts = sorted({most, max(1, most // 2), min(2, most), 1}, reverse=True)
        pinned = None if cpus == usable else cpus
        found += [Placement(cpus=pinned, threads=count, label=label) for count in counts if count >= least]
    return tuple(found)


def cpus_at_once(device: Device, usable_cpus: Sequence[int]) -> int:
    """How many CPUs may compute at once: those usable, or what a quota of CPU time grants."""
    if device.cpu_quota is None:
        return len(usable_cpus)
    return max(1, min(len(usable_cpus), math.ceil(device.cpu_quota)))


def cores_named(name: str, device: Device, usable_cpus: Sequence[int]) -> tuple[int, ...]:
    """The CPUs that a person means.

    Args:
        name: "all", a role that the device has ("big", "mid", "little"), or a list as Linux writes them ("0,2-3").
        device: its clusters.
        usable_cpus: those this process may use.

    Raises:
        InputValueError: there are no such cores, or none that may be used; the message tells which there are.
    """
    usable = set(usable_cpus)
    by_role: dict[str, set[int]] = {"all": usable}
    for cluster in device.clusters:
        by_role.setdefault(cluster.role, set()).update(set(cluster.cpus) & usable)
    cpus = by_role.get(name) or parse_cpu_list(name)
    if not cpus or not set(cpus) <= usable:
        known = ", ".join(f"{role} ({cpu_list_text(sorted(each))})" for role, each in by_role.items() if each)
        raise InputValueError(f"cores {name!r}: expected one of {known}, or a list of CPUs among them")
    return tuple(sorted(cpus))


def lanes(device: Device, usable_cpus: Sequence[int], by_speed: Sequence[Sequence[int]] = ()) -> tuple[Placement, ...]:
    """Placements of several runners, among which independent requests are shared out: one on each cluster of cores
    where they differ, and one on each core.

    Args:
        device, usable_cpus, by_speed: see `placements`.
    """
    usable = tuple(sorted(usable_cpus))
    if cpus_at_once(device, usable) < len(usable):
        return ()  # each lane counts on its CPUs
    clusters = _by_cluster(device.clusters, usable)
    if len(clusters) < 2 and len(by_speed) > 1:
        clusters = [tuple(sorted(group)) for group in by_speed]
    found = []
    if len(clusters) > 1 and any(len(cpus) > 1 for cpus in clusters):
        found.append(Placement(label="clusters", lanes=tuple(clusters)))
    if len(usable) > 1:
        found.append(Placement(label="cores", lanes=tuple((cpu,) for cpus in clusters for cpu in cpus)))
    return tuple(found)


def stages(device: Device, usable_cpus: Sequence[int], by_speed: Sequence[Sequence[int]] = ()) -> tuple[Placement, ...]:
    """Placements of one model in parts: a part on each cluster of cores where they differ, otherwise on each half of
    the cores. The weights are in memory once, and each core works with its part of them only.

    Args:
        device, usable_cpus, by_speed: see `placements`.
    """
    usable = tuple(sorted(usable_cpus))
    if len(usable) < 2 or cpus_at_once(device, usable) < len(usable):
        return ()  # each stage counts on its CPUs
    groups = _by_cluster(device.clusters, usable)
    if len(groups) < 2 and len(by_speed) > 1:
        groups = [tuple(sorted(group)) for group in by_speed]
    if len(groups) < 2:
        groups = [usable[: len(usable) // 2], usable[len(usable) // 2 :]]
    return (Placement(label="stages", stages=tuple(Stage(cpus=cpus, threads=len(cpus)) for cpus in groups)),)


def _by_cluster(clusters: Sequence[Cluster], usable: tuple[int, ...]) -> list[tuple[int, ...]]:
    found = [tuple(sorted(set(cluster.cpus) & set(usable))) for cluster in clusters]
    known = {cpu for cpus in found for cpu in cpus}
    found.append(tuple(cpu for cpu in usable if cpu not in known))
    return [cpus for cpus in found if cpus]


def _groups(
    clusters: Sequence[Cluster],
    usable: tuple[int, ...],
    power_mode: str,
    by_speed: Sequence[Sequence[int]],
) -> list[tuple[str, tuple[int, ...]]]:
    by_role: dict[str, list[int]] = {}
    groups: list[tuple[str, tuple[int, ...]]]
    for cluster in clusters:
        allowed = sorted(set(cluster.cpus) & set(usable))
        if allowed:
            by_role.setdefault(cluster.role, []).extend(allowed)
    if len(by_role) < 2:
        return _groups_by_speed(usable, by_speed)
    order: tuple[str, ...] = ("big", "mid", "little")
    roles = [(role, tuple(sorted(by_role[role]))) for role in order if role in by_role]
    if power_mode == "efficiency":
        return roles[::-1][:1]
    combined = tuple(sorted(cpu for role, cpus in roles if role != "little" for cpu in cpus))
    groups = [roles[0], ("all", usable), *roles[1:]]
    if combined not in (cpus for _, cpus in groups):
        groups.insert(1, ("big and mid", combined))
    return groups


def _groups_by_speed(usable: tuple[int, ...], by_speed: Sequence[Sequence[int]]) -> list[tuple[str, tuple[int, ...]]]:
    """All, and where something else takes a part of some cores, those that it leaves alone."""
    groups = [("all", usable)]
    if len(by_speed) > 1:
        groups.insert(0, ("fast", tuple(sorted(by_speed[0]))))
        groups.append(("slow", tuple(sorted(cpu for group in by_speed[1:] for cpu in group))))
    return groups

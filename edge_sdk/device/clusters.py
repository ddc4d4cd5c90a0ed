"""Which CPUs form a cluster, and which clusters are big or little.

The sources contradict one another, so each is trusted for what it cannot get wrong:

1. the core design (MIDR register, `/proc/cpuinfo`, device tree) always divides: cores of two designs are two clusters,
   whatever sysfs groups them into;
2. frequency domains of several CPUs divide; a domain for each CPU says nothing;
3. clusters and packages as the kernel lists them divide on ARM, where they are several and not one for each CPU;
4. the highest frequency, and then the capacity, divide cores of one design only where no domain does, and only by a
   clear gap: favoured cores of x86 differ by some per cent;
5. what is offline and told by nobody is placed by its neighbours and by what is known of the SoC.

How the groups get their names and roles is in `edge_sdk.device.cluster_roles`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from itertools import pairwise

from edge_sdk.device.cluster_roles import matching_layout, name_groups, name_x86_groups, rank_groups
from edge_sdk.device.cpu_topology import Cpu, Topology
from edge_sdk.device.facts import Cluster

__all__ = ["form_clusters"]

ARM_CLOCK_GAP = 1.05
"""Clusters of one SoC are bound to other steps; speed bins move the same step by 2 or 3 per cent."""

X86_CLOCK_GAP = 1.2
"""Favoured cores gain up to 15 per cent; big and small cores of one x86 package are further apart."""

MAX_CLUSTER_GROUPS = 8
"""More clusters than this are slices of a server's cache, not kinds of cores."""

_Group = list[Cpu]
_Layout = dict[int, tuple[int, str]]


def form_clusters(topology: Topology, soc_names: Sequence[str] = ()) -> tuple[Cluster, ...]:
    """Divides the CPUs into clusters.

    Args:
        topology: what each CPU says.
        soc_names: what is said of the machine, most trusted first.

    Returns:
        The clusters, fastest first; every CPU is in exactly one.
    """
    cpus = list(topology.cpus.values())
    if topology.is_x86:
        groups = _x86_groups(cpus)
        name_x86_groups(topology, groups)
    else:
        layout = matching_layout(topology, soc_names)
        groups = _arm_groups(cpus, layout)
        name_groups(topology, groups, layout)
    return rank_groups(groups)


def _x86_groups(cpus: _Group) -> list[_Group]:
    _spread_kinds(cpus)
    groups = _divide(cpus, lambda cpu: cpu.kind)
    if len(groups) == 1:
        groups = _divide_by_speed(cpus, X86_CLOCK_GAP)
    if len(groups) == 1:
        groups = _divide_by_source(cpus, _policy)
    if len(groups) == 1 and _has_modules(cpus):
        groups = _divide_by_source(cpus, lambda cpu: cpu.l2)
    return groups


def _has_modules(cpus: _Group) -> bool:
    """Whether cores, not only the threads of one, share the last cache: Atom modules, which also share a clock."""
    if any(cache.level > 2 for cpu in cpus for cache in cpu.caches):
        return False
    return any(cpu.l2 is not None and cpu.l2 > (cpu.threads or {cpu.id}) for cpu in cpus)


def _arm_groups(cpus: _Group, layout: _Layout | None) -> list[_Group]:
    policies, packages, clusters, vendor = (_labels(cpus, read) for read in (_policy, _package, _cluster, _vendor))
    for cpu in cpus if policies else ():
        if cpu.policy is not None and len(cpu.policy) == 1:
            policies[cpu.id] = _ALONE
    if len(set(clusters.values())) > MAX_CLUSTER_GROUPS:
        clusters.clear()
    sources = [policies, packages, clusters, vendor]
    turns = _turns(cpus, sources, layout)
    _complete(cpus, sources, turns)
    signatures: dict[int, _Signature] = {cpu.id: tuple(source.get(cpu.id) for source in sources) for cpu in cpus}
    if layout is not None or any(label is not None for signature in signatures.values() for label in signature):
        _place_lost(cpus, signatures, turns)
    groups = []
    for group in _divide(cpus, lambda cpu: signatures[cpu.id]):
        _spread_kinds(group)
        for part in _divide(group, lambda cpu: cpu.kind):
            shared = signatures[part[0].id][0] not in (None, _ALONE)
            groups += [part] if shared else _divide_by_speed(part, ARM_CLOCK_GAP)
    return groups


_Signature = tuple[int | None, ...]
_ALONE = -1
"""Label of the CPUs that are each a frequency domain of their own, where others share one."""


def _policy(cpu: Cpu) -> frozenset[int] | None:
    return cpu.policy if cpu.policy is not None and len(cpu.policy) > 1 else None


def _package(cpu: Cpu) -> frozenset[int] | None:
    return cpu.package


def _cluster(cpu: Cpu) -> frozenset[int] | None:
    return cpu.cluster


def _vendor(cpu: Cpu) -> frozenset[int] | None:
    return cpu.vendor_cluster


def _labels(cpus: _Group, read: Callable[[Cpu], frozenset[int] | None]) -> dict[int, int]:
    """The groups of one source as CPU to smallest member; empty where the source only repeats the CPUs one by one.

    Lists that overlap are one group: they were read while CPUs came and went.
    """
    known = {cpu.id for cpu in cpus}
    parent: dict[int, int] = {}

    def find(cpu: int) -> int:
        while parent.setdefault(cpu, cpu) != cpu:
            parent[cpu] = parent[parent[cpu]]
            cpu = parent[cpu]
        return cpu

    seen: set[frozenset[int]] = set()
    for cpu in cpus:
        members = read(cpu)
        if members is None or members in seen:
            continue
        seen.add(members)
        for member in members & known:
            first, second = sorted((find(cpu.id), find(member)))
            parent[second] = first
    labels = {cpu: find(cpu) for cpu in sorted(parent)}
    return labels if len(set(labels.values())) < len(labels) else {}


def _turns(cpus: _Group, sources: Sequence[dict[int, int]], layout: _Layout | None) -> dict[int, int]:
    """Which turn of neighbouring numbers each CPU belongs to, as a hint for CPUs that are offline.

    As the SoC is known to be built, otherwise as phones commonly are: four little ones come first, then four or two
    more, then two. A hint that any source contradicts is dropped.
    """
    if layout is not None:
        return {cpu: turn for cpu, (turn, _) in layout.items()}
    sizes = {6: (4, 2), 8: (4, 4), 10: (4, 4, 2)}.get(len(cpus), ())
    usual = [turn for turn, size in enumerate(sizes) for _ in range(size)]
    turns = {cpu.id: turn for cpu, turn in zip(cpus, usual, strict=True)} if usual else {}
    for labels in sources:
        pairs = {(turns.get(cpu, 0), label) for cpu, label in labels.items()}
        if len(pairs) > len({turn for turn, _ in pairs}):
            turns = {}
    return {cpu.id: turns.get(cpu.id, 0) for cpu in cpus}


def _complete(cpus: _Group, sources: Sequence[dict[int, int]], turns: dict[int, int]) -> None:
    """Gives a CPU that one source leaves out the label of the CPUs of its turn that it is with in another source.

    Not where the group is known to be whole: policies always list their offline CPUs too, and packages do on some
    kernels, which shows where they list any.
    """
    offline = {cpu.id for cpu in cpus if not cpu.online}
    for labels in sources[1:]:
        whole = {label for cpu, label in labels.items() if cpu in offline}
        for other in sources:
            if other is labels or not labels:
                continue
            met: dict[tuple[int, int], set[int]] = {}
            for cpu in labels.keys() & other.keys():
                met.setdefault((other[cpu], turns[cpu]), set()).add(labels[cpu])
            for cpu in other.keys() - labels.keys():
                found = met.get((other[cpu], turns[cpu]), set())
                if len(found) == 1 and not found <= whole:
                    labels[cpu] = next(iter(found))


def _place_lost(cpus: _Group, signatures: dict[int, _Signature], turns: dict[int, int]) -> None:
    """Places the CPUs that no source mentions.

    A policy names its CPUs also while they are offline, so a CPU it leaves out is elsewhere. The lists of packages and
    clusters shrink while CPUs are offline, so there a CPU joins the nearest one of its turn.
    """
    lost = {cpu.id for cpu in cpus if all(label is None for label in signatures[cpu.id])}
    for ordered in (cpus, cpus[::-1]):
        near: dict[int, _Signature] = {}
        for cpu in ordered:
            turn = turns[cpu.id]
            if cpu.id not in lost:
                near[turn] = signatures[cpu.id]
            elif turn in near and near[turn][0] is None:
                signatures[cpu.id] = near[turn]
                lost.discard(cpu.id)
    for number in lost:
        signatures[number] = (*signatures[number], turns[number])


def _spread_kinds(group: _Group) -> None:
    """Gives the CPUs whose kind nobody tells the kind of the others in the group that they resemble most."""
    told = [cpu for cpu in group if cpu.kind is not None]
    unknown = [cpu for cpu in group if cpu.kind is None]
    if not told or not unknown:
        return
    by_clock = _sole_kinds(told, lambda cpu: cpu.max_khz)
    by_capacity = _sole_kinds(told, lambda cpu: cpu.capacity)
    previous = told[0]
    for cpu in group:
        if cpu.kind is None:
            like = by_capacity.get(cpu.capacity) or by_clock.get(cpu.max_khz) or previous
            cpu.kind, cpu.core = like.kind, like.core
        previous = cpu


def _sole_kinds(told: _Group, read: Callable[[Cpu], int | None]) -> dict[int | None, Cpu]:
    """A CPU for each figure that CPUs of one kind only have."""
    found: dict[int | None, _Group] = {}
    for cpu in told:
        if read(cpu) is not None:
            found.setdefault(read(cpu), []).append(cpu)
    return {figure: same[0] for figure, same in found.items() if len({cpu.kind for cpu in same}) == 1}


def _divide(cpus: _Group, key: Callable[[Cpu], Hashable]) -> list[_Group]:
    groups: dict[Hashable, _Group] = {}
    for cpu in cpus:
        groups.setdefault(key(cpu), []).append(cpu)
    return list(groups.values())


def _divide_by_source(cpus: _Group, read: Callable[[Cpu], frozenset[int] | None]) -> list[_Group]:
    labels = _labels(cpus, read)
    if not labels:
        return [cpus]
    previous = next(iter(labels.values()))
    for cpu in cpus:
        previous = labels.setdefault(cpu.id, previous)
    return _divide(cpus, lambda cpu: labels[cpu.id])


def _divide_by_speed(cpus: _Group, gap: float) -> list[_Group]:
    """Divides by the highest frequencies, or where these are alike or unknown by the capacities."""
    groups = _divide_by_figure(cpus, {cpu.id: cpu.max_khz for cpu in cpus if cpu.max_khz is not None}, gap)
    if len(groups) > 1:
        return groups
    return _divide_by_figure(cpus, {cpu.id: cpu.capacity for cpu in cpus if cpu.capacity is not None}, gap)


def _divide_by_figure(cpus: _Group, figures: dict[int, int], gap: float) -> list[_Group]:
    """Divides where the figures, sorted, leap by more than `gap`. A CPU without one goes with the CPU before it."""
    steps = sorted(set(figures.values()))
    if len(steps) < 2:
        return [cpus]
    band, bands = 0, {steps[0]: 0}
    for lower, higher in pairwise(steps):
        band += higher > lower * gap
        bands[higher] = band
    previous = next(bands[figures[cpu.id]] for cpu in cpus if cpu.id in figures)
    label = {}
    for cpu in cpus:
        previous = label[cpu.id] = bands[figures[cpu.id]] if cpu.id in figures else previous
    return _divide(cpus, lambda cpu: label[cpu.id])

"""Names and roles of groups of CPUs that are already divided.

A cluster's speed is the rank of its design, then its clock, then its capacity: a little core may have the higher clock.
Where no source tells the design of all clusters, capacity comes first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from edge_sdk.device.cpu_cores import design, soc_layouts
from edge_sdk.device.cpu_topology import Cpu, Topology
from edge_sdk.device.facts import Cluster

__all__ = ["matching_layout", "name_groups", "name_x86_groups", "rank_groups"]

SAME_SPEED = 1.05
"""Clusters of one design within 5 per cent are alike: the speed bins of one SoC differ by 2 or 3."""

_Group = list[Cpu]
_Layout = dict[int, tuple[int, str]]


def matching_layout(topology: Topology, soc_names: Sequence[str]) -> _Layout | None:
    """What is known of the SoC: for each CPU its turn in Linux' order and its design.

    Returns:
        None where the SoC is unknown, or what is known does not fit what the CPUs say.
    """
    cpus = topology.cpus.values()
    for layout in soc_layouts(soc_names):
        order = [(turn, core) for turn, (count, core) in enumerate(layout) for _ in range(count)]
        # CPUs that were taken out leave gaps, but the last one shows that the numbers are those of this SoC.
        if max(topology.cpus, default=-1) != len(order) - 1:
            continue
        fits = all(cpu.kind in (None, order[cpu.id][1]) for cpu in cpus)
        if fits and topology.common_core in {None, *(core for _, core in order)}:
            return {cpu.id: order[cpu.id] for cpu in cpus}
    return None


def name_groups(topology: Topology, groups: list[_Group], layout: _Layout | None) -> None:
    """Names the design of groups of which no source tells it: by the SoC, by a common block, by the other groups."""
    for group in groups:
        known = {layout[cpu.id][1] for cpu in group} if layout is not None else set()
        if group[0].kind is None and len(known) == 1:
            _name(group, known.pop())
    unknown = [group for group in groups if group[0].kind is None]
    if topology.common_core is not None:
        _name_by_common(topology.common_core, unknown, groups)
        return
    cores = {group[0].core for group in groups if group[0].kind is not None}
    if len(cores) != 1 or not unknown:
        return
    core = cores.pop()
    clocks = {_clock(group) for group in groups}
    for group in unknown:
        if len(clocks) == 1 and None not in clocks:
            _name(group, core)


def _name_by_common(core: str, unknown: list[_Group], groups: list[_Group]) -> None:
    """A common block tells the core that the reader ran on; which one that was is not known.

    If it is one that was always paired with a little one, the slower of two groups has that. Otherwise it may itself be
    the little one of a pair, so only the slowest groups are sure to have it.
    """
    clocks = [_clock(group) for group in groups]
    slowest = min((clock for clock in clocks if clock is not None), default=None)
    alike = len(set(clocks)) == 1
    known = design(core)
    little = known.little if known is not None else None
    for group in unknown:
        if alike:
            _name(group, core)
        elif _clock(group) == slowest:
            _name(group, little if little is not None and len(groups) == 2 else core)
        elif little is not None:
            _name(group, core)


def name_x86_groups(topology: Topology, groups: list[_Group]) -> None:
    """Names x86 groups: one design, or the big and the small one of a hybrid."""
    if len(groups) == 1 or topology.hybrid_atom is None:
        for group in groups:
            is_atom = group[0].kind in ("atom", "lowpower")
            _name(group, topology.hybrid_atom if is_atom else topology.hybrid_core)
        return
    fastest = max(groups, key=lambda group: (group[0].kind == "core", _capacity(group) or 0, _clock(group) or 0))
    for group in groups:
        _name(group, topology.hybrid_core if group is fastest else topology.hybrid_atom)


def _name(group: _Group, core: str | None) -> None:
    for cpu in group:
        cpu.core = core
        cpu.kind = cpu.kind or core


def rank_groups(groups: list[_Group]) -> tuple[Cluster, ...]:
    """Turns groups into clusters, fastest first, with ids and roles."""
    by_rank = all(design(group[0].core) is not None for group in groups)
    capacities = {_capacity(group) for group in groups}
    by_capacity = not by_rank and None not in capacities and len(capacities) > 1
    keys = {id(group): _speed(group, by_rank, by_capacity) for group in groups}
    ordered = sorted(groups, key=lambda group: (*(-part for part in keys[id(group)]), group[0].id))
    levels: list[int] = []
    for index, group in enumerate(ordered):
        if index and not _is_slower(keys[id(group)], keys[id(ordered[index - 1])]):
            levels.append(levels[-1])
        else:
            levels.append(levels[-1] + 1 if levels else 0)
    scale = _capacity_scale(ordered, by_rank)
    return tuple(
        _cluster(str(index), _role(level, levels[-1]), group, scale)
        for index, (group, level) in enumerate(zip(ordered, levels, strict=True))
    )


def _speed(group: _Group, by_rank: bool, by_capacity: bool) -> tuple[int, int, int]:
    """What to compare, most telling first; 0 where unknown."""
    known = design(group[0].core) if by_rank else None
    rank = known.rank if known is not None else 0
    clock, capacity = _clock(group) or 0, _capacity(group) or 0
    return (rank, capacity, clock) if by_capacity else (rank, clock, capacity)


def _is_slower(speed: tuple[int, int, int], before: tuple[int, int, int]) -> bool:
    if speed[0] != before[0]:
        return True
    for figure, faster in zip(speed[1:], before[1:], strict=True):
        if figure and faster and faster > figure * SAME_SPEED:
            return True
    return False


def _role(level: int, last: int) -> str:
    if level == 0:
        return "big"
    return "little" if level == last else "mid"


def _capacity_scale(ordered: list[_Group], by_rank: bool) -> float | None:
    """What brings the largest capacity to 1024; None where the capacities contradict the designs by being all equal."""
    capacities = [capacity for group in ordered if (capacity := _capacity(group)) is not None]
    if not capacities:
        return None
    different = by_rank and len({group[0].core for group in ordered}) > 1
    return None if different and len(set(capacities)) == 1 else 1024 / max(capacities)


def _cluster(key: str, role: str, group: _Group, scale: float | None) -> Cluster:
    ids = tuple(cpu.id for cpu in group)
    clock, capacity = _clock(group), _capacity(group)
    caches = max((cpu.caches for cpu in group), key=len)
    return Cluster(
        id=key,
        role=role,
        core=group[0].core,
        cpus=ids,
        online=tuple(cpu.id for cpu in group if cpu.online),
        siblings=_siblings(group),
        max_mhz=None if clock is None else round(clock / 1000),
        capacity=None if capacity is None or scale is None else max(1, round(capacity * scale)),
        caches=caches,
    )


def _siblings(group: _Group) -> tuple[tuple[int, ...], ...]:
    ids = {cpu.id for cpu in group}
    placed: set[int] = set()
    cores = []
    for cpu in group:
        if cpu.id not in placed:
            threads = ((cpu.threads or frozenset()) & ids | {cpu.id}) - placed
            placed |= threads
            cores.append(tuple(sorted(threads)))
    return tuple(cores)


def _clock(group: _Group) -> int | None:
    return max((cpu.max_khz for cpu in group if cpu.max_khz is not None), default=None)


def _capacity(group: _Group) -> int | None:
    """The most common capacity; favoured cores of x86 stand out by a little."""
    counts = Counter(cpu.capacity for cpu in group if cpu.capacity is not None)
    return max(counts, key=lambda capacity: (counts[capacity], capacity)) if counts else None

"""What each CPU says of itself in sysfs, the device tree and `/proc/cpuinfo`, before anything is concluded.

Nothing here decides which CPUs form a cluster: it only reads, and keeps apart what the sources say so that
`edge_sdk.device.clusters` can weigh them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from edge_sdk.device.cpu_cores import core_from_compatible, core_from_midr, core_from_x86
from edge_sdk.device.cpuinfo import CpuInfo
from edge_sdk.device.facts import Cache
from edge_sdk.device.sysroot import MAX_CPUS, Sysroot, parse_cpu_list, parse_cpu_mask

__all__ = ["CPU_TREE", "Cpu", "Topology", "read_topology"]

CPU_TREE = "sys/devices/system/cpu"

_MAX_CACHES = 16
_NO_ID = frozenset({-1, 65535, 0xFFFFFFFF})
"""How kernels write an id that they do not know."""


@dataclass(slots=True)
class Cpu:
    """One CPU as Linux numbers it. None means that no source tells.

    Attributes:
        id: its number.
        online: whether it runs now.
        kind: what tells its core design from others on this machine; equal for equal designs.
        core: name of the design, where `kind` leads to one.
        max_khz: highest frequency.
        policy: CPUs whose frequency changes together, offline ones included.
        package: CPUs of the same package; on older ARM kernels this is the cluster.
        cluster: CPUs of the same cluster by the kernel's own reckoning.
        vendor_cluster: the same by a vendor's extension.
        l2: CPUs that share the second-level cache.
        threads: CPUs that share the physical core.
        capacity: computing capacity as the scheduler sees it.
        caches: levels of cache.
    """

    id: int
    online: bool
    kind: str | None = None
    core: str | None = None
    max_khz: int | None = None
    policy: frozenset[int] | None = None
    package: frozenset[int] | None = None
    cluster: frozenset[int] | None = None
    vendor_cluster: frozenset[int] | None = None
    l2: frozenset[int] | None = None
    threads: frozenset[int] | None = None
    capacity: int | None = None
    caches: tuple[Cache, ...] = ()


@dataclass(slots=True)
class Topology:
    """All CPUs of a machine.

    Attributes:
        cpus: by number, ascending.
        is_x86: whether packages mean sockets, as on x86, or may mean clusters, as on ARM.
        common_core: design of some core that is not named, as a common block of `/proc/cpuinfo` tells it.
        hybrid_core: the name of the big design of an x86 hybrid.
        hybrid_atom: and of the small one.
    """

    cpus: dict[int, Cpu]
    is_x86: bool = False
    common_core: str | None = None
    hybrid_core: str | None = None
    hybrid_atom: str | None = None


def read_topology(sysroot: Sysroot, info: CpuInfo | None) -> Topology:
    """Reads all that is told of the CPUs. The result may hold no CPU at all."""
    info = info or CpuInfo()
    folders = _cpu_folders(sysroot)
    ids, online = _present(sysroot, info, folders)
    topology = Topology({cpu: Cpu(cpu, cpu in online) for cpu in sorted(ids)})
    for cpu in topology.cpus.values():
        if cpu.id in folders:
            _read_cpu(sysroot, cpu)
    _read_policies(sysroot, topology, folders)
    _read_ids(sysroot, topology, folders)
    _read_vendor_clusters(sysroot, topology)
    models = _x86_models(sysroot, info)
    if models is not None:
        topology.is_x86 = True
        topology.hybrid_core, topology.hybrid_atom = models
        _tell_x86_kinds(sysroot, topology)
    else:
        _name_cores(sysroot, topology, info, folders)
    return topology


def _cpu_folders(sysroot: Sysroot) -> frozenset[int]:
    names = (name[3:] for name in sysroot.listing(CPU_TREE) if name.startswith("cpu"))
    return frozenset(int(n) for n in names if n.isascii() and n.isdigit() and len(n) < 6 and int(n) < MAX_CPUS)


def _present(sysroot: Sysroot, info: CpuInfo, folders: frozenset[int]) -> tuple[frozenset[int], frozenset[int]]:
    """The CPUs that exist, and those of them that are online."""
    listed = frozenset(info.cpus)
    present, possible = sysroot.cpus(f"{CPU_TREE}/present"), sysroot.cpus(f"{CPU_TREE}/possible")
    online = sysroot.cpus(f"{CPU_TREE}/online")
    ids = present or folders | listed | (online or frozenset())
    if possible and ids & possible:
        ids &= possible
    ids |= online or frozenset()
    if not ids:
        ids = possible or (frozenset({0}) if info.common is not None else frozenset())
    if not online:
        off = {cpu for cpu in ids & folders if sysroot.number(f"{CPU_TREE}/cpu{cpu}/online") == 0}
        off |= sysroot.cpus(f"{CPU_TREE}/offline") or frozenset()
        online = (ids - off) or ids
    return ids, online & ids


def _read_cpu(sysroot: Sysroot, cpu: Cpu) -> None:
    base = f"{CPU_TREE}/cpu{cpu.id}"
    topology = f"{base}/topology"
    cpu.package = _siblings(sysroot, topology, cpu.id, "package_cpus", "core_siblings")
    cpu.cluster = _siblings(sysroot, topology, cpu.id, "cluster_cpus")
    cpu.threads = _siblings(sysroot, topology, cpu.id, "core_cpus", "thread_siblings")
    capacity = sysroot.number(f"{base}/cpu_capacity")
    cpu.capacity = capacity if capacity is not None and 0 < capacity <= 1 << 20 else None
    midr = sysroot.number(f"{base}/regs/identification/midr_el1", 16)
    if midr:
        _set_midr(cpu, midr)
    cpu.caches, cpu.l2 = _read_caches(sysroot, base, cpu.id)


def _siblings(sysroot: Sysroot, folder: str, cpu: int, *names: str) -> frozenset[int] | None:
    for name in names:
        cpus = sysroot.cpus(f"{folder}/{name}_list")
        if cpus is None:
            mask = sysroot.text(f"{folder}/{name}")
            cpus = parse_cpu_mask(mask) if mask else None
        if cpus and cpu in cpus:
            return cpus
    return None


def _read_caches(sysroot: Sysroot, base: str, cpu: int) -> tuple[tuple[Cache, ...], frozenset[int] | None]:
    caches, l2 = [], None
    names = [name for name in sysroot.listing(f"{base}/cache") if re.fullmatch(r"index\d{1,2}", name)]
    for name in names[:_MAX_CACHES]:
        folder = f"{base}/cache/{name}"
        level = sysroot.number(f"{folder}/level")
        kind = (sysroot.text(f"{folder}/type") or "").lower()
        size_kb = _size_kb(sysroot.text(f"{folder}/size"))
        if level is None or not 0 < level < 10 or kind not in ("data", "instruction", "unified"):
            continue
        shared = _siblings(sysroot, folder, cpu, "shared_cpu")
        if level == 2 and shared:
            l2 = shared
        if size_kb:
            caches.append(Cache(level=level, kind=kind, size_kb=size_kb, shared_by=len(shared) if shared else 1))
    return tuple(caches), l2


def _size_kb(text: str | None) -> int | None:
    match = re.fullmatch(r"(\d{1,9})([KMG]?)", (text or "").upper())
    if match is None:
        return None
    return int(match[1]) * {"": 1, "K": 1, "M": 1024, "G": 1024 * 1024}[match[2]]


def _read_policies(sysroot: Sysroot, topology: Topology, folders: frozenset[int]) -> None:
    """Frequency domains and highest frequencies, from the policies and from each CPU's own folder."""
    doubtful: dict[int, int] = {}
    for name in sysroot.listing(f"{CPU_TREE}/cpufreq"):
        if re.fullmatch(r"policy\d{1,5}", name):
            related, max_khz = _read_policy(sysroot, f"{CPU_TREE}/cpufreq/{name}")
            for member in related & topology.cpus.keys():
                _set_policy(topology.cpus[member], related, max_khz)
    for number in sorted(topology.cpus.keys() & folders):
        related, max_khz = _read_policy(sysroot, f"{CPU_TREE}/cpu{number}/cpufreq")
        if related and number not in related:
            # Some kernels show another cluster's policy where a CPU has just gone offline.
            if max_khz:
                doubtful[number] = max_khz
            continue
        for member in related & topology.cpus.keys() or {number}:
            _set_policy(topology.cpus[member], related or None, max_khz)
    if doubtful and all(cpu.max_khz is None for cpu in topology.cpus.values()):
        for number, max_khz in doubtful.items():
            topology.cpus[number].max_khz = max_khz


def _read_policy(sysroot: Sysroot, folder: str) -> tuple[frozenset[int], int | None]:
    related = sysroot.cpus(f"{folder}/related_cpus") or sysroot.cpus(f"{folder}/affected_cpus") or frozenset()
    max_khz = sysroot.number(f"{folder}/cpuinfo_max_freq")
    if not max_khz:
        steps = re.findall(r"\d{4,9}", sysroot.text(f"{folder}/scaling_available_frequencies") or "")
        max_khz = max(map(int, steps), default=None)
    return related, max_khz if max_khz is not None and 1000 <= max_khz < 100_000_000 else None


def _set_policy(cpu: Cpu, related: frozenset[int] | None, max_khz: int | None) -> None:
    if related:
        cpu.policy = related
    if max_khz and (cpu.max_khz is None or max_khz > cpu.max_khz):
        cpu.max_khz = max_khz


def _read_ids(sysroot: Sysroot, topology: Topology, folders: frozenset[int]) -> None:
    """Groups by id where the kernel writes no lists."""
    for name, attribute in (("physical_package_id", "package"), ("cluster_id", "cluster")):
        if any(getattr(cpu, attribute) for cpu in topology.cpus.values()):
            continue
        groups: dict[int, set[int]] = {}
        for number in topology.cpus.keys() & folders:
            key = sysroot.number(f"{CPU_TREE}/cpu{number}/topology/{name}")
            if key is not None and key not in _NO_ID:
                groups.setdefault(key, set()).add(number)
        for members in groups.values():
            for number in members:
                setattr(topology.cpus[number], attribute, frozenset(members))


def _read_vendor_clusters(sysroot: Sysroot, topology: Topology) -> None:
    """MediaTek's `cputopo/glbinfo`, which also knows the CPUs that are offline."""
    for mask in re.findall(r"^cluster\d+:\s*([0-9a-f,]+)\s*$", sysroot.text(f"{CPU_TREE}/cputopo/glbinfo") or "", re.M):
        members = frozenset((parse_cpu_mask(mask) or frozenset()) & topology.cpus.keys())
        for number in members:
            topology.cpus[number].vendor_cluster = members


def _set_midr(cpu: Cpu, midr: int) -> None:
    cpu.core = core_from_midr(midr)
    cpu.kind = cpu.core or f"{midr >> 24 & 0xFF:#04x}:{midr >> 4 & 0xFFF:#05x}"


def _name_cores(sysroot: Sysroot, topology: Topology, info: CpuInfo, folders: frozenset[int]) -> None:
    """ARM and others: the register itself, then `/proc/cpuinfo`, then the device tree."""
    for cpu in topology.cpus.values():
        block = info.cpus.get(cpu.id)
        if cpu.kind is None and block is not None:
            if block.midr is not None:
                _set_midr(cpu, block.midr)
            elif "uarch" in block.fields:
                cpu.kind = cpu.core = block.fields["uarch"][:64].lower().replace(",", "-")
        if cpu.kind is None and cpu.id in folders:
            cpu.core = cpu.kind = core_from_compatible(_compatible(sysroot, f"{CPU_TREE}/cpu{cpu.id}/of_node"))
    if info.common is not None and info.common.midr is not None:
        topology.common_core = core_from_midr(info.common.midr)
    unnamed = [cpu for cpu in topology.cpus.values() if cpu.kind is None]
    if unnamed and topology.common_core is None:
        only = _device_tree_core(sysroot, len(topology.cpus))
        for cpu in unnamed if only is not None else ():
            cpu.kind = cpu.core = only


def _compatible(sysroot: Sysroot, node: str) -> str:
    return (sysroot.read(f"{node}/compatible", 256) or b"").decode("ascii", "replace")


def _device_tree_core(sysroot: Sysroot, cpus: int) -> str | None:
    """The one design of all CPUs in the device tree. Its order need not be Linux', so a mixture tells nothing."""
    for base in ("sys/firmware/devicetree/base/cpus", "proc/device-tree/cpus"):
        nodes = [name for name in sysroot.listing(base) if name.startswith("cpu@")]
        designs = {core_from_compatible(_compatible(sysroot, f"{base}/{name}")) for name in nodes[:MAX_CPUS]}
        if len(nodes) == cpus and len(designs) == 1:
            return designs.pop()
    return None


def _tell_x86_kinds(sysroot: Sysroot, topology: Topology) -> None:
    """x86 has one family and model for all: kinds are told apart by their counters, or by the first-level caches."""
    units = {unit: _unit_cpus(sysroot, unit) for unit in ("core", "atom", "lowpower")}
    for cpu in topology.cpus.values():
        for unit, members in units.items():
            if cpu.id in members:
                cpu.kind = unit
        if cpu.kind is None and not any(units.values()):
            first = sorted((cache.kind, cache.size_kb) for cache in cpu.caches if cache.level == 1)
            cpu.kind = "L1 " + " ".join(f"{kind} {size}" for kind, size in first) if first else None


def _unit_cpus(sysroot: Sysroot, unit: str) -> Iterable[int]:
    return parse_cpu_list(sysroot.text(f"sys/devices/cpu_{unit}/cpus") or "") or frozenset()


def _x86_models(sysroot: Sysroot, info: CpuInfo) -> tuple[str | None, str | None] | None:
    """Names of the big design and of the small one of a hybrid; None on other than x86."""
    for block in info.cpus.values():
        if "vendor_id" in block.fields:
            numbers = [block.number(key) for key in ("cpu family", "model", "stepping")]
            return _x86_names(block.fields["vendor_id"], *numbers)
    # The same in the name by which modules are loaded: "cpu:type:x86,ven0000fam0006mod0055:feature:…".
    alias = sysroot.text(f"{CPU_TREE}/modalias") or ""
    match = re.match(r"cpu:type:x86,ven([0-9A-F]{4})fam([0-9A-F]{4})mod([0-9A-F]{4})", alias)
    if match is None:
        return (None, None) if alias.startswith("cpu:type:x86") else None
    vendor = {"0000": "GenuineIntel", "0002": "AuthenticAMD", "0009": "HygonGenuine"}.get(match[1], "")
    return _x86_names(vendor, int(match[2], 16), int(match[3], 16), 0)


def _x86_names(
    vendor: str, family: int | None, model: int | None, stepping: int | None
) -> tuple[str | None, str | None]:
    if family is None or model is None:
        return None, None
    return (
        core_from_x86(vendor, family, model, stepping or 0),
        core_from_x86(vendor, family, model, stepping or 0, efficient=True),
    )

"""Reading a machine: every source below one root folder, put together into a `Device`."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence

import msgspec

from edge_sdk.device.clusters import form_clusters
from edge_sdk.device.cpu_topology import CPU_TREE, read_topology
from edge_sdk.device.cpuinfo import CpuInfo, read_cpuinfo
from edge_sdk.device.facts import Accelerator, Cluster, Device
from edge_sdk.device.identity import fingerprint
from edge_sdk.device.isa import isa_features
from edge_sdk.device.limits import Limits, read_limits
from edge_sdk.device.memory import installed_memory_mb
from edge_sdk.device.naming import Names, Platform, read_platform
from edge_sdk.device.sysroot import Sysroot
from edge_sdk.device.thermal import read_frequencies, read_power, read_zones
from edge_sdk.errors import DeviceError, ProfileError

__all__ = ["probe"]

_log = logging.getLogger(__name__)


def probe(
    sysroot: str | os.PathLike[str] = "/",
    *,
    engines: Mapping[str, str] | None = None,
    accelerators: Sequence[Accelerator] = (),
) -> Device:
    """Reads what a machine is. Nothing is written, started or waited for, and no file is trusted.

    Args:
        sysroot: "/" for this machine, or a folder with the `proc/` and `sys/` of another.
        engines: versions of the engines installed, by name; the engines' room knows them.
        accelerators: what the engines could reach; likewise.

    Returns:
        The facts. What no source tells is None or empty.

    Raises:
        DeviceError: there is no such folder, or nothing below it tells of any CPU.
    """
    files = Sysroot(sysroot)
    if not os.path.isdir(files.root):
        raise DeviceError(f"{files.root}: no such folder; expected the root of a machine, with proc/ and sys/ in it")
    info = read_cpuinfo(files)
    names = Names(files, info)
    system = read_platform(files, info, names.properties)
    if info is not None and _is_foreign(info, system):
        # An emulated process sees the host's CPUs there: how many they are is true, what they are is not.
        info = CpuInfo()
        names = Names(files, info)
    topology = read_topology(files, info)
    if not topology.cpus:
        raise DeviceError(
            f"{files.root}: no CPU found: {CPU_TREE} and proc/cpuinfo are missing or empty;"
            " expected the root of a Linux machine, or a copy of its proc/ and sys/"
        )
    device = _describe(files, info, names, system, form_clusters(topology, names.soc_names))
    device = msgspec.structs.replace(device, engines=dict(engines or {}), accelerators=tuple(accelerators))
    return _with_profile(msgspec.structs.replace(device, fingerprint=fingerprint(device)))


def _describe(
    files: Sysroot, info: CpuInfo | None, names: Names, system: Platform, clusters: tuple[Cluster, ...]
) -> Device:
    limits = read_limits(files)
    online = sorted(cpu for cluster in clusters for cpu in cluster.online)
    zones = tuple(read_zones(files).values())
    return Device(
        name=names.board or system.arch,
        soc=names.soc,
        arch=system.arch,
        bits=system.bits,
        os=system.os,
        libc=system.libc,
        clusters=clusters,
        memory_mb=_usable_memory_mb(installed_memory_mb(files), limits),
        isa=isa_features(files, info, [cluster.core for cluster in clusters], system.arch, system.bits),
        thermal=zones,
        cpus=read_frequencies(files, info, online, zones),
        power=read_power(files),
        usable_cpus=tuple(cpu for cpu in online if limits.cpus is None or cpu in limits.cpus) or tuple(online),
        cpu_quota=limits.cpu_quota,
    )


def _usable_memory_mb(installed_mb: int | None, limits: Limits) -> int | None:
    return min((amount for amount in (installed_mb, limits.memory_mb) if amount is not None), default=None)


def _is_foreign(info: CpuInfo, system: Platform) -> bool:
    is_x86 = any("vendor_id" in block.fields for block in info.cpus.values())
    return is_x86 and system.arch.startswith(("aarch64", "arm", "riscv"))


def _with_profile(device: Device) -> Device:
    from edge_sdk.device.profiles import match_profile

    try:
        match = match_profile(device)
    except ProfileError as error:
        _log.warning("no profile is matched: %s", error)
        return device
    return msgspec.structs.replace(device, profile=match)

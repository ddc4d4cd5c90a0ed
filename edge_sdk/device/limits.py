"""What the process may use of the machine: affinity, cgroup cpusets, CPU quota, memory limit.

Limits hold along the whole way from the process's cgroup up to the root, so each is the least on that way. Version 1
mounts one hierarchy a controller, version 2 one for all; both can be there at once. Source: the kernel's
`admin-guide/cgroup-v1` and `cgroup-v2`.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from edge_sdk.device.sysroot import Sysroot, parse_cpu_list

__all__ = ["Limits", "read_limits"]

_MAX_DEPTH = 64
_NO_LIMIT_MB = 1 << 40


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be used; None where nothing limits.

    Attributes:
        cpus: CPUs by affinity mask and cpuset; they may be offline.
        cpu_quota: CPUs' worth of time.
        memory_mb: memory in MiB.
    """

    cpus: frozenset[int] | None = None
    cpu_quota: float | None = None
    memory_mb: int | None = None


def read_limits(sysroot: Sysroot) -> Limits:
    """Reads the limits of this process, or of the process whose `proc/self` a sysroot holds."""
    groups = _Cgroups(sysroot)
    return Limits(_allowed_cpus(sysroot, groups), _quota(sysroot, groups), _memory_mb(sysroot, groups))


class _Cgroups:
    """The folders of the process's cgroups, by controller, innermost first."""

    def __init__(self, sysroot: Sysroot) -> None:
        self._paths = dict(_cgroup_paths(sysroot.text("proc/self/cgroup") or ""))
        self._mounts = list(_cgroup_mounts(sysroot.text("proc/self/mountinfo", 1 << 20) or ""))

    def v1(self, controller: str) -> list[str]:
        """Folders of the version 1 hierarchy that has this controller."""
        for controllers, root, point in self._mounts:
            if controller in controllers:
                return _upwards(self._paths.get(controller, "/"), root, point)
        return _upwards(self._paths.get(controller, "/"), "/", f"/sys/fs/cgroup/{controller}")

    def v2(self) -> list[str]:
        """Folders of the version 2 hierarchy."""
        for controllers, root, point in self._mounts:
            if not controllers:
                return _upwards(self._paths.get("", "/"), root, point)
        return _upwards(self._paths.get("", "/"), "/", "/sys/fs/cgroup")


def _cgroup_paths(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        _, _, rest = line.partition(":")
        controllers, colon, path = rest.partition(":")
        if colon and path.startswith("/"):
            for controller in controllers.split(","):
                yield controller, path


def _cgroup_mounts(text: str) -> Iterator[tuple[frozenset[str], str, str]]:
    """Controllers (none for version 2), root and mount point of each cgroup mount, in the form of `mountinfo`."""
    for line in text.splitlines():
        mount, dash, filesystem = line.partition(" - ")
        fields, kinds = mount.split(), filesystem.split()
        if not dash or len(fields) < 5 or not kinds:
            continue
        root, point = (_unescape(field) for field in fields[3:5])
        if kinds[0] == "cgroup2":
            yield frozenset(), root, point
        elif kinds[0] == "cgroup" and len(kinds) > 2:
            yield frozenset(kinds[2].split(",")), root, point


def _unescape(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def _upwards(path: str, root: str, point: str) -> list[str]:
    """The folders from a cgroup up to the mount point. A path outside the mount's root belongs to another namespace."""
    path, root = posixpath.normpath(path), posixpath.normpath(root)
    if root != "/":
        path = "/" + path[len(root) :].lstrip("/") if path == root or path.startswith(root + "/") else "/"
    parts = [part for part in path.split("/") if part and part != ".."][:_MAX_DEPTH]
    return [posixpath.join(point, *parts[:depth]) for depth in range(len(parts), -1, -1)]


def _allowed_cpus(sysroot: Sysroot, groups: _Cgroups) -> frozenset[int] | None:
    if sysroot.is_live and hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))  # the kernel has already cut it to the cpuset
    allowed = _status_cpus(sysroot)
    v1, v2 = groups.v1("cpuset"), groups.v2()
    for folders, names in (
        (v2, ("cpuset.cpus.effective", "cpuset.cpus")),
        (v1, ("cpuset.effective_cpus", "cpuset.cpus")),
    ):
        cpus = _first_cpus(sysroot, folders, names)
        if cpus:
            allowed = cpus if allowed is None else allowed & cpus or allowed
    return allowed


def _status_cpus(sysroot: Sysroot) -> frozenset[int] | None:
    match = re.search(r"^Cpus_allowed_list:\s*(\S+)", sysroot.text("proc/self/status") or "", re.MULTILINE)
    return parse_cpu_list(match[1]) or None if match else None


def _first_cpus(sysroot: Sysroot, folders: Iterable[str], names: Iterable[str]) -> frozenset[int] | None:
    # An empty list means "as the group above".
    for folder in folders:
        for name in names:
            cpus = sysroot.cpus(f"{folder}/{name}")
            if cpus:
                return cpus
    return None


def _quota(sysroot: Sysroot, groups: _Cgroups) -> float | None:
    quotas = []
    for folder in groups.v2():
        match = re.fullmatch(r"(\d{1,15})\s+(\d{1,15})", sysroot.text(f"{folder}/cpu.max") or "")
        if match:
            quotas.append((int(match[1]), int(match[2])))
    for folder in groups.v1("cpu"):
        quota = sysroot.number(f"{folder}/cpu.cfs_quota_us")
        period = sysroot.number(f"{folder}/cpu.cfs_period_us")
        if quota is not None and period is not None:
            quotas.append((quota, period))
    return min((round(quota / period, 3) for quota, period in quotas if quota > 0 and period > 0), default=None)


def _memory_mb(sysroot: Sysroot, groups: _Cgroups) -> int | None:
    files = [f"{folder}/memory.max" for folder in groups.v2()]
    files += [f"{folder}/memory.limit_in_bytes" for folder in groups.v1("memory")]
    limits_mb = [limit >> 20 for file in files if (limit := sysroot.number(file)) is not None and limit > 0]
    return min((limit for limit in limits_mb if 0 < limit < _NO_LIMIT_MB), default=None)

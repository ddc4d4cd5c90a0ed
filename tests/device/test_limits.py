"""CPUs, time and memory that a process may use."""

from __future__ import annotations

from typing import Any

import pytest

from edge_sdk.device.limits import read_limits
from edge_sdk.device.sysroot import Sysroot

V2_MOUNT = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n"
V1_MOUNTS = (
    "31 23 0:27 /docker/ab /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
    "32 23 0:28 /docker/ab /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "33 23 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
)


@pytest.fixture
def quad(machine: Any) -> Any:
    """Four CPUs and 8 GB, nothing limited."""
    return machine.cpus("0-3").cpu(range(4)).write("proc/meminfo", "MemTotal:        8388608 kB\nMemFree: 1 kB")


def test_nothing_limits(quad: Any) -> None:
    device = quad.probe()
    assert (device.usable_cpus, device.cpu_quota, device.memory_mb) == ((0, 1, 2, 3), None, 8192)


def test_affinity_and_offline(quad: Any) -> None:
    quad.cpus("0-3", online="0,2-3").write("proc/self/status", "Name:\tx\nCpus_allowed_list:\t0-2")
    assert quad.probe().usable_cpus == (0, 2)


def test_version_2_takes_the_least_on_the_way_up(quad: Any) -> None:
    quad.write("proc/self/cgroup", "0::/a.slice/b.service").write("proc/self/mountinfo", V2_MOUNT)
    quad.write("sys/fs/cgroup/a.slice/cpu.max", "150000 100000")
    quad.write("sys/fs/cgroup/a.slice/b.service/cpu.max", "max 100000")
    quad.write("sys/fs/cgroup/a.slice/memory.max", 512 << 20)
    quad.write("sys/fs/cgroup/a.slice/b.service/memory.max", 1024 << 20)
    quad.write("sys/fs/cgroup/a.slice/b.service/cpuset.cpus.effective", "1-2")
    device = quad.probe()
    assert (device.usable_cpus, device.cpu_quota, device.memory_mb) == ((1, 2), 1.5, 512)


def test_version_1_in_a_container(quad: Any) -> None:
    quad.write("proc/self/cgroup", "4:memory:/docker/ab\n3:cpu,cpuacct:/docker/ab\n2:cpuset:/docker/ab/inner\n")
    quad.write("proc/self/mountinfo", V1_MOUNTS)
    quad.write("sys/fs/cgroup/cpuset/cpuset.cpus", "0-1").write("sys/fs/cgroup/cpuset/inner/cpuset.cpus", "")
    quad.write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", 50000)
    quad.write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", 100000)
    quad.write("sys/fs/cgroup/memory/memory.limit_in_bytes", 9223372036854771712)
    quad.write("sys/fs/cgroup/memory/docker/ab/memory.limit_in_bytes", 256 << 20)
    device = quad.probe()
    assert (device.usable_cpus, device.cpu_quota, device.memory_mb) == ((0, 1), 0.5, 256)


def test_cgroup_of_another_namespace_counts_from_the_mount(quad: Any) -> None:
    quad.write("proc/self/cgroup", "0::/../../other").write("proc/self/mountinfo", V2_MOUNT)
    quad.write("sys/fs/cgroup/cpu.max", "200000 100000")
    assert quad.probe().cpu_quota == 2.0


def test_no_mount_table_means_the_usual_place(quad: Any) -> None:
    quad.write("sys/fs/cgroup/memory.max", 100 << 20)
    assert read_limits(Sysroot(quad.root)).memory_mb == 100


@pytest.mark.parametrize("content", ["-1 100000", "0 0", "max", "1 0", "x", "1e9 3", "9" * 40 + " 1"])
def test_quota_that_is_none(quad: Any, content: str) -> None:
    quad.write("sys/fs/cgroup/cpu.max", content)
    assert quad.probe().cpu_quota is None


def test_cpuset_that_leaves_nothing_online_is_not_believed(quad: Any) -> None:
    quad.write("sys/fs/cgroup/cpuset.cpus.effective", "64-65")
    assert quad.probe().usable_cpus == (0, 1, 2, 3)

"""Files of a machine are anybody's: nothing in them may crash, hang, fill the memory, or lead out of the folder."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_sdk.device import Device, probe
from edge_sdk.device.cpuinfo import parse_cpuinfo
from edge_sdk.device.sysroot import MAX_CPUS, Sysroot, cpu_list_text, parse_cpu_list, parse_cpu_mask
from edge_sdk.errors import DeviceError

CPU = "sys/devices/system/cpu"


# -- lists of CPUs


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("0-3,8", {0, 1, 2, 3, 8}),
        ("0 1 2 3", {0, 1, 2, 3}),
        ("", set()),
        ("0-4294967295", None),
        ("3-1", None),
        ("-1", None),
        ("1-", None),
        ("0x3", None),
        ("٣", None),
        ("9" * 5000, None),
    ],
)
def test_cpu_lists(text: str, cpus: set[int] | None) -> None:
    assert parse_cpu_list(text) == cpus


@given(st.sets(st.integers(0, MAX_CPUS - 1), max_size=20))
@settings(max_examples=100)
def test_what_is_written_of_cpus_reads_back(cpus: set[int]) -> None:
    assert parse_cpu_list(cpu_list_text(cpus)) == cpus


def test_neighbouring_cpus_are_written_as_a_range() -> None:
    assert cpu_list_text((8, 0, 1, 2, 5, 7)) == "0-2,5,7-8"


def test_cpu_masks() -> None:
    assert parse_cpu_mask("00000000,0000000f\n") == {0, 1, 2, 3}
    assert parse_cpu_mask("f" * 100_000) is None
    assert parse_cpu_mask("xyz") is None


@given(st.text(max_size=40))
@settings(max_examples=100)
def test_any_text_is_a_list_of_real_cpus_or_none(text: str) -> None:
    cpus = parse_cpu_list(text)
    assert cpus is None or all(0 <= cpu < MAX_CPUS for cpu in cpus)


# -- files that are not what they should be


def test_no_cpu_tree(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"no CPU found.*expected the root"):
        probe(tmp_path)
    with pytest.raises(DeviceError, match="no such folder"):
        probe(tmp_path / "absent")


def test_folders_and_pipes_in_place_of_files(machine: Any) -> None:
    machine.arm_cpuinfo({0: 0x410FD034, 1: 0x410FD034})
    (machine.root / CPU / "present").mkdir(parents=True)
    os.mkfifo(machine.root / CPU / "online")
    (machine.root / "proc" / "meminfo").symlink_to("/dev/zero")
    device = machine.probe()
    assert device.clusters[0].cpus == (0, 1)
    assert device.memory_mb is None


def test_links_do_not_lead_out_of_the_folder(machine: Any, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("MemTotal: 4194304 kB")
    machine.arm_cpuinfo({0: 0x410FD034})
    (machine.root / "proc" / "meminfo").symlink_to("../../secret")
    assert machine.probe().memory_mb is None
    (machine.root / "proc" / "meminfo").unlink()
    (machine.root / "proc" / "meminfo").symlink_to("meminfo")
    assert machine.probe().memory_mb is None


def test_absolute_links_are_those_of_the_machine_that_was_copied(machine: Any) -> None:
    machine.arm_cpuinfo({0: 0x410FD034})
    machine.write("sys/firmware/devicetree/base/model", "A board")
    (machine.root / "proc" / "device-tree").symlink_to("/sys/firmware/devicetree/base")
    assert Sysroot(machine.root).text("proc/device-tree/model") == "A board"


def test_huge_files_are_read_in_part(machine: Any) -> None:
    machine.cpus("0-1").write("proc/cpuinfo", b"")
    with (machine.root / "proc" / "cpuinfo").open("wb") as file:
        file.truncate(1 << 40)
    assert len(machine.probe().clusters[0].cpus) == 2


def test_garbage_list_falls_back_on_the_folders(machine: Any) -> None:
    machine.cpus("0-4294967295").cpu(range(2), midr=0x410FD034)
    assert machine.probe().clusters[0].cpus == (0, 1)


def test_as_many_cpus_as_linux_can_have(machine: Any) -> None:
    machine.cpus(f"0-{MAX_CPUS - 1}")
    assert sum(len(cluster.cpus) for cluster in machine.probe().clusters) == MAX_CPUS


def test_deep_and_wide_trees(machine: Any) -> None:
    machine.cpus("0").write("proc/self/cgroup", "0::/" + "a/" * 20_000)
    for index in range(300):
        machine.write(f"{CPU}/cpufreq/policy{index}/related_cpus", "0")
    assert machine.probe().usable_cpus == (0,)


# -- fuzz

LINES = st.sampled_from(
    [
        "processor\t: 0", "processor : 1", "processor : 7", "Processor : ARMv7 (v7l)", "Features : asimd asimdhp", "",
        "CPU implementer : 0x41", "CPU part : 0xd03", "CPU part : 0xd08", "CPU variant : 0xfff", "Hardware : MSM8994",
        "vendor_id : GenuineIntel", "cpu family : 6", "model : 151", "flags : lm avx2", "isa : rv64imafdcv",
        "uarch : a,b", "model name : x (v8l)", "cpu MHz : 1.5", "processor : -1", "processor : 99999999", ":",
        "\0", "CPU architecture: 8",
    ]
)  # fmt: skip
CONTENT = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [b"0", b"1", b"-1", b"0-3", b"0-1,3", b"4-7", b"0 1 2 3", b"1800000", b"0-4294967295", b"ff", b"0x410fd034",
         b"Unified", b"Data", b"512K", b"99999999999999999999", b"max 100000", b"50000 100000", b"passive", b"Battery"]
    ),
)  # fmt: skip
PATHS = st.sampled_from(
    [f"{CPU}/{name}" for name in ("present", "possible", "online", "offline", "cputopo/glbinfo")]
    + [
        f"{CPU}/cpu{cpu}/{name}"
        for cpu in (0, 1, 4, 7)
        for name in (
            "online", "cpu_capacity", "cpufreq/related_cpus", "cpufreq/cpuinfo_max_freq", "cpufreq/scaling_cur_freq",
            "topology/core_siblings_list", "topology/core_siblings", "topology/cluster_id",
            "topology/physical_package_id", "topology/thread_siblings_list", "topology/cluster_cpus_list",
            "regs/identification/midr_el1",
            "cache/index0/level", "cache/index0/type", "cache/index0/size", "cache/index2/level",
            "cache/index2/shared_cpu_list", "of_node/compatible",
        )
    ]
    + [
        "proc/meminfo", "proc/self/status", "proc/self/cgroup", "proc/self/mountinfo", "sys/fs/cgroup/cpu.max",
        "sys/fs/cgroup/memory.max", "sys/fs/cgroup/cpuset.cpus", "sys/class/thermal/thermal_zone0/temp",
        "sys/class/thermal/thermal_zone0/trip_point_0_type", "sys/class/thermal/cooling_device0/cur_state",
        "sys/class/power_supply/BAT0/type", "sys/class/power_supply/BAT0/capacity", "system/build.prop", "bin/sh",
        "proc/device-tree/model", "sys/class/dmi/id/product_name", "sys/devices/cpu_core/cpus", "lib/ld-musl-x.so.1",
        f"{CPU}/cpufreq/policy0/related_cpus", f"{CPU}/cpufreq/policy0/scaling_max_freq",
    ]
)  # fmt: skip


@given(st.lists(LINES, max_size=25).map("\n".join) | st.text(max_size=200))
@settings(max_examples=150)
def test_any_cpuinfo_is_read(text: str) -> None:
    info = parse_cpuinfo(text)
    assert all(0 <= cpu < MAX_CPUS for cpu in info.cpus)
    for block in info.blocks:
        assert block.midr is None or 0 <= block.midr < 1 << 32


@given(st.lists(LINES, max_size=20), st.dictionaries(PATHS, CONTENT, max_size=12))
@settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow])
def test_any_machine_is_a_whole_device_or_a_clear_error(lines: list[str], files: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for path, content in {**files, "proc/cpuinfo": "\n".join(lines).encode()}.items():
            file = Path(folder, path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        try:
            device = probe(folder)
        except DeviceError as error:
            assert "\n" not in str(error)
            return
    check_whole(device)


def check_whole(device: Device) -> None:
    """What holds for every device: its CPUs are divided without rest, and its JSON form is read back."""
    cpus = [cpu for cluster in device.clusters for cpu in cluster.cpus]
    assert len(cpus) == len(set(cpus)) > 0
    assert [cluster.id for cluster in device.clusters] == [str(index) for index in range(len(device.clusters))]
    for cluster in device.clusters:
        assert cluster.role in ("big", "mid", "little")
        assert cluster.cpus == tuple(sorted(cluster.cpus))
        assert set(cluster.online) <= set(cluster.cpus)
        assert sorted(cpu for core in cluster.siblings for cpu in core) == list(cluster.cpus)
    assert device.clusters[0].role == "big"
    assert device.usable_cpus
    assert set(device.usable_cpus) <= set(cpus)
    assert msgspec.json.decode(msgspec.json.encode(device), type=Device) == device


def test_this_machine() -> None:
    device = probe(engines={"onnxruntime": "1.0"})
    check_whole(device)
    assert device.engines == {"onnxruntime": "1.0"}
    assert set(device.usable_cpus) <= os.sched_getaffinity(0)
    assert device.fingerprint == probe(engines={"onnxruntime": "1.0"}).fingerprint != probe().fingerprint

"""Clusters of machines as they are built, and of machines that contradict themselves."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from edge_sdk.device import Cluster, probe
from edge_sdk.device.facts import Device

A53, A55, A57, A72, A73, A76 = 0x410FD034, 0x412FD050, 0x411FD071, 0x410FD083, 0x410FD092, 0x414FD0B1
A510, A710, A715, X3 = 0x411FD461, 0x412FD470, 0x411FD4D0, 0x411FD4E0


def summary(device: Device) -> list[tuple[str, str | None, list[int]]]:
    """Role, core and CPUs of each cluster, fastest first."""
    return [(cluster.role, cluster.core, list(cluster.cpus)) for cluster in device.clusters]


# -- machines as they are built


def test_raspberry_pi_5_is_one_big_cluster(machine: Any) -> None:
    machine.cpus("0-3").arm_cpuinfo(dict.fromkeys(range(4), A76), tail="Model\t: Raspberry Pi 5 Model B Rev 1.0")
    machine.cpu(range(4), max_khz=2400000, policy="0 1 2 3", package="0-3", cluster="0-3", capacity=1024)
    device = machine.probe()
    assert summary(device) == [("big", "cortex-a76", [0, 1, 2, 3])]
    assert device.clusters[0].max_mhz == 2400
    assert device.name == "Raspberry Pi 5 Model B Rev 1.0"


def test_rk3588_has_two_big_pairs_with_clocks_of_their_own(machine: Any) -> None:
    machine.cpus("0-7").arm_cpuinfo(dict.fromkeys(range(4), A55) | dict.fromkeys(range(4, 8), A76))
    machine.cpu(range(4), max_khz=1800000, policy="0 1 2 3", package="0-7", capacity=530)
    # The speed bin of each pair is its own, so their highest clocks differ by some steps.
    machine.cpu((4, 5), max_khz=2400000, policy="4 5", package="0-7", capacity=1024)
    machine.cpu((6, 7), max_khz=2352000, policy="6 7", package="0-7", capacity=1004)
    assert summary(machine.probe()) == [
        ("big", "cortex-a76", [4, 5]),
        ("big", "cortex-a76", [6, 7]),
        ("little", "cortex-a55", [0, 1, 2, 3]),
    ]


def test_snapdragon_8_gen_2_has_two_kinds_of_mid_cores_in_one_domain(machine: Any) -> None:
    parts = dict.fromkeys((0, 1, 2), A510) | dict.fromkeys((3, 4), A715) | dict.fromkeys((5, 6), A710) | {7: X3}
    machine.cpus("0-7").arm_cpuinfo(parts)
    machine.cpu(range(3), max_khz=2016000, policy="0 1 2", package="0-7", cluster="0-7", capacity=326)
    machine.cpu(range(3, 7), max_khz=2803200, policy="3 4 5 6", package="0-7", cluster="0-7", capacity=870)
    machine.cpu((7,), max_khz=3187200, policy="7", package="0-7", cluster="0-7", capacity=1024)
    assert summary(machine.probe()) == [
        ("big", "cortex-x3", [7]),
        ("mid", "cortex-a715", [3, 4]),
        ("mid", "cortex-a710", [5, 6]),
        ("little", "cortex-a510", [0, 1, 2]),
    ]


def test_three_clusters_of_which_two_have_one_core_design(machine: Any) -> None:
    machine.cpus("0-7").arm_cpuinfo(dict.fromkeys(range(4), A55) | dict.fromkeys(range(4, 8), A76))
    machine.cpu(range(4), max_khz=1785600, policy="0 1 2 3")
    machine.cpu(range(4, 7), max_khz=2419200, policy="4 5 6")
    machine.cpu((7,), max_khz=2841600, policy="7")
    assert summary(machine.probe()) == [
        ("big", "cortex-a76", [7]),
        ("mid", "cortex-a76", [4, 5, 6]),
        ("little", "cortex-a55", [0, 1, 2, 3]),
    ]


def hybrid(machine: Any) -> Any:
    """Four big cores with two threads each, four small ones that share a cache."""
    machine.cpus("0-11").x86_cpuinfo(12, 6, 154)
    for first in (0, 2, 4, 6):
        pair = f"{first}-{first + 1}"
        # The favoured cores are a little faster.
        khz = 4700000 if first < 2 else 4600000
        machine.cpu((first, first + 1), max_khz=khz, policy="{cpu}", threads=pair, l1=(48, 32), l2=pair, l3="0-11")
    machine.cpu(range(8, 12), max_khz=3500000, policy="{cpu}", threads="{cpu}", l1=(32, 64), l2="8-11", l3="0-11")
    return machine


HYBRID = [("big", "golden-cove", list(range(8))), ("little", "gracemont", [8, 9, 10, 11])]


def test_intel_hybrid_by_its_counters(machine: Any) -> None:
    hybrid(machine).write("sys/devices/cpu_core/cpus", "0-7").write("sys/devices/cpu_atom/cpus", "8-11")
    device = machine.probe()
    assert summary(device) == HYBRID
    assert device.clusters[0].siblings == ((0, 1), (2, 3), (4, 5), (6, 7))
    assert device.clusters[1].siblings == ((8,), (9,), (10,), (11,))


def test_intel_hybrid_by_its_caches_where_no_counter_tells(machine: Any) -> None:
    assert summary(hybrid(machine).probe()) == HYBRID


def test_intel_hybrid_by_its_clocks_where_no_cache_tells(machine: Any) -> None:
    machine.cpus("0-3").x86_cpuinfo(4, 6, 154)
    machine.cpu((0, 1), max_khz=4700000, policy="{cpu}").cpu((2, 3), max_khz=3500000, policy="{cpu}")
    assert summary(machine.probe()) == [("big", "golden-cove", [0, 1]), ("little", "gracemont", [2, 3])]


def test_hybrid_with_low_power_island_has_three_clusters(machine: Any) -> None:
    machine.cpus("0-5").x86_cpuinfo(6, 6, 170)
    machine.cpu((0, 1), max_khz=4800000).cpu((2, 3), max_khz=3800000).cpu((4, 5), max_khz=2500000)
    machine.write("sys/devices/cpu_core/cpus", "0-1").write("sys/devices/cpu_atom/cpus", "2-3")
    machine.write("sys/devices/cpu_lowpower/cpus", "4-5")
    assert [(role, cpus) for role, _, cpus in summary(machine.probe())] == [
        ("big", [0, 1]),
        ("mid", [2, 3]),
        ("little", [4, 5]),
    ]


def test_smt_server_is_one_cluster_over_two_sockets(machine: Any) -> None:
    machine.cpus("0-15").x86_cpuinfo(16, 6, 106)
    for cpu in range(8):
        package = "0-3,8-11" if cpu < 4 else "4-7,12-15"
        pair = f"{cpu},{cpu + 8}"
        machine.cpu((cpu, cpu + 8), max_khz=3400000, policy="{cpu}", package=package, threads=pair, l2=pair, l3=package)
    (cluster,) = machine.probe().clusters
    assert (cluster.role, cluster.core, cluster.cpus) == ("big", "ice-lake-server", tuple(range(16)))
    assert cluster.siblings == tuple((cpu, cpu + 8) for cpu in range(8))


def test_favoured_cores_do_not_divide(machine: Any) -> None:
    machine.cpus("0-3").x86_cpuinfo(4, 25, 97, vendor="AuthenticAMD")
    for cpu, khz in enumerate((5881000, 5660000, 5482000, 5250000)):
        machine.cpu((cpu,), max_khz=khz, policy="{cpu}", capacity=1024 - 20 * cpu)
    assert summary(machine.probe()) == [("big", "zen4", [0, 1, 2, 3])]


def test_virtual_machine_with_a_package_for_each_cpu(machine: Any) -> None:
    machine.cpus("0-3").x86_cpuinfo(4, 6, 85)
    machine.cpu(range(4), package="{cpu}", threads="{cpu}", cluster="{cpu}")
    device = machine.probe()
    assert summary(device) == [("big", "skylake-server", [0, 1, 2, 3])]
    assert device.clusters[0].max_mhz is None


def test_modules_of_an_atom_share_clock_and_last_cache(machine: Any) -> None:
    machine.cpus("0-3").x86_cpuinfo(4, 6, 55)
    machine.cpu((0, 1), max_khz=1862000, policy="0 1 2 3", l2="0-1")
    machine.cpu((2, 3), max_khz=1862000, policy="0 1 2 3", l2="2-3")
    assert summary(machine.probe()) == [("big", "silvermont", [0, 1]), ("big", "silvermont", [2, 3])]


def test_single_core(machine: Any) -> None:
    machine.cpus("0").arm_cpuinfo({0: 0x410FB767}, features="half thumb fastmult vfp edsp java tls")
    machine.cpu((0,), max_khz=1000000, policy="0")
    device = machine.probe()
    assert summary(device) == [("big", "arm11", [0])]
    assert device.arch == "armv7l"


def test_only_cpuinfo(machine: Any) -> None:
    machine.arm_cpuinfo(dict.fromkeys(range(4), A53) | dict.fromkeys(range(4, 6), A72))
    assert summary(machine.probe()) == [("big", "cortex-a72", [4, 5]), ("little", "cortex-a53", [0, 1, 2, 3])]


def test_only_sysfs_registers(machine: Any) -> None:
    machine.cpus("0-5").cpu(range(4), midr=A53).cpu((4, 5), midr=A72)
    assert summary(machine.probe()) == [("big", "cortex-a72", [4, 5]), ("little", "cortex-a53", [0, 1, 2, 3])]


def test_only_the_device_tree(machine: Any) -> None:
    machine.cpus("0-5").cpu(range(6))
    for cpu in range(6):
        compatible = b"arm,cortex-a72\0" if cpu > 3 else b"arm,cortex-a53\0arm,armv8\0"
        machine.write(f"sys/devices/system/cpu/cpu{cpu}/of_node/compatible", compatible)
    assert summary(machine.probe()) == [("big", "cortex-a72", [4, 5]), ("little", "cortex-a53", [0, 1, 2, 3])]


def test_x86_without_cpuinfo(machine: Any) -> None:
    machine.cpus("0-3").cpu(range(4), package="{cpu}")
    machine.write("sys/devices/system/cpu/modalias", "cpu:type:x86,ven0002fam0019mod0021:feature:,0000")
    device = machine.probe()
    assert (summary(device), device.arch) == ([("big", "zen3", [0, 1, 2, 3])], "x86_64")


# -- sources that contradict one another


def test_little_core_with_the_higher_clock_stays_little(machine: Any) -> None:
    machine.cpus("0-7").arm_cpuinfo(dict.fromkeys(range(4), A53) | dict.fromkeys(range(4, 8), A73))
    machine.cpu(range(4), max_khz=2200000, policy="0 1 2 3").cpu(range(4, 8), max_khz=1800000, policy="4 5 6 7")
    assert summary(machine.probe()) == [
        ("big", "cortex-a73", [4, 5, 6, 7]),
        ("little", "cortex-a53", [0, 1, 2, 3]),
    ]


def test_unknown_designs_are_ranked_by_capacity_before_clock(machine: Any) -> None:
    machine.cpus("0-3").arm_cpuinfo({0: 0x990F9990, 1: 0x990F9990, 2: 0x990F9980, 3: 0x990F9980})
    machine.cpu((0, 1), max_khz=2200000, capacity=400).cpu((2, 3), max_khz=1800000, capacity=900)
    clusters = machine.probe().clusters
    assert [(c.role, c.core, c.cpus, c.capacity) for c in clusters] == [
        ("big", None, (2, 3), 1024),
        ("little", None, (0, 1), 455),
    ]


def test_equal_capacities_do_not_hide_different_designs(machine: Any) -> None:
    machine.cpus("0-3").arm_cpuinfo({0: A53, 1: A53, 2: A72, 3: A72}).cpu(range(4), capacity=1024)
    clusters = machine.probe().clusters
    assert [(c.role, c.cpus, c.capacity) for c in clusters] == [("big", (2, 3), None), ("little", (0, 1), None)]


def test_sysfs_cluster_that_mixes_designs_is_divided(machine: Any) -> None:
    machine.cpus("0-5").arm_cpuinfo(dict.fromkeys((0, 3, 4, 5), A57) | dict.fromkeys((1, 2), 0x4E0F0030))
    machine.cpu(range(6), max_khz=2035200, policy="{cpu}", package="0-5", cluster="0-5")
    assert summary(machine.probe()) == [("big", "denver2", [1, 2]), ("little", "cortex-a57", [0, 3, 4, 5])]


@pytest.mark.parametrize("max_khz", [1500000, None])
def test_policy_or_id_for_each_cpu_divides_nothing(machine: Any, max_khz: int | None) -> None:
    machine.cpus("0-3").arm_cpuinfo(dict.fromkeys(range(4), A53))
    machine.cpu(range(4), max_khz=max_khz, policy="{cpu}", package="{cpu}", cluster="{cpu}")
    assert summary(machine.probe()) == [("big", "cortex-a53", [0, 1, 2, 3])]


def test_policy_for_each_big_cpu_beside_a_shared_one(machine: Any) -> None:
    machine.cpus("0-5").arm_cpuinfo(dict.fromkeys(range(4), A53) | dict.fromkeys((4, 5), A72))
    machine.cpu(range(4), max_khz=1400000, policy="0 1 2 3").cpu((4, 5), max_khz=1800000, policy="{cpu}")
    assert summary(machine.probe()) == [("big", "cortex-a72", [4, 5]), ("little", "cortex-a53", [0, 1, 2, 3])]


def test_one_design_at_two_clocks_with_a_policy_for_each_cpu(machine: Any) -> None:
    machine.cpus("0-7").arm_cpuinfo(dict.fromkeys(range(8), A53))
    machine.cpu(range(4), max_khz=1200000, policy="{cpu}").cpu(range(4, 8), max_khz=1500000, policy="{cpu}")
    assert summary(machine.probe()) == [
        ("big", "cortex-a53", [4, 5, 6, 7]),
        ("little", "cortex-a53", [0, 1, 2, 3]),
    ]


def test_nothing_but_capacities(machine: Any) -> None:
    machine.cpus("0-7").cpu(range(4), capacity=446, policy="{cpu}").cpu(range(4, 8), capacity=1024, policy="{cpu}")
    assert summary(machine.probe()) == [("big", None, [4, 5, 6, 7]), ("little", None, [0, 1, 2, 3])]


@pytest.mark.parametrize("source", ["policy", "package", "cluster"])
def test_one_design_in_two_clusters_at_one_clock_are_both_big(machine: Any, source: str) -> None:
    machine.cpus("0-7").arm_cpuinfo(dict.fromkeys(range(8), A53))
    for half in ((0, 1, 2, 3), (4, 5, 6, 7)):
        machine.cpu(half, max_khz=1500000, **{source: ",".join(map(str, half))})
    assert summary(machine.probe()) == [
        ("big", "cortex-a53", [0, 1, 2, 3]),
        ("big", "cortex-a53", [4, 5, 6, 7]),
    ]


def test_one_design_at_two_clocks_has_a_little_cluster(machine: Any) -> None:
    machine.cpus("0-7").arm_cpuinfo(dict.fromkeys(range(8), A53))
    machine.cpu(range(4), max_khz=1500000, policy="0 1 2 3").cpu(range(4, 8), max_khz=1200000, policy="4 5 6 7")
    assert [(role, cpus) for role, _, cpus in summary(machine.probe())] == [
        ("big", [0, 1, 2, 3]),
        ("little", [4, 5, 6, 7]),
    ]


def test_policy_of_another_cluster_is_not_believed(machine: Any) -> None:
    """Some kernels show the folder of the CPU that took over where a CPU has just gone offline."""
    machine.cpus("0-7", online="4-7").arm_cpuinfo(dict.fromkeys(range(4, 8), A72))
    machine.cpu((0,), max_khz=2000000, policy="4 5 6 7").cpu(range(4, 8), max_khz=2000000, policy="4 5 6 7")
    clusters = {cluster.cpus: cluster.max_mhz for cluster in machine.probe().clusters}
    assert clusters == {(4, 5, 6, 7): 2000, (0, 1, 2, 3): None}


# -- cores offline, and what `/proc/cpuinfo` leaves out


def test_offline_cores_belong_to_the_domain_that_lists_them(machine: Any) -> None:
    machine.cpus("0-7", online="0-5").arm_cpuinfo(dict.fromkeys(range(4), A53) | dict.fromkeys((4, 5), A73))
    machine.cpu(range(4), max_khz=1800000, policy="0 1 2 3", package="0-3")
    machine.cpu((4, 5), max_khz=2400000, policy="4 5 6 7", package="4-5").cpu((6, 7))
    device = machine.probe()
    assert summary(device)[0] == ("big", "cortex-a73", [4, 5, 6, 7])
    assert device.clusters[0].online == (4, 5)
    assert device.usable_cpus == (0, 1, 2, 3, 4, 5)


def test_offline_cores_where_only_packages_tell(machine: Any) -> None:
    """Package lists shrink while cores are offline: the fifth core is with the sixth, not with the fourth."""
    machine.cpus("0-7", online="0-2,5-7").arm_cpuinfo(dict.fromkeys(range(8), A53))
    machine.cpu(range(3), package="0-2").cpu(range(5, 8), package="5-7").cpu((3, 4))
    assert [cpus for _, _, cpus in summary(machine.probe())] == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_lone_fast_core_does_not_take_in_the_cluster_that_is_offline(machine: Any) -> None:
    machine.cpus("0-8", online="0-3,8").arm_cpuinfo(dict.fromkeys(range(4), A510) | {8: X3})
    machine.cpu(range(4), max_khz=1704000, policy="0 1 2 3").cpu((8,), max_khz=2914000, policy="8")
    assert sorted(cpus for _, _, cpus in summary(machine.probe())) == [[0, 1, 2, 3], [4, 5, 6, 7], [8]]


def test_cluster_that_is_offline_as_a_whole(machine: Any) -> None:
    machine.cpus("0-7", online="0-3").arm_cpuinfo(dict.fromkeys(range(4), A53))
    machine.cpu(range(4), max_khz=1500000, policy="0 1 2 3")
    device = machine.probe()
    assert {cluster.cpus: (cluster.core, cluster.online) for cluster in device.clusters} == {
        (0, 1, 2, 3): ("cortex-a53", (0, 1, 2, 3)),
        (4, 5, 6, 7): (None, ()),  # nothing tells what it is made of
    }


def test_known_soc_names_the_cluster_that_is_offline(machine: Any) -> None:
    machine.cpus("0-7", online="0-3")
    machine.arm_cpuinfo(dict.fromkeys(range(4), A53), tail="Hardware\t: Qualcomm Technologies, Inc MSM8994")
    machine.cpu(range(4), max_khz=1555200, policy="0 1 2 3")
    assert summary(machine.probe()) == [
        ("big", "cortex-a57", [4, 5, 6, 7]),
        ("little", "cortex-a53", [0, 1, 2, 3]),
    ]


def test_soc_name_that_contradicts_the_registers_is_not_believed(machine: Any) -> None:
    machine.cpus("0-7").arm_cpuinfo(dict.fromkeys(range(8), A53), tail="Hardware\t: Qualcomm MSM8994")
    machine.cpu(range(4), policy="0 1 2 3").cpu(range(4, 8), policy="4 5 6 7")
    assert {core for _, core, _ in summary(machine.probe())} == {"cortex-a53"}


OLD_KERNEL = """Processor\t: AArch64 Processor rev 0 (aarch64)
processor\t: 0
processor\t: 1
processor\t: 2
processor\t: 3
processor\t: 4
processor\t: 5
Features\t: fp asimd aes
CPU implementer\t: 0x41
CPU architecture: AArch64
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 0

Hardware\t: {hardware}
"""


def test_common_block_of_a_big_core_leaves_the_slower_cluster_its_usual_partner(machine: Any) -> None:
    machine.cpus("0-5").write("proc/cpuinfo", OLD_KERNEL.format(hardware="Some board"))
    machine.cpu(range(4), max_khz=1400000, policy="0 1 2 3").cpu((4, 5), max_khz=1800000, policy="4 5")
    assert summary(machine.probe()) == [("big", "cortex-a72", [4, 5]), ("little", "cortex-a53", [0, 1, 2, 3])]


def test_common_block_of_a_little_core_does_not_name_the_faster_cluster(machine: Any) -> None:
    machine.cpus("0-5").write("proc/cpuinfo", OLD_KERNEL.format(hardware="Some board").replace("d08", "d03"))
    machine.cpu(range(4), max_khz=1400000, policy="0 1 2 3").cpu((4, 5), max_khz=1800000, policy="4 5")
    assert summary(machine.probe()) == [("big", None, [4, 5]), ("little", "cortex-a53", [0, 1, 2, 3])]


def test_common_block_of_a_known_soc(machine: Any) -> None:
    machine.cpus("0-5").write("proc/cpuinfo", OLD_KERNEL.format(hardware="MSM8956").replace("d08", "d03"))
    machine.cpu(range(4), max_khz=1400000, policy="0 1 2 3").cpu((4, 5), max_khz=1800000, policy="4 5")
    assert summary(machine.probe()) == [("big", "cortex-a72", [4, 5]), ("little", "cortex-a53", [0, 1, 2, 3])]


def test_cpuinfo_in_an_order_of_its_own(machine: Any) -> None:
    machine.cpus("0-3").arm_cpuinfo({3: A72, 0: A53, 2: A72, 1: A53})
    assert summary(machine.probe()) == [("big", "cortex-a72", [2, 3]), ("little", "cortex-a53", [0, 1])]


def test_package_list_read_while_cores_came_back(machine: Any) -> None:
    machine.cpus("0-3").arm_cpuinfo(dict.fromkeys(range(4), A53))
    machine.cpu((0, 1), package="0-1").cpu((2, 3), package="0-3")
    assert summary(machine.probe()) == [("big", "cortex-a53", [0, 1, 2, 3])]


# -- real machines


def topologies() -> Sequence[str]:
    folder = Path(__file__).resolve().parents[2].parent / "shared" / "assets" / "topologies"
    return sorted(path.parent.name for path in folder.glob("*/expected.json")) if folder.is_dir() else ["none here"]


@pytest.mark.parametrize("name", topologies())
@pytest.mark.parametrize("process_bits", [64, 32])
def test_real_phones(assets: Path, machine: Any, name: str, process_bits: int) -> None:
    folder = assets / "topologies" / name
    expected = json.loads((folder / "expected.json").read_text())
    root = folder / "root"
    if process_bits == 32:
        cpuinfo = folder / "alt" / "armeabi" / "proc" / "cpuinfo"
        if not cpuinfo.is_file():
            pytest.skip("the same phone as a 32-bit process sees it is not here")
        shutil.copytree(root, machine.root, dirs_exist_ok=True, ignore=shutil.ignore_patterns("kgsl*", "stats", "soc0"))
        shutil.copyfile(cpuinfo, machine.root / "proc" / "cpuinfo")
        root = machine.root
    clusters = probe(root).clusters
    found = {cluster.cpus: (cluster.core, cluster.max_mhz) for cluster in clusters}
    assert found == {
        tuple(sorted(cluster["linux_ids"])): (
            cluster["uarch"].replace("_", "-"),
            round(cluster["sysfs_max_freq_khz"] / 1000),
        )
        for cluster in expected["clusters"]
    }
    groups = expected["groups"]
    if set(groups) <= {"big", "mid", "little"}:
        assert {role: sorted(cpus_of(clusters, role)) for role in groups} == {r: sorted(c) for r, c in groups.items()}
    else:
        assert {cluster.role for cluster in clusters} == {"big"}


def cpus_of(clusters: Sequence[Cluster], role: str) -> list[int]:
    return [cpu for cluster in clusters if cluster.role == role for cpu in cluster.cpus]

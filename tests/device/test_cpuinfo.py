"""The forms of `/proc/cpuinfo`, and the features read from it."""

from __future__ import annotations

from typing import Any

import pytest

from edge_sdk.device.cpu_cores import core_from_compatible, core_from_midr, core_from_x86, design, soc_layouts
from edge_sdk.device.cpuinfo import parse_cpuinfo
from edge_sdk.device.isa import isa_features
from edge_sdk.device.sysroot import Sysroot


@pytest.mark.parametrize(
    ("midr", "core"),
    [
        (0x410FD034, "cortex-a53"),
        (0x410FD050, "cortex-a55r0"),
        (0x412FD050, "cortex-a55"),
        (0x414FD0B1, "cortex-a76"),
        (0x51AF8014, "cortex-a53"),
        (0x531F0011, "exynos-m1"),
        (0x534F0010, "exynos-m2"),
        (0x4E0F0040, "carmel"),
        (0x481FD400, "cortex-a76"),
        (0x610F0220, "icestorm"),
        (0x561F5811, "pj4"),
        (0x990F9990, None),
    ],
)
def test_registers_name_the_design(midr: int, core: str | None) -> None:
    assert core_from_midr(midr) == core
    assert core is None or design(core) is not None


def test_x86_models_and_steppings() -> None:
    assert core_from_x86("GenuineIntel", 6, 85, 4) == "skylake-server"
    assert core_from_x86("GenuineIntel", 6, 85, 7) == "cascade-lake"
    assert core_from_x86("GenuineIntel", 6, 183, 1) == "raptor-cove"
    assert core_from_x86("GenuineIntel", 6, 183, 1, efficient=True) == "gracemont"
    assert core_from_x86("AuthenticAMD", 25, 33, 0) == "zen3"
    assert core_from_x86("GenuineIntel", 6, 9999, 0) is None


def test_compatible_strings_and_soc_names() -> None:
    assert core_from_compatible("arm,cortex-a55\0arm,armv8\0") == "cortex-a55"
    assert core_from_compatible("arm,armv8") is None
    assert list(soc_layouts(["no such", "HiSilicon Kirin 950", "universal7420"])) == [
        ((4, "cortex-a53"), (4, "cortex-a72")),
        ((4, "cortex-a53"), (4, "cortex-a57")),
    ]


def test_one_block_a_cpu_and_a_tail() -> None:
    info = parse_cpuinfo(
        "processor : 0\nFeatures : fp asimd\nCPU implementer : 0x41\nCPU part : 0xd03\n\n"
        "processor : 1\nFeatures : fp asimd\nCPU implementer : 0x41\nCPU part : 0xd08\n\n"
        "Hardware : A board\nRevision : 0005\n"
    )
    assert {cpu: block.midr for cpu, block in info.cpus.items()} == {0: 0x410FD030, 1: 0x410FD080}
    assert info.common is None
    assert info.header["hardware"] == "A board"


def test_block_after_a_run_of_numbers_belongs_to_no_certain_cpu() -> None:
    info = parse_cpuinfo(
        "processor : 0\nprocessor : 1\nFeatures : fp asimd\nCPU implementer : 0x41\nCPU part : 0xd03\n"
    )
    assert info.common is not None
    assert info.common.midr == 0x410FD030
    assert [block.midr for block in info.cpus.values()] == [None, None]


def test_old_32_bit_form_with_the_features_at_the_end() -> None:
    info = parse_cpuinfo(
        "Processor : ARMv7 Processor rev 0 (v7l)\nprocessor : 0\nBogoMIPS : 1\n\nprocessor : 1\nBogoMIPS : 1\n\n"
        "Features : swp half thumb neon vfpv4\nCPU implementer : 0x51\nCPU architecture: 7\nCPU part : 0x06f\n"
    )
    assert info.common is not None
    assert info.header["processor"] == "ARMv7 Processor rev 0 (v7l)"
    assert sorted(info.cpus) == [0, 1]


def test_the_only_cpu_listed_is_the_one_the_block_is_of() -> None:
    info = parse_cpuinfo("processor : 3\nBogoMIPS : 1\n\nCPU implementer : 0x41\nCPU part : 0xc07\nFeatures : neon\n")
    assert info.common is None
    assert info.cpus[3].midr == 0x410FC070


def test_garbage_numbers_are_no_numbers() -> None:
    info = parse_cpuinfo(
        "processor : 99999999999\nCPU part : 0xfffffffffff\n\nprocessor : 0\nCPU implementer : x\nCPU part : 08\n"
    )
    assert sorted(info.cpus) == [0]
    assert info.cpus[0].midr is None
    assert info.cpus[0].number("cpu part") == 8


# -- features


def features(machine: Any, *lists: str, cores: tuple[str | None, ...] = (), arch: str = "aarch64") -> tuple[str, ...]:
    vendor = "vendor_id : x\nflags" if arch == "x86_64" else "Features"
    info = parse_cpuinfo("\n".join(f"processor : {cpu}\n{vendor} : {given}\n" for cpu, given in enumerate(lists)))
    return isa_features(Sysroot(machine.root), info, cores, arch, 64)


def test_only_what_all_cores_have_counts(machine: Any) -> None:
    big, little = "fp asimd fphp asimdhp asimddp i8mm bf16 sve sve2 sme", "fp asimd fphp asimdhp asimddp"
    assert features(machine, big) == ("neon", "fp16", "dotprod", "i8mm", "bf16", "sve", "sve2", "sme")
    assert features(machine, big, little) == ("neon", "fp16", "dotprod")


def test_names_of_a_32_bit_process(machine: Any) -> None:
    assert features(machine, "half thumb neon vfpv4", arch="armv7l") == ("neon", "vfpv4")
    assert features(machine, "half thumb neon asimdhp asimddp asimdbf16 i8mm") == (
        "neon",
        "fp16",
        "dotprod",
        "i8mm",
        "bf16",
    )


def test_kernel_too_old_to_list_a_feature(machine: Any) -> None:
    old = "fp asimd evtstrm aes crc32 atomics fphp asimdhp"
    assert features(machine, old, cores=("cortex-a76", "cortex-a55")) == ("neon", "fp16", "dotprod")
    assert features(machine, old, cores=("cortex-a75", "cortex-a55r0")) == ("neon", "fp16")
    assert features(machine, old, cores=("cortex-a76", None)) == ("neon", "fp16")


def test_kernel_that_knows_a_feature_and_does_not_list_it_means_it(machine: Any) -> None:
    hidden = "fp asimd fphp asimdhp lrcpc ssbs"
    assert features(machine, hidden, cores=("cortex-a76",)) == ("neon", "fp16")


def test_kernel_that_lists_what_half_the_cores_lack(machine: Any) -> None:
    wrong = "fp asimd fphp asimdhp"
    assert features(machine, wrong, cores=("exynos-m3", "cortex-a55r0")) == ("neon",)


def test_x86_flags(machine: Any) -> None:
    server = "sse4_2 avx avx2 fma f16c avx512f avx512_vnni avx512_bf16 amx_tile amx_int8"
    assert features(machine, server, arch="x86_64") == (
        "sse4.2", "avx", "f16c", "fma", "avx2", "avx512", "vnni", "bf16", "amx",
    )  # fmt: skip
    assert features(machine, "avx2 avx_vnni", arch="x86_64") == ("avx2", "vnni", "avx_vnni")


def test_no_cpuinfo_no_features(machine: Any) -> None:
    assert isa_features(Sysroot(machine.root), None, (), "aarch64", 64) == ()

"""Plays the kernel's part for an emulated ARM machine: writes /proc/cpuinfo and the CPU tree of /sys.

User-mode emulation gives a program the emulated core's registers but the host's /proc and /sys. The kernel fills these
files from the registers MIDR_EL1 and HWCAP, so the same is done here: the registers are read inside the emulator and
the files are written from them, nothing else. What no register tells (frequency, capacity, caches) is left out.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

__all__ = ["READ_REGISTERS", "Registers", "write_kernel_files"]

# Runs inside the emulator. AArch64 lets user space read MIDR_EL1 (`mrs x0, midr_el1`; the kernel, or qemu, answers)
# where HWCAP has the bit `cpuid`; 32-bit ARM has no such way.
READ_REGISTERS = """
import ctypes, json, mmap, os
libc = ctypes.CDLL(None)
libc.getauxval.restype = ctypes.c_ulong
midr = None
if os.uname().machine == "aarch64":
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write((0xD5380000).to_bytes(4, "little") + (0xD65F03C0).to_bytes(4, "little"))
    start = ctypes.addressof(ctypes.c_char.from_buffer(page))
    midr = ctypes.CFUNCTYPE(ctypes.c_uint64)(start)()
hwcap, hwcap2 = libc.getauxval(16), libc.getauxval(26)
print(json.dumps({"machine": os.uname().machine, "midr": midr, "hwcap": hwcap, "hwcap2": hwcap2}))
"""

# The kernel's names for the bits, in order: arch/arm64/kernel/cpuinfo.c and arch/arm/kernel/setup.c.
HWCAP_ARM64 = (
    "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm jscvt fcma lrcpc dcpop sha3 sm3 "
    "sm4 asimddp sha512 sve asimdfhm dit uscat ilrcpc flagm ssbs sb paca pacg"
)
HWCAP2_ARM64 = (
    "dcpodp sve2 sveaes svepmull svebitperm svesha3 svesm4 flagm2 frint svei8mm svef32mm svef64mm svebf16 i8mm bf16 "
    "dgh rng bti mte ecv afp rpres mte3 sme smei16i64 smef64f64 smei8i32 smef16f32 smeb16f32 smef32f32 smefa64 wfxt"
)
HWCAP_ARM = (
    "swp half thumb 26bit fastmult fpa vfp edsp java iwmmxt crunch thumbee neon vfpv3 vfpv3d16 tls vfpv4 idiva idivt "
    "vfpd32 lpae evtstrm"
)
HWCAP2_ARM = "aes pmull sha1 sha2 crc32"

# MIDR of the 32-bit cores that can be asked for (qemu's target/arm/cpu_tcg.c), since user space cannot read it there.
MIDR_ARM = {"cortex-a7": 0x410FC075, "cortex-a8": 0x410FC080, "cortex-a9": 0x410FC090, "cortex-a15": 0x412FC0F1}


@dataclass(frozen=True)
class Registers:
    """What the emulated core says of itself. `midr` is None where neither it nor the table of 32-bit cores tells."""

    machine: str
    midr: int | None
    hwcap: int
    hwcap2: int

    @classmethod
    def from_answer(cls, answer: str, cpu: str) -> Registers:
        """From what `READ_REGISTERS` printed when `cpu` was emulated."""
        told = json.loads(answer)
        return cls(told["machine"], told["midr"] or MIDR_ARM.get(cpu), told["hwcap"], told["hwcap2"])

    @property
    def features(self) -> list[str]:
        """The set bits by the kernel's names."""
        arm64 = self.machine == "aarch64"
        names = HWCAP_ARM64 if arm64 else HWCAP_ARM
        names2 = HWCAP2_ARM64 if arm64 else HWCAP2_ARM
        first = [name for bit, name in enumerate(names.split()) if self.hwcap >> bit & 1]
        return first + [name for bit, name in enumerate(names2.split()) if self.hwcap2 >> bit & 1]


def cpuinfo(registers: Registers, cpus: list[int]) -> str:
    """The text of /proc/cpuinfo: one block a CPU."""
    arm64 = registers.machine == "aarch64"
    lines = []
    for cpu in cpus:
        lines.append(f"processor\t: {cpu}")
        if not arm64:
            lines.append("model name\t: ARMv7 Processor rev 5 (v7l)")
        lines += ["BogoMIPS\t: 38.40", f"Features\t: {' '.join(registers.features)} "]
        if registers.midr is not None:
            lines += [
                f"CPU implementer\t: {registers.midr >> 24 & 0xFF:#04x}",
                f"CPU architecture: {8 if arm64 else 7}",
                f"CPU variant\t: {registers.midr >> 20 & 0xF:#x}",
                f"CPU part\t: {registers.midr >> 4 & 0xFFF:#05x}",
                f"CPU revision\t: {registers.midr & 0xF}",
            ]
        lines.append("")
    return "\n".join(lines) + "\n"


def write_kernel_files(registers: Registers, cpus: list[int], folder: Path) -> None:
    """Writes `folder/cpuinfo` and `folder/sys/devices/system/cpu`.

    Args:
        registers: of the core that all CPUs are.
        cpus: ids of the host's CPUs, which threads of the emulated machine really run on.
        folder: an empty folder.
    """
    (folder / "cpuinfo").write_text(cpuinfo(registers, cpus))
    tree = folder / "sys/devices/system/cpu"
    tree.mkdir(parents=True)
    (folder / "sys/fs/cgroup").mkdir(parents=True)
    all_cpus = ",".join(str(cpu) for cpu in cpus)
    for name in ("possible", "present", "online"):
        (tree / name).write_text(f"{all_cpus}\n")
    (tree / "offline").write_text("\n")
    (tree / "kernel_max").write_text(f"{max(cpus)}\n")
    for cpu in cpus:
        _write_cpu(tree / f"cpu{cpu}", cpu, all_cpus, registers)


def _write_cpu(folder: Path, cpu: int, all_cpus: str, registers: Registers) -> None:
    topology = {
        "physical_package_id": "0",
        "core_id": str(cpu),
        "core_cpus_list": str(cpu),
        "thread_siblings_list": str(cpu),
        "package_cpus_list": all_cpus,
        "core_siblings_list": all_cpus,
    }
    (folder / "topology").mkdir(parents=True)
    for name, value in topology.items():
        (folder / "topology" / name).write_text(f"{value}\n")
    if registers.machine == "aarch64" and registers.midr is not None:
        identification = folder / "regs/identification"
        identification.mkdir(parents=True)
        (identification / "midr_el1").write_text(f"{registers.midr:#018x}\n")

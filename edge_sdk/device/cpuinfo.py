"""`/proc/cpuinfo` in the forms that kernels have given it.

Kernels differ: one block a CPU; one line a CPU and a single common block at the end (32-bit kernels before 3.8, 64-bit
ones before 4.0, where the block describes whichever core the reader ran on); only the CPUs online; a 32-bit process
sees other feature names than a 64-bit one; vendors add keys and repeat lines.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from edge_sdk.device.sysroot import CPUINFO_BYTES, MAX_CPUS, Sysroot

__all__ = ["CpuInfo", "CpuInfoBlock", "parse_cpuinfo", "read_cpuinfo"]

_HEADER_KEYS = frozenset({"hardware", "revision", "serial", "model", "msm hardware", "chip name", "machine"})
_MAX_LINES = 400_000


@dataclass(frozen=True, slots=True)
class CpuInfoBlock:
    """What is told of one CPU, or of some core that is not named. Keys are in lower case.

    Attributes:
        fields: key to value.
    """

    fields: dict[str, str]

    def number(self, key: str) -> int | None:
        """A value as a number, decimal or with "0x"; None where missing or something else."""
        text = self.fields.get(key, "")[:24]
        try:
            return int(text, 0)
        except ValueError:
            # "08" is no literal of Python's, yet some kernels pad their decimals.
            return int(text) if text.isascii() and text.isdigit() else None

    @property
    def midr(self) -> int | None:
        """The MIDR register from implementer, variant, part and revision; None without implementer or part."""
        implementer, part = self.number("cpu implementer"), self.number("cpu part")
        if implementer is None or part is None or not (0 <= implementer < 256 and 0 <= part < 4096):
            return None
        variant, revision = self.number("cpu variant") or 0, self.number("cpu revision") or 0
        return implementer << 24 | (variant & 15) << 20 | 15 << 16 | part << 4 | revision & 15

    @property
    def features(self) -> frozenset[str]:
        """Names after "Features" (ARM), "flags" (x86) or "isa" (RISC-V)."""
        for key in ("features", "flags", "isa"):
            if key in self.fields:
                return frozenset(self.fields[key].lower().split())
        return frozenset()


@dataclass(frozen=True, slots=True)
class CpuInfo:
    """All of `/proc/cpuinfo`.

    Attributes:
        cpus: the CPUs listed, which need not be all, with the block of each.
        common: the block that stands for some core which is not named; None where each CPU has its own.
        header: what describes the machine ("hardware", "model", "revision", …), keys in lower case.
    """

    cpus: dict[int, CpuInfoBlock] = field(default_factory=dict)
    common: CpuInfoBlock | None = None
    header: dict[str, str] = field(default_factory=dict)

    @property
    def blocks(self) -> list[CpuInfoBlock]:
        """The blocks that tell features, of whichever core."""
        blocks = [block for block in self.cpus.values() if block.features]
        if self.common is not None and self.common.features:
            blocks.append(self.common)
        return blocks


def read_cpuinfo(sysroot: Sysroot) -> CpuInfo | None:
    """Reads `proc/cpuinfo`; None where it is absent or lists no CPU and tells nothing about one."""
    content = sysroot.text("proc/cpuinfo", CPUINFO_BYTES)
    if content is None:
        return None
    info = parse_cpuinfo(content)
    return info if info.cpus or info.common is not None else None


def parse_cpuinfo(text: str) -> CpuInfo:
    """Reads the text of `/proc/cpuinfo`. Lines that are not "key : value" are passed over."""
    cpus: dict[int, dict[str, str]] = {}
    header: dict[str, str] = {}
    loose: dict[str, str] = {}
    current: dict[str, str] | None = None
    for line in text.split("\n", _MAX_LINES)[:_MAX_LINES]:
        key, colon, value = line.partition(":")
        if not colon:
            if not line.strip():
                current = None
            continue
        key, value = key.strip().lower(), value.strip()
        if key == "processor" and value.isascii() and value.isdigit() and len(value) < 6 and int(value) < MAX_CPUS:
            current = cpus.setdefault(int(value), {})
        elif key == "processor" or (key in _HEADER_KEYS and (current is None or key == "hardware")):
            # "Processor : ARMv7 Processor rev 4" names a model, not a number.
            header.setdefault(key, value)
        else:
            (loose if current is None else current).setdefault(key, value)
    return _attribute(cpus, loose, header)


def _attribute(cpus: dict[int, dict[str, str]], loose: dict[str, str], header: dict[str, str]) -> CpuInfo:
    """Decides which CPU the lines outside of any block, or a block after a run of bare lines, belong to."""
    common = loose if "cpu implementer" in loose or "features" in loose else None
    if common is None and len(cpus) > 1:
        # "processor : 0" to "processor : 7" and then one block: it stands below the last number, yet is not its own.
        *others, last = cpus
        if "cpu implementer" in cpus[last] and not any("cpu implementer" in cpus[cpu] for cpu in others):
            common = cpus[last]
            cpus[last] = {}
    if common is not None and len(cpus) == 1:
        # The reader ran on a CPU that is online, and only one is listed: the block is that one's.
        (only,) = cpus
        cpus[only] = {**common, **cpus[only]}
        common = None
    blocks = {cpu: CpuInfoBlock(fields) for cpu, fields in cpus.items()}
    return CpuInfo(blocks, None if common is None else CpuInfoBlock(common), header)

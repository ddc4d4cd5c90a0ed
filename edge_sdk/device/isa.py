"""The instruction set features that matter to engines, by one set of names.

A feature counts only where every core has it: a thread may run on any. Kernels older than a feature do not list it, so
for instructions that need nothing of the kernel the core designs tell; and one vendor's kernel lists what half of its
cores lack.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable

from edge_sdk.device.cpu_cores import design
from edge_sdk.device.cpuinfo import CpuInfo
from edge_sdk.device.sysroot import Sysroot

__all__ = ["isa_features"]

_ARM = {
    "neon": ("asimd", "neon"),
    "vfpv4": ("vfpv4",),
    "fp16": ("asimdhp",),
    "dotprod": ("asimddp",),
    "i8mm": ("i8mm",),
    "bf16": ("bf16", "asimdbf16"),
    "sve": ("sve",),
    "sve2": ("sve2",),
    "sme": ("sme",),
    "sme2": ("sme2",),
}
_X86 = {
    "sse4.2": ("sse4_2",),
    "avx": ("avx",),
    "f16c": ("f16c",),
    "fma": ("fma",),
    "avx2": ("avx2",),
    "avx512": ("avx512f",),
    "vnni": ("avx512_vnni", "avx_vnni"),
    "avx_vnni": ("avx_vnni",),
    "bf16": ("avx512_bf16",),
    "fp16": ("avx512_fp16",),
    "amx": ("amx_tile",),
}
_NEWER = {
    "fp16": frozenset({"fphp", "asimdhp", "atomics", "asimdrdm", "lrcpc", "asimddp"}),
    "dotprod": frozenset({"asimddp", "dit", "uscat", "ilrcpc", "flagm", "ssbs", "sb"}),
    "i8mm": frozenset({"i8mm", "bf16", "svei8mm", "dgh", "bti", "rng", "ecv"}),
    "bf16": frozenset({"i8mm", "bf16", "svei8mm", "dgh", "bti", "rng", "ecv"}),
}
"""A kernel that lists any of these knows the feature, so that it says that it is missing by leaving it out."""

# Bits of AT_HWCAP and AT_HWCAP2, from the kernel's uapi/asm/hwcap.h.
_AUXV_64 = {"asimd": (16, 1), "asimdhp": (16, 10), "asimddp": (16, 20), "sve": (16, 22), "sve2": (26, 1),
            "i8mm": (26, 13), "bf16": (26, 14), "sme": (26, 23), "sme2": (26, 37)}  # fmt: skip
_AUXV_32 = {"neon": (16, 12), "vfpv4": (16, 16), "asimdhp": (16, 23), "asimddp": (16, 24), "asimdbf16": (16, 26),
            "i8mm": (16, 27)}  # fmt: skip


def isa_features(
    sysroot: Sysroot, info: CpuInfo | None, cores: Collection[str | None], arch: str, bits: int
) -> tuple[str, ...]:
    """The features that all cores have, in a fixed order.

    Args:
        sysroot: where to read; on the machine itself the process's own auxiliary vector counts too.
        info: what `/proc/cpuinfo` says; None where it is missing or describes another machine.
        cores: designs of all clusters, None for those that are unknown.
        arch: architecture of the kernel.
        bits: width of this process, for the auxiliary vector.

    Returns:
        Names out of "neon", "fp16", "dotprod", "i8mm", "bf16", "sve", "sve2", "sme", "avx2", "avx512", "vnni", "amx", …
    """
    lists = [block.features for block in info.blocks] if info is not None else []
    shared = frozenset.intersection(*lists) if lists else frozenset[str]()
    if arch in ("x86_64", "i686"):
        return _named(shared, _X86)
    if arch.startswith("riscv"):
        return ("rvv",) if any("v" in name.partition("_")[0][4:] for name in shared if name.startswith("rv")) else ()
    if sysroot.is_live and arch.startswith(("aarch64", "arm")):
        shared |= _own_features(sysroot, bits)
    found = set(_named(shared, _ARM))
    return tuple(name for name in _ARM if name in _corrected(found, frozenset[str]().union(*lists), cores))


def _named(features: frozenset[str], names: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(name for name, given in names.items() if not features.isdisjoint(given))


def _corrected(found: set[str], listed: frozenset[str], cores: Collection[str | None]) -> Iterable[str]:
    designs = [design(core) for core in cores]
    known = [entry for entry in designs if entry is not None]
    if "neon" in found and known and len(known) == len(designs):
        for name, newer in _NEWER.items():
            if listed.isdisjoint(newer) and all(name in entry.isa for entry in known):
                found.add(name)
    return found.difference(*(entry.lacks for entry in known))


def _own_features(sysroot: Sysroot, bits: int) -> frozenset[str]:
    """What the kernel tells this process, which is right also where `/proc/cpuinfo` shows another machine."""
    vector = sysroot.read("proc/self/auxv", 4096) or b""
    word = struct.Struct("<QQ" if bits == 64 else "<II")
    entries = dict(word.iter_unpack(vector[: len(vector) // word.size * word.size]))
    table = _AUXV_64 if bits == 64 else _AUXV_32
    return frozenset(name for name, (kind, bit) in table.items() if entries.get(kind, 0) >> bit & 1)

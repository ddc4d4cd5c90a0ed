"""Names of board, SoC, architecture, operating system and C library."""

from __future__ import annotations

import os
import platform
import re
import sys
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from edge_sdk.device.cpuinfo import CpuInfo
from edge_sdk.device.sysroot import Sysroot

__all__ = ["Names", "Platform", "read_platform"]

_PROPERTY_FILES = (
    "system/build.prop",
    "vendor/build.prop",
    "system/vendor/build.prop",
    "odm/etc/build.prop",
    "odm/build.prop",
    "product/etc/build.prop",
    "product/build.prop",
    "system/product/build.prop",
    "default.prop",
)
_PROPERTY_BYTES = 256 * 1024
_NAME_LETTERS = 120
_DEVICE_TREES = ("sys/firmware/devicetree/base", "proc/device-tree")
_EMPTY_NAMES = frozenset(
    {"", "none", "unknown", "default string", "default", "system product name", "system manufacturer", "not applicable",
     "not specified", "to be filled by o.e.m.", "o.e.m.", "oem", "n/a", "x.x", "0", "123456789", "type1productconfigid"}
)  # fmt: skip
_ELF_MACHINES = {3: "i686", 0x28: "armv7l", 0x3E: "x86_64", 0xB7: "aarch64", 0xF3: "riscv64"}
_PROGRAMS = (
    "bin/sh", "usr/bin/env", "bin/busybox", "sbin/init", "system/bin/sh", "system/bin/toybox", "system/bin/linker64",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Platform:
    """What runs on the machine.

    Attributes:
        arch: as the kernel says ("aarch64"); "unknown" where nothing tells.
        bits: of this process on the machine itself, of the user space of a sysroot.
        os: "linux" or "android".
        libc: "glibc 2.36", "musl 1.2.4", "bionic 33", or the name alone; None where nothing tells.
    """

    arch: str
    bits: int
    os: str
    libc: str | None


class Names:
    """What the machine is called by device tree, DMI, Android properties and `/proc/cpuinfo`.

    Args:
        sysroot: where to read.
        info: what `/proc/cpuinfo` says.
    """

    def __init__(self, sysroot: Sysroot, info: CpuInfo | None) -> None:
        self._sysroot = sysroot
        self._info = info or CpuInfo()

    @cached_property
    def properties(self) -> dict[str, str]:
        """Android's build properties; empty elsewhere."""
        found: dict[str, str] = {}
        for path in _PROPERTY_FILES:
            for line in (self._sysroot.text(path, _PROPERTY_BYTES) or "").splitlines():
                key, equals, value = line.partition("=")
                if equals and value.strip() and not key.lstrip().startswith("#"):
                    found.setdefault(key.strip(), value.strip())
        return found

    @property
    def board(self) -> str | None:
        """The board or model; None where nothing tells."""
        android = " ".join(
            dict.fromkeys(_clean(self.properties.get(f"ro.product.{key}")) for key in ("manufacturer", "model"))
        ).strip()
        dmi = " ".join(dict.fromkeys(self._dmi(key) for key in ("sys_vendor", "product_name"))).strip()
        if not self._dmi("product_name"):
            dmi = " ".join(dict.fromkeys(self._dmi(key) for key in ("board_vendor", "board_name"))).strip()
        named = self._device_tree("model"), android, dmi, self._header("model"), self._header("hardware")
        return next((name for name in named if name), None)

    @property
    def soc(self) -> str | None:
        """The system-on-chip or the processor; None where nothing tells."""
        models = (_clean(block.fields.get("model name")) for block in self._info.cpus.values())
        processor = next((model for model in models if model), "") if self._is_x86 else ""
        names = [name for name in (processor, *self.soc_names) if name]
        # "Snapdragon" or "Innopower" name a family: a name with a number says more.
        return next((name for name in names if processor or re.search(r"\d", name)), names[0] if names else None)

    @property
    def soc_names(self) -> list[str]:
        """All names that may tell the SoC, most trusted first."""
        compatible = self._device_tree("compatible", separator=" ").split()
        vendor = [self._soc_bus("soc_id"), self._soc_bus("machine")]
        keys = ("ro.soc.model", "ro.chipname", "ro.hardware.chipname", "ro.arch", "ro.mediatek.platform")
        late = ("ro.product.board", "ro.board.platform")
        names = [
            *(name for name in vendor if not name.isdigit()),
            self._header("hardware"),
            *(_clean(self.properties.get(key)) for key in keys),
            *(entry.rpartition(",")[2] for entry in reversed(compatible)),
            *(_clean(self.properties.get(key)) for key in late),
        ]
        return list(dict.fromkeys(name for name in names if name))

    @property
    def _is_x86(self) -> bool:
        return any("vendor_id" in block.fields for block in self._info.cpus.values())

    def _header(self, key: str) -> str:
        return _clean(self._info.header.get(key))

    def _dmi(self, key: str) -> str:
        return _clean(self._sysroot.text(f"sys/class/dmi/id/{key}", 512))

    def _soc_bus(self, key: str) -> str:
        # A Raspberry Pi writes no machine name there but a board one; the device tree has the SoC then.
        return _clean(self._sysroot.text(f"sys/devices/soc0/{key}", 512))

    def _device_tree(self, key: str, separator: str = " ") -> str:
        for base in _DEVICE_TREES:
            text = self._sysroot.text(f"{base}/{key}", 4096)
            if text:
                return _clean(text.replace("\0", separator))
        return ""


def _clean(text: str | None) -> str:
    """A name on one line without control characters; empty for the fillers that vendors leave."""
    words = "".join(letter if letter.isprintable() else " " for letter in (text or "")[:_NAME_LETTERS]).split()
    name = " ".join(words)
    return "" if name.lower() in _EMPTY_NAMES else name


def read_platform(sysroot: Sysroot, info: CpuInfo | None, properties: dict[str, str]) -> Platform:
    """Architecture, width, operating system and C library.

    Args:
        sysroot: where to read.
        info: what `/proc/cpuinfo` says.
        properties: Android's build properties.
    """
    is_android = "ro.build.version.sdk" in properties or "ro.product.cpu.abi" in properties
    system = "android" if is_android else "linux"
    if sysroot.is_live:
        bits = 64 if sys.maxsize > 1 << 32 else 32
        return Platform(platform.machine() or "unknown", bits, system, _own_libc(sysroot, properties))
    elf_arch, elf_bits = _read_elf(sysroot)
    arch = _arch_of(info) or elf_arch or _arch_of_alias(sysroot) or _android_arch(properties) or "unknown"
    bits = elf_bits or _android_bits(properties) or (64 if arch.endswith("64") else 32)
    return Platform(arch, bits, system, _libc_below(sysroot, properties))


def _arch_of(info: CpuInfo | None) -> str | None:
    """Architecture of the kernel, as far as `/proc/cpuinfo` tells it."""
    if info is None:
        return None
    blocks = [*info.cpus.values(), *([info.common] if info.common is not None else [])]
    features = frozenset[str]().union(*(block.features for block in blocks))
    if any("vendor_id" in block.fields for block in blocks):
        return "x86_64" if "lm" in features else "i686"
    isas = [block.fields.get("isa", "") for block in blocks]
    for prefix in ("rv64", "rv32"):
        if any(isa.startswith(prefix) for isa in isas):
            return prefix.replace("rv", "riscv")
    models = [info.header.get("processor", ""), *(block.fields.get("model name", "") for block in blocks)]
    if "asimd" in features or any("aarch64" in model.lower() for model in models):
        return "aarch64"
    if any("(v8l)" in model.lower() for model in models):
        return "aarch64"  # how a 64-bit kernel names itself to a 32-bit process
    versions = {match[0] for block in blocks if (match := re.match(r"\d+", block.fields.get("cpu architecture", "")))}
    if any("cpu implementer" in block.fields for block in blocks):
        return "armv6l" if versions and max(map(int, versions)) < 7 else "armv7l"
    return None


def _arch_of_alias(sysroot: Sysroot) -> str | None:
    match = re.match(r"cpu:type:(\w+)", sysroot.text("sys/devices/system/cpu/modalias") or "")
    return {"x86": "x86_64", "aarch64": "aarch64", "arm": "armv7l"}.get(match[1]) if match is not None else None


def _read_elf(sysroot: Sysroot) -> tuple[str | None, int | None]:
    """Architecture and width of the programs in the sysroot."""
    for path in _PROGRAMS:
        head = sysroot.read(path, 20) or b""
        if len(head) == 20 and head[:4] == b"\x7fELF" and head[4] in (1, 2):
            order: Literal["big", "little"] = "big" if head[5] == 2 else "little"
            return _ELF_MACHINES.get(int.from_bytes(head[18:20], order)), head[4] * 32
    return None, None


def _android_arch(properties: dict[str, str]) -> str | None:
    abi = properties.get("ro.product.cpu.abi", "")
    known = {"arm64-v8a": "aarch64", "armeabi-v7a": "armv7l", "armeabi": "armv6l", "x86": "i686", "x86_64": "x86_64"}
    return known.get(abi)


def _android_bits(properties: dict[str, str]) -> int | None:
    if properties.get("ro.product.cpu.abilist64"):
        return 64
    abi = properties.get("ro.product.cpu.abi", "")
    return (64 if "64" in abi else 32) if abi else None


def _own_libc(sysroot: Sysroot, properties: dict[str, str]) -> str | None:
    try:
        version = os.confstr("CS_GNU_LIBC_VERSION")
    except (ValueError, OSError):
        version = None
    return version or _libc_below(sysroot, properties)


def _libc_below(sysroot: Sysroot, properties: dict[str, str]) -> str | None:
    """The C library by the files in the library folders."""
    folders = ["lib", "lib64", "usr/lib", "usr/lib64"]
    for base in ("lib", "usr/lib"):
        folders += [f"{base}/{name}" for name in sysroot.listing(base)[:500] if "-linux-" in name]
    for folder in folders:
        for name in sysroot.listing(folder):
            if name.startswith("ld-musl-"):
                match = re.search(rb"\0(1\.\d{1,2}\.\d{1,3})\0", sysroot.read(f"{folder}/{name}", 1 << 20) or b"")
                return f"musl {match[1].decode()}" if match else "musl"
            if match_name := re.fullmatch(r"libc-(2\.\d{1,3})\.so", name):
                return f"glibc {match_name[1]}"
            if name == "libc.so.6":
                match = re.search(rb"release version (2\.\d{1,3})", sysroot.read(f"{folder}/{name}", 4 << 20) or b"")
                return f"glibc {match[1].decode()}" if match else "glibc"
    if properties:
        return f"bionic {properties.get('ro.build.version.sdk', '')}".strip()[:_NAME_LETTERS]
    return None

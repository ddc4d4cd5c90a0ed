"""Made-up machines: the few files of `proc` and `sys` that the device room reads."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from edge_sdk.device import Device, probe

CPU_TREE = "sys/devices/system/cpu"


class Machine:
    """A root folder that is filled file by file, and then probed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.root.mkdir(parents=True, exist_ok=True)

    def write(self, path: str, content: str | bytes | int) -> Machine:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else str(content).encode() + b"\n")
        return self

    def cpus(self, present: str, online: str | None = None) -> Machine:
        self.write(f"{CPU_TREE}/possible", present)
        self.write(f"{CPU_TREE}/present", present)
        return self.write(f"{CPU_TREE}/online", online or present)

    def cpu(
        self,
        cpus: Iterable[int],
        *,
        midr: int | None = None,
        max_khz: int | None = None,
        policy: str | None = None,
        package: str | None = None,
        cluster: str | None = None,
        threads: str | None = None,
        capacity: int | None = None,
        l1: tuple[int, int] | None = None,
        l2: str | None = None,
        l3: str | None = None,
    ) -> Machine:
        """What sysfs says of each of `cpus`. `{cpu}` in a list stands for the CPU's own number."""
        for cpu in cpus:
            folder = f"{CPU_TREE}/cpu{cpu}"
            files: dict[str, str | int | None] = {
                "cpufreq/cpuinfo_max_freq": max_khz,
                "cpufreq/related_cpus": policy,
                "topology/core_siblings_list": package,
                "topology/cluster_cpus_list": cluster,
                "topology/thread_siblings_list": threads,
                "cpu_capacity": capacity,
                "regs/identification/midr_el1": None if midr is None else f"{midr:#018x}",
            }
            for index, (level, kind, size, shared) in enumerate(
                (
                    (1, "Data", l1 and l1[0], "{cpu}"),
                    (1, "Instruction", l1 and l1[1], "{cpu}"),
                    (2, "Unified", 1024, l2),
                    (3, "Unified", 8192, l3),
                )
            ):
                if size and shared:
                    cache = f"cache/index{index}"
                    files |= {f"{cache}/level": level, f"{cache}/type": kind, f"{cache}/size": f"{size}K"}
                    files[f"{cache}/shared_cpu_list"] = shared
            for name, content in files.items():
                if content is not None:
                    self.write(f"{folder}/{name}", str(content).format(cpu=cpu))
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        return self

    def arm_cpuinfo(self, parts: dict[int, int], features: str = "fp asimd", tail: str = "") -> Machine:
        """A block a CPU; `parts` maps it to its MIDR."""
        blocks = [
            f"processor\t: {cpu}\nFeatures\t: {features}\nCPU implementer\t: {midr >> 24:#04x}\n"
            f"CPU architecture: 8\nCPU variant\t: {midr >> 20 & 15:#x}\nCPU part\t: {midr >> 4 & 0xFFF:#05x}\n"
            f"CPU revision\t: {midr & 15}\n"
            for cpu, midr in parts.items()
        ]
        return self.write("proc/cpuinfo", "\n".join([*blocks, tail]))

    def x86_cpuinfo(
        self, cpus: int, family: int, model: int, *, vendor: str = "GenuineIntel", flags: str = "lm"
    ) -> Machine:
        return self.write(
            "proc/cpuinfo",
            "\n".join(
                f"processor\t: {cpu}\nvendor_id\t: {vendor}\ncpu family\t: {family}\nmodel\t\t: {model}\n"
                f"model name\t: A processor\nstepping\t: 3\ncpu MHz\t\t: 1234.567\nflags\t\t: {flags}\n"
                for cpu in range(cpus)
            ),
        )

    def probe(self) -> Device:
        return probe(self.root)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """An empty machine."""
    return Machine(tmp_path / "root")

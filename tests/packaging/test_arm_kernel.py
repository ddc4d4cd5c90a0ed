"""The files that the emulated machine's kernel would write, and that the device room reads a core out of them."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from edge_sdk.device import probe

# MIDR_EL1 and HWCAP as `qemu-aarch64 -cpu …` gives them.
REGISTERS = {
    "cortex-a53": (0x410FD034, 0x8FB),
    "cortex-a72": (0x410FD083, 0x8FB),
    "cortex-a76": (0x414FD0B1, 0x119FFB),
}


@pytest.fixture(scope="module")
def arm_kernel() -> ModuleType:
    path = Path(__file__).parents[2] / "packaging" / "arm_kernel.py"
    spec = importlib.util.spec_from_file_location("arm_kernel", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def answer(machine: str, midr: int | None, hwcap: int, hwcap2: int = 0) -> str:
    return json.dumps({"machine": machine, "midr": midr, "hwcap": hwcap, "hwcap2": hwcap2})


def lay(kernel: ModuleType, folder: Path, told: str, cpu: str, cpus: list[int]) -> Path:
    """A sysroot whose kernel saw these registers."""
    made = folder / "kernel"
    made.mkdir()
    kernel.write_kernel_files(kernel.Registers.from_answer(told, cpu), cpus, made)
    (folder / "proc").mkdir()
    (made / "cpuinfo").rename(folder / "proc" / "cpuinfo")
    (made / "sys").rename(folder / "sys")
    return folder


@pytest.mark.parametrize("core", REGISTERS)
def test_registers_become_the_core_they_are_of(arm_kernel: ModuleType, tmp_path: Path, core: str) -> None:
    midr, hwcap = REGISTERS[core]
    device = probe(lay(arm_kernel, tmp_path, answer("aarch64", midr, hwcap), core, [0, 1, 2, 3]))
    (cluster,) = device.clusters
    assert (cluster.core, cluster.cpus) == (core, (0, 1, 2, 3))
    assert ({"dotprod", "fp16"} <= set(device.isa)) == (core == "cortex-a76")
    assert "neon" in device.isa


def test_a_32_bit_core_is_named_from_the_table(arm_kernel: ModuleType, tmp_path: Path) -> None:
    device = probe(lay(arm_kernel, tmp_path, answer("armv7l", None, 0x1FB8D7), "cortex-a7", [0, 1]))
    assert [cluster.core for cluster in device.clusters] == ["cortex-a7"]
    assert "neon" in device.isa


def test_a_core_that_nothing_names_shows_its_features_only(arm_kernel: ModuleType) -> None:
    registers = arm_kernel.Registers.from_answer(answer("armv7l", None, 0x1FB0D7, 0x1F), "max")
    text = arm_kernel.cpuinfo(registers, [0])
    assert "CPU part" not in text
    assert text.split("Features\t: ")[1].split()[-5:] == ["aes", "pmull", "sha1", "sha2", "crc32"]

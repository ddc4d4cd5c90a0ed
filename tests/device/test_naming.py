"""Names of board, SoC, architecture and C library."""

from __future__ import annotations

import struct
from typing import Any

import pytest

A53 = 0x410FD034
PROPERTIES = """# made by hand
ro.build.version.sdk=30
ro.product.manufacturer=Maker
ro.product.model=Phone 3
ro.product.cpu.abi=armeabi-v7a
ro.product.cpu.abilist64=
ro.board.platform=msm8953
"""


def elf(bits: int, machine: int) -> bytes:
    return b"\x7fELF" + bytes([bits // 32, 1, 1]) + bytes(9) + struct.pack("<HH", 3, machine) + bytes(100)


@pytest.fixture
def board(machine: Any) -> Any:
    return machine.cpus("0-3").arm_cpuinfo(dict.fromkeys(range(4), A53))


def test_device_tree(board: Any) -> None:
    board.write("proc/device-tree/model", b"Raspberry Pi 3 Model B Plus Rev 1.3\0")
    board.write("proc/device-tree/compatible", b"raspberrypi,3-model-b-plus\0brcm,bcm2837\0")
    device = board.probe()
    assert (device.name, device.soc) == ("Raspberry Pi 3 Model B Plus Rev 1.3", "bcm2837")


def test_dmi_without_the_fillers(machine: Any) -> None:
    machine.x86_cpuinfo(2, 6, 190)
    machine.write("sys/class/dmi/id/sys_vendor", "To Be Filled By O.E.M.").write(
        "sys/class/dmi/id/product_name", "Default string"
    )
    machine.write("sys/class/dmi/id/board_vendor", "Beelink").write("sys/class/dmi/id/board_name", "EQ12")
    device = machine.probe()
    assert (device.name, device.soc, device.arch) == ("Beelink EQ12", "A processor", "x86_64")


def test_android(board: Any) -> None:
    board.write("system/build.prop", PROPERTIES)
    device = board.probe()
    assert (device.name, device.soc) == ("Maker Phone 3", "msm8953")
    assert (device.os, device.libc, device.arch, device.bits) == ("android", "bionic 30", "aarch64", 32)


def test_name_of_a_family_is_not_the_soc(board: Any) -> None:
    board.write("sys/devices/soc0/machine", "Snapdragon").write("system/build.prop", "ro.chipname=MSM8956")
    assert board.probe().soc == "MSM8956"


def test_nothing_but_the_architecture(board: Any) -> None:
    device = board.probe()
    assert (device.name, device.soc, device.arch, device.bits, device.libc) == ("aarch64", None, "aarch64", 64, None)


def test_32_bit_programs_on_a_64_bit_kernel(board: Any) -> None:
    board.write("bin/sh", elf(32, 0x28))
    device = board.probe()
    assert (device.arch, device.bits) == ("aarch64", 32)


@pytest.mark.parametrize(
    ("path", "content", "libc"),
    [
        ("lib/aarch64-linux-gnu/libc-2.31.so", b"", "glibc 2.31"),
        (
            "usr/lib/aarch64-linux-gnu/libc.so.6",
            b"\x7fELF GNU C Library (Debian) stable release version 2.36.\0",
            "glibc 2.36",
        ),
        ("lib/ld-musl-aarch64.so.1", b"\x7fELF\0\0" + b"1.2.4\0 musl", "musl 1.2.4"),
        ("lib/ld-musl-aarch64.so.1", b"stripped", "musl"),
    ],
)
def test_c_library(board: Any, path: str, content: bytes, libc: str) -> None:
    assert board.write(path, content).probe().libc == libc


def test_names_are_one_clean_line(board: Any) -> None:
    board.write("proc/device-tree/model", b"A\x1b[31m board\nwith\tlines\0" + b"x" * 3000)
    name = board.probe().name
    assert name.isprintable()
    assert name.startswith("A [31m board with lines")
    assert len(name) <= 120

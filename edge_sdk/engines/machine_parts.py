"""Finds drivers of accelerators: device nodes and shared libraries below a root folder.

Only names of files are looked at, so that looking costs a few milliseconds and wakes no driver.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["find_library", "first_node", "gpu_node", "is_shared_library", "node_of_vendor", "usb_device"]

INTEL, AMD, NVIDIA = "0x8086", "0x1002", "0x10de"
AMD_XDNA = "0x1022"

_GPU_NODES = (
    "dev/dri/renderD*",
    "dev/mali*",
    "dev/kgsl-3d0",
    "dev/nvidia[0-9]*",
    "dev/nvhost-gpu",
    "dev/nvgpu/igpu*",
    "dev/pvr*",
    "dev/galcore",
)
_LIBRARY_FOLDERS = (
    "lib",
    "lib64",
    "usr/lib",
    "usr/lib64",
    "usr/local/lib",
    "lib/*-linux-*",
    "usr/lib/*-linux-*",
    "usr/lib/*-linux-*/tegra",
    "usr/lib/*-linux-*/nvidia",
    "usr/local/cuda/lib64",
    "usr/local/cuda/targets/*/lib",
    "vendor/lib64",
    "vendor/lib",
    "system/lib64",
    "system/lib",
    "opt/*/lib",
)


def first_node(root: Path, *patterns: str) -> str | None:
    """The first existing path that fits one of the patterns (relative to `root`), as seen from `root`."""
    for pattern in patterns:
        for path in _glob(root, pattern):
            return "/" + str(path.relative_to(root))
    return None


def gpu_node(root: Path) -> str | None:
    """The device node of any GPU."""
    return first_node(root, *_GPU_NODES)


def node_of_vendor(root: Path, kind: str, vendor: str) -> str | None:
    """The node of a PCI device: `kind` is "drm" (GPU) or "accel" (NPU), `vendor` its PCI id ("0x8086")."""
    prefix, folder = ("renderD", "dri") if kind == "drm" else ("accel", "accel")
    for path in _glob(root, f"sys/class/{kind}/{prefix}*/device/vendor"):
        try:
            with path.open("rb") as file:
                found = file.read(16).strip().decode("ascii", "replace").lower()
        except OSError:
            continue
        if found == vendor:
            return f"/dev/{folder}/{path.parents[1].name}"
    return None


def usb_device(root: Path, *ids: str) -> str | None:
    """The first USB device with one of these ids ("1a6e:089a")."""
    for path in _glob(root, "sys/bus/usb/devices/*/idVendor"):
        try:
            found = f"{path.read_text().strip()}:{path.with_name('idProduct').read_text().strip()}"
        except (OSError, UnicodeDecodeError):
            continue
        if found.lower() in ids:
            return f"USB device {found.lower()}"
    return None


def find_library(root: Path, *names: str, also: tuple[Path, ...] = ()) -> Path | None:
    """The first shared library with one of these names where the loader looks.

    Args:
        root: "/" or a folder with another machine's files.
        names: file names, which may end in `*` ("libopenvino.so.*").
        also: further folders to look in first.
    """
    folders = [*also, *_loader_folders(root)]
    for name in names:
        for folder in folders:
            for path in _glob(folder, name):
                return path
    return None


def is_shared_library(path: Path) -> bool:
    """Whether the file begins like a shared library."""
    try:
        with path.open("rb") as file:
            return file.read(4) == b"\x7fELF"
    except OSError:
        return False


def _loader_folders(root: Path) -> Iterator[Path]:
    if root == Path("/"):
        for entry in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep):
            if entry:
                yield Path(entry)
    for conf in _glob(root, "etc/ld.so.conf.d/*.conf"):
        try:
            lines = conf.read_text(errors="replace")[:65536].splitlines()
        except OSError:
            continue
        for line in lines:
            if line.startswith("/"):
                yield root / line.strip().lstrip("/")
    for pattern in _LIBRARY_FOLDERS:
        yield from _glob(root, pattern)


def _glob(folder: Path, pattern: str) -> Iterator[Path]:
    if not any(c in pattern for c in "*?["):
        path = folder / pattern
        if _exists(path):
            yield path
        return
    try:
        yield from sorted(folder.glob(pattern))
    except OSError:
        return


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False

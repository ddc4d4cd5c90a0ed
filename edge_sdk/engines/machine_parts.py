"""Finds parts of accelerators: device nodes and shared libraries below a root folder, installed Python packages.

Only names of files are looked at, so that looking costs a few milliseconds and wakes no driver.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
from collections.abc import Iterator
from pathlib import Path

from edge_sdk.device.facts import Accelerator

__all__ = [
    "clear_cache",
    "entries",
    "find_library",
    "first_node",
    "found",
    "gpu_node",
    "is_shared_library",
    "missing",
    "node_of_vendor",
    "package_folder",
    "usb_device",
]

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
_OTHER_FOLDERS = ("usr/local/lib", "usr/local/cuda/lib64", "vendor/lib64", "vendor/lib", "system/lib64", "system/lib")
"""Where libraries lie that the loader's cache does not list: its cache is old, or there is none as on Android."""

_LOADER_FOLDERS = (
    "lib",
    "lib64",
    "usr/lib",
    "usr/lib64",
    "lib/*-linux-*",
    "usr/lib/*-linux-*",
    "usr/lib/*-linux-*/tegra",
)
_CACHE_BYTES = 16 * 1024 * 1024


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
    nearest = [*also, *_variable_folders(root)]
    for name in names:
        for folder in nearest:
            for path in _glob(folder, name):
                return path
        for path in _listed(root, name):
            return path
        for folder in _folders(root):
            for path in _glob(folder, name):
                return path
    return None


def clear_cache() -> None:
    """Forgets what the loader's cache said, so that newly installed libraries are seen."""
    _loader_cache.cache_clear()
    _folders.cache_clear()


def is_shared_library(path: Path) -> bool:
    """Whether the file begins like a shared library."""
    try:
        with path.open("rb") as file:
            return file.read(4) == b"\x7fELF"
    except OSError:
        return False


def _variable_folders(root: Path) -> Iterator[Path]:
    if root == Path("/"):
        yield from map(Path, entries("LD_LIBRARY_PATH"))


@functools.lru_cache(maxsize=4)
def _loader_cache(root: Path) -> bytes:
    """The loader's list of libraries, which one read shows where a look into each folder would cost milliseconds."""
    try:
        with (root / "etc/ld.so.cache").open("rb") as file:
            return file.read(_CACHE_BYTES)
    except OSError:
        return b""


def _listed(root: Path, name: str) -> Iterator[Path]:
    stem, star, _ = name.partition("*")
    pattern = rb"(/[^\0]*/" + re.escape(stem).encode() + (rb"[^\0/]*" if star else b"") + rb")\0"
    for found_path in re.findall(pattern, _loader_cache(root)):
        path = root / os.fsdecode(found_path).lstrip("/")
        if _exists(path):
            yield path


@functools.lru_cache(maxsize=4)
def _folders(root: Path) -> tuple[Path, ...]:
    patterns = _OTHER_FOLDERS if _loader_cache(root) else (*_LOADER_FOLDERS, *_OTHER_FOLDERS)
    return tuple(folder for pattern in patterns for folder in _glob(root, pattern))


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


def found(name: str, kind: str, engine: str, why: str) -> Accelerator:
    """An accelerator that is there."""
    return Accelerator(kind=kind, name=name, engine=engine, present=True, usable=None, why=why)


def missing(name: str, kind: str, engine: str, why: str) -> Accelerator:
    """An accelerator of which a part is missing; `why` says which."""
    return Accelerator(kind=kind, name=name, engine=engine, present=False, usable=None, why=why)


def entries(variable: str) -> list[str]:
    """The entries of an environment variable that lists things between colons."""
    return [entry for entry in os.environ.get(variable, "").split(os.pathsep) if entry]


def package_folder(name: str) -> Path | None:
    """Folder of an installed Python package, without importing it."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    places = spec.submodule_search_locations if spec is not None else None
    return Path(next(iter(places))) if places else None

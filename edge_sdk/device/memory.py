"""Installed memory."""

from __future__ import annotations

import re

from edge_sdk.device.sysroot import Sysroot

__all__ = ["installed_memory_mb"]


def installed_memory_mb(sysroot: Sysroot) -> int | None:
    """What the kernel manages of the memory, in MiB; None where `/proc/meminfo` is missing or tells nothing."""
    match = re.search(r"^MemTotal:\s*(\d{1,15})\s*kB", sysroot.text("proc/meminfo") or "", re.MULTILINE)
    return int(match[1]) // 1024 if match and int(match[1]) >= 1024 else None

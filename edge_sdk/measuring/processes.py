"""What a process takes of the memory, as the kernel counts it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import msgspec

__all__ = ["Memory", "memory_of"]


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """Memory of one process in MiB; None where the kernel does not tell.

    Attributes:
        peak_mb: largest resident set so far (VmHWM). Pages of files count as long as they are mapped and touched.
        resident_mb: resident now.
        shared_out_mb: resident now, each page divided by the processes that share it (PSS).
        private_mb: pages that nobody shares: what would come free if the process ended.
    """

    peak_mb: float | None = None
    resident_mb: float | None = None
    shared_out_mb: float | None = None
    private_mb: float | None = None


def memory_of(process_id: int | None = None, root: str | os.PathLike[str] = "/") -> Memory:
    """Reads the memory of a process.

    Args:
        process_id: this process where None.
        root: the folder that holds `proc/`.

    Returns:
        All None where the process has ended or belongs to somebody else.
    """
    folder = Path(root, "proc", str(process_id if process_id is not None else os.getpid()))
    status = _kilobytes(folder / "status")
    rollup = _kilobytes(folder / "smaps_rollup")
    private = [rollup[name] for name in ("Private_Clean", "Private_Dirty", "Private_Hugetlb") if name in rollup]
    return Memory(
        peak_mb=_mebibytes(status.get("VmHWM")),
        resident_mb=_mebibytes(status.get("VmRSS")),
        shared_out_mb=_mebibytes(rollup.get("Pss")),
        private_mb=_mebibytes(sum(private) if private else None),
    )


def _kilobytes(path: Path) -> dict[str, int]:
    try:
        with open(path, "rb") as file:
            text = file.read(65536).decode("ascii", "replace")
    except OSError:
        return {}
    return {name: int(value) for name, value in re.findall(r"^(\w+):\s+(\d{1,15}) kB$", text, re.MULTILINE)}


def _mebibytes(kilobytes: int | None) -> float | None:
    return None if kilobytes is None else round(kilobytes / 1024, 2)

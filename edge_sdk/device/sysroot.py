"""Files below a root folder, all of them untrusted.

The root may be "/" of the running machine, or a copy of another machine's files made by anybody: a file may be huge,
binary, a folder, a pipe or a link that leads out of the root. Every read is bounded, and whatever cannot be read is
simply absent.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

__all__ = ["CPUINFO_BYTES", "MAX_CPUS", "SMALL_BYTES", "Sysroot", "cpu_list_text", "parse_cpu_list", "parse_cpu_mask"]

SMALL_BYTES = 64 * 1024
"""More than any file of sysfs holds (one page) and than the lists and mount tables that are read here."""

CPUINFO_BYTES = 8 * 1024 * 1024
"""`/proc/cpuinfo` grows with the CPUs: some 2 KB each on x86."""

MAX_CPUS = 8192
"""CPU numbers from here on are taken for garbage; it is the largest NR_CPUS that Linux can be built with."""

_MAX_ENTRIES = 20_000


class Sysroot:
    """The files below one root folder.

    Args:
        root: "/" for the machine itself, otherwise a folder that holds `proc/`, `sys/` and so on.

    Attributes:
        root: as given.
        is_live: whether this is the running machine, so that system calls tell the truth about it.
    """

    def __init__(self, root: str | os.PathLike[str] = "/") -> None:
        self.root = Path(root)
        self._real_root = os.path.realpath(self.root)
        self.is_live = self._real_root == os.sep
        self._folders: dict[str, str | None] = {}

    def read(self, path: str, limit_bytes: int = SMALL_BYTES) -> bytes | None:
        """The first `limit_bytes` bytes of a regular file; None where there is none or it cannot be read."""
        real = self._resolve(path)
        if real is None:
            return None
        try:
            # Not blocking: opening a pipe without a writer would hang, and so would some device files.
            fd = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        except (OSError, ValueError):
            return None
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return None
            return _read_all(fd, limit_bytes)
        except OSError:
            return None
        finally:
            os.close(fd)

    def write(self, path: str, text: str) -> None:
        """Writes a file that is there.

        Raises:
            OSError: there is none inside the root, or it may not be written.
        """
        real = self._resolve(path)
        if real is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        fd = os.open(real, os.O_WRONLY | os.O_TRUNC | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)

    def text(self, path: str, limit_bytes: int = SMALL_BYTES) -> str | None:
        """The file as text without surrounding white space and NUL bytes; None where absent or empty."""
        content = self.read(path, limit_bytes)
        if content is None:
            return None
        return content.decode("utf-8", "replace").strip(" \t\r\n\0") or None

    def number(self, path: str, base: int = 10) -> int | None:
        """The file as one whole number of at most 64 bits; None where it is anything else."""
        text = self.text(path, 64)
        if text is None:
            return None
        try:
            value = int(text.split()[0], base)
        except (ValueError, IndexError):
            return None
        return value if -(1 << 63) <= value < 1 << 64 else None

    def cpus(self, path: str) -> frozenset[int] | None:
        """The file as a list of CPUs ("0-3,8"); None where absent or not such a list."""
        text = self.text(path)
        return None if text is None else parse_cpu_list(text)

    def listing(self, path: str) -> list[str]:
        """Names in a folder, sorted; empty where there is no such folder."""
        real = self._resolve(path)
        names: list[str] = []
        if real is None:
            return names
        try:
            with os.scandir(real) as entries:
                for entry in entries:
                    names.append(entry.name)
                    if len(names) >= _MAX_ENTRIES:
                        break
        except (OSError, ValueError):
            return []
        return sorted(names)

    def exists(self, path: str) -> bool:
        """Whether there is a file or folder of this name."""
        real = self._resolve(path)
        return real is not None and os.path.exists(real)

    def link_name(self, path: str) -> str | None:
        """The last component of what a symbolic link points at; None where it is no link."""
        real = self._resolve(os.path.dirname(path))
        if real is None:
            return None
        try:
            return os.path.basename(os.readlink(os.path.join(real, os.path.basename(path)))) or None
        except (OSError, ValueError):
            return None

    def _resolve(self, path: str) -> str | None:
        """Where `path` really lies; None where that is outside the root."""
        path = path.lstrip("/")
        if self.is_live:
            return "/" + path
        if "\0" in path:
            return None
        folder, name = os.path.split(path)
        if folder not in self._folders:
            self._folders[folder] = self._inside(os.path.join(self._real_root, folder))
        parent = self._folders[folder]
        return None if parent is None else self._inside(os.path.join(parent, name))

    def _inside(self, path: str) -> str | None:
        try:
            real = os.path.realpath(path)
            if not self._holds(real):
                # An absolute link in a copied tree meant a path of the machine it was copied from.
                real = os.path.realpath(self._real_root + real)
        except (OSError, ValueError, RecursionError):
            return None
        return real if self._holds(real) else None

    def _holds(self, real: str) -> bool:
        return real == self._real_root or real.startswith(self._real_root + os.sep)


def _read_all(fd: int, limit_bytes: int) -> bytes:
    # proc and sysfs files tell no size and may come in parts, so read until nothing comes.
    parts = []
    left = limit_bytes
    while left > 0:
        part = os.read(fd, min(left, 65536))
        if not part:
            break
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


@lru_cache(maxsize=64)
def parse_cpu_list(text: str) -> frozenset[int] | None:
    """Reads "0-3,8" and also "0 1 2 3", as `related_cpus` is written. Kept for the CPUs that repeat the same list.

    Returns:
        The numbers; empty for an empty list; None for anything that is no list of CPU numbers below `MAX_CPUS`.
    """
    cpus: set[int] = set()
    for part in text.replace(",", " ").split():
        first, dash, last = part.partition("-")
        if not (first.isascii() and first.isdigit() and (not dash or (last.isascii() and last.isdigit()))):
            return None
        if len(first) > 5 or len(last) > 5:
            return None
        low, high = int(first), int(last) if dash else int(first)
        if low > high or high >= MAX_CPUS:
            return None
        cpus.update(range(low, high + 1))
    return frozenset(cpus)


def cpu_list_text(cpus: Iterable[int]) -> str:
    """CPU ids as Linux writes them and `parse_cpu_list` reads them: "0-3,6"; "" for none."""
    parts: list[list[int]] = []
    for cpu in sorted(cpus):
        if parts and cpu == parts[-1][1] + 1:
            parts[-1][1] = cpu
        else:
            parts.append([cpu, cpu])
    return ",".join(f"{first}" if first == last else f"{first}-{last}" for first, last in parts)


def parse_cpu_mask(text: str) -> frozenset[int] | None:
    """Reads a hexadecimal mask such as "ff" or "00000000,0000000f"; None for anything else."""
    digits = text.replace(",", "").strip().lower().removeprefix("0x")
    if not digits or len(digits) > MAX_CPUS // 4 or any(digit not in "0123456789abcdef" for digit in digits):
        return None
    mask = int(digits, 16)
    return frozenset(bit for bit in range(mask.bit_length()) if mask >> bit & 1)

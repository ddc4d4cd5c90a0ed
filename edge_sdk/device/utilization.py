"""Utilisation clamps of threads: hints to the kernel at which frequency, and on how strong a core, a thread is to run.

`sched_setattr(2)` with `SCHED_FLAG_UTIL_CLAMP_MIN` and `_MAX`, Linux 5.3 and later with CONFIG_UCLAMP_TASK: the kernel
picks frequency and core as if the thread used at least, or at most, so many 1024ths of the strongest core.
https://docs.kernel.org/scheduler/sched-util-clamp.html
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

from edge_sdk.errors import DeviceError, InputValueError

__all__ = ["WHOLE", "UtilizationClamp", "clamped", "thread_clamp"]

WHOLE = 1024
"""Utilisation of a thread that keeps the strongest core busy at its highest frequency."""

_CALLS = {"x86_64": (314, 315), "aarch64": (274, 275), "riscv64": (274, 275), "armv7l": (380, 381), "i686": (351, 352)}
"""Numbers of sched_setattr and sched_getattr by machine."""
_KEEP_ALL, _CLAMP_MIN, _CLAMP_MAX = 0x08 | 0x10, 0x20, 0x40

_REASONS = {
    errno.EPERM: "the kernel, or a container's seccomp profile, does not permit it",
    errno.EACCES: "the kernel does not permit it",
    errno.ENOSYS: "the kernel has no sched_setattr",
    errno.EOPNOTSUPP: "the kernel was built without CONFIG_UCLAMP_TASK",
    errno.EINVAL: "the kernel does not know of it (it is there from Linux 5.3 on)",
    errno.E2BIG: "the kernel does not know of it (it is there from Linux 5.3 on)",
}


class _Attributes(ctypes.Structure):
    """`struct sched_attr` of linux/sched/types.h, its second version."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("policy", ctypes.c_uint32),
        ("flags", ctypes.c_uint64),
        ("nice", ctypes.c_int32),
        ("priority", ctypes.c_uint32),
        ("runtime", ctypes.c_uint64),
        ("deadline", ctypes.c_uint64),
        ("period", ctypes.c_uint64),
        ("util_min", ctypes.c_uint32),
        ("util_max", ctypes.c_uint32),
    )


@dataclass(frozen=True, slots=True)
class UtilizationClamp:
    """What the kernel is to take a thread's utilisation for, in 1024ths of the strongest core.

    Attributes:
        at_least: no less.
        at_most: no more.

    Raises:
        InputValueError: it is no range within 0 to 1024.
    """

    at_least: int = 0
    at_most: int = WHOLE

    def __post_init__(self) -> None:
        if not 0 <= self.at_least <= self.at_most <= WHOLE:
            raise InputValueError(
                f"uclamp from {self.at_least} to {self.at_most}: expected 0 <= minimum <= maximum <= {WHOLE}"
            )


def thread_clamp(thread_id: int = 0) -> UtilizationClamp:
    """The clamp of a thread (0: the calling one), as the kernel tells.

    Raises:
        DeviceError: the kernel does not tell, or the thread has ended.
    """
    attributes = _Attributes(size=ctypes.sizeof(_Attributes))
    _call(1, thread_id, attributes, attributes.size, 0)
    if attributes.size < ctypes.sizeof(_Attributes):
        raise _refused(errno.EINVAL)
    if attributes.util_max == 0 and attributes.util_min == 0:
        return UtilizationClamp()  # a kernel without clamps leaves both at 0
    return UtilizationClamp(attributes.util_min, attributes.util_max)


def _set(clamp: UtilizationClamp) -> None:
    attributes = _Attributes(
        size=ctypes.sizeof(_Attributes),
        flags=_KEEP_ALL | _CLAMP_MIN | _CLAMP_MAX,
        util_min=clamp.at_least,
        util_max=clamp.at_most,
    )
    _call(0, 0, attributes, 0)


@contextmanager
def clamped(clamp: UtilizationClamp | None) -> Iterator[None]:
    """Clamps the calling thread for the time of the block, then gives it back the clamp it had.

    Threads created in the block inherit the clamp and keep it afterwards. None changes nothing.

    Raises:
        DeviceError: the kernel refuses; the message says why.
    """
    if clamp is None:
        yield
        return
    before = thread_clamp()
    _set(clamp)
    try:
        yield
    finally:
        _set(before)


def _call(which: int, thread_id: int, attributes: _Attributes, *more: int) -> None:
    libc, numbers = _libc(), _CALLS.get(os.uname().machine) if sys.platform == "linux" else None
    if libc is None or numbers is None:
        raise _refused(errno.ENOSYS)
    arguments = [ctypes.c_uint(argument) for argument in more]
    if libc.syscall(ctypes.c_long(numbers[which]), ctypes.c_int(thread_id), ctypes.byref(attributes), *arguments) != 0:
        raise _refused(ctypes.get_errno())


@lru_cache(maxsize=1)
def _libc() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(None, use_errno=True)
    except (OSError, TypeError):
        return None


def _refused(code: int) -> DeviceError:
    reason = _REASONS.get(code, os.strerror(code))
    return DeviceError(f"threads cannot be clamped (uclamp): {reason}; leave out uclamp_min and uclamp_max here")

"""Caps on what computing may draw: clamps of threads, and limits of the CPUs' frequencies while a session is open.

Frequencies are the whole machine's, so the limits outlive nobody: they are restored at the end of the block, when the
session is closed or collected, when the interpreter ends, and on SIGTERM where nobody else handles it. What a killed
process left is restored by whoever limits next, or by `restore_frequencies`: each process writes down what it is about
to change before it does, in a file that it keeps locked while it lives. Values that somebody else changed meanwhile,
as a thermal daemon may, are left alone.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import signal
import threading
import weakref
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType

import msgspec

from edge_sdk.device.cpu_topology import CPU_TREE
from edge_sdk.device.sysroot import Sysroot
from edge_sdk.device.utilization import WHOLE, UtilizationClamp
from edge_sdk.errors import DeviceError, InputValueError

__all__ = ["Caps", "LimitedFrequencies", "restore_frequencies"]

_log = logging.getLogger(__name__)

LOWEST, HIGHEST = "scaling_min_freq", "scaling_max_freq"


@dataclass(frozen=True, slots=True)
class Caps:
    """What is to be held while a session is open.

    Attributes:
        uclamp_min, uclamp_max: what the kernel takes the utilisation of the computing threads for at least and at most,
            in 1024ths of the strongest core; None for as it is.
        min_mhz, max_mhz: lowest and highest frequency; None for as it is.
        cpus: whose frequencies; those of all where None. CPUs that share a frequency have it together.

    Raises:
        InputValueError: a figure makes no sense.
    """

    uclamp_min: int | None = None
    uclamp_max: int | None = None
    min_mhz: float | None = None
    max_mhz: float | None = None
    cpus: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("min_mhz", "max_mhz"):
            mhz = getattr(self, name)
            if mhz is not None and not 0 < mhz < 1e6:
                raise InputValueError(f"{name} is {mhz!r}; expected MHz above 0")
        if self.min_mhz is not None and self.max_mhz is not None and self.min_mhz > self.max_mhz:
            raise InputValueError(f"min_mhz is {self.min_mhz}, above max_mhz, which is {self.max_mhz}")
        _ = self.clamp

    @property
    def clamp(self) -> UtilizationClamp | None:
        """Of the threads; None where none is asked for."""
        if self.uclamp_min is None and self.uclamp_max is None:
            return None
        return UtilizationClamp(self.uclamp_min or 0, WHOLE if self.uclamp_max is None else self.uclamp_max)

    @property
    def limits_frequencies(self) -> bool:
        """Whether any frequency is limited."""
        return self.min_mhz is not None or self.max_mhz is not None


class _Change(msgspec.Struct, frozen=True, array_like=True):
    """A file below the root, and what it held and holds, in kHz."""

    path: str
    was_khz: int
    set_khz: int


class LimitedFrequencies:
    """Frequencies limited until `close`. A context manager; one at a time on a machine.

    Args:
        caps: which.
        sysroot: the root folder of the machine's files.

    Attributes:
        changes: what was changed, in words.

    Raises:
        DeviceError: the machine does not tell its frequencies, does not let them be limited, or another process does.
        InputValueError: a frequency lies outside what the CPUs have.
    """

    def __init__(self, caps: Caps, sysroot: str | os.PathLike[str] = "/") -> None:
        files = Sysroot(sysroot)
        record = _Record(files)
        try:
            record.restore()
            changes = _changes(files, caps)
            record.apply(changes)
        except BaseException:
            record.close()
            raise
        self.changes = tuple(
            f"{Path(change.path).parent.name}: {change.path.rpartition('/')[2]} is {change.set_khz / 1e3:g} MHz,"
            f" was {change.was_khz / 1e3:g}"
            for change in record.changes
        )
        # Called once: by `close`, when this object is collected, or when the interpreter ends.
        self._restore = weakref.finalize(self, record.give_back)
        _restore_when_terminated(self)

    def close(self) -> None:
        """Restores what was there before. Idempotent."""
        self._restore()

    def __enter__(self) -> LimitedFrequencies:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def restore_frequencies(sysroot: str | os.PathLike[str] = "/") -> bool:
    """Restores what a process left that was killed while it limited frequencies; whether there was any.

    Raises:
        DeviceError: a living process limits them now, or the files cannot be written.
    """
    record = _Record(Sysroot(sysroot))
    try:
        return record.restore()
    finally:
        record.close()


class _Record:
    """What this process changes, written down before it does, in a file that is locked while it lives."""

    def __init__(self, files: Sysroot) -> None:
        self._files, self._owner = files, os.getpid()
        self.changes: tuple[_Change, ...] = ()
        folder = _folder(files)
        path = folder / "frequencies.json"
        try:
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        except OSError as error:
            raise DeviceError(
                f"frequencies cannot be limited: {path}, where the present limits are to be written down, cannot be"
                f" opened: {error.strerror}; run as root, or leave out min_mhz and max_mhz"
            ) from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._fd)
            raise DeviceError(
                f"frequencies are limited already, by this or another process that has {path} open: close that session"
                " first, or leave out min_mhz and max_mhz"
            ) from error

    def restore(self) -> bool:
        """Puts back what a killed process left; whether there was any."""
        try:
            left = msgspec.json.decode(os.pread(self._fd, 1 << 20, 0) or b"[]", type=tuple[_Change, ...])
        except msgspec.MsgspecError:
            left = ()  # killed while it wrote: then nothing was changed yet
        self.changes = tuple(change for change in left if _is_limit(change.path))
        self._put_back()
        return bool(left)

    def apply(self, changes: Iterable[_Change]) -> None:
        """Makes the changes, or none of them."""
        wanted = tuple(changes)
        self._write_down(wanted)
        try:
            for number, change in enumerate(wanted, 1):
                self._set(change.path, change.set_khz)
                now_khz = self._files.number(change.path)  # the kernel may take the nearest that it has
                self.changes = (*self.changes, msgspec.structs.replace(change, set_khz=now_khz or change.set_khz))
                self._write_down((*self.changes, *wanted[number:]))
        except DeviceError:
            self._put_back()
            raise

    def give_back(self) -> None:
        """Restores and lets others limit; in the process that limited, not in one that was forked from it."""
        if os.getpid() != self._owner:
            return
        try:
            self._put_back()
        except DeviceError as error:
            _log.warning("%s", error)
        finally:
            self.close()

    def close(self) -> None:
        """Lets others limit."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _put_back(self) -> None:
        for change in reversed(self.changes):
            now_khz = self._files.number(change.path)
            if now_khz == change.set_khz:
                self._set(change.path, change.was_khz)
            elif now_khz != change.was_khz:
                _log.warning("%s is left at %s kHz: somebody else set it meanwhile", change.path, now_khz)
        self.changes = ()
        self._write_down(())

    def _write_down(self, changes: tuple[_Change, ...]) -> None:
        content = msgspec.json.encode(changes)
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, content, 0)
        os.fsync(self._fd)

    def _set(self, path: str, khz: int) -> None:
        try:
            self._files.write(path, str(khz))
        except OSError as error:
            raise DeviceError(
                f"/{path} cannot be set to {khz} kHz: {error.strerror}; run as root, give this user the right to write"
                " that file, or leave out min_mhz and max_mhz"
            ) from error


def _folder(files: Sysroot) -> Path:
    """Where records are: in memory, so that they end with the machine's run, as the limits do."""
    own = os.environ.get("XDG_RUNTIME_DIR")
    if files.is_live and own and not os.access("/run", os.W_OK):
        return Path(own) / "edge-sdk"
    return files.root / "run" / "edge-sdk"


def _is_limit(path: str) -> bool:
    return re.fullmatch(rf"{re.escape(CPU_TREE)}/cpufreq/policy\d{{1,5}}/({LOWEST}|{HIGHEST})", path) is not None


def _changes(files: Sysroot, caps: Caps) -> list[_Change]:
    """In the order in which the kernel takes them: no lowest ever above a highest."""
    folder = f"{CPU_TREE}/cpufreq"
    policies = [name for name in files.listing(folder) if re.fullmatch(r"policy\d{1,5}", name)]
    if not policies:
        raise DeviceError(
            "frequencies cannot be limited: there is no cpufreq policy here, as in most virtual machines; leave out"
            " min_mhz and max_mhz"
        )
    changes: list[_Change] = []
    touched = False
    for policy in policies:
        cpus = files.cpus(f"{folder}/{policy}/related_cpus") or frozenset()
        if caps.cpus is not None and not cpus & set(caps.cpus):
            continue
        touched = True
        changes += _changes_of(files, f"{folder}/{policy}", caps)
    if not touched:
        raise InputValueError(f"cpus is {list(caps.cpus or ())}: no cpufreq policy here has any of them")
    return changes


def _changes_of(files: Sysroot, policy: str, caps: Caps) -> list[_Change]:
    names = ("cpuinfo_min_freq", "cpuinfo_max_freq", LOWEST, HIGHEST)
    slowest, fastest, lowest, highest = (files.number(f"{policy}/{name}") for name in names)
    if slowest is None or fastest is None or lowest is None or highest is None:
        raise DeviceError(f"/{policy} does not tell its frequencies; leave out min_mhz and max_mhz")
    for name, mhz in (("min_mhz", caps.min_mhz), ("max_mhz", caps.max_mhz)):
        beyond = mhz is not None and (mhz * 1e3 < slowest if name == "max_mhz" else mhz * 1e3 > fastest)
        if beyond:
            raise InputValueError(
                f"{name} is {mhz}: {policy.rpartition('/')[2]} runs at {slowest / 1e3:g} to {fastest / 1e3:g} MHz"
            )
    top = highest if caps.max_mhz is None else min(round(caps.max_mhz * 1e3), fastest)
    bottom = lowest if caps.min_mhz is None else max(round(caps.min_mhz * 1e3), slowest)
    if caps.min_mhz is None:
        bottom = min(bottom, top)
    top = max(top, bottom)
    changes = [_Change(f"{policy}/{HIGHEST}", highest, top)] if top != highest else []
    if bottom != lowest:
        changes.insert(0 if bottom < lowest else len(changes), _Change(f"{policy}/{LOWEST}", lowest, bottom))
    return changes


_limiting: weakref.WeakSet[LimitedFrequencies] = weakref.WeakSet()


def _restore_when_terminated(limited: LimitedFrequencies) -> None:
    """On SIGTERM, where the program leaves it to the system: restores, then ends by the signal as it would have."""
    _limiting.add(limited)
    if threading.current_thread() is not threading.main_thread():
        return  # the interpreter lets only this one say what a signal does
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _end_restored)


def _end_restored(number: int, frame: FrameType | None) -> None:
    for limited in list(_limiting):
        with suppress(Exception):
            limited.close()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)

"""Verdicts of proofs, kept for the next start by device, engine, kernel and driver."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from edge_sdk.device.facts import Accelerator
from edge_sdk.errors import StorageError
from edge_sdk.storage import cache_folder, write_whole

__all__ = ["Verdict", "keep_verdict", "read_verdict", "recall", "verdict_file", "with_verdict"]

_log = logging.getLogger(__name__)

_DOUBT_S = 24 * 3600
"""How long a failure is believed. A passing cause (load, a loose plug) must not rule an accelerator out for ever."""

_DRIVER_SETTINGS = ("LD_LIBRARY_PATH", "VK_ICD_FILENAMES", "VK_DRIVER_FILES", "XDG_RUNTIME_DIR", "CUDA_VISIBLE_DEVICES")
"""Environment variables that decide which driver is met."""


class Verdict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a proof found. `at_s` is the wall clock in seconds, as the verdict outlives the process."""

    usable: bool | None
    why: str
    at_s: float = 0.0


def with_verdict(accelerator: Accelerator, verdict: Verdict | None) -> Accelerator:
    """The accelerator as the verdict, if there is one, shows it."""
    if verdict is None:
        return accelerator
    return msgspec.structs.replace(accelerator, usable=verdict.usable, why=verdict.why)


def recall(accelerators: Iterable[Accelerator], fingerprint: str) -> tuple[Accelerator, ...]:
    """The accelerators with the verdicts that earlier proofs kept. Starts nothing."""
    return tuple(with_verdict(a, read_verdict(verdict_file(a, fingerprint))) if a.present else a for a in accelerators)


def verdict_file(accelerator: Accelerator, fingerprint: str) -> Path | None:
    """Where the verdict on an accelerator of a device is kept; None where nothing can be kept."""
    parts = [fingerprint, accelerator.engine, _engine_version(accelerator.engine), accelerator.name, os.uname().release]
    parts += [f"{variable}={os.environ.get(variable, '')}" for variable in _DRIVER_SETTINGS]
    parts += [_library_state(word) for word in (accelerator.name, *accelerator.why.split()) if "/" in word]
    digest = hashlib.sha256("\0".join(parts).encode(errors="surrogateescape")).hexdigest()
    try:
        return cache_folder("proofs") / f"{digest[:32]}.json"
    except StorageError as error:
        _log.debug("verdicts are not kept: %s", error)
        return None


def _library_state(path: str) -> str:
    """Changes when the library at `path` is replaced."""
    try:
        state = os.stat(path)
    except (OSError, ValueError):
        return path
    return f"{path} {state.st_size} {state.st_mtime_ns}"


def _engine_version(name: str) -> str:
    from edge_sdk.engines.registry import find_engine

    try:
        return find_engine(name).version() or ""
    except Exception as error:  # noqa: BLE001 - a foreign plug-in may raise anything
        _log.debug("version of engine %r: %s", name, error)
        return ""


def read_verdict(path: Path | None) -> Verdict | None:
    """A verdict that was kept and is still believed."""
    if path is None:
        return None
    try:
        verdict = msgspec.json.decode(path.read_bytes(), type=Verdict)
    except (OSError, msgspec.MsgspecError):
        return None
    if verdict.usable or 0 <= time.time() - verdict.at_s < _DOUBT_S:
        return verdict
    return None


def keep_verdict(path: Path | None, verdict: Verdict) -> None:
    """Keeps a verdict, if it is one. A cache that cannot be written costs only the time of another proof."""
    if path is None or verdict.usable is None:
        return
    try:
        write_whole(path, msgspec.json.encode(verdict))
    except StorageError as error:
        _log.debug("verdict is not kept: %s", error)

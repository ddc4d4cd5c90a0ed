"""Which of the two LiteRT libraries is installed, and how to start it quietly."""

from __future__ import annotations

import ctypes
import functools
import importlib
import logging
import os
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

from edge_sdk.errors import EngineNotInstalled

__all__ = ["import_interpreter", "installed", "quiet_once", "sifted"]

_log = logging.getLogger(__name__)

_LIBRARIES = (
    ("ai-edge-litert", "ai_edge_litert.interpreter"),
    ("ai-edge-litert-nightly", "ai_edge_litert.interpreter"),
    ("tflite-runtime", "tflite_runtime.interpreter"),
)
"""Distribution and module, the maintained one first."""
_CHATTER = re.compile(
    r"(INFO|WARNING|VERBOSE|ERROR|Warning|error): |[IWEF]\d{4} \d\d:\d\d:|└|=== Source Location Trace|third_party/"
    r"| - While |    at \w+ \(|See instructions: |$"
)
"""How the lines begin that LiteRT and the graphics layers below it write."""

_ONCE = "XNNPACK delegate"

_sifting = threading.RLock()
_spoken: list[bool] = []
"""Holds an entry once the engine has said what it says once a process."""


@functools.cache
def installed() -> tuple[str, str, str] | None:
    """Distribution, version and module of the library that will be used; None where there is none. Imports nothing."""
    for distribution, module in _LIBRARIES:
        try:
            return distribution, version(distribution), module
        except PackageNotFoundError:
            continue
    return None


def import_interpreter() -> ModuleType:
    """The module that holds `Interpreter`.

    Raises:
        EngineNotInstalled: no library is installed, it does not load here, or it does not work with this numpy.
    """
    found = installed()
    if found is None:
        raise EngineNotInstalled(
            "no LiteRT library is installed; pip install 'edge-sdk[tflite]' (32-bit ARM: 'edge-sdk[armv7]')"
        )
    distribution, release, module = found
    if distribution == "tflite-runtime":
        # It is built against numpy 1: the import succeeds and only the first Interpreter() fails, with a riddle.
        import numpy

        if int(numpy.__version__.split(".")[0]) >= 2:
            raise EngineNotInstalled(
                f"tflite-runtime {release} needs numpy<2, numpy {numpy.__version__} is installed;"
                " pip install 'numpy<2', or ai-edge-litert in place of tflite-runtime where there is a wheel for it"
            )
    try:
        with _floating_point_kept():
            return importlib.import_module(module)
    except (ImportError, OSError) as error:
        reason = " ".join(str(error).split())
        raise EngineNotInstalled(f"{distribution} {release} is installed but does not load here: {reason}") from error


@contextmanager
def _floating_point_kept() -> Iterator[None]:
    """Restores the calling thread's floating-point environment: tflite-runtime's build for armv7l turns subnormal
    numbers off for the thread that imports it, and with that for all that it computes and starts afterwards."""
    try:
        libm = ctypes.CDLL("libm.so.6")
        get, restore = libm.fegetenv, libm.fesetenv
    except (OSError, AttributeError):  # another C library than glibc
        yield
        return
    environment = ctypes.create_string_buffer(64)  # fenv_t is 8 bytes on ARM, 32 on x86-64
    get(environment)
    try:
        yield
    finally:
        restore(environment)


@contextmanager
def quiet_once() -> Iterator[None]:
    """Keeps off stderr the line that the engine writes there when it makes its first XNNPACK delegate.

    Loads run with stderr sifted until that line has come; a release may keep it back until a model has nodes for the
    delegate.
    """
    if _spoken:
        yield
        return
    with sifted(2) as told:
        yield
    if any(_ONCE in line for line in told):
        _spoken.append(True)


@contextmanager
def sifted(*descriptors: int) -> Iterator[list[str]]:
    """Keeps off stdout (1) and stderr (2) what the engine writes there while loading, for which it offers no switch.

    The descriptors are exchanged meanwhile. Afterwards the engine's lines go to the log and into the list, and whatever
    else was written is passed on.
    """
    told: list[str] = []
    with _sifting, ExitStack() as stack:
        for descriptor in descriptors:
            stack.enter_context(_exchanged(descriptor, told))
        # Flushed on both sides, so that a buffered line of the engine is caught and one of the caller's is not.
        stack.callback(_flush_c_streams)
        _flush_c_streams()
        yield told


@contextmanager
def _exchanged(descriptor: int, told: list[str]) -> Iterator[None]:
    try:
        kept = os.dup(descriptor)
    except OSError:  # a service may run without it: then there is nothing to keep clean
        yield
        return
    try:
        buffer = tempfile.TemporaryFile()  # noqa: SIM115 - entered below: only its making may fail quietly
    except OSError:  # no folder to write to: better a line too many than no model
        os.close(kept)
        yield
        return
    with buffer:
        try:
            os.dup2(buffer.fileno(), descriptor)
            yield
        finally:
            os.dup2(kept, descriptor)
            os.close(kept)
            buffer.seek(0)
            _pass_on(buffer.read(), descriptor, told)


def _flush_c_streams() -> None:
    ctypes.CDLL(None).fflush(None)


def _pass_on(written: bytes, descriptor: int, told: list[str]) -> None:
    foreign = []
    for line in written.splitlines(keepends=True):
        text = line.decode(errors="replace").rstrip()
        if _CHATTER.match(text):
            told.append(text)
            _log.debug("%s", text)
        else:
            foreign.append(line)
    if foreign:
        os.write(descriptor, b"".join(foreign))

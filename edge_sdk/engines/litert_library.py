"""Which of the two LiteRT libraries is installed, and how to start it quietly."""

from __future__ import annotations

import functools
import importlib
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

from edge_sdk.errors import EngineNotInstalled

__all__ = ["import_interpreter", "installed", "quiet_once"]

_log = logging.getLogger(__name__)

_LIBRARIES = (
    ("ai-edge-litert", "ai_edge_litert.interpreter"),
    ("ai-edge-litert-nightly", "ai_edge_litert.interpreter"),
    ("tflite-runtime", "tflite_runtime.interpreter"),
)
"""Distribution and module, the maintained one first."""
_CHATTER = ("INFO: ", "WARNING: ", "VERBOSE: ")

_first_load = threading.Lock()
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
        return importlib.import_module(module)
    except (ImportError, OSError) as error:
        reason = " ".join(str(error).split())
        raise EngineNotInstalled(f"{distribution} {release} is installed but does not load here: {reason}") from error


@contextmanager
def quiet_once() -> Iterator[None]:
    """Keeps off stderr the line that the engine writes there when it makes its first XNNPACK delegate.

    The engine offers no switch for it. So the first load of a process runs with the descriptor of stderr exchanged;
    the engine's line goes to the log, and whatever else was written meanwhile is passed on.
    """
    if _spoken:
        yield
        return
    with _first_load:
        if _spoken:
            yield
            return
        with _stderr_sifted():
            yield
        _spoken.append(True)


@contextmanager
def _stderr_sifted() -> Iterator[None]:
    try:
        kept = os.dup(2)
    except OSError:  # a service may run without stderr: then there is nothing to keep clean
        yield
        return
    try:
        buffer = os.memfd_create("edge-sdk-stderr", os.MFD_CLOEXEC)
        try:
            os.dup2(buffer, 2)
            try:
                yield
            finally:
                os.dup2(kept, 2)
                _pass_on(os.pread(buffer, os.fstat(buffer).st_size, 0))
        finally:
            os.close(buffer)
    finally:
        os.close(kept)


def _pass_on(written: bytes) -> None:
    foreign = []
    for line in written.splitlines(keepends=True):
        text = line.decode(errors="replace")
        if text.startswith(_CHATTER):
            _log.debug("%s", text.rstrip())
        else:
            foreign.append(line)
    if foreign:
        os.write(2, b"".join(foreign))

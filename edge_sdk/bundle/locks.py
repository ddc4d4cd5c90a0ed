"""Locks on folders, which the kernel drops when a process ends: a reader keeps its files, a writer is alone."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["hold", "is_held_by_others", "writing"]

_log = logging.getLogger(__name__)
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def hold(folder: Path) -> int:
    """A descriptor of `folder` with a shared lock; closing it lets go. On a file system without locks it holds nothing.

    Raises:
        OSError: the folder cannot be opened.
    """
    fd = os.open(folder, _FOLDER)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
    except OSError as error:
        _log.debug("%s: this file system has no locks: %s", folder, error)
    return fd


@contextmanager
def is_held_by_others(folder: Path) -> Iterator[bool]:
    """Whether anybody holds `folder`; where nobody does, nobody can before the context is left."""
    fd = os.open(folder, _FOLDER)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = False
        except BlockingIOError:
            held = True
        except OSError:
            held = False  # without locks there are no holders that could be asked
        yield held
    finally:
        os.close(fd)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Waits until no other writer is at work on `folder`. Readers hold another folder, so they never wait.

    Raises:
        OSError: the folder cannot be opened.
    """
    fd = os.open(folder, _FOLDER)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
        except OSError as error:
            _log.debug("%s: this file system has no locks: %s", folder, error)
        yield
    finally:
        os.close(fd)

"""A delegate, compiled here, that fails as a file says, and what a guard makes of that: `native/failing_delegate.c`."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("native") / "failing_delegate.c"


@dataclass(frozen=True)
class FailingDelegate:
    """Its library, and the file that says how it behaves."""

    library: Path
    mood: Path

    def is_now(self, mood: str) -> None:
        """How it behaves from now on: the letters of the source."""
        self.mood.write_text(mood)

    @property
    def options(self) -> Mapping[str, str]:
        """Those to load it with."""
        return {"mood": str(self.mood)}


def failing_delegate(folder: Path) -> FailingDelegate:
    """Compiles it, in a good mood."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to build a delegate with")
    delegate = FailingDelegate(folder / "failing.so", folder / "mood")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", delegate.library, SOURCE, "-lm"], check=True)
    delegate.is_now("right")
    return delegate


class Told:
    """Events of a guard, to wait for."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self._came = threading.Condition()

    def __call__(self, event: str) -> None:
        with self._came:
            self.events.append(event)
            self._came.notify_all()

    def wait_for(self, words: str, times: int = 1) -> None:
        """Until so many events held these words."""
        with self._came:
            there = self._came.wait_for(lambda: sum(words in event for event in self.events) >= times, 300)
            assert there, self.events


def accelerator_processes() -> list[int]:
    """Processes of this one's accelerators."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            mine = f"\nPPid:\t{os.getpid()}\n" in (entry / "status").read_text()
            if mine and b"apart_child" in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found

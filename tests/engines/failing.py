"""A delegate, compiled here, that fails as a file says: see `native/failing_delegate.c`."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
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

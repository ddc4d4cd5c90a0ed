"""Without OpenCV, the error names the extra that brings it."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from edge_sdk.errors import MissingExtra
from edge_sdk.vision.opencv import load_cv2


def refuse_cv2_with(error: ImportError, monkeypatch: pytest.MonkeyPatch) -> None:
    def import_module(name: str) -> None:
        raise error

    monkeypatch.delitem(sys.modules, "cv2", raising=False)
    monkeypatch.setattr(importlib, "import_module", import_module)


def test_not_installed_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_cv2_with(ModuleNotFoundError("No module named 'cv2'", name="cv2"), monkeypatch)
    with pytest.raises(MissingExtra, match=r"pip install 'edge-sdk\[vision\]'"):
        load_cv2()


def test_a_missing_display_library_names_the_extra_that_needs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    error = ImportError("libGL.so.1: cannot open shared object file: No such file or directory")
    refuse_cv2_with(error, monkeypatch)
    with pytest.raises(MissingExtra, match=r"libGL\.so\.1.*edge-sdk\[vision-headless\]"):
        load_cv2()


@pytest.mark.parametrize(
    "error", [ImportError("numpy.core.multiarray failed to import"), ModuleNotFoundError("no numpy", name="numpy")]
)
def test_a_broken_installation_is_told_as_such(monkeypatch: pytest.MonkeyPatch, error: ImportError) -> None:
    refuse_cv2_with(error, monkeypatch)
    with pytest.raises(MissingExtra, match="cannot be imported"):
        load_cv2()


def test_importing_the_room_does_not_import_opencv() -> None:
    code = "import sys, edge_sdk.vision, edge_sdk.audio; sys.exit('cv2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

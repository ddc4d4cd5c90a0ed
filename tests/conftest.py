"""Fixtures for all rooms: a cache of each test's own, and the shared material where it is there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# A deadline is a timed assertion: under emulation the first example alone may pass it.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

ASSETS = Path(__file__).resolve().parents[1].parent / "shared" / "assets"


@pytest.fixture
def assets() -> Path:
    """Folder of real models, photographs and sound beside the checkout; skips where it is absent."""
    if not ASSETS.is_dir():
        pytest.skip("the shared models and photographs are not here")
    return ASSETS


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Plans, verdicts and optimised graphs of one test are not seen by another, nor do they touch the user's."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("EDGE_SDK_CACHE", str(folder))
    yield folder


@pytest.fixture
def untried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models that a test makes itself need no trial in a child process before they run in this one."""
    monkeypatch.setattr("edge_sdk.engines.trial.require_trial", lambda *_: None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A real headless browser; skips where none is installed."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    playwright = pytest.importorskip("playwright.sync_api")
    if chromium is None:
        pytest.skip("no Chromium here")
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()

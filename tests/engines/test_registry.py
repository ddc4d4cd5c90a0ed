"""Engines are plug-ins by entry point; one that breaks does not take the others down."""

from __future__ import annotations

import importlib.metadata
from importlib.metadata import EntryPoint

import pytest

from edge_sdk.engines import engine_versions, engines, engines_for, find_engine, registry
from edge_sdk.errors import EngineError, EngineNotInstalled


@pytest.fixture(autouse=True)
def fresh_registry() -> object:
    registry.clear_cache()
    yield
    registry.clear_cache()


def test_the_engines_of_this_package_are_found() -> None:
    assert {"onnxruntime", "litert", "simulated"} <= set(engines())


def test_simulated_is_found_by_name_and_never_chosen() -> None:
    assert find_engine("simulated").name == "simulated"
    assert "simulated" not in engine_versions()
    for model_format in ("onnx", "tflite"):
        try:
            assert all(engine.name != "simulated" for engine in engines_for(model_format))
        except EngineNotInstalled:
            continue


def test_an_unknown_engine_lists_the_known_ones() -> None:
    with pytest.raises(EngineError, match="simulated"):
        find_engine("tensorflow")


def test_a_format_without_engine_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for engine in engines().values():
        monkeypatch.setattr(type(engine), "version", lambda self: None)
    with pytest.raises(EngineNotInstalled, match="pip install"):
        engines_for("onnx")
    with pytest.raises(EngineNotInstalled, match=r"edge-sdk\[tflite\]"):
        engines_for("tflite")


def test_a_broken_plug_in_is_left_out(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    broken = EntryPoint("broken", "no_such_module:Engine", registry.GROUP)
    real = importlib.metadata.entry_points

    def with_broken(group: str) -> list[EntryPoint]:
        return [*real(group=group), broken]

    monkeypatch.setattr(importlib.metadata, "entry_points", with_broken)
    assert "broken" not in engines()
    assert "onnxruntime" in engines()
    assert "no_such_module" in caplog.text

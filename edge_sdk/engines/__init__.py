"""Engines run one model file: `onnxruntime`, `litert`, `simulated`, and others as plug-ins."""

from __future__ import annotations

from edge_sdk.engines.base import (
    CustomOps,
    Engine,
    LoadOptions,
    NodePlacement,
    PlacementReport,
    Runner,
    ThreadPlacement,
)
from edge_sdk.engines.registry import engine_versions, engines, engines_for, find_engine

__all__ = [
    "CustomOps",
    "Engine",
    "LoadOptions",
    "NodePlacement",
    "PlacementReport",
    "Runner",
    "ThreadPlacement",
    "engine_versions",
    "engines",
    "engines_for",
    "find_engine",
]

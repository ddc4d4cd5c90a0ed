"""Engines run one model file: `onnxruntime`, `litert`, `simulated`, and others as plug-ins."""

from __future__ import annotations

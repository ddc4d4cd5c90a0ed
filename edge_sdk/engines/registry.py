"""Which engines there are: the entry points of group `edge_sdk.engines`."""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING

from edge_sdk.engines.base import Engine
from edge_sdk.errors import EngineError, EngineNotInstalled

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["clear_cache", "engine_versions", "engines", "engines_for", "find_engine", "real_engines"]

GROUP = "edge_sdk.engines"
_log = logging.getLogger(__name__)

_INSTALL = {
    "onnx": "pip install onnxruntime (32-bit ARM has no build of it: convert the model to TFLite)",
    "tflite": "pip install 'edge-sdk[tflite]' (32-bit ARM: 'edge-sdk[armv7]')",
}
_NEVER_UNASKED = frozenset({"simulated"})
"""Engines that run nothing real: found by name, never chosen."""


@functools.cache
def _entry_points() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=GROUP)}


@functools.cache
def _load(name: str) -> Engine:
    factory = _entry_points()[name].load()
    engine = factory()
    if not isinstance(engine, Engine):
        raise EngineError(f"engine plug-in {name!r}: {factory!r} makes no edge_sdk.engines.Engine")
    return engine


def engines() -> dict[str, Engine]:
    """All engines by name, installed or not. One that cannot be imported is left out, and the log says so."""
    return real_engines() | {name: _load(name) for name in _NEVER_UNASKED if name in _entry_points()}


def real_engines() -> dict[str, Engine]:
    """Those of `engines` that run models for real: `simulated` is left out, and with it what it imports."""
    found = {}
    for name in _entry_points():
        if name in _NEVER_UNASKED:
            continue
        try:
            found[name] = _load(name)
        except Exception as error:  # noqa: BLE001 - a foreign plug-in may raise anything; it must not take the others down
            _log.warning("engine plug-in %r is left out: %s", name, error)
    return found


def find_engine(name: str) -> Engine:
    """The engine of that name.

    Raises:
        EngineError: there is none, or its plug-in does not load.
    """
    if name not in _entry_points():
        raise EngineError(f"there is no engine {name!r}; known: {', '.join(sorted(_entry_points())) or 'none'}")
    return _load(name)


def engine_versions() -> dict[str, str]:
    """Version by name of the engines whose library is installed, without importing any."""
    versions = {}
    for name, engine in real_engines().items():
        version = engine.version()
        if version is not None:
            versions[name] = version
    return versions


def engines_for(model_format: str) -> tuple[Engine, ...]:
    """The installed engines that run a model format, `simulated` left out.

    Raises:
        EngineNotInstalled: none is installed; the message names what to install.
    """
    able = [engine for engine in real_engines().values() if model_format in engine.formats]
    installed = tuple(engine for engine in able if engine.version() is not None)
    if not installed:
        names = " or ".join(engine.name for engine in able) or "an engine"
        raise EngineNotInstalled(
            f"no engine for .{model_format} models is installed: {names} is missing; {_INSTALL.get(model_format, '')}"
        )
    return installed


def clear_cache() -> None:
    """Forgets the plug-ins found, so that newly installed ones are seen."""
    _entry_points.cache_clear()
    _load.cache_clear()

"""What the engines could reach beside the CPU: GPUs, NPUs, TPUs and DSPs, found but not proven.

An accelerator is listed where its hardware or the engine's part for it is found, and `present` where both are. Nothing
is loaded and no driver is started: `edge_sdk.engines.proof` does that, in a child process.

Two environment variables name what no list can know: `EDGE_SDK_ORT_PLUGINS` (`NAME=PATH`, further ones after a colon:
plug-in execution providers of ONNX Runtime; `NAME@KIND=PATH` says gpu, npu, tpu or dsp) and `EDGE_SDK_TFLITE_DELEGATES`
(`PATH:PATH`: external delegates of LiteRT).
"""

from __future__ import annotations

import logging

from edge_sdk.device.facts import Accelerator
from edge_sdk.engines.accelerators_litert import DELEGATES_VARIABLE, delegate_paths, litert_accelerators
from edge_sdk.engines.accelerators_onnxruntime import (
    PLUGINS_VARIABLE,
    PluginLibrary,
    onnxruntime_accelerators,
    plugin_libraries,
    provider_of,
    provider_options,
)

__all__ = [
    "DELEGATES_VARIABLE",
    "PLUGINS_VARIABLE",
    "PluginLibrary",
    "delegate_paths",
    "find_accelerators",
    "litert_accelerators",
    "onnxruntime_accelerators",
    "plugin_libraries",
    "provider_of",
    "provider_options",
]

_log = logging.getLogger(__name__)


def find_accelerators() -> tuple[Accelerator, ...]:
    """Asks every installed engine. Never raises: an engine that fails is left out with a warning in the log."""
    from edge_sdk.engines.registry import real_engines

    found: list[Accelerator] = []
    for name, engine in real_engines().items():
        try:
            found.extend(engine.accelerators())
        except Exception as error:  # noqa: BLE001 - a foreign plug-in may raise anything; the others still count
            _log.warning("engine %r cannot list its accelerators: %s", name, error)
    return tuple(found)

"""TFLite models on LiteRT: ai-edge-litert, or tflite-runtime where that is what is installed (32-bit ARM)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_sdk.engines.base import Engine, LoadOptions, Runner
from edge_sdk.engines.litert_library import installed
from edge_sdk.errors import EngineNotInstalled

if TYPE_CHECKING:
    from edge_sdk.device.facts import Accelerator
    from edge_sdk.formats import ModelFile

__all__ = ["LiteRtEngine"]

_COMPILED = frozenset({"gpu", "npu"})
"""Accelerators that LiteRT reaches through its compiled models; all others are delegates."""


class LiteRtEngine(Engine):
    """LiteRT on the CPU (XNNPACK and its own kernels), on its GPU or NPU accelerators, or with an external delegate."""

    name = "litert"
    formats = frozenset({"tflite"})

    def version(self) -> str | None:
        """Version of ai-edge-litert, or of tflite-runtime."""
        found = installed()
        return found[1] if found else None

    def load(self, model: ModelFile, options: LoadOptions) -> Runner:
        """See `Engine.load`. `options.accelerator` is "cpu", "gpu", "npu", "edgetpu" or the path of a delegate."""
        if installed() is None:
            raise EngineNotInstalled(
                f"{model.name}: no LiteRT library is installed;"
                " pip install 'edge-sdk[tflite]' (32-bit ARM: 'edge-sdk[armv7]')"
            )
        if options.accelerator in _COMPILED:
            from edge_sdk.engines.litert_compiled import CompiledRunner

            return CompiledRunner(model, options)
        from edge_sdk.engines.litert_runner import LiteRtRunner

        return LiteRtRunner(model, options)

    def accelerators(self) -> tuple[Accelerator, ...]:
        """Accelerators, delegates and vendor plug-ins that were found."""
        from edge_sdk.engines.accelerators_litert import litert_accelerators

        return litert_accelerators() if self.version() else ()

    def default_threads(self, cpus: int) -> int:
        """One: the interpreter takes no worker unless it is told to."""
        return 1

"""ONNX models on ONNX Runtime."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from edge_sdk.engines.base import Engine, LoadOptions, Runner
from edge_sdk.errors import EngineNotInstalled

if TYPE_CHECKING:
    from edge_sdk.device.facts import Accelerator
    from edge_sdk.formats import ModelFile

__all__ = ["OnnxRuntimeEngine"]

_DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-qnn", "onnxruntime-directml")


class OnnxRuntimeEngine(Engine):
    """ONNX Runtime with its CPU provider, or with another provider and the CPU behind it."""

    name = "onnxruntime"
    formats = frozenset({"onnx"})

    def version(self) -> str | None:
        """Version of the installed distribution, whichever of its builds it is."""
        return _installed_version()

    def load(self, model: ModelFile, options: LoadOptions) -> Runner:
        """See `Engine.load`. Initialisers listed as graph inputs are taken out, since they stop the engine from folding
        and packing weights; `options.initializer_inputs` names those that the caller means to feed."""
        installed = self.version()
        if installed is None:
            raise EngineNotInstalled(f"{model.name}: onnxruntime is not installed; pip install onnxruntime")
        from edge_sdk.engines.onnxruntime_loading import Loading

        return Loading(model, options, installed).runner()

    def accelerators(self) -> tuple[Accelerator, ...]:
        """Providers whose library is really there."""
        from edge_sdk.engines.accelerators_onnxruntime import onnxruntime_accelerators

        return onnxruntime_accelerators() if self.version() else ()


@functools.cache
def _installed_version() -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    for distribution in _DISTRIBUTIONS:
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return None

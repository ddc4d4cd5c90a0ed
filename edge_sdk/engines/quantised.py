"""Real numbers in and out of a model whose inputs and outputs are stored quantised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from edge_sdk.engines.base import Runner
from edge_sdk.engines.wrapping import WrappingRunner
from edge_sdk.errors import InputValueError
from edge_sdk.tensors import Array, TensorSpec, dequantize, quantize

__all__ = ["FloatRunner"]


class FloatRunner(WrappingRunner):
    """A runner whose quantised inputs and outputs are float32 for the caller.

    Args:
        inner: the runner behind it; owned, closed with this one.
    """

    def __init__(self, inner: Runner) -> None:
        super().__init__(inner)
        self._stored_inputs = {s.name: s for s in inner.inputs if s.quantization is not None}
        self._stored_outputs = {s.name: s for s in inner.outputs if s.quantization is not None}
        self.inputs = tuple(_as_float(spec) for spec in inner.inputs)
        self.outputs = tuple(_as_float(spec) for spec in inner.outputs)

    def run(self, feeds: Mapping[str, Any], out: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """See `Runner.run`.

        Raises:
            InputValueError: NaN, which no stored number stands for.
        """
        stored = {n: self._store(n, v) if n in self._stored_inputs else v for n, v in feeds.items()}
        direct = {n: a for n, a in (out or {}).items() if n not in self._stored_outputs}
        outputs = self.inner.run(stored, direct or None)
        for name, spec in self._stored_outputs.items():
            outputs[name] = dequantize(outputs[name], spec, None if out is None else out.get(name))
        return outputs

    def _store(self, name: str, value: Array) -> Array:
        if np.isnan(value).any():
            raise InputValueError(f"{self.model}: input {name!r} holds NaN, which a quantised input cannot store")
        return quantize(value, self._stored_inputs[name])


def _as_float(spec: TensorSpec) -> TensorSpec:
    return replace(spec, dtype="float32", quantization=None) if spec.quantization is not None else spec

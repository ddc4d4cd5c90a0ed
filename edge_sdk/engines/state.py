"""State carried from call to call: an output of one request becomes an input of the next."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from edge_sdk.engines.base import Runner
from edge_sdk.engines.wrapping import WrappingRunner
from edge_sdk.errors import InputNameError, InputTypeError
from edge_sdk.tensors import Array, TensorSpec

__all__ = ["StatefulRunner"]


class StatefulRunner(WrappingRunner):
    """A runner that feeds `state` inputs itself: zeros first, then the named output of the request before.

    Requests follow each other (one at a time), since each needs the state the one before left. A caller may still feed
    a state input: it counts for that request and what follows.

    Args:
        inner: the runner behind it; owned, closed with this one.
        state: input name to the name of the output that is its next value.

    Raises:
        InputNameError: a name is none of the model's.
        InputTypeError: an output has another dtype than the input it becomes.
    """

    keeps_state = True
    at_once = 1

    def __init__(self, inner: Runner, state: Mapping[str, str]) -> None:
        super().__init__(inner)
        self._sources = dict(state)
        self._specs = _state_specs(inner, state)
        self.optional_inputs = inner.optional_inputs | set(state)
        self._lock = threading.Lock()
        self._held: dict[str, Array] = {}

    def run(self, feeds: Mapping[str, Any], out: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """See `Runner.run`; inputs of the state that are not fed continue from the request before."""
        with self._lock:
            whole = dict(feeds)
            for name, spec in self._specs.items():
                if name not in whole:
                    held = self._held.get(name)
                    whole[name] = held if held is not None else self._first(spec, feeds)
            outputs = self.inner.run(whole, out)
            for name, source in self._sources.items():
                # A copy, since the caller owns the output and may write into it.
                self._held[name] = np.array(outputs[source])
            return outputs

    def reset_state(self) -> None:
        """Starts again from zeros."""
        with self._lock:
            self._held.clear()
            self.inner.reset_state()

    def _first(self, spec: TensorSpec, feeds: Mapping[str, Any]) -> Array:
        named = self._named_sizes(feeds)
        shape = tuple(d if isinstance(d, int) else named.get(d, 1) if d is not None else 1 for d in spec.shape or ())
        return np.zeros(shape, dtype=spec.numpy_dtype)

    def _named_sizes(self, feeds: Mapping[str, Any]) -> dict[str, int]:
        """Sizes that the fed arrays give to the model's named dimensions ("batch")."""
        sizes: dict[str, int] = {}
        for spec in self.inputs:
            value = feeds.get(spec.name)
            if spec.shape is not None and isinstance(value, np.ndarray) and value.ndim == len(spec.shape):
                sizes |= {d: n for d, n in zip(spec.shape, value.shape, strict=True) if isinstance(d, str)}
        return sizes


def _state_specs(inner: Runner, state: Mapping[str, str]) -> dict[str, TensorSpec]:
    inputs = {spec.name: spec for spec in inner.inputs}
    outputs = {spec.name: spec for spec in inner.outputs}
    for name, source in state.items():
        if name not in inputs:
            raise InputNameError(f"{inner.model}: state: there is no input {name!r}; inputs: {', '.join(inputs)}")
        if source not in outputs:
            raise InputNameError(f"{inner.model}: state: there is no output {source!r}; outputs: {', '.join(outputs)}")
        if inputs[name].dtype != outputs[source].dtype:
            raise InputTypeError(
                f"{inner.model}: state: output {source!r} is {outputs[source].describe()},"
                f" input {name!r} takes {inputs[name].describe()}"
            )
    return {name: inputs[name] for name in state}

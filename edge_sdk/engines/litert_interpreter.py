"""One LiteRT interpreter as a callable: named arrays in, named arrays out, one caller at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_sdk.engines.litert_errors import feed_error, load_error, one_line, run_error, shape_error
from edge_sdk.errors import EdgeError, EngineError, InputNameError, InputShapeError, InputTypeError
from edge_sdk.formats import ModelInfo
from edge_sdk.tensors import Array, TensorSpec

__all__ = ["LoadedInterpreter", "Port", "copy_into", "ports"]

_ENGINE_ERRORS = (ValueError, RuntimeError, MemoryError, TypeError, OverflowError)
"""What the engine's Python layer raises for anything that goes wrong below it."""


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output: its spec and the index of its tensor in the interpreter."""

    spec: TensorSpec
    index: int


def ports(interpreter: Any, info: ModelInfo) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    """Inputs and outputs in the file's order, which is the engine's too, under the names of `ModelInfo`."""
    inputs, outputs = info.inputs, info.outputs
    return _numbered(inputs, interpreter.get_input_details()), _numbered(outputs, interpreter.get_output_details())


def _numbered(specs: Sequence[TensorSpec], details: Sequence[Any]) -> tuple[Port, ...]:
    return tuple(Port(spec, int(detail["index"])) for spec, detail in zip(specs, details, strict=True))


class LoadedInterpreter:
    """An interpreter with its tensor indexes and the shapes it is laid out for at present.

    Args:
        interpreter: of `ai_edge_litert` or `tflite_runtime`; not yet laid out.
        info: what the model file holds.
        model: what messages call the model.
        engine: what messages call the engine.

    Raises:
        ModelError: the engine cannot lay out the graph.
    """

    def __init__(self, interpreter: Any, info: ModelInfo, model: str, engine: str) -> None:
        self.interpreter = interpreter
        self.inputs, self.outputs = ports(interpreter, info)
        self.fresh = True
        self._model = model
        self._engine = engine
        self._reported = ""
        self._shapes: dict[int, tuple[int, ...] | None] = dict.fromkeys(port.index for port in self.inputs)
        self._feeding = tuple((port.spec.name, port.index, port.spec.dtype == "string", port) for port in self.inputs)
        self._giving = tuple((port.spec.name, port.index) for port in self.outputs)
        # The engine gives a numpy scalar in place of an array without dimensions.
        self._scalar_outputs = tuple(port.spec.name for port in self.outputs if not port.spec.shape)
        self._string_outputs = tuple(port.spec.name for port in self.outputs if port.spec.dtype == "string")
        self._lay_out_as_filed()

    def _lay_out_as_filed(self) -> None:
        try:
            self.interpreter.allocate_tensors()
        except _ENGINE_ERRORS as error:
            told = load_error(self._news(error), self._model, self._engine)
            dynamic = any(not isinstance(d, int) for port in self.inputs for d in port.spec.shape or (None,))
            # Where a size is open the file holds a 1 in its place, which need not suit the graph: the first feeds tell.
            if not dynamic or type(told).__name__ != "ModelError":
                raise told from error
            return
        for detail in self.interpreter.get_input_details():
            self._shapes[int(detail["index"])] = tuple(int(size) for size in detail["shape"])

    def call(self, feeds: Mapping[str, Any], out: Mapping[str, Any] | None) -> dict[str, Any]:
        """Runs the graph once. See `Runner.run`."""
        interpreter, shapes = self.interpreter, self._shapes
        for name, index, _, _ in self._feeding:
            if feeds[name].shape != shapes[index]:
                self._lay_out_for(feeds)
                break
        set_tensor = interpreter.set_tensor
        for name, index, text, port in self._feeding:
            try:
                set_tensor(index, _encoded(feeds[name], name, self._model) if text else feeds[name])
            except EdgeError:
                raise
            except _ENGINE_ERRORS as error:
                raise feed_error(error, self._model, name, port.spec.describe()) from error
        try:
            interpreter.invoke()
        except _ENGINE_ERRORS as error:
            self._forget_layout()
            raise run_error(self._news(error), self._model, self._engine) from error
        return self._results(out)

    def reset(self) -> None:
        """Sets the variables of stateful ops back to zero."""
        self.interpreter.reset_all_variables()

    def _lay_out_for(self, feeds: Mapping[str, Any]) -> None:
        """Resizes the inputs to what is fed, and the rest of the graph with them."""
        interpreter = self.interpreter
        wanted = {index: tuple(feeds[name].shape) for name, index, _, _ in self._feeding}
        if wanted == self._shapes:
            return
        for port in self.inputs:
            # The engine's own check forgets which sizes are open once a string tensor was filled.
            self._require_open(port, wanted[port.index])
        try:
            for index, shape in wanted.items():
                if shape != self._shapes[index]:
                    interpreter.resize_tensor_input(index, shape)
            interpreter.allocate_tensors()
        except _ENGINE_ERRORS as error:
            self._forget_layout()
            shapes = ", ".join(f"{name!r} {list(feeds[name].shape)}" for name, *_ in self._feeding)
            raise shape_error(self._news(error), self._model, shapes) from error
        self._shapes.update(wanted)

    def _require_open(self, port: Port, shape: tuple[int, ...]) -> None:
        filed = port.spec.shape
        if filed is None:
            return
        fits = len(filed) == len(shape) and all(
            size == given for size, given in zip(filed, shape, strict=True) if isinstance(size, int)
        )
        if not fits:
            raise InputShapeError(
                f"{self._model}: input {port.spec.name!r} has shape {list(shape)}, expected {port.spec.describe()}"
            )

    def _forget_layout(self) -> None:
        self._shapes = dict.fromkeys(self._shapes)

    def _results(self, out: Mapping[str, Any] | None) -> dict[str, Any]:
        get_tensor = self.interpreter.get_tensor
        try:
            results = {name: get_tensor(index) for name, index in self._giving}
        except _ENGINE_ERRORS:
            results = {port.spec.name: self._result(port) for port in self.outputs}
        for name in self._scalar_outputs:
            results[name] = np.asarray(results[name])
        for name in self._string_outputs:
            results[name] = _decoded(results[name])
        if out:
            copy_into(results, out, self._model)
        return results

    def _result(self, port: Port) -> Array:
        try:
            array: Array = self.interpreter.get_tensor(port.index)
        except _ENGINE_ERRORS as error:
            shape, dtype = self._size_of(port), port.spec.numpy_dtype
            if (
                dtype is not None and 0 in shape
            ):  # the engine keeps no memory for an empty tensor and says that is wrong
                return np.empty(shape, dtype)
            reason = self._news(error)
            raise EngineError(
                f"{self._model}: output {port.spec.name!r} ({port.spec.describe()}) cannot be read: {one_line(reason)}"
            ) from error
        return array

    def _size_of(self, port: Port) -> tuple[int, ...]:
        for detail in self.interpreter.get_output_details():
            if int(detail["index"]) == port.index:
                return tuple(int(size) for size in detail["shape"])
        return ()

    def _news(self, error: BaseException) -> str:
        """What the engine reported since the last time: it repeats everything it ever said."""
        text = str(error)
        news = text.removeprefix(self._reported) or text
        self._reported = text
        return news


def copy_into(results: dict[str, Any], out: Mapping[str, Any], model: str) -> None:
    """Copies results into the caller's arrays, which then stand in their place.

    Raises:
        InputError: a name, dtype or shape does not fit.
    """
    for name, target in out.items():
        result = results.get(name)
        if result is None:
            raise InputNameError(
                f"{model}: out names {name!r}, which is no output; expected {', '.join(map(repr, results))}"
            )
        if target.dtype != result.dtype:
            raise InputTypeError(f"{model}: out[{name!r}] has dtype {target.dtype}, the output has {result.dtype}")
        if target.shape != result.shape:
            raise InputShapeError(
                f"{model}: out[{name!r}] has shape {list(target.shape)}, the output has {list(result.shape)}"
            )
        if not target.flags.writeable:
            raise InputShapeError(f"{model}: out[{name!r}] must be writeable")
        np.copyto(target, result)
        results[name] = target


def _encoded(array: Array, name: str, model: str) -> Array:
    """Strings as the engine takes them: objects of bytes."""
    encoded = np.empty(array.shape, object)
    for place, value in np.ndenumerate(array):
        if isinstance(value, str):
            value = value.encode("utf-8", "surrogateescape")
        elif not isinstance(value, bytes):
            kind = type(value).__name__
            raise InputTypeError(f"{model}: input {name!r} holds {value!r} ({kind}) at {place}; expected str or bytes")
        encoded[place] = value
    return encoded


def _decoded(array: Array) -> Array:
    """Strings as every engine here gives them: str, with bytes that are no UTF-8 as surrogate escapes."""
    decoded = np.empty(array.shape, object)
    for place, value in np.ndenumerate(array):
        decoded[place] = value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
    return decoded

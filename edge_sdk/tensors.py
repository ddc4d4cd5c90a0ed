"""What a model takes and gives: `TensorSpec`, the check of feeds against it, and stored against real numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_sdk.errors import InputError, InputNameError, InputShapeError, InputTypeError, InputValueError

__all__ = [
    "Array",
    "FeedCheck",
    "Feeds",
    "Quantization",
    "TensorSpec",
    "check_finite",
    "check_out",
    "dequantize",
    "quantize",
]

Array = np.ndarray[Any, np.dtype[Any]]
Feeds = Mapping[str, Any] | Any
"""A mapping from input name to array, or one array where the model has one input."""


@dataclass(frozen=True, slots=True)
class Quantization:
    """Affine quantisation: `real = scale * (stored - zero_point)`.

    Attributes:
        scales: one for the whole tensor, or one per index of `axis`.
        zero_points: as many as `scales`.
        axis: the quantised dimension; None where there is one scale.
    """

    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int | None = None


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a model.

    Attributes:
        name: as the model file names it.
        dtype: a numpy dtype name ("float32", "uint8", …), "string", or one that numpy lacks ("bfloat16", "int4", …).
        shape: one entry a dimension: a size, a name (dynamic), or None (dynamic); None where
            the model does not tell the rank.
        kind: "tensor", "sequence" (of tensors), "map", "sequence of maps" or "optional".
        quantization: how stored numbers stand for real ones, where the model says.
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...] | None
    kind: str = "tensor"
    quantization: Quantization | None = None

    @property
    def numpy_dtype(self) -> np.dtype[Any] | None:
        """The dtype of arrays fed or received; None where numpy has none for it."""
        if self.dtype == "string":
            return np.dtype(object)
        try:
            return np.dtype(self.dtype)
        except TypeError:
            return None

    def describe(self) -> str:
        """One phrase for messages: `float32[1, 3, 240, 320]`."""
        if self.shape is None:
            return f"{self.dtype}[…]"
        return f"{self.dtype}[{', '.join('?' if d is None else str(d) for d in self.shape)}]"


_SHAPES_KEPT = 16


class FeedCheck:
    """Checks feeds against the inputs of one model; built once, called on every request.

    Args:
        inputs: the inputs in the model's order.
        optional: inputs that need not be fed (state carried by the runner, initialisers with a default).
        where: what the messages call the model.
    """

    def __init__(
        self, inputs: Sequence[TensorSpec], optional: frozenset[str] = frozenset(), where: str = "model"
    ) -> None:
        self.inputs = tuple(inputs)
        self.optional = optional
        self.where = where
        self._specs = {spec.name: spec for spec in self.inputs}
        self._required = tuple(spec.name for spec in self.inputs if spec.name not in optional)
        # Per input: the dtype, and the shapes that were found to fit, so that a request of a known form passes at once.
        self._known = {spec.name: (spec.numpy_dtype, _fixed_shapes(spec)) for spec in self.inputs}

    def __call__(self, feeds: Feeds) -> dict[str, Any]:
        """Returns the feeds as a dict from input name to array, unchanged where they already fit.

        Python numbers, lists and numpy scalars become arrays of the input's dtype where no value is lost.

        Raises:
            InputNameError: an input is missing or unknown.
            InputTypeError: a dtype differs.
            InputShapeError: a rank or a fixed dimension differs.
        """
        known = self._known
        if type(feeds) is dict and len(feeds) == len(known):
            for name, value in feeds.items():
                form = known.get(name)
                # numpy has one object for each plain dtype; any other goes the long way.
                if form is None or type(value) is not np.ndarray or value.dtype is not form[0]:
                    break
                if value.shape not in form[1]:
                    break
            else:
                return feeds
        return self._checked(feeds)

    def _checked(self, feeds: Feeds) -> dict[str, Any]:
        if not isinstance(feeds, Mapping):
            feeds = self._single(feeds)
        checked = {}
        for name, value in feeds.items():
            spec = self._specs.get(name)
            if spec is None:
                raise self._unknown(name)
            fitting = checked[name] = self._full(spec, value)
            if isinstance(fitting, np.ndarray) and spec.kind == "tensor":
                shapes = self._known[name][1]
                if len(shapes) < _SHAPES_KEPT:
                    shapes.add(fitting.shape)
        for name in self._required:
            if name not in checked:
                expected = self._specs[name].describe()
                raise InputNameError(f"{self.where}: input {name!r} ({expected}) is missing; given: {_names(feeds)}")
        return checked

    def _single(self, value: Any) -> dict[str, Any]:
        if len(self._required) == 1:
            return {self._required[0]: value}
        expected = ", ".join(f"{s.name!r}: {s.describe()}" for s in self.inputs)
        raise InputNameError(
            f"{self.where}: one array given, but there are {len(self.inputs)} inputs; expected a dict {{{expected}}}"
        )

    def _unknown(self, name: object) -> InputNameError:
        expected = ", ".join(f"{s.name!r} ({s.describe()})" for s in self.inputs) or "no input at all"
        return InputNameError(f"{self.where}: there is no input {name!r}; expected {expected}")

    def _full(self, spec: TensorSpec, value: Any) -> Any:
        if spec.kind != "tensor":
            return value  # the engine checks sequences, maps and optionals itself
        array = self._as_array(spec, value)
        self._check_shape(spec, array)
        return array

    def _as_array(self, spec: TensorSpec, value: Any) -> Array:
        dtype = spec.numpy_dtype
        if isinstance(value, np.ndarray):
            if dtype is None or value.dtype == dtype:
                return value
            if spec.dtype == "string" and value.dtype.kind in "US":
                return value.astype(object)
            raise self._wrong_type(spec, value.dtype.name)
        try:
            array = np.asarray(value)
        except ValueError as error:
            raise InputShapeError(
                f"{self.where}: input {spec.name!r} is not a regular array: {error}; expected {spec.describe()}"
            ) from None
        if dtype is None or array.dtype == dtype:
            return array
        if spec.dtype == "string":
            if array.dtype.kind in "USO":
                return array.astype(object)
            raise self._wrong_type(spec, array.dtype.name)
        # A list or scalar has no dtype the caller chose, so it may take the input's, if its kind allows it.
        if array.dtype.kind not in "biuf" or not np.can_cast(array.dtype, dtype, "same_kind"):
            fits = array.dtype.kind in "iu" and dtype.kind in "iu" and np.array_equal(array.astype(dtype), array)
            if not fits:
                raise self._wrong_type(spec, array.dtype.name)
        return array.astype(dtype)

    def _wrong_type(self, spec: TensorSpec, given: str) -> InputTypeError:
        hint = ""
        if spec.quantization is not None and given.startswith("float"):
            hint = "; feed the stored numbers, or load with float_io=True to have them converted"
        elif spec.numpy_dtype is not None and spec.dtype != "string":
            hint = f'; convert with array.astype("{spec.dtype}")'
        return InputTypeError(f"{self.where}: input {spec.name!r} has dtype {given}, expected {spec.describe()}{hint}")

    def _check_shape(self, spec: TensorSpec, array: Array) -> None:
        if spec.shape is None:
            return
        if len(spec.shape) != array.ndim:
            raise self._wrong_shape(spec, array)
        # Dimensions with a name are left to the engine: exporters reuse one name for sizes that differ, and it runs.
        for expected, given in zip(spec.shape, array.shape, strict=True):
            if isinstance(expected, int) and expected != given:
                raise self._wrong_shape(spec, array)

    def _wrong_shape(self, spec: TensorSpec, array: Array) -> InputShapeError:
        return InputShapeError(
            f"{self.where}: input {spec.name!r} has shape {list(array.shape)}, expected {spec.describe()}"
        )


def _fixed_shapes(spec: TensorSpec) -> set[tuple[int, ...]]:
    if spec.kind != "tensor" or spec.shape is None or not all(isinstance(d, int) for d in spec.shape):
        return set()
    return {tuple(d for d in spec.shape if isinstance(d, int))}


def _names(feeds: Mapping[str, Any]) -> str:
    return ", ".join(repr(name) for name in feeds) or "nothing"


def quantize(values: Array, spec: TensorSpec) -> Array:
    """Real numbers as `spec` stores them: `round(values / scale) + zero_point`, saturated to the dtype.

    Args:
        values: any shape that fits `spec`, float.
        spec: must have a quantization.
    """
    scale, zero_point = _factors(spec, values.ndim)
    dtype = np.dtype(spec.dtype)
    limits = np.iinfo(dtype)
    stored: Array = np.clip(np.rint(values / scale) + zero_point, limits.min, limits.max).astype(dtype)
    return stored


def dequantize(stored: Array, spec: TensorSpec, out: Array | None = None) -> Array:
    """Stored numbers as the real ones they stand for: `(stored - zero_point) * scale`.

    Args:
        stored: any shape that fits `spec`.
        spec: where it has no quantization, or `stored` holds no integers, `stored` comes back as it is.
        out: float32 array of the same shape to write into.
    """
    if spec.quantization is None or stored.dtype.kind not in "iu":
        return stored
    scale, zero_point = _factors(spec, stored.ndim)
    result: Array = np.subtract(stored, zero_point, out=out, dtype=np.float32, casting="unsafe")
    result *= scale
    return result


def _factors(spec: TensorSpec, rank: int) -> tuple[Any, Any]:
    quantization = spec.quantization
    assert quantization is not None
    if quantization.axis is None or len(quantization.scales) == 1:
        return np.float32(quantization.scales[0]), np.float32(quantization.zero_points[0])
    shape = [1] * rank
    shape[quantization.axis] = -1
    scales = np.asarray(quantization.scales, dtype=np.float32).reshape(shape)
    return scales, np.asarray(quantization.zero_points, dtype=np.float32).reshape(shape)


def check_out(out: Mapping[str, Array], feeds: Mapping[str, Any], outputs: Sequence[TensorSpec], model: str) -> None:
    """Refuses what `run(out=…)` cannot write into.

    Raises:
        InputError: a name that is no output, no array, or memory that a feed shares.
    """
    names = {spec.name for spec in outputs}
    for name, target in out.items():
        if name not in names:
            raise InputError(f"{model}: out: there is no output {name!r}; outputs: {', '.join(sorted(names))}")
        if not isinstance(target, np.ndarray):
            raise InputError(f"{model}: out[{name!r}] is a {type(target).__name__}, expected an array")
        for feed, value in feeds.items():
            # An engine may write the output before it has read all of the input.
            if isinstance(value, np.ndarray) and np.may_share_memory(target, value):
                raise InputError(f"{model}: out[{name!r}] shares memory with the feed {feed!r}")


def check_finite(feeds: Mapping[str, Any], model: str) -> None:
    """Refuses NaN and infinity.

    Raises:
        InputValueError: names the input, the value and its place.
    """
    for name, value in feeds.items():
        if isinstance(value, np.ndarray) and value.dtype.kind in "fc" and not np.isfinite(value).all():
            first = tuple(int(i) for i in np.argwhere(~np.isfinite(value))[0])
            raise InputValueError(
                f"{model}: input {name!r} holds {value[first]} at {list(first)}; finite numbers expected"
            )

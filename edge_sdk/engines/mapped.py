"""A variant under the names, layout and dtypes of the logical signature, so that all variants of a model are alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from edge_sdk.engines.base import Runner
from edge_sdk.engines.wrapping import WrappingRunner
from edge_sdk.errors import InputNameError, InputShapeError, InputValueError, InvalidManifest
from edge_sdk.signature import LogicalTensor, Signature, TensorMapping
from edge_sdk.signature import Mapping as VariantMapping
from edge_sdk.tensors import Array, Quantization, TensorSpec, dequantize, quantize

__all__ = ["MappedRunner", "mapped"]

_KEPT_BUFFERS = 4
_FEW_CHANNELS = 4
Shape = tuple[int | str | None, ...]


def mapped(runner: Runner, signature: Signature, mapping: VariantMapping) -> Runner:
    """The runner as the signature has it: `runner` itself where it answers to the signature as it is.

    Args:
        runner: of one variant.
        signature: what the caller sees.
        mapping: of that variant.

    Raises:
        InvalidManifest: mapping, signature and model contradict each other. `runner` is left open.
    """
    wrapped = MappedRunner(runner, signature, mapping)
    return runner if wrapped.is_identity else wrapped


class MappedRunner(WrappingRunner):
    """A runner that takes and gives the logical tensors of a signature.

    A tensor that is the same in the variant goes through as it is, a reshaped one as a view of the caller's array.
    Others are transposed, cast or (de)quantised. Outputs that the signature does not name are dropped.

    Args:
        inner: the runner behind it; owned, closed with this one.
        signature: what the caller sees.
        mapping: how `inner`'s tensors relate to it.

    Raises:
        InvalidManifest: they contradict each other.

    Attributes:
        is_identity: whether nothing is to be done, in either direction.
    """

    def __init__(self, inner: Runner, signature: Signature, mapping: VariantMapping) -> None:
        super().__init__(inner)
        where = inner.model
        ways_in = _ways(signature.inputs, mapping.inputs, inner.inputs, f"{where}: inputs")
        ways_out = _ways(signature.outputs, mapping.outputs, inner.outputs, f"{where}: outputs")
        self._require_all_fed(ways_in)
        self._in = {way.logical.name: _In(way, where) for way in ways_in}
        self._out = tuple(_Out(way, where) for way in ways_out)
        self.inputs = tuple(way.logical for way in ways_in)
        self.outputs = tuple(way.logical for way in ways_out)
        self.optional_inputs = frozenset(w.logical.name for w in ways_in if w.stored.name in inner.optional_inputs)
        self.is_identity = (
            all(way.is_identity and way.is_same_form for way in (*ways_in, *ways_out))
            and [w.stored for w in ways_in] == list(inner.inputs)
            and [w.stored for w in ways_out] == list(inner.outputs)
        )

    def run(self, feeds: Mapping[str, Any], out: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """See `Runner.run`.

        Raises:
            InputValueError: a value that the variant's dtype cannot stand for: NaN, or an integer out of its range.
            InputShapeError: a shape that the variant's own cannot be made from.
        """
        stored: dict[str, Any] = {}
        borrowed: list[tuple[_In, Array]] = []
        for name, value in feeds.items():
            way = self._in.get(name)
            if way is None:
                raise InputNameError(f"{self.model}: there is no input {name!r}; expected {', '.join(self._in)}")
            stored[way.stored_name] = fitted = way.convert(value)
            if fitted is not value:
                borrowed.append((way, fitted))
        given = {o.stored_name: t for o in self._out if out and (t := o.target(out.get(o.name))) is not None}
        answers = self.inner.run(stored, given or None)
        outputs = {o.name: o.convert(answers[o.stored_name], out.get(o.name) if out else None) for o in self._out}
        for way, buffer in borrowed:
            # An engine written in Python may hand an input on as an output: such a buffer is the caller's now.
            if not any(isinstance(a, np.ndarray) and np.may_share_memory(a, buffer) for a in outputs.values()):
                way.give_back(buffer)
        return outputs

    def _require_all_fed(self, ways: Sequence[_Way]) -> None:
        fed = {way.stored.name for way in ways} | self.inner.optional_inputs
        for spec in self.inner.inputs:
            if spec.name not in fed:
                raise InvalidManifest(
                    f"{self.model}: inputs: the model needs {spec.name!r} ({spec.describe()}), to which no input of the"
                    " signature is mapped; expected one in the mapping; build the bundle again"
                )


@dataclass(frozen=True, slots=True)
class _Way:
    """How one logical tensor and one of the variant relate, both as specs that say all that is known."""

    logical: TensorSpec
    stored: TensorSpec
    axes: tuple[int, ...] | None
    shape: tuple[int, ...] | None

    @property
    def is_identity(self) -> bool:
        """Whether an array of the one is an array of the other."""
        return self.axes is None and self.shape is None and self.is_rearranged_only

    @property
    def is_requantised(self) -> bool:
        """Whether both are stored numbers that stand for other real ones."""
        a, b = self.logical.quantization, self.stored.quantization
        return a is not None and b is not None and a != b

    @property
    def is_same_form(self) -> bool:
        """Whether both have one name and fix the same sizes."""
        return self.logical.name == self.stored.name and _fixed(self.logical.shape) == _fixed(self.stored.shape)

    @property
    def is_rearranged_only(self) -> bool:
        """Whether the numbers stay as they are."""
        return self.logical.dtype == self.stored.dtype and not self.is_requantised


def _ways(
    logical: Sequence[LogicalTensor], mappings: Sequence[TensorMapping], specs: Sequence[TensorSpec], where: str
) -> tuple[_Way, ...]:
    by_name = {mapping.name: mapping for mapping in mappings}
    known = {spec.name: spec for spec in specs}
    unknown = by_name.keys() - {tensor.name for tensor in logical}
    if unknown:
        raise InvalidManifest(f"{where}: the mapping names {sorted(unknown)[0]!r}, which the signature does not have")
    ways = []
    for tensor in logical:
        mapping = by_name.get(tensor.name) or TensorMapping(name=tensor.name, tensor=tensor.name)
        spec = known.get(mapping.tensor)
        if spec is None:
            raise InvalidManifest(
                f"{where}: {tensor.name!r} is mapped to {mapping.tensor!r}, which the model does not have;"
                f" expected one of {', '.join(known) or 'nothing'}; build the bundle again"
            )
        ways.append(_way(tensor, mapping, spec, f"{where}: {tensor.name!r}"))
    return tuple(ways)


def _way(tensor: LogicalTensor, mapping: TensorMapping, spec: TensorSpec, where: str) -> _Way:
    if mapping.dtype is not None and mapping.dtype != spec.dtype:
        raise InvalidManifest(f"{where}: the mapping says dtype {mapping.dtype}, the model has {spec.describe()}")
    stored = spec
    if mapping.scale is not None:
        stored = replace(spec, quantization=Quantization((mapping.scale,), (mapping.zero_point or 0,)))
    axes = None if mapping.transpose in (None, tuple(range(len(mapping.transpose or ())))) else mapping.transpose
    if (axes is not None or mapping.shape is not None) and spec.kind != "tensor":
        raise InvalidManifest(f"{where}: the model's {spec.name!r} is a {spec.kind}, which has no axes to map")
    shape = _known_shape(tensor.shape, spec.shape, axes, mapping.shape is not None, where)
    quantization = spec.quantization if tensor.dtype == spec.dtype else None
    if tensor.scale is not None:
        quantization = Quantization((tensor.scale,), (tensor.zero_point or 0,))
    logical = TensorSpec(tensor.name, tensor.dtype, shape, spec.kind, quantization)
    way = _Way(logical, stored, axes, mapping.shape)
    _check_dtypes(way, where)
    return way


def _known_shape(
    logical: Shape | None, stored: Shape | None, axes: tuple[int, ...] | None, reshaped: bool, where: str
) -> Shape | None:
    """The logical shape, with sizes that only the variant fixes."""
    if stored is None or reshaped:
        return logical
    if axes is not None:
        if sorted(axes) != list(range(len(stored))):
            raise InvalidManifest(f"{where}: transpose {list(axes)} does not fit the model's shape {list(stored)}")
        stored = tuple(stored[axes.index(axis)] for axis in range(len(axes)))
    if logical is None:
        return stored
    sizes = list(zip(logical, stored, strict=False))
    if len(logical) != len(stored) or any(isinstance(a, int) and isinstance(b, int) and a != b for a, b in sizes):
        raise InvalidManifest(
            f"{where}: the signature has shape {list(logical)}, the model as mapped {list(stored)};"
            " expected the same; build the bundle again"
        )
    return tuple(b if isinstance(b, int) else a for a, b in sizes)


def _fixed(shape: Shape | None) -> Shape | None:
    return None if shape is None else tuple(size if isinstance(size, int) else None for size in shape)


def _check_dtypes(way: _Way, where: str) -> None:
    if way.logical.dtype == way.stored.dtype and not way.is_requantised:
        return
    logical, stored = way.logical, way.stored
    kinds = [None if spec.numpy_dtype is None else spec.numpy_dtype.kind for spec in (logical, stored)]
    numeric = all(kind is not None and kind in "biuf" for kind in kinds)
    whole = [kind is not None and kind in "iu" for kind in kinds]
    scaled = [spec.quantization is not None for spec in (logical, stored)]
    # Whole numbers become real ones only by a scale, and other whole ones by two scales or as they are.
    told = scaled[0] == scaled[1] if all(whole) else all(s or not w for s, w in zip(scaled, whole, strict=True))
    per_axis = any(spec.quantization is not None and spec.quantization.axis is not None for spec in (logical, stored))
    if not numeric or not told or stored.kind != "tensor" or (per_axis and (way.axes or way.shape)):
        raise InvalidManifest(
            f"{where}: nothing says how {logical.describe()} of the signature becomes {stored.describe()} of the model;"
            " expected one scale and zero_point in the mapping"
        )


@dataclass(slots=True)
class _In:
    """One input on its way to the variant, and buffers kept for it."""

    way: _Way
    where: str
    free: list[Array] = field(default_factory=list)

    @property
    def stored_name(self) -> str:
        return self.way.stored.name

    def convert(self, value: Any) -> Any:
        """`value` itself where it fits, otherwise a C-contiguous array of the variant's form."""
        way = self.way
        if way.is_identity:
            return value
        if way.axes is not None and value.ndim != len(way.axes):
            raise self._misfit(value, f"{len(way.axes)} dimensions")
        laid_out = value if way.axes is None else value.transpose(way.axes)
        if not way.is_rearranged_only:
            where = f"{self.where}: input {way.logical.name!r}"
            laid_out = np.ascontiguousarray(_restored(laid_out, way.logical, way.stored, where))
        elif way.axes is not None:
            buffer = self._buffer(laid_out.shape, laid_out.dtype)
            _copy(laid_out, buffer)
            laid_out = buffer
        return self._reshaped(laid_out)

    def give_back(self, buffer: Array) -> None:
        """Keeps a buffer for the next request. Appending and popping need no lock."""
        if self.way.axes is not None and self.way.is_rearranged_only and len(self.free) < _KEPT_BUFFERS:
            self.free.append(buffer.base if isinstance(buffer.base, np.ndarray) else buffer)

    def _buffer(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        try:
            buffer = self.free.pop()
        except IndexError:
            return np.empty(shape, dtype)
        return buffer if buffer.shape == shape and buffer.dtype == dtype else np.empty(shape, dtype)

    def _reshaped(self, value: Array) -> Array:
        shape = self.way.shape
        if shape is None:
            return value
        try:
            return value.reshape(shape)
        except ValueError:
            raise self._misfit(value, f"what makes {list(shape)}, the model's own shape") from None

    def _misfit(self, value: Array, expected: str) -> InputShapeError:
        return InputShapeError(
            f"{self.where}: input {self.way.logical.name!r} has shape {list(value.shape)}; expected {expected}"
            f" ({self.way.logical.describe()})"
        )


@dataclass(slots=True)
class _Out:
    """One output on its way back from the variant."""

    way: _Way
    where: str
    name: str = field(init=False)
    stored_name: str = field(init=False)
    _inverse: tuple[int, ...] | None = field(init=False)
    _laid_out: tuple[int, ...] | None = field(init=False)

    def __post_init__(self) -> None:
        way = self.way
        self.name, self.stored_name = way.logical.name, way.stored.name
        self._inverse = None if way.axes is None else tuple(way.axes.index(axis) for axis in range(len(way.axes)))
        self._laid_out = None if way.shape is None else self._shape_before_reshaping()

    def target(self, given: Any) -> Any:
        """What the engine may write into, so that the caller's array has the answer: None where that takes a pass."""
        way = self.way
        if given is None or way.is_identity:
            return given
        if way.axes is None and way.is_rearranged_only:
            assert way.shape is not None
            return given.reshape(way.shape)  # a view, since `given` is C-contiguous
        return None

    def convert(self, value: Any, given: Any) -> Any:
        """The logical output; `given` where there is one."""
        way = self.way
        if way.is_identity or (given is not None and self.target(given) is not None):
            return value if given is None else given
        whole = value if self._laid_out is None else value.reshape(self._laid_out)
        whole = whole if self._inverse is None else whole.transpose(self._inverse)
        if not way.is_rearranged_only:
            whole = _restored(whole, way.stored, way.logical, f"{self.where}: output {self.name!r}", refuse=False)
        if given is None:
            return np.ascontiguousarray(whole) if whole.ndim else whole
        _copy(whole, given)
        return given

    def _shape_before_reshaping(self) -> tuple[int, ...]:
        logical = self.way.logical.shape
        if logical is None or sum(not isinstance(size, int) for size in logical) > 1:
            raise InvalidManifest(
                f"{self.where}: outputs: {self.name!r} is a reshape of the model's, but the signature leaves more than"
                " one of its sizes open; expected at most one; build the bundle again"
            )
        sizes = tuple(size if isinstance(size, int) else -1 for size in logical)
        return sizes if self.way.axes is None else tuple(sizes[axis] for axis in self.way.axes)


def _copy(source: Array, target: Array) -> None:
    """Copies a transposed view. Of few channels each for itself, since numpy would take its innermost steps over them:
    a picture of 3 × 240 × 320 goes from NCHW to NHWC in 0.19 instead of 0.45 ms."""
    if source.ndim > 1 and source.shape[-1] <= _FEW_CHANNELS:
        for channel in range(source.shape[-1]):
            target[..., channel] = source[..., channel]
    else:
        np.copyto(target, source)


def _restored(value: Array, source: TensorSpec, target: TensorSpec, where: str, refuse: bool = True) -> Array:
    """`value` as `target` stores it: through the real numbers where either is quantised, otherwise cast.

    Raises:
        InputValueError: with `refuse`, for what `target` cannot stand for.
    """
    dtype = target.numpy_dtype
    assert dtype is not None
    if dtype.kind not in "iu":
        return dequantize(value, source).astype(dtype, copy=False)
    if target.quantization is not None:
        real = dequantize(value, source)
        if refuse and real.dtype.kind == "f" and np.isnan(real).any():
            raise InputValueError(f"{where} holds NaN, which {target.dtype} cannot store")
        return quantize(real, target)
    limits = np.iinfo(dtype)
    if refuse and value.size and (value.min() < limits.min or value.max() > limits.max):
        raise InputValueError(
            f"{where} holds numbers beyond {limits.min} to {limits.max} of the model's {target.dtype}"
        )
    return value.astype(dtype)

"""The same model in another format: which of its tensors are which, proven by running both.

Converters rename tensors, change their order, lay pictures out the other way round (NCHW, NHWC) and drop axes of size
one. Shapes tell what may correspond; equal answers to the same samples tell what does.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_sdk import signature
from edge_sdk.compress.answers import apart
from edge_sdk.compress.data import Data, spread
from edge_sdk.compress.running import Subject, logical_signature
from edge_sdk.errors import CompressionError, EdgeError
from edge_sdk.tensors import Array, TensorSpec

__all__ = ["TOLERANCE", "Twin", "match"]

TOLERANCE = 1e-3
"""Largest |difference| / |answer| of two files that count as one model; converters keep within about 1e-5."""
_SAMPLES = 4
_MAX_TRIALS = 200
_USUAL = ((0, 2, 3, 1), (0, 3, 1, 2))


@dataclass(frozen=True, slots=True)
class Twin:
    """How a file corresponds to the source.

    Attributes:
        mapping: its tensors by the source's names.
        error: the largest relative difference of any output on any sample.
        samples: how many were compared.
        made_up: whether they were random numbers, because there was no data.
    """

    mapping: signature.Mapping
    error: float
    samples: int
    made_up: bool


@dataclass(frozen=True, slots=True)
class _Way:
    """From a logical tensor to the other file's: transpose, then reshape; None where there is nothing to do."""

    transpose: tuple[int, ...] | None = None
    shape: tuple[int, ...] | None = None

    def there(self, array: Array) -> Array:
        moved = array if self.transpose is None else array.transpose(self.transpose)
        return np.ascontiguousarray(moved if self.shape is None else moved.reshape(self.shape))

    def back(self, array: Array, shape: tuple[int, ...]) -> Array:
        if self.transpose is None:
            return array.reshape(shape)
        moved = array.reshape(tuple(shape[axis] for axis in self.transpose))
        return moved.transpose(np.argsort(self.transpose))


def match(source: Path, other: Path, data: Data | None = None, tolerance: float = TOLERANCE) -> Twin:
    """Finds how the tensors of `other` correspond to those of `source`.

    Args:
        source, other: two files of one model.
        data: samples to compare on; random numbers where None.
        tolerance: the largest relative difference of an answer.

    Raises:
        CompressionError: they differ; the message says in what.
        ModelError: no engine loads one of them.
    """
    source, other = Path(source), Path(other)
    with Subject(source, foreign=True) as one, Subject(other, foreign=True) as two:
        feeds = _samples(one, data)
        like = logical_signature(one.inputs, one.outputs)
        expected = [one.answer(feed) for feed in feeds]
        mapping = _search(_Pair(source.name, other.name, one, two), feeds[0], expected[0], tolerance)
    error = 0.0
    with Subject(other, mapping, like) as mapped:
        for feed, wanted in zip(feeds, expected, strict=True):
            given = mapped.answer(feed)
            for name, array in wanted.items():
                error = max(error, _difference(array, given[name]))
    if error > tolerance:
        raise CompressionError(
            f"{other.name} is not the same model as {source.name}: on one of {len(feeds)} samples the answers differ by"
            f" {error:.2g} of their size, more than {tolerance:g}"
        )
    return Twin(mapping, error, len(feeds), data is None)


@dataclass(frozen=True, slots=True)
class _Pair:
    source_name: str
    other_name: str
    source: Subject
    other: Subject

    def differ(self, how: str) -> CompressionError:
        return CompressionError(f"{self.other_name} is not the same model as {self.source_name}: {how}")


def _samples(subject: Subject, data: Data | None) -> list[Mapping[str, Array]]:
    if data is not None:
        return [data.feeds[index] for index in spread(len(data.feeds), _SAMPLES)]
    first = subject.made_up()
    if first is None:
        raise CompressionError("the source does not run on made-up inputs; give data to compare its twin on")
    generator = np.random.default_rng(1)
    more = [
        {n: generator.normal(0, 1, a.shape).astype(a.dtype) if a.dtype.kind == "f" else a for n, a in first.items()}
        for _ in range(2)
    ]
    return [first, *more]


def _search(
    pair: _Pair, feed: Mapping[str, Array], expected: Mapping[str, Array], tolerance: float
) -> signature.Mapping:
    """Tries the ways the inputs may correspond, likeliest first, until all answers are found again."""
    least, closest, failure = np.inf, "", ""
    tried = 0
    for inputs in itertools.islice(_input_ways(pair, feed), _MAX_TRIALS):
        tried += 1
        fed = {spec.name: _typed(way.there(feed[name]), spec) for name, (spec, way) in inputs.items()}
        try:
            given = pair.other.answer(fed)
        except EdgeError as refusal:
            failure = str(refusal)
            continue
        outputs, error, worst = _output_ways(pair, expected, given)
        if outputs is not None and error <= tolerance:
            return _mapping(pair, inputs, outputs)
        if error < least:
            least, closest = error, worst
    if not tried:
        theirs = ", ".join(f"{s.name!r} {s.describe()}" for s in pair.other.inputs)
        ours = ", ".join(f"{s.name!r} {s.describe()}" for s in pair.source.inputs)
        raise pair.differ(f"it takes {theirs}, the source {ours}, and no transpose leads from one to the other")
    if not closest:
        raise pair.differ(f"it does not run on what the source takes: {failure}")
    raise pair.differ(f"{closest}; tolerance {tolerance:g}")


_Inputs = dict[str, tuple[TensorSpec, _Way]]
_Outputs = dict[str, tuple[str, _Way]]


def _input_ways(pair: _Pair, feed: Mapping[str, Array]) -> Iterator[_Inputs]:
    names, theirs = list(feed), pair.other.inputs
    if len(names) != len(theirs):
        return
    by_name = sorted(theirs, key=lambda spec: names.index(spec.name) if spec.name in names else len(names))
    orders = [theirs, tuple(by_name), *itertools.islice(itertools.permutations(theirs), _MAX_TRIALS)]
    seen = set()
    for order in orders:
        key = tuple(spec.name for spec in order)
        if key in seen:
            continue
        seen.add(key)
        ways = [list(_ways(feed[name], spec)) for name, spec in zip(names, order, strict=True)]
        for combination in itertools.product(*ways):
            yield {n: (spec, way) for n, spec, way in zip(names, order, combination, strict=True)}


def _ways(array: Array, spec: TensorSpec) -> Iterator[_Way]:
    """The ways an array may become a tensor of `spec`: as it is, transposed, with axes of size one added or dropped."""
    if (array.dtype.kind == "f") != (spec.numpy_dtype is not None and spec.numpy_dtype.kind == "f"):
        quantised = spec.quantization is not None or array.dtype.kind in "iu"
        if not quantised:
            return
    axes = tuple(range(array.ndim))
    orders: list[tuple[int, ...] | None] = [None]
    if array.ndim == 4:
        orders += list(_USUAL)
    if array.ndim <= 5:
        orders += [order for order in itertools.permutations(axes) if order != axes and order not in orders]
    for order in orders:
        shape = array.shape if order is None else tuple(array.shape[axis] for axis in order)
        if _fits(shape, spec.shape):
            yield _Way(order)
    for order in orders:
        shape = array.shape if order is None else tuple(array.shape[axis] for axis in order)
        target = _with_unit_axes(shape, spec.shape)
        if target is not None and target != shape:
            yield _Way(order, target)


def _fits(shape: tuple[int, ...], wanted: tuple[int | str | None, ...] | None) -> bool:
    if wanted is None:
        return True
    return len(shape) == len(wanted) and all(
        not isinstance(w, int) or w == s for s, w in zip(shape, wanted, strict=True)
    )


def _with_unit_axes(shape: tuple[int, ...], wanted: tuple[int | str | None, ...] | None) -> tuple[int, ...] | None:
    """The wanted shape, where it differs from `shape` in axes of size one alone."""
    if wanted is None or len(wanted) == len(shape):
        return None
    left = [size for size in shape if size != 1]
    target: list[int] = []
    for size in wanted:
        if isinstance(size, int) and size == 1:
            target.append(1)
        elif left and (not isinstance(size, int) or size == left[0]):
            target.append(left.pop(0))
        elif not isinstance(size, int):
            target.append(1)
        else:
            return None
    return None if left else tuple(target)


def _typed(array: Array, spec: TensorSpec) -> Array:
    dtype = spec.numpy_dtype
    if dtype is None or array.dtype == dtype or (spec.quantization is not None and array.dtype.kind == "f"):
        return array
    return array.astype(dtype)


def _output_ways(
    pair: _Pair, expected: Mapping[str, Array], given: Mapping[str, Array]
) -> tuple[_Outputs | None, float, str]:
    """Which output is which, by value: the mapping, its largest difference, and a phrase on the worst output."""
    table = sorted(
        (
            (_difference(array, way.back(other, array.shape)), name, key, way)
            for name, array in expected.items()
            for key, other in given.items()
            for way in _back_ways(array, other)
        ),
        key=lambda row: row[0],
    )
    found: _Outputs = {}
    worst, told = 0.0, ""
    for error, name, key, way in table:
        if name in found or key in (taken for taken, _ in found.values()):
            continue
        found[name] = (key, way)
        if error >= worst:
            worst, told = error, f"output {name!r} is closest to {key!r}, which differs by {error:.2g} of its size"
    for name, array in expected.items():
        if name not in found:
            shapes = ", ".join(f"{key!r} {list(other.shape)}" for key, other in given.items())
            return None, np.inf, f"no output is like {name!r} {list(array.shape)}; it gives {shapes}"
    return found, worst, told


def _back_ways(array: Array, other: Array) -> Iterator[_Way]:
    if array.dtype.kind != other.dtype.kind and not {array.dtype.kind, other.dtype.kind} <= set("iu"):
        return
    spec = TensorSpec("", str(other.dtype), other.shape)
    if array.size == other.size:
        yield from _ways(array, spec)


def _difference(expected: Array, given: Array) -> float:
    distance, size = apart(expected, given)
    return distance / size if size > 0 else float(distance > 0)


def _mapping(pair: _Pair, inputs: _Inputs, outputs: _Outputs) -> signature.Mapping:
    source_inputs = {spec.name: spec for spec in pair.source.inputs}
    source_outputs = {spec.name: spec for spec in pair.source.outputs}
    other_outputs = {spec.name: spec for spec in pair.other.outputs}
    return signature.Mapping(
        inputs=tuple(_entry(name, source_inputs[name], spec, way) for name, (spec, way) in inputs.items()),
        outputs=tuple(
            _entry(name, source_outputs[name], other_outputs[key], way) for name, (key, way) in outputs.items()
        ),
    )


def _entry(name: str, own: TensorSpec, other: TensorSpec, way: _Way) -> signature.TensorMapping:
    quantised = other.quantization if other.quantization != own.quantization else None
    return signature.TensorMapping(
        name=name,
        tensor=other.name,
        transpose=way.transpose,
        shape=way.shape,
        dtype=other.dtype if other.dtype != own.dtype else None,
        scale=quantised.scales[0] if quantised is not None else None,
        zero_point=quantised.zero_points[0] if quantised is not None else None,
    )

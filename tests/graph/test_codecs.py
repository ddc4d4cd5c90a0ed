"""Codecs with scales: what a tail decodes is within half a step of what its head took, in both formats."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.engines.base import LoadOptions
from edge_sdk.engines.registry import engines_for
from edge_sdk.engines.samples import made_up_feeds
from edge_sdk.errors import ModelError
from edge_sdk.formats import open_model
from edge_sdk.graph import open_graph
from edge_sdk.graph.codec import CODECS, coded_tensors, effective_codec, scaled_as, wire_bytes
from edge_sdk.graph.codec_ranges import RangeWatch
from edge_sdk.graph.codec_scales import Scale, channel_scales, coding_text, read_coding, tensor_scale
from edge_sdk.graph.cuts import Cut, cut_at
from edge_sdk.graph.splitting import Split, run_split, split_model
from edge_sdk.offload.parts import made_parts
from edge_sdk.tensors import Array
from tests import models

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
node, value, constant = onnx.helper.make_node, models.value, models.constant


def run(content: bytes, feeds: Mapping[str, Any]) -> Mapping[str, Any]:
    """Runs a file on those of the feeds that it takes."""
    model = open_model(content)
    runner = engines_for(model.format)[0].load(model, LoadOptions(threads=1, spin=False, cache=False))
    names = {spec.name for spec in runner.inputs}
    return dict(runner.run({name: array for name, array in feeds.items() if name in names}))


def both(split: Split, feeds: Mapping[str, Any]) -> dict[str, Any]:
    """Head, then tail."""
    return run_split(split, lambda f: run(split.head, f), lambda f: run(split.tail, f), feeds)


def onnx_identity(shape: list[int | str], dtype: str = "float32") -> bytes:
    """x ─ Identity ─ a ─ Identity ─ y"""
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    ends = [onnx.helper.make_tensor_value_info(name, kind, shape) for name in "xy"]
    nodes = [node("Identity", ["x"], ["a"]), node("Identity", ["a"], ["y"])]
    return models.onnx_bytes(nodes, ends[:1], ends[1:])


def tflite_sums(shape: list[int]) -> bytes:
    """x ─ ADD 0 ─ a ─ ADD 0 ─ y"""
    pytest.importorskip("ai_edge_litert")
    b = models.TfliteBuilder()
    x, zero, a, y = b.tensor("x", shape), b.tensor("zero", [1], data=[0.0]), b.tensor("a", shape), b.tensor("y", shape)
    for taken, made in ((x, a), (a, y)):
        b.op(0, [taken, zero], [made], models.schema.AddOptionsT(), models.schema.BuiltinOptions.AddOptions)
    b.graph.inputs, b.graph.outputs = [x], [y]
    b.signature("serving_default", {"x": x}, {"y": y})
    return b.bytes()


def split_for(content: bytes, codec: str, array: Array) -> tuple[Split, Cut]:
    """Cut at `a`, with the ranges that `array` has."""
    graph = open_graph(content)
    cut = cut_at(graph, ["a"])
    ranges = {}
    for name, (_, axis) in scaled_as(graph, cut, codec).items():
        rows = array.reshape(1, -1) if axis is None else np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)
        found = [(float(row.min()), float(row.max())) for row in rows]
        ranges[name] = found[0] if axis is None else tuple(found)
    return split_model(content, cut, codec=codec, ranges=ranges, graph=graph), cut


def steps(split: Split) -> Array:
    """Sizes of a step, shaped as the tensor's channels."""
    (one,) = split.coded
    if not one.channels:
        return np.array(one.scale)
    return np.array([s.scale for s in one.channels]).reshape((-1,) + (1,) * (len(one.shape) - one.axis - 1))


@pytest.mark.parametrize("make", [onnx_identity, tflite_sums])
@pytest.mark.parametrize("codec", ["int8", "int8c", "int4", "int4c", "int16"])
@pytest.mark.parametrize("shape", [[1, 5, 7, 9], [1, 4, 8, 8], [3, 35], [1, 6, 50]])
def test_what_is_decoded_is_within_half_a_step(make: Any, codec: str, shape: list[int]) -> None:
    generator = np.random.default_rng(0)
    array = (generator.normal(size=shape) * generator.uniform(0.1, 4, shape[-1])).astype(np.float32)
    content = make(shape)
    split, cut = split_for(content, codec, array)
    decoded = both(split, {"x": array})["y"]
    assert decoded.shape == array.shape
    # Zero lies on the grid, so that either end of a range may be half a step beyond it.
    assert (np.abs(decoded - array) <= steps(split) * (0.5 + 1e-3)).all()
    sent = run(split.head, {"x": array})[split.sent[0]]
    assert sent.nbytes == wire_bytes(open_graph(content), cut, codec)


def test_an_odd_number_of_values_is_packed_two_to_a_byte_the_former_in_the_lower_half() -> None:
    content = onnx_identity([5])
    graph = open_graph(content)
    split = split_model(content, cut_at(graph, ["a"]), codec="int4", scales=[Scale(1.0, 0)], graph=graph)
    feeds = {"x": np.array([1, 2, 3, 15, 9], np.float32)}
    assert run(split.head, feeds)[split.sent[0]].tolist() == [[1 | 2 << 4, 3 | 15 << 4, 9]]
    assert both(split, feeds)["y"].tolist() == [1, 2, 3, 15, 9]


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_bytes_become_16_levels(dtype: str) -> None:
    shape = [1, 3, 8, 9]
    held = np.iinfo(dtype)
    array = np.random.default_rng(0).integers(held.min, held.max + 1, shape).astype(dtype)
    for codec in ("int4", "int4c"):
        split, _ = split_for(onnx_identity(shape, dtype), codec, array)
        decoded = both(split, {"x": array})["y"]
        assert decoded.dtype == array.dtype
        assert np.abs(decoded.astype(int) - array.astype(int)).max() <= steps(split).max() / 2 + 0.5
    for codec in ("int8", "int8c", "int16", "fp16"):
        split, _ = split_for(onnx_identity(shape, dtype), codec, array)
        assert split.sent == ("a",) and not split.scales


def test_signed_int8_of_a_quantised_graph_is_computed_as_in_the_whole() -> None:
    pair = ["scale", "zero"]
    nodes = [
        node("QuantizeLinear", ["x", *pair], ["q"]), node("DequantizeLinear", ["q", *pair], ["a"]),
        node("Relu", ["a"], ["b"]), node("QuantizeLinear", ["b", *pair], ["r"]),
        node("DequantizeLinear", ["r", *pair], ["y"]),
    ]  # fmt: skip
    weights = [constant("scale", np.array(0.1)), constant("zero", np.array(-3), np.int8)]
    content = models.onnx_bytes(nodes, [value("x", [1, 40])], [value("y", [1, 40])], weights)
    graph = open_graph(content)
    split = split_model(content, cut_at(graph, ["q"]), codec="int4", scales=[Scale(1.0, 3)], graph=graph)
    feeds = {"x": np.linspace(-0.2, 1.0, 40, dtype=np.float32).reshape(1, 40)}
    assert np.array_equal(both(split, feeds)["y"], run(content, feeds)["y"])


def test_the_first_size_may_stay_open() -> None:
    content = onnx_identity(["batch", 3, 5])
    for codec in ("int4", "int16", "int8c"):
        split, _ = split_for(content, codec, np.array([[[-1.0, 1.0]]], np.float32).repeat(5, 1).repeat(3, 2))
        array = np.random.default_rng(0).uniform(-1, 1, (4, 3, 5)).astype(np.float32)
        decoded = both(split, {"x": array})["y"]
        assert decoded.shape == (4, 3, 5) and np.abs(decoded - array).max() < 0.1


def test_other_open_sizes_cannot_be_packed() -> None:
    content = onnx_identity([1, "wide", 3])
    graph = open_graph(content)
    with pytest.raises(ModelError, match="'a' has open sizes and cannot be packed to 4 bits; take codec int8"):
        split_model(content, cut_at(graph, ["a"]), codec="int4", scales=[Scale(1.0, 0)], graph=graph)


def test_channels_are_where_the_format_has_them() -> None:
    arrays = np.zeros((2, 8, 16, 32), np.float32)
    assert split_for(onnx_identity([2, 8, 16, 32]), "int8c", arrays)[0].coded[0].axis == 1
    assert split_for(tflite_sums([2, 8, 16, 32]), "int8c", arrays)[0].coded[0].axis == 3
    # 32 values of a channel and more: with few, one scale of the tensor weighs less.
    assert not split_for(onnx_identity([1, 8, 3, 5]), "int8c", np.zeros((1, 8, 3, 5), np.float32))[0].coded[0].channels


def test_scales_must_be_as_many_as_channels() -> None:
    content = onnx_identity([1, 4, 8, 8])
    graph = open_graph(content)
    cut = cut_at(graph, ["a"])
    for wrong in (Scale(1.0, 0), (Scale(1.0, 0),) * 3):
        with pytest.raises(ModelError, match="given for 'a'; expected 4, one a channel"):
            coded_tensors(graph, cut, "int4c", {}, scales=[wrong])
    with pytest.raises(ModelError, match="expected one of each channel"):
        coded_tensors(graph, cut, "int4c", {"a": (0.0, 1.0)})


# --- scales ---

FLOATS = st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False, width=32)
RANGES = st.tuples(FLOATS, FLOATS).map(lambda pair: (min(pair), max(pair)))


@settings(max_examples=200)
@given(RANGES, st.sampled_from(["int8", "int4", "int16"]))
def test_any_range_has_a_scale_that_text_tells_to_the_bit(found: tuple[float, float], codec: str) -> None:
    scale = tensor_scale("t", found, codec)
    assert np.float32(scale.scale) == scale.scale > 0
    assert read_coding(coding_text(codec, [scale])) == (codec, (scale,))
    low, high = (
        scale.scale * (n - scale.zero_point)
        for n in {"int8": (0, 255), "int4": (0, 15), "int16": (-32768, 32767)}[codec]
    )
    room = scale.scale * 1.01
    assert low - room <= found[0] and found[1] <= high + room


@settings(max_examples=200)
@given(st.lists(RANGES, min_size=1, max_size=300), st.sampled_from(["int8c", "int4c"]))
def test_scales_of_channels_too_and_they_hold_what_was_seen(found: list[tuple[float, float]], codec: str) -> None:
    scales = channel_scales("t", found, codec[:4])
    assert read_coding(coding_text(codec, [scales])) == (codec, (scales,))
    levels = 255 if codec == "int8c" else 15
    for (low, high), (scale, zero) in zip(found, scales, strict=True):
        assert scale * (0 - zero) <= low + scale and high <= scale * (levels - zero) + scale
    assert len(coding_text(codec, [scales])) <= 14 + math.ceil(8 / 3 * (len(found) + 1))


@given(st.text("0123456789.-_,:abcdefXYZ", max_size=40))
def test_other_text_of_channels_is_none_or_comes_back(text: str) -> None:
    for codec in ("int8c", "int4c", "int4", "int16"):
        read = read_coding(f"{codec}={text}")
        assert read is None or coding_text(*read) == f"{codec}={text}"


def test_recordings_in_16_bits_stay_what_they_are() -> None:
    samples = np.array([0, 1, -1, 1000, -32768, 32767, 12345, -777], np.int16).reshape(1, 8)
    array = samples.astype(np.float32) / 32768
    split, _ = split_for(onnx_identity([1, 8]), "int16", array)
    assert np.array_equal(run(split.head, {"x": array})[split.sent[0]], samples)
    assert np.array_equal(both(split, {"x": array})["y"], array)


# --- ranges ---


def test_a_few_outliers_do_not_take_the_16_levels() -> None:
    array = np.random.default_rng(0).normal(size=(1, 16, 50, 50)).astype(np.float32)
    array[0, :, 0, 0] = 40.0
    watch = RangeWatch("int4", None)
    for row in array.reshape(4, 1, 4, 50, 50):
        watch.add(row)
    low, high = watch.range() or (0.0, 0.0)

    def error(low: float, high: float) -> float:
        step = (high - low) / 15
        decoded = np.clip(np.rint((array - low) / step), 0, 15) * step + low
        return float(np.square(decoded - array).mean())

    assert high < 20 and error(low, high) < error(float(array.min()), float(array.max())) / 2
    every = RangeWatch("int8", None)
    every.add(array)
    assert every.range() == (array.min(), array.max())


def test_what_ends_at_zero_keeps_its_zeros_exact() -> None:
    array = np.maximum(np.random.default_rng(0).normal(size=(1, 8, 20, 20)), 0).astype(np.float32)
    watch = RangeWatch("int4", 1)
    watch.add(array)
    found = watch.range()
    assert found is not None and len(found) == 8
    assert all(low == 0 for low, _ in found)  # type: ignore[misc]


@pytest.mark.parametrize("codec", CODECS)
def test_parts_are_made_with_every_codec(codec: str, untried: None) -> None:
    content = models.onnx_conv()
    graph = open_graph(content)
    name = next(op.outputs[0] for op in graph.ops if op.type == "Conv")
    with open_model(content) as model:
        info = model.describe()
        made = made_parts(model, cut_at(graph, [name]), codec=codec, samples=[made_up_feeds(info.inputs)])
    assert made.difference.relative <= {"none": 1e-5, "fp16": 1e-2, "int16": 1e-2}.get(codec, 0.5)
    assert split_model(content, made.split.cut, codec=codec, scales=made.split.scales).tail == made.split.tail


def test_a_codec_that_changes_nothing_is_none() -> None:
    floats, whole = (open_graph(onnx_identity([1, 64], dtype)) for dtype in ("float32", "uint8"))
    for codec in CODECS:
        assert effective_codec(floats, cut_at(floats, ["a"]), codec) == codec
        expected = codec if codec.startswith("int4") else "none"
        assert effective_codec(whole, cut_at(whole, ["a"]), codec) == expected

"""`split_model`: head then tail gives what the whole gives, in both formats, with every codec."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sdk.engines.base import LoadOptions, Runner
from edge_sdk.engines.litert import LiteRtEngine
from edge_sdk.engines.onnxruntime import OnnxRuntimeEngine
from edge_sdk.engines.samples import made_up_feeds
from edge_sdk.errors import DamagedModel, ModelError
from edge_sdk.formats import open_model
from edge_sdk.graph import open_graph
from edge_sdk.graph.codec import RECORD_KEY, coded_tensors, read_record, wire_bytes
from edge_sdk.graph.cuts import Cut, cut_at, cuts_of, random_cuts, single_cuts
from edge_sdk.graph.splitting import Difference, Split, check_split, run_split, split_model
from tests import models
from tests.graph import drawn

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
node, value, constant = onnx.helper.make_node, models.value, models.constant
Run = Callable[[Mapping[str, Any]], Mapping[str, Any]]


def loaded(source: bytes | Path) -> Runner:
    """A runner on one thread."""
    model = open_model(source)
    model.check()
    engine = OnnxRuntimeEngine() if model.format == "onnx" else LiteRtEngine()
    return engine.load(model, LoadOptions(threads=1, spin=False, cache=False))


def run(source: bytes | Path) -> Run:
    """Runs a file on those of the feeds that it takes."""
    runner = loaded(source)
    names = {spec.name for spec in runner.inputs}
    return lambda feeds: runner.run({name: array for name, array in feeds.items() if name in names})


def difference(whole: bytes | Path, split: Split, tolerance: float | None = None) -> Difference:
    """Head then tail against the whole on made-up inputs."""
    feeds = made_up_feeds(loaded(whole).inputs)
    return check_split(split, run(whole), run(split.head), run(split.tail), [feeds], tolerance=tolerance)


def ranges(split: Split, feeds: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """What the head's tensors range over on one request."""
    given = run(split.head)(feeds)
    arrays = {name: given.get(name, feeds.get(name)) for name in split.sent}
    return {name: (float(np.min(array)), float(np.max(array))) for name, array in arrays.items()}


def residual(first: int | str = 1) -> bytes:
    """x ─ Conv ─ a ─ Relu ─ b ─ Conv ─ c ─ Add(c, b) ─ d ─ Relu ─ y; float32[first, 4, 8, 8], opset 17."""
    generator = np.random.default_rng(0)
    nodes = [
        node("Conv", ["x", "v"], ["a"], pads=[1, 1, 1, 1]),
        node("Relu", ["a"], ["b"]),
        node("Conv", ["b", "w"], ["c"], pads=[1, 1, 1, 1]),
        node("Add", ["c", "b"], ["d"]),
        node("Relu", ["d"], ["y"]),
    ]
    weights = [constant(name, generator.normal(0, 0.2, (4, 4, 3, 3))) for name in "vw"]
    return models.onnx_bytes(nodes, [value("x", [first, 4, 8, 8])], [value("y", [first, 4, 8, 8])], weights)


# --- ONNX ---


@pytest.mark.parametrize(
    "make", [residual, models.onnx_mlp, models.onnx_conv, models.onnx_function, models.onnx_dynamic]
)
def test_every_cut_of_an_onnx_file(make: Callable[[], bytes]) -> None:
    content = make()
    found = cuts_of(open_graph(content))
    for cut in found:
        split = split_model(content, cut)
        assert difference(content, split).relative <= 1e-5
        assert [spec.name for spec in loaded(split.tail).inputs] == list(split.sent) == list(cut.tensors)
    assert found.complete


def test_parts_hold_only_what_they_need() -> None:
    content = residual()
    split = split_model(content, cut_at(open_graph(content), ["b"]))
    head, tail = onnx.ModelProto.FromString(split.head), onnx.ModelProto.FromString(split.tail)
    assert [n.op_type for n in head.graph.node] == ["Conv", "Relu"]
    assert [n.op_type for n in tail.graph.node] == ["Conv", "Add", "Relu"]
    assert [[w.name for w in part.graph.initializer] for part in (head, tail)] == [["v"], ["w"]]
    onnx.checker.check_model(head, full_check=True)
    onnx.checker.check_model(tail, full_check=True)


def test_a_weight_that_both_sides_read_stands_in_both() -> None:
    nodes = [node("MatMul", ["x", "w"], ["a"]), node("MatMul", ["a", "w"], ["y"])]
    content = models.onnx_bytes(nodes, [value("x", [2, 3])], [value("y", [2, 3])], [constant("w", np.eye(3) * 2)])
    split = split_model(content, cut_at(open_graph(content), ["a"]))
    for part in (split.head, split.tail):
        assert [w.name for w in onnx.ModelProto.FromString(part).graph.initializer] == ["w"]
    assert difference(content, split).exact


def test_sizes_that_the_file_leaves_open_stay_open() -> None:
    content = residual("batch")
    split = split_model(content, cut_at(open_graph(content), ["b", "c"]))
    assert [spec.shape for spec in loaded(split.tail).inputs] == [("batch", 4, 8, 8)] * 2
    feeds = {"x": np.random.default_rng(0).normal(size=(3, 4, 8, 8)).astype(np.float32)}
    assert run_split(split, run(split.head), run(split.tail), feeds)["y"].shape == (3, 4, 8, 8)
    assert check_split(split, run(content), run(split.head), run(split.tail), [feeds]).relative <= 1e-5


def test_a_shape_that_is_known_beforehand_becomes_a_constant_of_the_tail() -> None:
    nodes = [
        node("Shape", ["x"], ["s"], start=1),
        node("Relu", ["x"], ["a"]),
        node("Concat", ["first", "s"], ["t"], axis=0),
        node("Reshape", ["a", "t"], ["y"]),
    ]
    first = constant("first", [1, 2], np.int64)
    content = models.onnx_bytes(nodes, [value("x", [2, 8])], [value("y", [1, 2, 8])], [first])
    split = split_model(content, cut_at(open_graph(content), ["a"]))
    assert split.sent == ("a",) and difference(content, split).exact


def test_initialisers_listed_as_inputs_and_weights_in_other_files(tmp_path: Path) -> None:
    listed = models.onnx_with_initializer_inputs()
    for cut in cuts_of(open_graph(listed)):
        assert difference(listed, split_model(listed, cut)).relative <= 1e-5
    path = models.onnx_external_data(tmp_path)
    for cut in cuts_of(open_graph(path)):
        split = split_model(path, cut)
        assert difference(path, split).relative <= 1e-5
        assert not open_model(split.head).describe().external_files


def test_inputs_go_to_the_tail_as_they_are_and_outputs_of_the_head_stay_there() -> None:
    # x ─ Relu ─ a ┬ Neg ─ y
    #              └ Add(a, z) ─ w ─ Relu ─ v
    nodes = [
        node("Relu", ["x"], ["a"]),
        node("Neg", ["a"], ["y"]),
        node("Add", ["a", "z"], ["w"]),
        node("Relu", ["w"], ["v"]),
    ]
    content = models.onnx_bytes(
        nodes, [value("x", [4]), value("z", [4])], [value("y", [4]), value("v", [4])]
    )  # fmt: skip
    graph = open_graph(content)
    late = split_model(content, cut_at(graph, ["w"]))
    assert (late.head_outputs, late.tail_outputs, late.sent) == (("y",), ("v",), ("w",))
    early = split_model(content, cut_at(graph, ["a", "z"]))
    assert set(early.sent) == {"a", "z"} and "z" not in {spec.name for spec in loaded(early.head).outputs}
    for split in (late, early):
        assert difference(content, split).exact


def test_an_int8_model_is_exact_where_a_quantizelinear_gives_the_cut() -> None:
    content = drawn.qdq()
    graph = open_graph(content)
    for cut in cuts_of(graph):
        assert difference(content, split_model(content, cut)).exact
    assert wire_bytes(graph, cut_at(graph, ["c"]), "none") == 4 * 7 * 7


def chain_int8(folder: Path) -> bytes:
    """x ─ Conv ─ Relu ─ Conv ─ Relu ─ Conv ─ y, quantised to signed int8 by ONNX Runtime's quantizer."""
    quantization = pytest.importorskip("onnxruntime.quantization")
    generator = np.random.default_rng(0)
    nodes, weights = [], []
    for number, (taken, given) in enumerate((("x", "b"), ("b", "c"), ("c", "y"))):
        weights.append(constant(f"w{number}", generator.normal(0, 0.2, (8, 8, 3, 3))))
        nodes.append(node("Conv", [taken, f"w{number}"], [f"{given}.conv"], pads=[1, 1, 1, 1]))
        nodes.append(node("Relu", [f"{given}.conv"], [given]))
    content = models.onnx_bytes(nodes, [value("x", [1, 8, 16, 16])], [value("y", [1, 8, 16, 16])], weights)
    (folder / "float.onnx").write_bytes(content)

    class Noise(quantization.CalibrationDataReader):  # type: ignore[name-defined, misc]
        left = made_up_feeds(open_model(content).describe().inputs)

        def get_next(self) -> Any:
            left, self.left = self.left, None
            return left

    quantization.quantize_static(folder / "float.onnx", folder / "int8.onnx", Noise())
    return (folder / "int8.onnx").read_bytes()


def test_signed_int8_is_computed_alike_on_both_sides_of_a_cut(tmp_path: Path) -> None:
    # ONNX Runtime makes uint8 of int8 on x86 where it finds QuantizeLinear and DequantizeLinear together.
    content = chain_int8(tmp_path)
    found = cuts_of(open_graph(content))
    assert len(found) >= 3
    for cut in found:
        split = split_model(content, cut)
        assert difference(content, split).exact
        assert {spec.dtype for spec in loaded(split.tail).inputs} == {"int8"}
        for part in (split.head, split.tail):
            assert "Conv" not in kernels(part, tmp_path / "optimised.onnx")


def kernels(content: bytes, path: Path) -> set[str]:
    """The ops that ONNX Runtime runs a file with."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath, options.log_severity_level = str(path), 3
    onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return {n.op_type for n in onnx.load(path).graph.node}


def test_the_same_cut_gives_the_same_bytes_and_another_cut_others() -> None:
    content = residual()
    graph = open_graph(content)
    one, again = (split_model(content, cut_at(graph, ["b"])) for _ in range(2))
    assert (one.head, one.tail) == (again.head, again.tail)


# --- codecs ---


def test_float16_halves_what_travels() -> None:
    content = residual()
    graph = open_graph(content)
    cut = cut_at(graph, ["b"])
    split = split_model(content, cut, codec="fp16")
    assert split.sent == ("b.float16",)
    (spec,) = loaded(split.tail).inputs
    assert (spec.dtype, spec.shape) == ("float16", (1, 4, 8, 8))
    assert (wire_bytes(graph, cut, "fp16"), wire_bytes(graph, cut, "none")) == (512, 1024)
    assert not difference(content, split, 2e-3).exact


def test_int8_sends_bytes_whose_scale_comes_from_the_range() -> None:
    content = residual()
    graph = open_graph(content)
    cut = cut_at(graph, ["b", "c"])
    feeds = made_up_feeds(loaded(content).inputs)
    seen = ranges(split_model(content, cut), feeds)
    split = split_model(content, cut, codec="int8", ranges=seen)
    assert {spec.dtype for spec in loaded(split.tail).inputs} == {"uint8"}
    assert wire_bytes(graph, cut, "int8") == 512
    assert not difference(content, split, 0.02).exact
    for one in split.coded:
        low, high = seen[one.name]
        assert one.scale * (255 - one.zero_point) == pytest.approx(high, abs=one.scale)
        assert one.scale * (0 - one.zero_point) == pytest.approx(min(low, 0.0), abs=one.scale)


def test_an_opset_without_quantizelinear_is_raised() -> None:
    content = onnx.ModelProto.FromString(models.onnx_mlp())
    content.opset_import[0].version, content.ir_version = 9, 8
    old = content.SerializeToString()
    cut = single_cuts(open_graph(old))[1]
    split = split_model(old, cut, codec="int8", ranges={cut.tensors[0]: (-10.0, 10.0)})
    assert difference(old, split, 0.2).relative > 0
    assert open_model(split.tail).describe().opset["ai.onnx"] >= 10


def test_integers_travel_as_they_are_whatever_the_codec() -> None:
    content = drawn.qdq()
    split = split_model(content, cut_at(open_graph(content), ["q"]), codec="int8")
    assert split.sent == ("q",) and difference(content, split).exact


def test_a_range_that_is_missing_or_none_is_refused() -> None:
    content = residual()
    graph = open_graph(content)
    cut = cut_at(graph, ["b"])
    with pytest.raises(ModelError, match="codec int8 needs the range of 'b'"):
        split_model(content, cut, codec="int8")
    for wrong in ((1.0, 0.0), (0.0, float("inf")), (float("nan"), 1.0)):
        with pytest.raises(ModelError, match="the range of 'b' is"):
            split_model(content, cut, codec="int8", ranges={"b": wrong})
    with pytest.raises(ModelError, match="there is no codec 'int5'; expected one of none, fp16, int8, int8c, int4"):
        split_model(content, cut, codec="int5")
    # A tensor that is always 0 has a scale all the same.
    assert coded_tensors(graph, cut, "int8", {"b": (0.0, 0.0)})[0].scale == 1.0


# --- TFLite ---


@pytest.mark.parametrize("make", [models.tflite_float_conv, models.tflite_int8, models.tflite_int8_per_channel])
def test_every_cut_of_a_tflite_file_is_exact(make: Callable[[], bytes]) -> None:
    pytest.importorskip("ai_edge_litert")
    content = make()
    found = cuts_of(open_graph(content))
    for cut in found:
        split = split_model(content, cut)
        assert difference(content, split).exact
        assert len(split.head) + len(split.tail) < 2 * len(content) + 4000


def two_steps() -> bytes:
    """image ─ ADD 1 ─ a ─ ADD 1 ─ b ─ ADD image ─ result; called "picture" and "answer" by the signature."""
    pytest.importorskip("ai_edge_litert")
    b = models.TfliteBuilder()
    image, one = b.tensor("image", [1, 3]), b.tensor("one", [1], data=[1.0])
    a, c, result = (b.tensor(name, [1, 3]) for name in ("a", "b", "result"))
    for taken, given in (([image, one], a), ([a, one], c), ([c, image], result)):
        b.op(0, taken, [given], models.schema.AddOptionsT(), models.schema.BuiltinOptions.AddOptions)
    b.graph.inputs, b.graph.outputs = [image], [result]
    b.signature("serving_default", {"picture": image}, {"answer": result})
    return b.bytes()


def test_parts_call_inputs_and_outputs_as_the_signature_does() -> None:
    content = two_steps()
    split = split_model(content, cut_at(open_graph(content), ["a", "image"]))
    assert split.sent == ("picture", "a") and split.tail_outputs == ("answer",)
    assert [spec.name for spec in loaded(split.head).inputs] == ["picture"]
    assert [spec.name for spec in loaded(split.tail).inputs] == ["picture", "a"]
    assert [spec.name for spec in loaded(split.tail).outputs] == ["answer"]
    assert difference(content, split).exact


@pytest.mark.parametrize(("codec", "bound"), [("fp16", 2e-3), ("int8", 0.02)])
def test_codecs_of_a_tflite_file(codec: str, bound: float) -> None:
    content = two_steps()
    cut = cut_at(open_graph(content), ["b", "image"])
    feeds = made_up_feeds(loaded(content).inputs)
    given = dict.fromkeys(cut.tensors, (0.0, 3.0))
    split = split_model(content, cut, codec=codec, ranges=given)
    assert {spec.dtype for spec in loaded(split.tail).inputs} == {"float16" if codec == "fp16" else "uint8"}
    result = check_split(split, run(content), run(split.head), run(split.tail), [feeds], tolerance=bound)
    assert 0 < result.relative <= bound


# --- what the parts say of themselves ---


@pytest.mark.parametrize("make", [residual, two_steps])
def test_parts_say_what_they_are_parts_of(make: Callable[[], bytes]) -> None:
    content = make()
    cut = single_cuts(open_graph(content))[-1] if make is residual else cut_at(open_graph(content), ["a", "image"])
    split = split_model(content, cut, codec="fp16")
    head, tail = (read_record(open_model(part)) for part in (split.head, split.tail))
    assert head is not None and tail is not None
    assert (head.part, tail.part) == ("head", "tail")
    assert head.source == tail.source == open_model(content).fingerprint
    assert (tail.cut, tail.tensors, tail.codec, tail.sent) == (cut.id, cut.tensors, "fp16", split.sent)
    assert read_record(open_model(content)) is None


def test_a_record_that_cannot_be_read_is_damage() -> None:
    proto = onnx.ModelProto.FromString(residual())
    proto.metadata_props.add(key=RECORD_KEY, value="{")
    with pytest.raises(DamagedModel, match="what it says of its cut cannot be read"):
        read_record(open_model(proto.SerializeToString()))


# --- checks ---


def test_a_tail_that_computes_something_else_is_found() -> None:
    content = residual()
    graph = open_graph(content)
    split = split_model(content, cut_at(graph, ["b"]))
    feeds = made_up_feeds(loaded(content).inputs)

    def wrong(given: Mapping[str, Any]) -> dict[str, Any]:
        answer = dict(run(split.tail)(given))
        answer["y"] = answer["y"] + 1e-3 * np.max(answer["y"])
        return answer

    with pytest.raises(ModelError, match=r"differ from the whole model at output 'y' by 0\.001"):
        check_split(split, run(content), run(split.head), wrong, [feeds])

    def nan(given: Mapping[str, Any]) -> dict[str, Any]:
        return {"y": np.full((1, 4, 8, 8), np.nan, np.float32)}

    with pytest.raises(ModelError, match="by inf"):
        check_split(split, run(content), run(split.head), nan, [feeds])


def test_a_cut_of_another_model_or_of_nothing_is_refused() -> None:
    content, other = residual(), models.onnx_mlp()
    cut = cut_at(open_graph(content), ["b"])
    with pytest.raises(ModelError, match="is of another model"):
        split_model(other, cut)
    whole = Cut(cut.id, "onnx", (), ("y",), (), 0, 5, 0, 1, 0)
    with pytest.raises(ModelError, match="leaves all work to one side"):
        split_model(content, whole)


# --- real models ---


REAL = ("mnist_cnn.onnx", "ultraface_rfb320.onnx", "ultraface_rfb320.tflite", "mobilenet_v1_025_128_int8.tflite",
        "resnet8_cifar10_fp32.tflite", "resnet8_cifar10_int8.tflite")  # fmt: skip


@pytest.mark.parametrize("name", REAL)
def test_some_cuts_of_real_models(assets: Path, name: str) -> None:
    path = assets / "models" / name
    graph = open_graph(path)
    whole = run(path)
    feeds = made_up_feeds(loaded(path).inputs)
    for cut in (*single_cuts(graph)[::6], *random_cuts(graph, 4)):
        split = split_model(path, cut, graph=graph)
        found = check_split(split, whole, run(split.head), run(split.tail), [feeds])
        assert found.exact or graph.format == "onnx"


def test_the_keys_of_a_map_come_with_its_values() -> None:
    content = models.onnx_map_output()
    for cut in cuts_of(open_graph(content)):
        assert difference(content, split_model(content, cut)).exact


def test_an_output_that_neither_part_gives_is_told() -> None:
    content = models.onnx_mlp()
    split = split_model(content, cut_at(open_graph(content), ["h1"]))
    feeds = made_up_feeds(loaded(content).inputs)
    whole, head, tail = run(content), run(split.head), run(split.tail)
    with pytest.raises(ModelError, match="do not give the output 'more'"):
        check_split(split, lambda f: {**whole(f), "more": np.zeros(1)}, head, tail, [feeds])

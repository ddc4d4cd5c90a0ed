"""The guard: variants that keep to the source pass, others fail, and the layer that did it is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sdk import signature
from edge_sdk.compress import guard as guard_module
from edge_sdk.compress.answers import Comparing, apart
from edge_sdk.compress.data import Data, read_data
from edge_sdk.compress.guard import Guard
from edge_sdk.compress.running import Subject
from edge_sdk.compress.scores import user_metric
from edge_sdk.errors import EdgeError, InputNameError, InputValueError, ModelError
from edge_sdk.vision import Detections

models = pytest.importorskip("tests.models")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


pytestmark = pytest.mark.usefixtures("untried")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.onnx"
    path.write_bytes(models.onnx_mlp())
    return path


@pytest.fixture
def data(source: Path) -> Data:
    """Forty samples, with the source's own answers as labels."""
    feeds = [{"x": np.random.default_rng(i).normal(size=(1, 8)).astype(np.float32)} for i in range(40)]
    with Subject(source) as subject:
        labels = [int(subject.answer(feed)["y"].argmax()) for feed in feeds]
    return Data("forty", feeds, labels)


def changed(source: Path, weight: str, change: Callable[[Any], Any]) -> Path:
    """A copy of an ONNX model with one weight changed."""
    model = onnx.load(source)
    for tensor in model.graph.initializer:
        if tensor.name == weight:
            array = onnx.numpy_helper.to_array(tensor)
            tensor.CopyFrom(onnx.numpy_helper.from_array(change(array).astype(array.dtype), weight))
    path = source.with_name(f"changed-{weight}.onnx")
    onnx.save(model, path)
    return path


def noise(scale: float) -> Callable[[Any], Any]:
    return lambda array: array + scale * np.random.default_rng(5).normal(size=array.shape)


def test_the_source_itself_passes_without_any_drop(source: Path, data: Data) -> None:
    verdict = Guard(source, data, 0.0).judge(source)
    assert verdict.passed
    assert (verdict.accuracy, verdict.agreement, verdict.mean_error, verdict.drop) == (1.0, 1.0, 0.0, 0.0)
    assert (verdict.samples, verdict.engine, verdict.data, verdict.metric) == (40, "onnxruntime", "forty", "top-1")
    assert verdict.isa
    assert "40 samples of forty, onnxruntime" in verdict.why


def test_a_variant_close_to_the_source_passes(source: Path, data: Data) -> None:
    verdict = Guard(source, data, 0.05).judge(changed(source, "w1", noise(1e-3)))
    assert verdict.passed
    assert 0 < verdict.mean_error < 0.01


def test_a_ruined_variant_fails_and_the_reason_has_figures(source: Path, data: Data) -> None:
    verdict = Guard(source, data, 0.05).judge(changed(source, "w2", noise(3)))
    assert not verdict.passed
    assert verdict.drop is not None and verdict.drop > 0.05
    assert "against 100 % of the source: beyond the bound of 0.05" in verdict.why


def test_without_labels_agreement_decides(source: Path, data: Data) -> None:
    unlabelled = Data("forty", data.feeds)
    verdict = Guard(source, unlabelled, 0.05).judge(changed(source, "w2", noise(3)))
    assert verdict.accuracy is None
    assert verdict.metric == "agreement"
    assert verdict.agreement is not None
    assert verdict.drop == pytest.approx(1 - verdict.agreement)


def test_where_there_are_no_classes_the_error_decides(tmp_path: Path) -> None:
    source = tmp_path / "conv.onnx"
    source.write_bytes(models.onnx_two_inputs())
    feeds = [{"a": np.full(3, 2, np.float32), "b": np.full(3, 3, np.float32)}]
    verdict = Guard(source, Data("one", feeds), 0.01).judge(source)
    assert (verdict.agreement, verdict.metric, verdict.drop) == (None, "mean error", 0.0)


def test_nan_fails_whatever_the_labels_say(source: Path, data: Data) -> None:
    verdict = Guard(source, data, 1.0).judge(changed(source, "b2", lambda array: array * np.nan))
    assert not verdict.passed
    assert "40 samples give NaN or infinity" in verdict.why


def test_a_metric_of_ones_own_decides(source: Path, data: Data, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def sure(outputs, label):\n    return float(outputs['y'].max() > 2)\n")
    guard = Guard(source, data, 0.0, user_metric(f"{tmp_path}/mine.py:sure"))
    assert (guard.source_accuracy, guard.judge(source).metric) == (0.0, "sure")


def test_the_layer_that_did_it_comes_first(source: Path, data: Data) -> None:
    layers = Guard(source, data).layers(changed(source, "w2", noise(0.5)))
    assert [(layer.name, layer.op) for layer in layers[:1]] == [("layer2", "Gemm")]
    by_name = {layer.name: layer for layer in layers}
    assert by_name["layer1"].error == by_name["relu"].error == 0
    assert by_name["softmax"].error > 0
    assert by_name["layer2"].added == by_name["layer2"].error


def test_layers_of_a_tflite_file_are_found_by_tensor_names(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    source, variant = tmp_path / "a.tflite", tmp_path / "b.tflite"
    source.write_bytes(models.tflite_float_conv())
    weight = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    assert weight.tobytes() in source.read_bytes()
    variant.write_bytes(source.read_bytes().replace(weight.tobytes(), np.float32(weight * 1.1).tobytes()))
    data = Data("two", [{"image": np.full((1, 8, 8, 3), value, np.float32)} for value in (0.5, 1.0)])
    layers = Guard(source, data).layers(variant)
    assert (layers[0].name, layers[0].op) == ("maps", "CONV_2D")
    assert layers[0].error == pytest.approx(0.1, rel=0.2)


def test_sources_with_large_answers_run_again_beside_each_variant(
    source: Path, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Guard(source, data).judge(changed(source, "w1", noise(0.1)))
    monkeypatch.setattr(guard_module, "KEPT_BYTES", 100)
    assert Guard(source, data).judge(changed(source, "w1", noise(0.1))) == kept


def test_a_mapping_leads_to_the_source_names(source: Path, data: Data) -> None:
    renamed = onnx.load(source)
    for node in renamed.graph.node:
        node.input[:] = ["pixels" if name == "x" else name for name in node.input]
        node.output[:] = ["shares" if name == "y" else name for name in node.output]
    renamed.graph.input[0].name, renamed.graph.output[0].name = "pixels", "shares"
    other = source.with_name("renamed.onnx")
    onnx.save(renamed, other)
    guard = Guard(source, data, 0.0)
    with pytest.raises(EdgeError):
        guard.judge(other)
    mapping = signature.Mapping(
        inputs=(signature.TensorMapping(name="x", tensor="pixels"),),
        outputs=(signature.TensorMapping(name="y", tensor="shares"),),
    )
    assert guard.judge(other, mapping).passed


def test_a_quantised_source_is_compared_in_real_numbers(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    path = tmp_path / "int8.tflite"
    path.write_bytes(models.tflite_int8())
    np.savez(tmp_path / "d.npz", x=np.linspace(-2, 2, 12, dtype=np.float32).reshape(3, 4))
    with Subject(path) as subject:
        data = read_data(tmp_path / "d.npz", subject.inputs)
        assert subject.answer(data.feeds[0])["y"].dtype == np.float32
    assert Guard(path, data).judge(path).mean_error == 0


def test_what_cannot_be_judged_is_told(source: Path, data: Data, tmp_path: Path) -> None:
    with pytest.raises(InputValueError, match="max_drop is 2"):
        Guard(source, data, 2)
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(source.read_bytes()[:100])
    with pytest.raises(ModelError):
        Guard(source, data).judge(broken)
    with pytest.raises(InputNameError, match="no output 'y'"):
        Comparing().add({"y": np.zeros(1)}, {"z": np.zeros(1)})


def test_how_far_apart_two_answers_are() -> None:
    assert apart(np.array([3.0, 4.0]), np.array([3.0, 3.0])) == (1.0, 5.0)
    assert apart(np.array([1, 2]), np.array([1, 3])) == (0.5, 1.0)
    assert apart(np.zeros(2), np.zeros(3))[0] == np.inf
    assert apart(np.array([np.nan, 1.0]), np.array([np.nan, 1.0])) == (0.0, 1.0)
    assert apart(np.array([np.inf]), np.array([-np.inf]))[0] == np.inf


def test_next_to_nothing_beside_nothing_is_no_large_error() -> None:
    comparing = Comparing()
    comparing.add({"y": np.zeros(4)}, {"y": np.full(4, 1e-9)})
    comparing.add({"y": np.ones(4)}, {"y": np.ones(4)})
    assert comparing.mean_error < 1e-6


class FindsWhatItIsTold:
    """A detector whose outputs are the boxes themselves."""

    height = width = 32

    def detections(self, outputs: Any, _place: Any, **_: Any) -> Detections:
        boxes = outputs["boxes"]
        return Detections(boxes, np.linspace(0.9, 0.8, len(boxes)), np.zeros(len(boxes), np.int64))


def test_detectors_agree_on_boxes() -> None:
    boxes = np.array([[0.0, 0, 10, 10], [20, 20, 30, 30]])
    comparing = Comparing(FindsWhatItIsTold())  # type: ignore[arg-type]
    comparing.add({"boxes": boxes}, {"boxes": boxes + 1})
    comparing.add({"boxes": boxes}, {"boxes": boxes + np.array([[0, 0, 0, 0], [50, 50, 50, 50]])})
    assert comparing.agreement == 0.75
    assert comparing.counted == "4 boxes"

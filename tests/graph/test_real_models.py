"""Real models open with the figures that were published for them, and every model of ONNX's own tests opens."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_sdk.graph import fused, open_graph

onnx = pytest.importorskip("onnx")

DATA = Path(__file__).parents[2] / ".cache" / "onnx-backend"
fetched = pytest.mark.skipif(not (DATA / ".complete").exists(), reason="`make test` fetches the data of these tests")

# Millions of multiply-accumulates and of weights: of the papers, or torchvision's and fvcore's counts of the same form.
LIGHT = {
    "bvlc_alexnet": (655, 61.0),  # with two groups, as in the paper
    "densenet121": (2834, 8.1),
    "inception_v1": (1432, 7.0),
    "inception_v2": (2019, 11.2),
    "resnet50": (4089, 25.6),
    "shufflenet": (125, 1.42),
    "squeezenet": (349, 1.24),
    "vgg19": (19632, 143.7),
    "zfnet512": (1482, 87.3),
}
SHARED = {
    "mobilenet_v1_025_128_int8.tflite": (13.6, 0.47, "int8"),
    "mobilenet_v1_075_192_int8.tflite": (239, 2.58, "int8"),
    "mobilenet_v2_224_int8.tflite": (300.8, 3.49, "int8"),
    "resnet8_cifar10_fp32.tflite": (12.5, 0.078, "float32"),
    "resnet8_cifar10_int8.tflite": (12.5, 0.078, "int8"),
    "ultraface_rfb320.tflite": (100.4, 0.274, "float32"),
    "ultraface_rfb320.onnx": (100.4, 0.274, "float32"),
    "mnist_cnn.onnx": (0.786, 0.006, "float32"),
}


@fetched
@pytest.mark.parametrize("name", sorted(LIGHT))
def test_light_models(name: str) -> None:
    graph = open_graph(DATA / "light" / f"light_{name}.onnx")
    macs, weights = LIGHT[name]
    assert graph.macs / 1e6 == pytest.approx(macs, rel=0.01)
    assert graph.parameters / 1e6 == pytest.approx(weights, rel=0.02)
    assert not graph.uncounted and graph.peak_activation_bytes < graph.activation_bytes
    # Dropout's mask is the one output without a shape: nobody asks for it.
    assert all(tensor.shape is not None for op in graph.ops for tensor in [graph.tensors[op.outputs[0]]])


@pytest.mark.parametrize("name", sorted(SHARED))
def test_shared_models(name: str, assets: Path) -> None:
    graph = open_graph(assets / "models" / name)
    macs, weights, precision = SHARED[name]
    assert graph.macs / 1e6 == pytest.approx(macs, rel=0.01)
    assert graph.parameters / 1e6 == pytest.approx(weights, rel=0.02)
    assert not graph.uncounted
    assert {op.precision for op in graph.ops if op.macs} == {precision}


def test_a_streaming_model_in_control_flow_is_followed_into_the_branches_taken(assets: Path) -> None:
    graph = open_graph(assets / "models" / "silero_vad_16k.onnx", {"sequence": 576})
    assert not graph.uncounted and all(tensor.shape is not None for tensor in graph.tensors.values())
    assert graph.tensors["output"].shape == (1, 1) and graph.macs / 1e6 == pytest.approx(0.68, rel=0.02)


def test_an_op_that_no_engine_has_is_named(assets: Path) -> None:
    graph = open_graph(assets / "models" / "must_fail_custom_op.tflite")
    assert graph.uncounted == {"fake-op-double": 1} and graph.macs == 0


@fetched
def test_every_model_of_the_node_tests_opens_with_the_shapes_it_declares() -> None:
    paths = sorted(DATA.glob("*/*/model.onnx"))
    differ, uncounted = [], set()
    for path in paths:
        graph = open_graph(path)
        uncounted.update(graph.uncounted)
        assert sum(len(group.ops) for group in fused(graph, "onnxruntime")) <= len(graph.ops)
        for output in onnx.load(path).graph.output:
            declared = output.type.tensor_type.shape.dim if output.type.HasField("tensor_type") else []
            shape = tuple(dimension.dim_value for dimension in declared)
            if shape and all(d.HasField("dim_value") for d in declared) and graph.tensors[output.name].shape != shape:
                differ.append(path.parent.name)
    assert len(paths) > 1000
    # ONNX's own inference differs from what its test declares.
    assert differ == ["test_maxpool_2d_ceil_output_size_reduce_by_one"]
    # MatMul: of shapes that a fed number decides.
    named = {"DFT", "STFT", "ImageDecoder", "MatMul", "MelWeightMatrix", "ai.onnx.ml.TreeEnsemble"}
    assert uncounted <= named | {"ai.onnx.preview.training.Gradient"}

"""`ModelFile.describe`: inputs, outputs, ops, weights and precision."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from edge_sdk.formats import ModelInfo, Signature, open_model
from edge_sdk.tensors import Quantization, TensorSpec
from tests import models


def describe(content: bytes) -> ModelInfo:
    return open_model(content).describe()


def test_an_onnx_file_in_full() -> None:
    info = describe(models.onnx_mlp())
    assert info.format == "onnx"
    assert info.inputs == (TensorSpec("x", "float32", ("batch", 8)),)
    assert info.outputs == (TensorSpec("y", "float32", ("batch", 4)),)
    assert (info.ir_version, info.opset, info.producer) == (8, {"ai.onnx": 17}, "edge-sdk tests")
    assert info.ops == {"Gemm": 2, "Relu": 1, "Softmax": 1}
    assert (info.parameters, info.parameter_bytes) == (8 * 16 + 16 + 16 * 4 + 4, 4 * 212)
    assert (info.precision, info.precision_reason) == ("float32", "all of the weights are float32")
    assert info.custom_ops == info.initializer_inputs == info.external_files == info.signatures == ()
    assert info.subgraphs == 1


def test_a_tflite_file_in_full() -> None:
    info = describe(models.tflite_float_conv())
    assert info.format == "tflite"
    assert info.inputs == (TensorSpec("image", "float32", (1, 8, 8, 3)),)
    assert info.outputs == (TensorSpec("scores", "float32", (1, 4)),)
    assert (info.ir_version, info.opset, info.producer) == (3, {}, "edge-sdk tests")
    assert info.ops == {"CONV_2D": 1, "MEAN": 1, "SOFTMAX": 1}
    assert (info.parameters, info.parameter_bytes) == (108 + 4 + 2, 4 * 114)
    assert info.precision == "float32"


@pytest.mark.parametrize("name", models.ONNX_MODELS)
def test_onnx_agrees_with_the_onnx_library(name: str) -> None:
    content = models.ONNX_MODELS[name]()
    info, graph = describe(content), onnx.load_model_from_string(content).graph
    assert [spec.name for spec in info.inputs] == [item.name for item in graph.input]
    assert [spec.name for spec in info.outputs] == [item.name for item in graph.output]
    for spec, item in zip(info.inputs + info.outputs, [*graph.input, *graph.output], strict=True):
        if item.type.HasField("tensor_type"):
            assert spec.kind == "tensor"
            dims = item.type.tensor_type.shape.dim
            assert spec.shape == tuple(d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in dims)
            assert spec.dtype == helper.tensor_dtype_to_np_dtype(item.type.tensor_type.elem_type).name.replace(
                "object", "string"
            )


@pytest.mark.parametrize(
    ("model", "specs"),
    [
        (models.onnx_sequence_output, [TensorSpec("parts", "float32", None, "sequence")]),
        (models.onnx_map_output, [TensorSpec("label", "int64", ("batch",)),
                                  TensorSpec("probabilities", "float32", None, "sequence of maps")]),
        (models.onnx_optional, [TensorSpec("maybe", "float32", (2,), "optional"), TensorSpec("there", "bool", ())]),
        (models.onnx_scalar, [TensorSpec("y", "float32", ())]),
        (models.onnx_string, [TensorSpec("twice", "string", ("n",))]),
        (models.tflite_scalar, [TensorSpec("y", "float32", ())]),
        (models.tflite_dynamic, [TensorSpec("y", "float32", (None, 3))]),
        (models.tflite_int8, [TensorSpec("y", "int8", (1, 3), quantization=Quantization((1.0,), (-5,)))]),
    ],
)  # fmt: skip
def test_kinds_and_shapes_of_outputs(model: object, specs: list[TensorSpec]) -> None:
    assert callable(model)
    assert list(describe(model()).outputs) == specs


def test_dimensions_without_a_name_or_below_zero_are_dynamic() -> None:
    item = models.value("x", [None, -1, "n", 0])
    info = describe(models.onnx_bytes([helper.make_node("Relu", ["x"], ["y"])], [item], [models.value("y", None)]))
    assert info.inputs[0].shape == (None, None, "n", 0)
    assert info.outputs[0].shape is None


def test_quantisation_per_channel_of_a_tflite_output() -> None:
    builder = models.TfliteBuilder()
    x = builder.tensor("x", [1, 2], "int8", scale=[0.5, 0.25], zero_point=[1, 2], axis=1)
    builder.graph.inputs = builder.graph.outputs = [x]
    assert describe(builder.bytes()).inputs[0].quantization == Quantization((0.5, 0.25), (1, 2), 1)


def test_nodes_inside_control_flow_and_functions_count() -> None:
    assert describe(models.onnx_loop()).ops == {"Add": 1, "Identity": 1, "Loop": 1}
    info = describe(models.onnx_if())
    assert (info.ops, info.subgraphs, info.parameters) == ({"Add": 1, "If": 1, "Mul": 1}, 3, 2)
    assert describe(models.onnx_function()).ops == {"Add": 1, "Mul": 1, "local.DoubleSquare": 1}
    info = describe(models.tflite_if())
    assert (info.ops, info.subgraphs) == ({"ADD": 1, "IF": 1, "MUL": 1}, 3)


def test_ops_that_the_standard_does_not_define() -> None:
    assert describe(models.onnx_custom_op()).custom_ops == ("acme.Frobnicate",)
    assert describe(models.onnx_map_output()).custom_ops == ()
    assert describe(models.onnx_function()).custom_ops == ()
    assert describe(models.tflite_custom_op()).custom_ops == ("Frobnicate",)


def test_versions_are_told_not_judged() -> None:
    assert describe(models.onnx_newer_opset()).opset == {"ai.onnx": 9999}
    assert describe(models.onnx_newer_ir()).ir_version == 9999
    assert describe(models.onnx_map_output()).opset == {"ai.onnx": 15, "ai.onnx.ml": 3}


def test_initialisers_that_are_inputs_too() -> None:
    assert describe(models.onnx_with_initializer_inputs()).initializer_inputs == ("w", "b")


def test_external_files(tmp_path: Path) -> None:
    info = open_model(models.onnx_external_data(tmp_path)).describe()
    assert (info.external_files, info.parameters, info.parameter_bytes) == (("model.onnx.data",), 64, 256)


def test_metadata_and_signatures() -> None:
    assert describe(models.onnx_add()).metadata == {"author": "tests"}
    assert describe(models.tflite_signature()).signatures == (
        Signature("serving_default", 0, {"in": "x"}, {"out": "y"}),
    )


@pytest.mark.parametrize(
    ("model", "precision"),
    [
        (models.onnx_add, "float32"),
        (models.onnx_float16, "float16"),
        (models.onnx_int8_qdq, "int8"),
        (models.onnx_int8_dynamic, "int8 (dynamic)"),
        (models.onnx_uint8_io, "int8"),
        (models.onnx_two_inputs, "float32"),
        (models.onnx_string, "string"),
        (models.tflite_float_conv, "float32"),
        (models.tflite_int8, "int8"),
        (models.tflite_int8_per_channel, "int8"),
        (models.tflite_int8_dynamic, "int8 (dynamic)"),
    ],
)
def test_precision(model: object, precision: str) -> None:
    assert callable(model)
    info = describe(model())
    assert info.precision == precision
    assert info.precision_reason


def test_precision_of_weights_that_are_turned_back_to_float() -> None:
    weights = [models.constant("q", [[1] * 8] * 8, "int8"), models.constant("s", 0.1)]
    nodes = [helper.make_node("DequantizeLinear", ["q", "s"], ["w"]), helper.make_node("MatMul", ["x", "w"], ["y"])]
    info = describe(models.onnx_bytes(nodes, [models.value("x", [1, 8])], [models.value("y", [1, 8])], weights))
    assert info.precision == "int8 (weights only)"


def test_precision_of_four_bit_weights_packed_in_bytes() -> None:
    weights = [models.constant("b", [[[3] * 16] * 2] * 8, "uint8"), models.constant("s", [0.1] * 16)]
    node = helper.make_node(
        "MatMulNBits", ["x", "b", "s"], ["y"], domain="com.microsoft", K=64, N=8, bits=4, block_size=32
    )
    content = models.onnx_bytes(
        [node], [models.value("x", [1, 64])], [models.value("y", [1, 8])], weights, domains=[("com.microsoft", 1)]
    )
    info = describe(content)
    assert info.precision == "int4 (weights only)"
    assert info.ops == {"com.microsoft.MatMulNBits": 1}


def test_precision_where_types_are_mixed() -> None:
    weights = [models.constant("a", [1.0] * 60), models.constant("b", [1.0] * 40, "float16")]
    nodes = [
        helper.make_node("Cast", ["b"], ["c"], to=TensorProto.FLOAT),
        helper.make_node("Concat", ["x", "a", "c"], ["y"], axis=0),
    ]
    info = describe(models.onnx_bytes(nodes, [models.value("x", [2])], [models.value("y", [102])], weights))
    assert info.precision == "mixed float32 + float16"
    assert info.precision_reason == "60% of the weights are float32, 40% of the weights are float16"


EXPECTED = {
    "mnist_cnn.onnx": ("float32", 12, {"ai.onnx": 8}),
    "silero_vad_16k.onnx": ("float32", 28, {"ai.onnx": 15}),
    "ultraface_rfb320.onnx": ("float32", 7, {"ai.onnx": 9}),
    "mobilenet_v2_224_int8.tflite": ("int8", 7, {}),
    "resnet8_cifar10_fp32.tflite": ("float32", 6, {}),
    "resnet8_cifar10_int8.tflite": ("int8", 6, {}),
    "ultraface_rfb320.tflite": ("float32", 13, {}),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_real_models(assets: Path, name: str) -> None:
    precision, kinds, opset = EXPECTED[name]
    with open_model(assets / "models" / name) as model:
        model.check()
        info = model.describe()
    assert (info.precision, info.opset) == (precision, opset)
    assert info.inputs and info.outputs and 0 < info.parameter_bytes <= model.size_bytes
    assert len(info.ops) >= kinds // 2


def test_the_op_no_engine_has_is_named(assets: Path) -> None:
    with open_model(assets / "models" / "must_fail_custom_op.tflite") as model:
        model.check()
        assert model.describe().custom_ops == ("fake-op-double",)

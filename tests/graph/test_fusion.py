"""`fused`: the kernels foretold against those that ONNX Runtime makes. The first line of a test draws its graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sdk.formats import without_initializer_inputs
from edge_sdk.graph import FusedGroup, fused, open_graph
from tests import models

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
node, value, constant = onnx.helper.make_node, models.value, models.constant

# Which ops ONNX Runtime joins grows from version to version.
VERSION = tuple(int(part) for part in onnxruntime.__version__.split(".")[:2])
pytestmark = pytest.mark.skipif(VERSION < (1, 31), reason="foretold are the kernels of ONNX Runtime 1.31 and later")

DATA = Path(__file__).parents[2] / ".cache" / "onnx-backend"
FREE = {"Reshape", "Flatten", "Squeeze", "Unsqueeze"}
"""Ops that move nothing: ONNX Runtime adds and drops them as it likes."""
PLAIN = {
    "com.microsoft.FusedConv": "Conv",
    "com.microsoft.FusedGemm": "Gemm",
    "com.microsoft.QLinearConv": "QLinearConv",
}


def optimised(content: bytes, folder: Path) -> Any:
    """The graph that ONNX Runtime makes of a model with all optimisations on."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    content = bytes(without_initializer_inputs(content)[0])
    onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return onnx.load(folder / "optimised.onnx").graph


@pytest.fixture(scope="session")
def block(tmp_path_factory: pytest.TempPathFactory) -> int:
    """Channels in a block of ONNX Runtime's layout on this machine; 0 where it has none."""
    content = models.onnx_bytes(
        [node("Conv", ["x", "w"], ["y"])],
        [value("x", [1, 3, 8, 8])],
        [value("y", None)],
        [constant("w", np.ones((4, 3, 3, 3)))],
    )
    graph = optimised(content, tmp_path_factory.mktemp("block"))
    conv = next(n for n in graph.node if n.op_type == "Conv")
    if conv.domain != "com.microsoft.nchwc":
        return 0
    return int(next(tensor.dims[0] for tensor in graph.initializer if tensor.name == conv.input[1]))


def real_kernels(graph: Any) -> Counter[str]:
    types = (f"{n.domain}.{n.op_type}" if n.domain else n.op_type for n in graph.node if n.op_type != "Constant")
    return Counter(PLAIN.get(op, op) for op in types)


def foretold_kernels(groups: Sequence[FusedGroup]) -> Counter[str]:
    return Counter(PLAIN.get(group.type, group.type) for group in groups)


def moving(kernels: Counter[str]) -> dict[str, int]:
    return {op: count for op, count in kernels.items() if op not in FREE}


@pytest.fixture
def agreed(tmp_path: Path, block: int) -> Any:
    """Checks that the kernels foretold are those made, and gives the groups."""

    def check(
        nodes: Sequence[Any], inputs: dict[str, list[int]], weights: dict[str, Any], **options: Any
    ) -> tuple[FusedGroup, ...]:
        content = models.onnx_bytes(
            nodes,
            [value(name, shape) for name, shape in inputs.items()],
            [value("y", None)],
            [constant(name, array, np.asarray(array).dtype) for name, array in weights.items()],
            **options,
        )
        groups = fused(open_graph(content), "onnxruntime", channel_block=block)
        assert moving(foretold_kernels(groups)) == moving(real_kernels(optimised(content, tmp_path)))
        return groups

    return check


def ones(*shape: int) -> np.ndarray[Any, Any]:
    return np.full(shape, 0.1, np.float32)


def test_a_convolution_takes_up_the_normalisation_and_the_activation_behind_it(agreed: Any) -> None:
    # x[1,3,8,8] ─ Conv ─ BatchNormalization ─ Relu ─ y
    nodes = [
        node("Conv", ["x", "w"], ["a"]),
        node("BatchNormalization", ["a", "n", "n", "n", "n"], ["b"]),
        node("Relu", ["b"], ["y"]),
    ]
    groups = agreed(nodes, {"x": [1, 3, 8, 8]}, {"w": ones(16, 3, 3, 3), "n": ones(16)})
    conv = groups[0]
    assert conv.ops == ("Conv_0", "BatchNormalization_1", "Relu_2")
    assert (conv.lead, conv.kind, conv.macs) == ("Conv_0", "conv", 36 * 16 * 27)
    assert (conv.input_bytes, conv.output_bytes) == (4 * 3 * 64, 4 * 16 * 36)


@pytest.mark.parametrize("op", ["Relu", "Sigmoid", "Tanh", "LeakyRelu", "HardSigmoid", "Clip", "Elu", "Softplus"])
def test_which_activations_a_convolution_takes_up(op: str, agreed: Any) -> None:
    # x[1,3,8,8] ─ Conv ─ activation ─ y
    limits = ["low", "high"] if op == "Clip" else []
    nodes = [node("Conv", ["x", "w"], ["a"]), node(op, ["a", *limits], ["y"])]
    agreed(nodes, {"x": [1, 3, 8, 8]}, {"w": ones(16, 3, 3, 3), "low": np.float32(0), "high": np.float32(6)})


@pytest.mark.parametrize("op", ["Relu", "Sigmoid", "Tanh", "LeakyRelu", "Elu", "Erf"])
def test_which_activations_a_gemm_takes_up(op: str, agreed: Any) -> None:
    # x[2,8] ─ Gemm ─ activation ─ y
    agreed([node("Gemm", ["x", "w"], ["a"]), node(op, ["a"], ["y"])], {"x": [2, 8]}, {"w": ones(8, 5)})


def test_a_convolution_adds_the_shortcut_and_applies_what_follows(agreed: Any) -> None:
    # x ─ Conv ─ Relu ─ a ─ Conv ─ Add(a) ─ Relu ─ y
    nodes = [
        node("Conv", ["x", "v"], ["p"]),
        node("Relu", ["p"], ["a"]),
        node("Conv", ["a", "w"], ["b"], pads=[1, 1, 1, 1]),
        node("Add", ["b", "a"], ["c"]),
        node("Relu", ["c"], ["y"]),
    ]
    groups = agreed(nodes, {"x": [1, 3, 8, 8]}, {"v": ones(16, 3, 3, 3), "w": ones(16, 16, 3, 3)})
    assert ("Conv_2", "Add_3", "Relu_4") in [group.ops for group in groups]


@pytest.mark.parametrize("bias", [["b"], []])
def test_a_plain_convolution_does_so_where_it_has_a_bias(bias: list[str], agreed: Any) -> None:
    # x[1,6,8,8] ─ Conv(6 channels in 3 groups: no blocks; bias or none) ─ Add(x) ─ Relu ─ y
    nodes = [
        node("Conv", ["x", "w", *bias], ["a"], pads=[1, 1, 1, 1], group=3),
        node("Add", ["a", "x"], ["s"]),
        node("Relu", ["s"], ["y"]),
    ]
    assert len(agreed(nodes, {"x": [1, 6, 8, 8]}, {"w": ones(6, 2, 3, 3), "b": ones(6)})) == (1 if bias else 3)


def test_a_factor_and_an_offset_per_channel_become_weights(agreed: Any) -> None:
    # x ─ Conv ─ Mul(c[16,1,1]) ─ Add(c[16,1,1]) ─ y
    nodes = [node("Conv", ["x", "w"], ["a"]), node("Mul", ["a", "c"], ["b"]), node("Add", ["b", "c"], ["y"])]
    assert len(agreed(nodes, {"x": [1, 3, 8, 8]}, {"w": ones(16, 3, 3, 3), "c": ones(16, 1, 1)})) <= 2


@pytest.mark.parametrize("shape", [[2, 8], [2, 5, 8]])
def test_a_product_with_weights_and_an_offset_is_a_gemm(shape: list[int], agreed: Any) -> None:
    # x ─ MatMul(w[8,5]) ─ Add(b[5]) ─ y
    nodes = [node("MatMul", ["x", "w"], ["a"]), node("Add", ["a", "b"], ["y"])]
    groups = agreed(nodes, {"x": shape}, {"w": ones(8, 5), "b": ones(5)})
    assert groups[0].ops == ("MatMul_0", "Add_1") and groups[0].kind == "gemm"


def layer_norm(taken: str, given: str) -> list[Any]:
    return [
        node("ReduceMean", [taken], ["mean"], axes=[-1]),
        node("Sub", [taken, "mean"], ["centred"]),
        node("Pow", ["centred", "two"], ["square"]),
        node("ReduceMean", ["square"], ["variance"], axes=[-1]),
        node("Add", ["variance", "epsilon"], ["positive"]),
        node("Sqrt", ["positive"], ["deviation"]),
        node("Div", ["centred", "deviation"], ["normal"]),
        node("Mul", ["normal", "gamma"], ["scaled"]),
        node("Add", ["scaled", "beta"], [given]),
    ]


NORM = {"two": np.float32(2), "epsilon": np.float32(1e-5), "gamma": ones(8), "beta": ones(8)}


def test_the_ops_of_a_normalisation_are_one_kernel(agreed: Any) -> None:
    # x[1,4,8] ─ ReduceMean, Sub, Pow, ReduceMean, Add, Sqrt, Div, Mul, Add ─ y
    (group,) = agreed(layer_norm("x", "y"), {"x": [1, 4, 8]}, NORM)
    assert (group.type, group.kind, len(group.ops)) == ("LayerNormalization", "normalization", 9)
    assert (group.input_bytes, group.output_bytes) == (128, 128)


def test_a_sum_before_a_normalisation_joins_it(agreed: Any) -> None:
    # x, z ─ Add ─ LayerNormalization ─ y
    agreed([node("Add", ["x", "z"], ["s"]), *layer_norm("s", "y")], {"x": [1, 4, 8], "z": [1, 4, 8]}, NORM)


def test_normalisation_by_the_root_of_the_mean_square(agreed: Any) -> None:
    # x ─ Pow, ReduceMean, Add, Sqrt, Div(x), Mul ─ y
    nodes = [
        node("Pow", ["x", "two"], ["square"]),
        node("ReduceMean", ["square"], ["mean"], axes=[-1]),
        node("Add", ["mean", "epsilon"], ["positive"]),
        node("Sqrt", ["positive"], ["root"]),
        node("Div", ["x", "root"], ["normal"]),
        node("Mul", ["gamma", "normal"], ["y"]),
    ]
    agreed(nodes, {"x": [1, 4, 8]}, NORM)


@pytest.mark.parametrize("order", ["x first", "half first"])
def test_the_ops_of_a_gelu_are_one_kernel(order: str, agreed: Any) -> None:
    # x ─ Div ─ Erf ─ Add ─ Mul, Mul ─ y
    last = (
        [node("Mul", ["x", "c"], ["d"]), node("Mul", ["d", "half"], ["y"])]
        if order == "x first"
        else [node("Mul", ["x", "half"], ["d"]), node("Mul", ["d", "c"], ["y"])]
    )
    nodes = [node("Div", ["x", "root"], ["a"]), node("Erf", ["a"], ["b"]), node("Add", ["b", "one"], ["c"]), *last]
    numbers = {"root": np.float32(2**0.5), "one": np.float32(1), "half": np.float32(0.5)}
    (group,) = agreed(nodes, {"x": [1, 4, 8]}, numbers)
    assert group.kind == "activation"


def test_silu_is_one_kernel(agreed: Any) -> None:
    # x ─ Sigmoid ─ Mul(x) ─ y
    agreed([node("Sigmoid", ["x"], ["a"]), node("Mul", ["x", "a"], ["y"])], {"x": [1, 4, 8]}, {})


def test_a_product_of_activations_takes_up_transposition_and_factor(agreed: Any) -> None:
    # q[1,2,4,8], k[1,2,4,8] ─ Transpose ─ MatMul ─ Mul(0.3) ─ y
    nodes = [
        node("Transpose", ["k"], ["t"], perm=[0, 1, 3, 2]),
        node("MatMul", ["q", "t"], ["a"]),
        node("Mul", ["a", "scale"], ["y"]),
    ]
    (group,) = agreed(nodes, {"q": [1, 2, 4, 8], "k": [1, 2, 4, 8]}, {"scale": np.float32(0.3)})
    assert group.macs == 2 * 4 * 4 * 8


def test_constants_shapes_and_identities_are_no_kernels(agreed: Any) -> None:
    # x[2,3,4] ─ Identity ─ Reshape(Concat(Shape(x)[0:1], -1)) ─ Relu ─ Dropout ─ Neg ─ y
    nodes = [
        node("Identity", ["x"], ["i"]),
        node("Shape", ["x"], ["s"], end=1),
        node("Concat", ["s", "rest"], ["target"], axis=0),
        node("Reshape", ["i", "target"], ["r"]),
        node("Relu", ["r"], ["d"]),
        node("Dropout", ["d"], ["e"]),
        node("Neg", ["e"], ["y"]),
    ]
    agreed(nodes, {"x": [2, 3, 4]}, {"rest": np.array([-1])})


def test_padding_joins_the_convolution(agreed: Any) -> None:
    # x ─ Pad ─ Conv ─ y
    nodes = [node("Pad", ["x", "pads"], ["p"]), node("Conv", ["p", "w"], ["y"])]
    agreed(nodes, {"x": [1, 3, 8, 8]}, {"pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "w": ones(16, 3, 3, 3)})


def quantised_model() -> tuple[list[Any], dict[str, Any]]:
    """x ─ Q ─ DQ ─ Conv(DQ w) ─ Relu ─ Q ─ DQ ─ Sigmoid ─ y, all of it per tensor."""
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        node("DequantizeLinear", ["xq", "s", "z"], ["a"]),
        node("DequantizeLinear", ["wq", "s", "zw"], ["w"]),
        node("Conv", ["a", "w"], ["c"]),
        node("Relu", ["c"], ["r"]),
        node("QuantizeLinear", ["r", "s", "z"], ["rq"]),
        node("DequantizeLinear", ["rq", "s", "z"], ["d"]),
        node("Sigmoid", ["d"], ["y"]),
    ]
    numbers = {
        "s": np.float32(0.1),
        "z": np.uint8(0),
        "zw": np.int8(0),
        "wq": np.ones((8, 4, 3, 3), np.int8),
    }
    return nodes, numbers


def test_an_op_between_dequantising_and_quantising_is_an_integer_kernel(agreed: Any) -> None:
    # x ─ Q ─ [DQ ─ Conv ─ Relu ─ Q] ─ DQ ─ Sigmoid ─ y, transposed where integers want channels last
    nodes, numbers = quantised_model()
    groups = agreed(nodes, {"x": [1, 4, 8, 8]}, numbers)
    conv = next(group for group in groups if group.type == "QLinearConv")
    assert (conv.precision, conv.macs) == ("int8", 36 * 8 * 36)
    assert (conv.input_bytes, conv.output_bytes) == (4 * 64, 8 * 36)  # a byte a number
    assert [group.ops for group in groups if group.type == "Transpose"] == [(), ()]


def test_weights_dequantised_for_a_float_kernel_are_so_in_every_request(agreed: Any) -> None:
    # x ─ Conv(DQ w) ─ y
    nodes = [node("DequantizeLinear", ["wq", "s", "zw"], ["w"]), node("Conv", ["x", "w"], ["y"])]
    _, numbers = quantised_model()
    groups = agreed(nodes, {"x": [1, 4, 8, 8]}, {name: numbers[name] for name in ("s", "zw", "wq")})
    first = groups[0]
    assert (first.type, first.output_bytes) == ("DequantizeLinear", 4 * 8 * 36) and first.input_bytes >= 8 * 36


def test_a_product_quantised_while_running_is_one_kernel(tmp_path: Path, block: int) -> None:
    # x ─ DynamicQuantizeLinear ─ MatMulInteger ─ Cast ─ Mul(scales) ─ y
    content = models.onnx_int8_dynamic()
    groups = fused(open_graph(content), "onnxruntime", channel_block=block)
    assert moving(foretold_kernels(groups)) == moving(real_kernels(optimised(content, tmp_path)))


@pytest.mark.skipif(not (DATA / ".complete").exists(), reason="`make test` fetches the data of these tests")
@pytest.mark.parametrize("name", ["densenet121", "shufflenet", "squeezenet"])
def test_light_models(name: str, tmp_path: Path, block: int) -> None:
    path = DATA / "light" / f"light_{name}.onnx"
    groups = fused(open_graph(path), "onnxruntime", channel_block=block)
    real = real_kernels(optimised(path.read_bytes(), tmp_path))
    foretold = foretold_kernels(groups)
    assert sum((real & foretold).values()) >= 0.97 * sum(real.values())


def test_shared_models(assets: Path, tmp_path: Path, block: int) -> None:
    for name in ("ultraface_rfb320.onnx", "mnist_cnn.onnx"):
        path = assets / "models" / name
        groups = fused(open_graph(path), "onnxruntime", channel_block=block)
        assert moving(foretold_kernels(groups)) == moving(real_kernels(optimised(path.read_bytes(), tmp_path)))


def test_litert_runs_nearly_every_op_as_it_stands(assets: Path) -> None:
    graph = open_graph(assets / "models" / "ultraface_rfb320.tflite")
    groups = fused(graph, "litert")
    assert sum(group.macs or 0 for group in groups) == graph.macs
    # Shapes are settled when tensors are allocated, zeros are padded by the convolution behind.
    assert {op.type for op in graph.ops} - {group.type for group in groups} == {"SHAPE", "STRIDED_SLICE", "PACK"}
    assert Counter(op.type for op in graph.ops)["PAD"] > Counter(group.type for group in groups)["PAD"]


def test_any_other_engine_runs_each_op() -> None:
    # x ─ Gemm ─ Relu ─ Gemm ─ Softmax ─ y
    graph = open_graph(models.onnx_mlp())
    groups = fused(graph, "simulated")
    assert [group.ops for group in groups] == [(op.name,) for op in graph.ops]
    assert sum(group.macs or 0 for group in groups) == graph.macs

"""Variants of ONNX files that need no data: float16, dynamic int8, 4-bit weights, low rank, zeros."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edge_sdk.compress.data import Data
from edge_sdk.compress.guard import Guard
from edge_sdk.compress.onnx_low_rank import factor, factorable, with_rank
from edge_sdk.compress.onnx_prepare import prepare
from edge_sdk.compress.onnx_shaping import best_low_rank, faster_with_zeros
from edge_sdk.compress.onnx_sparsity import with_zeros
from edge_sdk.compress.onnx_weights import dynamic_int8, float16, int4_weights
from edge_sdk.errors import CompressionError
from tests.compress.networks import Net, answers, apart, pictures, small_classifier, written


def dense(width: int = 64, rank: int | None = None) -> tuple[Any, list[dict[str, Any]]]:
    """gemm → relu → gemm of 32 inputs, weights of the given rank; and samples."""
    net = Net((1, 32))
    random = net.random

    def matrix(outputs: int, inputs: int) -> Any:
        if rank is None:
            return random.normal(size=(outputs, inputs)) / np.sqrt(inputs)
        return random.normal(size=(outputs, rank)) @ random.normal(size=(rank, inputs)) / np.sqrt(inputs * rank)

    x = net.relu(net.gemm("image", 32, width, matrix(width, 32)))
    model = net.model(net.gemm(x, width, 64, matrix(64, width)))
    return model, [{"image": random.normal(size=(1, 32)).astype(np.float32)} for _ in range(64)]


def test_float16_halves_the_file_and_keeps_inputs_and_outputs() -> None:
    model = small_classifier()
    made, recipe = float16(model)
    assert len(made.SerializeToString()) < 0.7 * len(model.SerializeToString())
    assert [entry.type.tensor_type.elem_type for entry in (*made.graph.input, *made.graph.output)] == [1, 1]
    assert apart(model, made, pictures(3)) < 0.01
    assert "float16" in recipe["method"]


def test_weights_that_float16_cannot_hold_stay_in_float32() -> None:
    net = Net()
    model = net.model(net.head(net.op("Mul", net.relu(net.conv("image", 3, 16)), net.weight(1e6)), 16))
    made, recipe = float16(model)
    assert "n_mul" in recipe["float layers"]
    assert np.isfinite(next(iter(answers(made, pictures(1))[0].values()))).all()


def test_float16_reaches_into_branches_of_control_flow() -> None:
    # conv → relu → if flag: relu, else: neg; both branches read the tensor from outside
    from onnx import TensorProto, helper

    net = Net()
    x = net.relu(net.conv("image", 3, 16))
    out = [helper.make_tensor_value_info("b", TensorProto.FLOAT, None)]
    bodies = [helper.make_graph([helper.make_node(kind, [x], ["b"])], kind, [], out) for kind in ("Relu", "Neg")]
    flag = net.weight(False, np.bool_)
    net.nodes.append(helper.make_node("If", [flag], ["y"], "if", then_branch=bodies[0], else_branch=bodies[1]))
    model = net.model("y")
    made, _ = float16(model)
    assert apart(model, made, pictures(2)) < 0.01


def test_dynamic_int8_of_fully_connected_layers() -> None:
    model, feeds = dense()
    made, _ = dynamic_int8(prepare(model, feeds[:1]))
    assert apart(model, made, feeds) < 0.05
    assert len(made.SerializeToString()) < 0.5 * len(model.SerializeToString())


def test_four_bit_weights_of_fully_connected_layers() -> None:
    model, feeds = dense(256)
    made, _ = int4_weights(prepare(model, feeds[:1]))
    assert apart(model, made, feeds) < 0.3
    assert len(made.SerializeToString()) < 0.3 * len(model.SerializeToString())


@pytest.mark.parametrize("make", [dynamic_int8, int4_weights])
def test_convolutions_alone_are_refused_with_the_reason(make: Any) -> None:
    net = Net()
    with pytest.raises(CompressionError, match="only 0% of its weights are in matrix products"):
        make(net.model(net.conv("image", 3, 16)))


def test_nothing_to_convert_is_told() -> None:
    net = Net()
    with pytest.raises(CompressionError, match="no float32 weights"):
        float16(net.model(net.relu("image")))


# --- low rank ---


def test_layers_of_low_rank_are_factored_without_loss() -> None:
    model, feeds = dense(rank=8)
    smaller, ranks = with_rank(model, factor(model, feeds), 1e-9)
    assert set(ranks.values()) == {8}
    assert apart(model, smaller, feeds) < 1e-4
    assert len(smaller.SerializeToString()) < 0.7 * len(model.SerializeToString())


def test_full_rank_changes_nothing() -> None:
    model, feeds = dense()
    smaller, ranks = with_rank(model, factor(model, feeds), 0.0)
    assert not ranks
    assert apart(model, smaller, feeds) == 0.0


def test_convolutions_1x1_with_strides_and_products_of_more_dimensions_are_factored() -> None:
    net = Net((1, 32, 8, 8))
    kernel = (net.random.normal(size=(64, 8)) @ net.random.normal(size=(8, 32)))[:, :, None, None] / 16
    x = net.relu(net.conv("image", 32, 64, 1, stride=2, kernel=kernel))
    x = net.op("Transpose", x, perm=[0, 2, 3, 1])
    model = net.model(
        net.op("MatMul", x, net.weight(net.random.normal(size=(64, 8)) @ net.random.normal(size=(8, 64)) / 16))
    )
    feeds = pictures(16, (1, 32, 8, 8))
    assert [node.op_type for node in factorable(model)] == ["Conv", "MatMul"]
    smaller, ranks = with_rank(model, factor(model, feeds), 1e-9)
    assert list(ranks.values()) == [8, 8]
    assert apart(model, smaller, feeds) < 1e-4


def test_few_samples_do_not_make_a_layer_look_low_rank() -> None:
    # Four samples span four directions; weights of full rank must not be cut to them.
    model, feeds = dense()
    smaller, ranks = with_rank(model, factor(model, feeds[:4]), 0.01)
    assert not ranks
    assert apart(model, smaller, feeds) == 0.0


@pytest.mark.usefixtures("untried")
def test_the_guard_chooses_the_rank(tmp_path: Path) -> None:
    model, feeds = dense(rank=12)
    data = Data("noise", feeds)
    guard = Guard(written(model, tmp_path / "source.onnx"), data, 0.3)
    smaller, recipe = best_low_rank(model, data, guard, tmp_path)
    assert apart(model, smaller, feeds) < 0.5
    assert "lost" in recipe["low rank"]
    random, _ = dense()
    strict = Guard(written(random, tmp_path / "random.onnx"), data, 0.0)
    with pytest.raises(CompressionError, match=r"nearly all of their rank|within the bound"):
        best_low_rank(random, data, strict, tmp_path)


# --- zeros ---


def test_zeros_are_offered_only_where_they_measure_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    class Measured:
        ratio = 1.0

    monkeypatch.setattr("edge_sdk.measuring.compare", lambda *_: Measured)
    model = small_classifier()
    with pytest.raises(CompressionError, match=r"80% of the weights zero took 1\.00 times the time"):
        faster_with_zeros(model, 0.8, pictures(1)[0])
    Measured.ratio = 0.5
    made, recipe = faster_with_zeros(model, 0.8, pictures(1)[0])
    assert "0.50 times" in recipe["sparse"]
    assert apart(with_zeros(model, 0.8), made, pictures(1)) == 0.0
    monkeypatch.setattr("edge_sdk.measuring.compare", lambda *_: None)
    with pytest.raises(CompressionError, match="too long to measure"):
        faster_with_zeros(model, 0.8, pictures(1)[0])


def test_the_smallest_weights_become_zero() -> None:
    model = small_classifier()
    arrays = {w.name: onnx.numpy_helper.to_array(w) for w in with_zeros(model, 0.75).graph.initializer}
    kernel = arrays[next(node for node in model.graph.node if node.op_type == "Conv").input[1]]
    assert np.mean(kernel == 0) == pytest.approx(0.75, abs=0.01)

"""Structured pruning: channels that are zero go without a trace, whatever hangs together; what is left is solved
anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_sdk.compress.onnx_channels import trace
from edge_sdk.compress.onnx_pruning import CRITERIA, prune
from edge_sdk.compress.onnx_reconstruction import reconstruct
from edge_sdk.errors import CompressionError
from tests.compress.networks import Net, apart, pictures, small_classifier

Build = Callable[[Net], str]


def chain(net: Net) -> str:
    """conv → relu → depthwise → relu → conv 1×1 → relu → average → gemm"""
    x = net.relu(net.conv("image", 3, 16))
    x = net.relu(net.conv(x, 16, 16, group=16))
    return net.head(net.relu(net.conv(x, 16, 32, 1)), 32)


def residual(net: Net) -> str:
    """conv ─┬─ conv → relu → conv ─┬─ add → relu → average → gemm: both ends of the sum lose the same channels"""
    x = net.relu(net.conv("image", 3, 16))
    y = net.conv(net.relu(net.conv(x, 16, 32)), 32, 16)
    return net.head(net.relu(net.op("Add", x, y)), 16)


def branches(net: Net) -> str:
    """conv a ─┐
    conv b ─┴─ concat → batch norm → relu → conv → average → gemm: two branches lined up"""
    a, b = net.relu(net.conv("image", 3, 16)), net.relu(net.conv("image", 3, 32, 1))
    joined = net.op("Concat", a, b, axis=1)
    scale, shift, mean, variance = (
        net.weight(v) for v in (np.linspace(1, 2, 48), np.zeros(48), np.zeros(48), np.ones(48))
    )
    normal = net.op("BatchNormalization", joined, scale, shift, mean, variance)
    return net.head(net.conv(net.relu(normal), 48, 16), 16)


def squeeze_and_excite(net: Net) -> str:
    """conv ─┬─ average → conv 1×1 → relu → conv 1×1 → sigmoid ─┬─ mul → conv → average → gemm: a factor a channel"""
    x = net.relu(net.conv("image", 3, 16))
    s = net.relu(net.conv(net.op("GlobalAveragePool", x), 16, 8, 1))
    s = net.op("Sigmoid", net.conv(s, 8, 16, 1))
    return net.head(net.conv(net.op("Mul", x, s), 16, 16), 16)


def flattened(net: Net) -> str:
    """conv → relu → max pool → reshape [1, -1] → gemm: 64 features from each channel"""
    x = net.op("MaxPool", net.relu(net.conv("image", 3, 16)), kernel_shape=[2, 2], strides=[2, 2])
    flat = net.op("Reshape", x, net.weight([1, 16 * 64], np.int64))
    return net.gemm(flat, 16 * 64, 10)


def split(net: Net) -> str:
    """conv → relu ─ split 8 + 24 ─┬─ conv ─┐
    └────────────┴─ concat → conv → average → gemm: sizes of the split follow"""
    x = net.relu(net.conv("image", 3, 32))
    first, second = net.op("Split", x, net.weight([8, 24], np.int64), outputs=2, axis=1)
    y = net.relu(net.conv(first, 8, 16))
    return net.head(net.conv(net.op("Concat", y, second, axis=1), 40, 16), 16)


def upsampled(net: Net) -> str:
    """conv → relu → transposed conv → relu → resize ×2 → pad → conv → average → gemm"""
    x = net.relu(net.conv("image", 3, 16))
    kernel = net.kernel(16, 32, 2)
    kernel[:, 1::2] = 0 if net.dead else kernel[:, 1::2]
    x = net.relu(net.op("ConvTranspose", x, net.weight(kernel), kernel_shape=[2, 2], strides=[2, 2]))
    x = net.op("Resize", x, "", net.weight([1, 1, 2, 2]), mode="nearest")
    x = net.op("Pad", x, net.weight([0, 0, 1, 1, 0, 0, 1, 1], np.int64))
    return net.head(net.conv(x, 32, 16), 16)


def constants(net: Net) -> str:
    """conv → mul by a value a channel → add a number → prelu → conv → average → gemm: constants shrink too"""
    x = net.op("Mul", net.conv("image", 3, 16), net.weight(np.linspace(0.5, 1.5, 16).reshape(16, 1, 1)))
    x = net.op("PRelu", x, net.weight(np.full((16, 1, 1), 0.1)))
    x = net.op("Mul", x, net.weight(2.0))
    return net.head(net.conv(x, 16, 16), 16)


TOPOLOGIES = (chain, residual, branches, squeeze_and_excite, flattened, split, upsampled, constants)


@pytest.mark.parametrize("build", TOPOLOGIES, ids=lambda build: build.__name__)
@pytest.mark.parametrize("criterion", CRITERIA)
def test_channels_that_are_zero_go_and_nothing_changes(build: Build, criterion: str) -> None:
    net = Net(dead=True)
    model = net.model(build(net))
    feeds = pictures(4)
    pruned = prune(model, 0.5, criterion, feeds)
    assert pruned.after < pruned.before
    assert apart(model, pruned.model, feeds) < 1e-5
    assert sum(len(w.raw_data) for w in pruned.model.graph.initializer) < sum(
        len(w.raw_data) for w in model.graph.initializer
    )


@pytest.mark.parametrize("build", TOPOLOGIES, ids=lambda build: build.__name__)
def test_solving_layers_anew_brings_the_answers_back(build: Build) -> None:
    net = Net(seed=3)
    model = net.model(build(net))
    feeds = pictures(48)
    pruned = prune(model, 0.5, "activation", feeds[:16])
    repaired, solved = reconstruct(pruned, model, feeds)
    fresh = pictures(16, seed=9)
    assert solved >= 1
    assert apart(model, repaired, fresh) < 0.9 * apart(model, pruned.model, fresh)


def test_channels_that_repeat_others_are_made_up_for_exactly() -> None:
    # conv (every filter twice) → relu → conv → average → gemm
    net = Net()
    kernel = np.repeat(net.kernel(8, 3, 3), 2, axis=0)
    x = net.relu(net.conv("image", 3, 16, kernel=kernel))
    model = net.model(net.head(net.relu(net.conv(x, 16, 8)), 8))
    bias = next(w for w in model.graph.initializer if w.name == "w1")
    bias.raw_data = np.zeros(16, np.float32).tobytes()
    feeds = pictures(64)
    pruned = prune(model, 0.5, "weight", feeds)
    repaired, _ = reconstruct(pruned, model, feeds)
    assert apart(model, repaired, pictures(8, seed=5)) < apart(model, pruned.model, pictures(8, seed=5)) / 3


HOLDING: dict[str, Build] = {
    "the output itself": lambda net: net.conv("image", 3, 16),
    "softmax over the channels": lambda net: net.op("Softmax", net.conv("image", 3, 16), axis=1),
    "channels moved to the end": lambda net: net.op("Transpose", net.conv("image", 3, 16), perm=[0, 2, 3, 1]),
    "channels made places": lambda net: net.op("DepthToSpace", net.conv("image", 3, 16), blocksize=2),
    "a mean over the channels": lambda net: net.op("ReduceMean", net.conv("image", 3, 16), axes=[1]),
    "groups of four": lambda net: net.conv(net.conv("image", 3, 16), 16, 16, group=4),
}


@pytest.mark.parametrize("build", HOLDING.values(), ids=HOLDING)
def test_what_holds_its_channels_loses_none(build: Build) -> None:
    net = Net()
    model = net.model(build(net), opset=13)
    with pytest.raises(CompressionError, match="no layer may lose a channel"):
        prune(model, 0.5, "weight", pictures(1))


def test_a_weight_that_two_layers_share_stays_whole() -> None:
    # conv w → relu → conv w → average → gemm
    net = Net((1, 16, 8, 8))
    shared = net.weight(net.kernel(16, 16, 3))
    x = net.relu(net.op("Conv", "image", shared, pads=[1] * 4))
    model = net.model(net.head(net.relu(net.op("Conv", x, shared, pads=[1] * 4)), 16))
    with pytest.raises(CompressionError, match="no layer may lose a channel"):
        prune(model, 0.5, "weight", [])


def test_a_tensor_used_in_a_branch_of_control_flow_keeps_its_channels() -> None:
    # conv → relu → if … : the branches read the tensor from outside
    from onnx import TensorProto, helper

    net = Net()
    x = net.relu(net.conv("image", 3, 16))
    out = [helper.make_tensor_value_info("b", TensorProto.FLOAT, None)]
    bodies = [helper.make_graph([helper.make_node(kind, [x], ["b"])], kind, [], out) for kind in ("Relu", "Neg")]
    net.nodes.append(
        helper.make_node("If", [net.weight(True, np.bool_)], ["y"], "if", then_branch=bodies[0], else_branch=bodies[1])
    )
    channels = trace(net.model("y"))
    assert not channels.free()


def test_the_number_of_channels_kept_is_a_multiple_of_eight_where_there_are_enough() -> None:
    model = small_classifier()
    pruned = prune(model, 0.4, "weight", [])
    kept = {int(pruned.mask(producer.units).sum()) for producer in pruned.channels.producers[:-1]}
    assert kept == {8, 16} or kept == {8, 24}


@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_small_network_stays_a_network_of_the_same_function(data: st.DataObject) -> None:
    """Random networks of sums, concatenations, depthwise and plain convolutions with dead channels."""
    net = Net((1, 3, 8, 8), seed=data.draw(st.integers(0, 99)), dead=True)
    tensors: list[tuple[str, int]] = [(net.relu(net.conv("image", 3, 16)), 16)]
    for _ in range(data.draw(st.integers(1, 5))):
        x, channels = data.draw(st.sampled_from(tensors))
        kind = data.draw(st.sampled_from(["conv", "depthwise", "add", "concat", "pool"]))
        if kind == "conv":
            width = data.draw(st.sampled_from([8, 16, 32]))
            tensors.append((net.relu(net.conv(x, channels, width, data.draw(st.sampled_from([1, 3])))), width))
        elif kind == "depthwise":
            tensors.append((net.relu(net.conv(x, channels, channels, group=channels)), channels))
        elif kind == "pool":
            pooled = net.op("AveragePool", x, kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1)
            tensors.append((pooled, channels))
        else:
            y, other = data.draw(st.sampled_from(tensors))
            if kind == "concat":
                tensors.append((net.op("Concat", x, y, axis=1), channels + other))
            elif channels == other:
                tensors.append((net.op("Add", x, y), channels))
    x, channels = tensors[-1]
    model = net.model(net.head(x, channels))
    feeds: list[Any] = pictures(2, (1, 3, 8, 8))
    try:
        pruned = prune(model, 0.5, "weight", feeds)
    except CompressionError:
        return
    assert apart(model, pruned.model, feeds) < 1e-4

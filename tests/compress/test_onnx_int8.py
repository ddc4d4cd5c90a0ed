"""Static int8 of ONNX: what is rounded and what is not, channels equalised, the layers that hurt found and left in
float."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edge_sdk.compress.data import Data
from edge_sdk.compress.guard import Guard
from edge_sdk.compress.onnx_calibration import METHODS, activation_ranges
from edge_sdk.compress.onnx_equalise import equalisable, equalise
from edge_sdk.compress.onnx_int8 import static_int8, stem_layers, tail_layers
from edge_sdk.compress.onnx_int8_ways import best_static_int8, mixed_int8
from edge_sdk.compress.onnx_prepare import prepare
from edge_sdk.compress.onnx_sensitivity import local_errors
from edge_sdk.errors import CompressionError
from tests.compress.networks import Net, answers, apart, pictures, small_classifier, written

pytestmark = pytest.mark.usefixtures("untried")


def ops(model: Any) -> list[str]:
    return [node.op_type for node in model.graph.node]


def quantised(model: Any, float_nodes: tuple[str, ...] = (), method: str = "min-max") -> Any:
    feeds = pictures(8)
    return static_int8(
        prepare(model, feeds[:1]), activation_ranges(prepare(model, feeds[:1]), method, feeds), float_nodes
    )


def spread_apart(model: Any, decades: float = 3.0) -> Any:
    """The same function with output channels of each convolution scaled by factors up to decades apart, undone in
    the next."""
    random = np.random.default_rng(0)
    made = onnx.ModelProto()
    made.CopyFrom(model)
    weights = {w.name: w for w in made.graph.initializer}
    convs = [node for node in made.graph.node if node.op_type == "Conv"]
    for before, after in itertools.pairwise(convs):
        kernel, bias, following = (onnx.numpy_helper.to_array(weights[n]) for n in (*before.input[1:], after.input[1]))
        factors = np.exp2(np.rint(random.uniform(-0.5, 0.5, len(kernel)) * decades * np.log2(10))).astype(np.float32)
        own = (-1, 1, 1, 1) if following.shape[1] == 1 else (1, -1, 1, 1)
        for name, array in (
            (before.input[1], kernel * factors.reshape(-1, 1, 1, 1)),
            (before.input[2], bias * factors),
            (after.input[1], following / factors.reshape(own)),
        ):
            weights[name].CopyFrom(onnx.numpy_helper.from_array(array.astype(np.float32), name))
    return made


def fragile() -> Any:
    return spread_apart(small_classifier())


@pytest.mark.parametrize("method", METHODS)
def test_int8_keeps_to_the_source_by_every_calibration_method(method: str) -> None:
    model = small_classifier()
    limit = 0.5 if method == "entropy" else 0.1  # entropy clips outliers, which a mean over a picture notices
    assert apart(model, quantised(model, method=method), pictures(4)) < limit


def test_weights_are_a_quarter_of_the_size() -> None:
    net = Net((1, 32, 8, 8))
    model = net.model(net.head(net.relu(net.conv(net.relu(net.conv("image", 32, 64)), 64, 64)), 64))
    feeds = [{"image": f["image"]} for f in pictures(4, (1, 32, 8, 8))]
    ready = prepare(model, feeds)
    made = static_int8(ready, activation_ranges(ready, "min-max", feeds))
    assert len(made.SerializeToString()) < 0.3 * len(model.SerializeToString())


def test_a_first_convolution_over_a_picture_stays_in_float_unless_a_pool_follows() -> None:
    net = Net()
    plain = net.model(net.head(net.relu(net.conv("image", 3, 16)), 16))
    net = Net()
    pooled = net.model(net.head(net.op("MaxPool", net.relu(net.conv("image", 3, 16)), kernel_shape=[2, 2]), 16))
    assert [len(stem_layers(model)) for model in (plain, pooled)] == [1, 0]


def test_shares_among_many_classes_do_not_vanish() -> None:
    # conv → average → gemm to 1000 → softmax: a share near 1/1000 would be zero in steps of 1/256
    net = Net()
    model = net.model(net.op("Softmax", net.head(net.relu(net.conv("image", 3, 16)), 16, 1000), axis=1))
    made = quantised(model)
    (answer,) = answers(made, pictures(1))
    (shares,) = answer.values()
    assert np.unique(shares).size > 500
    makers = {output: node for node in made.graph.node for output in node.output}
    softmax = next(node for node in made.graph.node if node.op_type == "Softmax")
    assert makers[softmax.input[0]].op_type == "Gemm"
    assert len(tail_layers(prepare(model, pictures(1)))) == 1


def test_layers_left_in_float_are_exact() -> None:
    model = small_classifier()
    ready = prepare(model, pictures(1))
    made = static_int8(
        ready, activation_ranges(ready, "min-max", pictures(4)), [node.name for node in ready.graph.node]
    )
    assert apart(model, made, pictures(2)) < 1e-6


def test_an_old_opset_is_raised_and_a_flat_bias_made_a_vector() -> None:
    net = Net()
    flat = net.op("Flatten", net.op("GlobalAveragePool", net.conv("image", 3, 16)))
    scores = net.op("Gemm", flat, net.weight(net.random.normal(size=(16, 4))), net.weight(np.ones((1, 4))))
    model = net.model(scores, opset=9)
    made = quantised(model)
    assert apart(model, made, pictures(4)) < 0.1
    assert max(entry.version for entry in made.opset_import if not entry.domain) >= 13


def test_a_batch_of_any_size_stays_one() -> None:
    net = Net(("batch", 3, 16, 16))
    model = net.model(net.head(net.relu(net.conv("image", 3, 16)), 16))
    made = quantised(model)
    (answer,) = answers(made, [{"image": np.concatenate([feed["image"] for feed in pictures(3)])}])
    assert next(iter(answer.values())).shape == (3, 10)


def test_equalising_keeps_the_function_and_rescues_channels_decades_apart() -> None:
    model = fragile()
    feeds = pictures(16)
    ready = prepare(model, feeds[:1])
    balanced, pairs = equalise(ready, feeds)
    assert pairs >= 2
    assert apart(model, balanced, feeds) < 1e-6
    before = static_int8(ready, activation_ranges(ready, "min-max", feeds))
    after = static_int8(balanced, activation_ranges(balanced, "min-max", feeds))
    assert apart(model, before, feeds) > 3 * apart(model, after, feeds)
    assert apart(model, after, feeds) < 0.1


@pytest.mark.parametrize("between", ["Sigmoid", "Add", "output", "Clip"])
def test_only_what_a_scale_passes_through_is_equalised(between: str) -> None:
    net = Net()
    x = net.conv("image", 3, 16)
    y = {
        "Sigmoid": lambda: net.op("Sigmoid", x),
        "Add": lambda: net.op("Add", x, net.weight(1.0)),
        "output": lambda: net.relu(x),
        "Clip": lambda: net.op("Clip", x, net.weight(0.0), net.weight(6.0)),
    }[between]()
    outputs = (net.head(net.conv(y, 16, 16), 16), *((y,) if between == "output" else ()))
    model = net.model(*outputs)
    assert not any(pair.first.input[0] == "image" for pair in equalisable(model))


def test_the_layer_that_rounding_hurts_is_found() -> None:
    # The second convolution has one weight a thousand times the others in each filter: the others round to nothing.
    model = small_classifier()
    weights = {w.name: w for w in model.graph.initializer}
    name = [node for node in model.graph.node if node.op_type == "Conv"][2].input[1]
    array = onnx.numpy_helper.to_array(weights[name]).copy()
    array[:, 0] *= 1000
    weights[name].CopyFrom(onnx.numpy_helper.from_array(array, name))
    first = next(node for node in model.graph.node if node.op_type == "Conv")
    for tensor in first.input[1:]:
        # … and what that one weight reads is nearly nothing.
        small = onnx.numpy_helper.to_array(weights[tensor]).copy()
        small[0] /= 1000
        weights[tensor].CopyFrom(onnx.numpy_helper.from_array(small, tensor))
    feeds = pictures(8)
    ready = prepare(model, feeds[:1])
    errors = local_errors(ready, static_int8(ready, activation_ranges(ready, "min-max", feeds)), feeds)
    assert len(errors) >= 4
    assert next(iter(errors)) in {node.name for node in ready.graph.node if node.op_type == "Conv"}
    assert list(errors.values()) == sorted(errors.values(), reverse=True)


def guarded(model: Any, folder: Path, max_drop: float) -> tuple[Any, Data, Guard]:
    feeds = pictures(12)
    data = Data("noise", feeds)
    return prepare(model, feeds[:1]), data, Guard(written(model, folder / "source.onnx"), data, max_drop)


def test_the_best_way_is_kept_and_says_what_was_tried(tmp_path: Path) -> None:
    ready, data, guard = guarded(fragile(), tmp_path, 0.05)
    best = best_static_int8(ready, data, guard, tmp_path)
    assert best.verdict.mean_error < 0.1
    assert "equalised" in best.recipe
    assert best.recipe["calibration"].endswith("on noise")
    assert best.recipe["mean errors"].count(";") == 3


def test_mixed_precision_leaves_the_fewest_layers_in_float_that_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_sdk.compress.onnx_int8_ways.equalise", lambda model, _: (model, 0))
    net = Net()
    x = net.relu(net.conv("image", 3, 16))
    for _ in range(6):
        x = net.relu(net.conv(x, 16, 16))
    model = net.model(net.conv(x, 16, 4))
    ready, data, guard = guarded(model, tmp_path, 0.02)
    start = best_static_int8(ready, data, guard, tmp_path)
    assert not start.verdict.passed
    trial = mixed_int8(start, data, guard, tmp_path)
    assert trial.verdict.passed
    left = trial.recipe["float layers"].split(", ")
    assert 1 < len(left) < 8
    assert "QuantizeLinear" in ops(trial.quantised)


def test_mixed_precision_is_refused_where_int8_throughout_passes(tmp_path: Path) -> None:
    ready, data, guard = guarded(small_classifier(), tmp_path, 0.5)
    start = best_static_int8(ready, data, guard, tmp_path)
    with pytest.raises(CompressionError, match="within the bound already"):
        mixed_int8(start, data, guard, tmp_path)


def test_mixed_precision_is_refused_where_nearly_all_would_stay_in_float(tmp_path: Path) -> None:
    net = Net()
    model = net.model(net.conv(net.relu(net.conv(net.relu(net.conv("image", 3, 16)), 16, 16)), 16, 4))
    ready, data, guard = guarded(model, tmp_path, 0.0)
    start = best_static_int8(ready, data, guard, tmp_path)
    with pytest.raises(CompressionError, match="layers left in float int8 fails"):
        mixed_int8(start, data, guard, tmp_path)


def test_a_network_without_such_layers_is_told_that_int8_gains_nothing(tmp_path: Path) -> None:
    net = Net()
    model = net.model(net.op("Add", "image", net.weight(np.ones((1, 3, 16, 16)))))
    ready, data, guard = guarded(model, tmp_path, 0.1)
    with pytest.raises(CompressionError, match="int8 would gain nothing"):
        best_static_int8(ready, data, guard, tmp_path)


def test_data_that_the_model_does_not_take_is_told_in_one_line(tmp_path: Path) -> None:
    ready = prepare(small_classifier(), pictures(1))
    with pytest.raises(CompressionError, match="calibration failed") as caught:
        activation_ranges(ready, "min-max", [{"picture": np.zeros((1, 3, 16, 16), np.float32)}])
    assert "\n" not in str(caught.value)


def test_attention_stays_in_float_where_int8_has_no_kernel() -> None:
    # matmul → add → layer norm → matmul → gelu by erf → matmul
    net = Net((1, 8, 32))
    x = net.op("MatMul", "image", net.weight(net.random.normal(size=(32, 64)) / 6))
    x = net.op("Add", x, net.weight(net.random.normal(size=64)))
    x = net.op("LayerNormalization", x, net.weight(np.ones(64)), net.weight(np.zeros(64)))
    h = net.op("MatMul", x, net.weight(net.random.normal(size=(64, 64)) / 8))
    erf = net.op("Erf", net.op("Div", h, net.weight(np.sqrt(2))))
    h = net.op("Mul", net.op("Mul", h, net.op("Add", erf, net.weight(1.0))), net.weight(0.5))
    model = net.model(net.op("MatMul", h, net.weight(net.random.normal(size=(64, 16)) / 8)))
    feeds = [{"image": f["image"]} for f in pictures(8, (1, 8, 32))]
    ready = prepare(model, feeds[:1])
    made = static_int8(ready, activation_ranges(ready, "min-max", feeds))
    assert apart(model, made, feeds) < 0.1
    rounded = {name for node in made.graph.node if node.op_type == "QuantizeLinear" for name in node.input[:1]}
    joining = {name for node in ready.graph.node if node.op_type == "Erf" for name in (*node.input, *node.output)}
    assert not rounded & joining

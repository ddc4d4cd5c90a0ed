"""The cost model: what a request is predicted to take, from its graph and the device's rates alone."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
import pytest

from edge_sdk.device import load_profile
from edge_sdk.errors import InputError
from edge_sdk.graph import open_graph
from edge_sdk.planner.cost import CostModel, Prediction, Profile, predict
from edge_sdk.planner.cost_work import class_by, class_of, works_of
from edge_sdk.planner.rates import Rates, rates_for

models = pytest.importorskip("tests.models")
helper = pytest.importorskip("onnx.helper")

TABLE = {
    "litert.kernel.float32.any.us_per_call": 10.0,
    "litert.place.0.t1.products.share": 1.0,
    "litert.place.0.t1.request_us": 5.0,
    "litert.place.0.t2.products.share": 0.6,
    "litert.place.0.t2.products.us": 2.0,
    "litert.place.0.t2.request_us": 9.0,
    "litert.spread": 0.25,
} | {f"onnxruntime.{name}": value for name, value in {"kernel.float32.any.us_per_call": 10.0,
     "kernel.float32.conv_first.us_per_mmac": 1e6, "place.0.t1.products.share": 1.0, "place.0.t1.request_us": 5.0,
     "place.0.t2.products.share": 0.6, "place.0.t2.products.us": 2.0, "place.0.t2.request_us": 9.0,
     "spread": 0.25}.items()}  # fmt: skip
RATES = Rates("calibrated", TABLE, MappingProxyType({"0": (0, 1)}), (0, 1))


def chain(kinds: tuple[str, ...] = ("Softmax", "Softmax")) -> bytes:
    """Ops one behind another that no engine joins."""
    nodes = [helper.make_node(kind, [f"v{i}"], [f"v{i + 1}"]) for i, kind in enumerate(kinds)]
    shape = [1, 64]
    return models.onnx_bytes(nodes, [models.value("v0", shape)], [models.value(f"v{len(kinds)}", shape)])


@pytest.fixture
def model() -> CostModel:
    return CostModel(open_graph(chain()), "onnxruntime", RATES)


def test_a_request_is_its_kernels_and_what_it_costs_beside_them(model: CostModel) -> None:
    assert model.predict(1).latency_ms == pytest.approx((2 * 10 + 5) / 1e3)


def test_more_threads_take_a_share_and_a_little_more_for_each_kernel(model: CostModel) -> None:
    assert model.predict(2).latency_ms == pytest.approx((2 * (10 * 0.6 + 2) + 9) / 1e3)


def test_nine_times_out_of_ten_it_is_within_the_spread_that_calibration_saw(model: CostModel) -> None:
    found = model.predict(1)

    assert found.low_ms == pytest.approx(found.latency_ms / 1.25)
    assert found.high_ms == pytest.approx(found.latency_ms * 1.25)


def test_kinds_add_up_to_the_request() -> None:
    found = predict(open_graph(chain(("Softmax", "Sqrt", "Softmax"))), "onnxruntime", RATES, 1)

    assert sum(found.by_kind.values()) == pytest.approx(found.latency_ms)
    assert list(found.by_kind) == ["softmax", "arithmetic"]


def test_after_a_run_the_figures_are_the_runs_and_only_the_change_is_predicted(model: CostModel) -> None:
    run = model.measured(1, latency_ms=1.0)

    assert model.predict(1, run).latency_ms == 1.0
    # 5 of 1000 us are the request, the rest two kernels: each takes 0.6 of it and 2 us more on two threads.
    assert model.predict(2, run).latency_ms == pytest.approx((995 * 0.6 + 2 * 2 + 9) / 1e3)


def test_a_profile_tells_how_the_request_is_shared_out() -> None:
    rates = Rates("calibrated", {**TABLE, "onnxruntime.place.0.t2.light.share": 1.0}, RATES.clusters, (0, 1))
    model = CostModel(open_graph(chain()), "onnxruntime", rates)

    spread = model.predict(2, Profile(1, 0.105, (("products", 60.0), ("light", 40.0)))).latency_ms

    assert spread == pytest.approx((60 * 0.6 + 2 + 40 + 9) / 1e3)


def test_a_profile_at_more_threads_tells_of_one(model: CostModel) -> None:
    there = model.predict(2, model.measured(1, 1.0)).latency_ms

    assert model.predict(1, model.measured(2, there)).latency_ms == pytest.approx(1.0, rel=1e-6)


def test_an_engine_without_rates_is_refused_with_what_to_do() -> None:
    with pytest.raises(InputError, match=r"no rates for engine 'other'; run: edge-sdk device --calibrate"):
        CostModel(open_graph(chain()), "other", RATES)


def test_only_figures_of_derived_rates_are_called_estimates(model: CostModel) -> None:
    board = rates_for(load_profile("raspberry-pi-5").device())
    assert board is not None

    derived: Prediction = predict(open_graph(models.onnx_add()), "onnxruntime", board, 1)

    assert derived.estimate and not model.predict(1).estimate


def test_an_op_without_a_cost_rule_has_its_call() -> None:
    node = helper.make_node("Mystery", ["v0"], ["v1"], domain="somewhere.else")
    content = models.onnx_bytes([node], [models.value("v0", [1, 4])], [models.value("v1", [1, 4])],
                                domains=[("somewhere.else", 1)])  # fmt: skip

    assert predict(open_graph(content), "onnxruntime", RATES, 1).latency_ms == pytest.approx(15 / 1e3)


@pytest.mark.parametrize(
    ("sort", "precision", "products", "rows", "expected"),
    [
        ("conv", "float32", True, 1000, "products"),
        ("conv", "uint8", True, 1000, "products_int8"),
        ("conv_1x1", "int8_dynamic", True, 1000, "products_int8"),
        ("gemv", "float32", True, 1, "stream"),
        ("depthwise_conv", "int8", True, 1000, "depthwise"),
        ("lstm", "float32", True, 1000, "recurrent"),
        ("softmax", "float32", False, None, "map"),
        ("concat", "float32", False, None, "light"),
    ],
)
def test_kernels_that_take_alike_to_threads_are_of_one_class(
    sort: str, precision: str, products: bool, rows: int | None, expected: str
) -> None:
    assert class_by(sort, precision, products, rows) == expected


def test_unsigned_bytes_are_a_precision_of_their_own_in_tflite() -> None:
    """Engines have slower kernels for them."""
    from edge_sdk.graph.fusion import fused
    from edge_sdk.planner.calibration_tflite import tflite_networks

    seen = {}
    for network in tflite_networks():
        if network.name.startswith("conv_1x1"):
            graph = open_graph(network.content)
            (seen[network.precision],) = {(w.sort, w.precision) for w in works_of(graph, fused(graph, "litert"), 0)}

    assert seen == {p: ("conv_1x1", p) for p in ("float32", "int8", "uint8")}


def test_works_are_as_many_as_kernels_and_none_is_negative() -> None:
    graph = open_graph(chain(("Softmax", "Sqrt", "Relu", "Softmax")))
    model = CostModel(graph, "onnxruntime", RATES)

    features = np.array([work.features for work in model.works])

    assert (features >= 0).all()
    assert {class_of(work) for work in model.works} <= {"map", "light"}

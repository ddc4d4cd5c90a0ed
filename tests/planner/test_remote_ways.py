"""What ways to run with a part at an endpoint are predicted to cost before any of them was tried."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

import pytest

pytest.importorskip("onnx")

from edge_sdk.planner.cost import CostModel
from edge_sdk.planner.rates import Rates
from edge_sdk.planner.remote_ways import LocalRun, remote_ways
from edge_sdk.schedule.placing import Placement
from tests.cut_variant import PACKING, by_coding, cut_variant


@pytest.mark.parametrize(("threads", "one_core"), [(1, 1.0), (2, 1.75), (4, 3.25)])
@pytest.mark.parametrize("kind", ["offload", "split"])
def test_packing_has_one_core_however_many_the_model_runs_on(
    kind: str, threads: int, one_core: float, tmp_path: Path
) -> None:
    local = LocalRun("onnxruntime", Placement(threads=threads), 10.0)
    with cut_variant(tmp_path) as variant:
        found = by_coding(remote_ways(variant, local, None), kind)
    packing_ms = found["deflate"].head_ms - found["none"].head_ms
    assert packing_ms == pytest.approx(PACKING * one_core * 10.0)


def test_a_calibrated_device_tells_what_one_core_does_of_the_model(tmp_path: Path) -> None:
    table = {
        "onnxruntime.kernel.float32.any.us_per_call": 10.0,
        "onnxruntime.place.0.t1.products.share": 1.0,
        "onnxruntime.place.0.t1.request_us": 5.0,
        "onnxruntime.place.0.t2.products.share": 0.5,
        "onnxruntime.place.0.t2.products.us": 1.0,
        "onnxruntime.place.0.t2.request_us": 5.0,
    }
    rates = Rates("calibrated", table, MappingProxyType({"0": (0, 1)}), (0, 1))
    with cut_variant(tmp_path) as variant:
        graph = variant.graph()
        assert graph is not None
        costs = CostModel(graph, "onnxruntime", rates)
        one_core = costs.predict(1).latency_ms / costs.predict(2).latency_ms
        local = LocalRun("onnxruntime", Placement(threads=2), 10.0)
        found = by_coding(remote_ways(variant, local, rates), "offload")
    assert 1.2 < one_core < 2
    assert found["deflate"].head_ms - found["none"].head_ms == pytest.approx(PACKING * one_core * 10.0)

"""What ways to run with a part at an endpoint are predicted to cost before any of them was tried."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("onnx")

from edge_sdk.planner.plans import Placement
from edge_sdk.planner.remote_ways import LocalRun, remote_ways
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

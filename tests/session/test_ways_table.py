"""The table of all ways: what was measured of one tells of those like it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("onnx")

from edge_sdk.offloading.asked import Offload
from edge_sdk.offloading.table import WaysTable
from edge_sdk.planner import Plan, Wish
from edge_sdk.schedule.placing import Placement
from tests.cut_variant import PACKING, by_coding, cut_variant

PLAN = Plan(
    kind="local",
    variant="fp32",
    engine="onnxruntime",
    accelerator="cpu",
    placement=Placement(threads=1),
    objective="latency",
    reason="",
)


def test_what_a_head_was_measured_to_take_holds_for_those_that_pack_it_otherwise(tmp_path: Path) -> None:
    with cut_variant(tmp_path) as variant:
        table = WaysTable(Offload((), (), None, None, None), Wish(), variant, PLAN, 10.0, None)
    raw = by_coding(list(table.ways.values()), "split")["none"]
    others = {key: way for key, way in table.ways.items() if way.cut != raw.cut}
    table.measured(replace(raw, head_ms=8.5, measured=True), computed_ms=8.0)
    now = by_coding(list(table.ways.values()), "split")
    assert (now["none"].head_ms, now["none"].measured) == (8.5, True)
    assert now["deflate"].head_ms == pytest.approx(8.0 + PACKING * 10.0) and not now["deflate"].measured
    assert {key: way for key, way in table.ways.items() if way.cut != raw.cut} == others

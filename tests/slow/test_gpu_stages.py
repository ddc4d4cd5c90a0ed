"""A model in stages, one of them on LiteRT's GPU path. SwiftShader, a GPU in software, comes with Debian's chromium."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ai_edge_litert")

ROOT = Path(__file__).parents[2]
SWIFTSHADER = Path("/usr/lib/chromium/vk_swiftshader_icd.json")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SWIFTSHADER.is_file(), reason="SwiftShader is not here: apt-get install chromium"),
]

BEGIN = """
import json, sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np
import edge_sdk
from edge_sdk.engines import LoadOptions
from edge_sdk.engines.litert import LiteRtEngine
from edge_sdk.formats import open_model
from edge_sdk.graph import open_graph
from edge_sdk.graph.cuts import single_cuts
from edge_sdk.planner.placed import placed
from edge_sdk.schedule.placing import Placement, Stage
from tests import models

content = models.tflite_float_conv()
model = open_model(content)
frames = [{"image": np.random.default_rng(n).random((1, 8, 8, 3)).astype(np.float32)} for n in range(50)]
whole = LiteRtEngine().load(model, LoadOptions())
expected = [whole.run(frame)["scores"] for frame in frames]
cuts = single_cuts(open_graph(model))

def off(given):
    return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(given, expected))
"""

BOTH_ORDERS = """
told = []
for cut in cuts:
    for first, second in (("gpu", "cpu"), ("cpu", "gpu")):
        stages = (Stage(accelerator=first, tensors=cut.tensors), Stage(accelerator=second))
        options = LoadOptions(accelerator="gpu", strict=True)
        runner = placed(model, LiteRtEngine().load, options, Placement(stages=stages))
        with ThreadPoolExecutor(runner.at_once) as pool:
            given = [answer["scores"] for answer in pool.map(runner.run, frames)]
        report = runner.placement()
        told.append({
            "off": off(given), "verified": report.verified, "places": sorted(place.where for place in report.nodes),
            "passed": [figures.requests for figures in runner.figures()],
        })
        runner.close()
print("TOLD " + json.dumps(told))
"""

CHOSEN = """
with edge_sdk.load(content, accelerator="gpu", objective="throughput", plan_budget_s=30.0, trusted=True) as session:
    given = [answer["scores"] for answer in session.stream(frames)]
    rows = [row for row in session.plan.candidates if row.placement.stages]
    told = {
        "off": off(given),
        "orders": [[stage.accelerator for stage in row.placement.stages] for row in rows],
        "measured": [row.measured is not None for row in rows],
        "reasons": [row.reason for row in rows],
        "pipeline": [stage.accelerator for stage in session.report().pipeline],
        "chosen": [stage.accelerator for stage in session.plan.placement.stages],
        "events": list(session.report().events),
    }
print("TOLD " + json.dumps(told))
"""


def told_by(code: str, folder: Path) -> Any:
    """In a process of its own, since the graphics layers read the environment once."""
    gpu = {"VK_ICD_FILENAMES": str(SWIFTSHADER), "XDG_RUNTIME_DIR": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | gpu,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("TOLD "))
    return json.loads(line.removeprefix("TOLD "))


def test_one_stage_on_the_gpu_and_the_other_on_the_cpu_give_the_wholes_answers(tmp_path: Path) -> None:
    """At each cut, in both orders, with several callers; the GPU takes its part verifiably, and alone."""
    told = told_by(BOTH_ORDERS, tmp_path)
    assert len(told) == 4
    for each in told:
        assert each["off"] < 1e-3
        assert each["verified"]
        assert "gpu" in each["places"] and len(each["places"]) == 2
        assert each["passed"] == [50, 50]


def test_a_session_may_choose_them_and_answers_a_stream_in_order(tmp_path: Path) -> None:
    told = told_by(CHOSEN, tmp_path)
    assert told["off"] < 1e-3
    assert told["orders"] == [["gpu", "cpu"], ["cpu", "gpu"]]
    assert any(told["measured"]), told["reasons"]
    assert told["pipeline"] == told["chosen"]
    assert told["events"] == [], "no fallback"

"""Ten models in turn where the kernel grants 300 MB: no request fails, and nothing is killed."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import models
from tests.slow.memory_cgroup import MemoryCgroup, memory_cgroup

pytestmark = pytest.mark.slow

LIMIT_MB = 300
MODELS, TURNS, THREADS = 10, 100, 4
SIZE_MB = 38.2
"""Of each model's file; held at once they would take 380 MB, and as the engine loads them by default 800."""


@pytest.fixture(scope="module")
def ten(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of ten models that differ."""
    import onnx

    folder = tmp_path_factory.mktemp("ten")
    model = onnx.load_from_string(models.onnx_mlp(1000, 5000, 1000))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    for number in range(MODELS):
        bias = next(one for one in model.graph.initializer if one.name == "b2")
        bias.raw_data = models.constant("b2", [number * index / 1000 for index in range(1000)]).raw_data
        (folder / f"model_{number}.onnx").write_bytes(model.SerializeToString())
    return folder


def used_in_turn(group: MemoryCgroup, folder: Path, max_memory_mb: str) -> dict[str, Any]:
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    program = [sys.executable, str(root / "tests" / "slow" / "ten_models.py")]
    done = group.run([*program, str(folder), str(TURNS), str(THREADS), max_memory_mb], env=environment, timeout=900)
    assert group.killed() == 0
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert isinstance(told, dict)
    return told


@pytest.mark.parametrize("max_memory_mb", ["150", ""], ids=["of 150 MB", "found by itself"])
def test_ten_models_in_turn_keep_a_budget_and_no_request_fails(ten: Path, max_memory_mb: str) -> None:
    budget_mb = float(max_memory_mb or LIMIT_MB)
    with memory_cgroup(LIMIT_MB) as group:
        told = used_in_turn(group, ten, max_memory_mb)
        assert group.peak_mb() <= LIMIT_MB
    assert told["failures"] == []
    assert told["answered"] == MODELS + TURNS * THREADS
    assert told["most_resident_mb"] <= budget_mb
    assert SIZE_MB <= told["freed_mb"] <= budget_mb, "what the kernel says that the models took"

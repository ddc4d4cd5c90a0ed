"""One model entered twice as two candidates differs by under 3 %, and one made a tenth slower is told from it.

The one place where figures of a clock are held against a bound: what the planner and the bench say rests on it. Each
figure is the median over fresh loads of the median over pairs of blocks, so that neither the pages a load happened to
get nor a burst of other work decides; requests are short beside a time slice, so that most are not interrupted at all.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from edge_sdk.engines.base import LoadOptions
from edge_sdk.engines.registry import find_engine
from edge_sdk.engines.samples import made_up_feeds
from edge_sdk.formats import ModelFile, open_model
from edge_sdk.measuring import Comparison, Request, compare

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
models = pytest.importorskip("tests.models")

LOADS = 5
MARGIN = 0.03


def convolutions(layers: int) -> ModelFile:
    """Equal 3×3 convolutions, one after the other: eleven take a tenth longer than ten."""
    rng = np.random.default_rng(0)
    names = ["x", *(f"h{index}" for index in range(1, layers)), "y"]
    nodes = [
        onnx.helper.make_node("Conv", [names[i], f"w{i}"], [names[i + 1]], kernel_shape=[3, 3], pads=[1] * 4)
        for i in range(layers)
    ]
    weights = [models.constant(f"w{i}", rng.normal(size=(8, 8, 3, 3)) * 0.1) for i in range(layers)]
    shape = [1, 8, 16, 16]
    return open_model(models.onnx_bytes(nodes, [models.value("x", shape)], [models.value("y", shape)], weights))


@contextmanager
def loaded(model: ModelFile) -> Iterator[Request]:
    """A candidate as the planner loads it to measure."""
    runner = find_engine("onnxruntime").load(model, LoadOptions(threads=1, spin=False, cache=False))
    feeds = made_up_feeds(runner.inputs)
    try:
        yield lambda: runner.run(feeds)
    finally:
        runner.close()


def compared(first: ModelFile, second: ModelFile) -> list[Comparison]:
    """The two compared again and again, each time freshly loaded."""
    found = []
    for _ in range(LOADS):
        with loaded(first) as one, loaded(second) as two:
            comparison = compare(one, two, budget_s=4.0, margin=MARGIN)
            assert comparison is not None
            found.append(comparison)
    return found


def ratio(comparisons: list[Comparison]) -> float:
    return statistics.median(comparison.ratio for comparison in comparisons)


@pytest.fixture(params=["alone", "beside a busy process"])
def surroundings(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.param == "alone":
        yield
        return
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        busy.kill()
        busy.wait()


@pytest.mark.usefixtures("surroundings")
def test_one_model_entered_twice_differs_by_under_3_percent() -> None:
    model = convolutions(10)
    comparisons = compared(model, model)
    assert abs(ratio(comparisons) - 1) < 0.03
    assert sum(comparison.second_wins(MARGIN) for comparison in comparisons) * 2 < LOADS


@pytest.mark.usefixtures("surroundings")
def test_a_model_made_a_tenth_slower_is_told_apart() -> None:
    ten, eleven = convolutions(10), convolutions(11)
    assert ratio(compared(ten, eleven)) > 1.03
    comparisons = compared(eleven, ten)
    assert ratio(comparisons) < 0.97
    assert sum(comparison.second_wins(MARGIN) for comparison in comparisons) * 2 > LOADS

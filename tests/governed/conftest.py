"""A bundle of a large and a small variant, and what stands in for the device under it."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_sdk import bundle
from edge_sdk.bundle import Accuracy, Variant
from edge_sdk.engines.simulated import SimulatedClock
from edge_sdk.signature import LogicalTensor, Signature
from tests.governed.two_sizes import SaidSensors, Ticks, TwoSizes

ACCURACY = {"large": 0.98, "small": 0.9}


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock(1000.0)


@pytest.fixture
def sensors(clock: SimulatedClock) -> SaidSensors:
    return SaidSensors(clock)


@pytest.fixture
def ticks(clock: SimulatedClock) -> Ticks:
    return Ticks(clock)


@pytest.fixture
def engine() -> TwoSizes:
    return TwoSizes()


@pytest.fixture(scope="module")
def sizes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose small variant takes a fraction of the large one's time."""
    models = pytest.importorskip("tests.models")
    signature = Signature(
        inputs=(LogicalTensor(name="x", dtype="float32", shape=("batch", 8)),),
        outputs=(LogicalTensor(name="y", dtype="float32", shape=("batch", 4)),),
    )
    variants = [
        Variant(name=name, accuracy=(Accuracy(metric="top-1", value=value, data="digits", samples=9),))
        for name, value in ACCURACY.items()
    ]
    path = tmp_path_factory.mktemp("bundle") / "sizes.edge"
    files = {"large": models.onnx_mlp(8, 64, 4), "small": models.onnx_mlp(8, 4, 4)}
    bundle.create(path, name="sizes", signature=signature, variants=variants, files=files)
    return path

"""A bundle of a small and a large variant of one network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_sdk import bundle
from edge_sdk.bundle import Accuracy, Variant
from edge_sdk.signature import LogicalTensor, Signature

models = pytest.importorskip("tests.models")

__all__ = ["ACCURACY", "X", "two_variants"]

SIGNATURE = Signature(
    inputs=(LogicalTensor(name="x", dtype="float32", shape=("batch", 8)),),
    outputs=(LogicalTensor(name="y", dtype="float32", shape=("batch", 4)),),
)
X = np.ones((1, 8), np.float32)
ACCURACY = {"large": 0.98, "small": 0.9}


def two_variants(folder: Path) -> Path:
    """Writes it there."""
    variants = [
        Variant(name=name, accuracy=(Accuracy(metric="top-1", value=value, data="digits", samples=9),))
        for name, value in ACCURACY.items()
    ]
    files = {"large": models.onnx_mlp(8, 64, 4), "small": models.onnx_mlp(8, 4, 4)}
    bundle.create(folder / "m.edge", name="mlp", signature=SIGNATURE, variants=variants, files=files)
    return folder / "m.edge"

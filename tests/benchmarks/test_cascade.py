"""The readouts that benchmarks/cascade.py judges classifiers by."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("cv2")
pytest.importorskip("onnx")

from benchmarks.cascade import right, softmax_regression


def test_softmax_regression_finds_what_is_linear() -> None:
    chance = np.random.default_rng(0)
    labels = chance.integers(10, size=400)
    centres = chance.normal(size=(10, 20))
    features = (centres[labels] + chance.normal(0, 0.3, (400, 20))).astype(np.float32)
    weights = softmax_regression(features[:300], labels[:300])
    logits = [row[None] for row in features[300:] @ weights]
    assert right(logits, labels[300:]).mean() > 0.95

"""What several tests of sessions with endpoints load."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """x[batch,8] ─ Gemm ─ Relu ─ Gemm ─ Softmax ─ y[batch,4], as a file."""
    pytest.importorskip("onnx")
    from tests import models

    path = tmp_path / "mlp.onnx"
    path.write_bytes(models.onnx_mlp())
    return path

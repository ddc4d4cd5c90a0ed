"""What benchmarks/wire.py counts: tensors are copied by neither side, and memory stays as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("onnx")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

from benchmarks import wire


def test_no_tensor_is_copied_by_our_client_or_our_endpoint(tmp_path: Path) -> None:
    counted = wire.copies(tmp_path, 20)
    if counted is None:
        pytest.skip("there is no C compiler")
    assert counted["client"] == 0
    assert counted["endpoint"] == 0
    if "tritonclient" in counted:
        assert counted["tritonclient"] >= 1  # it does copy: so copies are seen


@pytest.mark.slow
def test_memory_is_flat_over_10000_requests(tmp_path: Path) -> None:
    found = wire.memory(tmp_path, (1_000, 10_000))
    for side in ("endpoint_mb", "client_mb"):
        after_1000, after_10000 = found[side]
        assert after_10000 <= after_1000 + 8, found

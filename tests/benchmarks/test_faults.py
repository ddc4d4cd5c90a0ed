"""The benchmark of faults counts what it says."""

from __future__ import annotations

import pytest

pytest.importorskip("onnx")
pytest.importorskip("uvicorn")

from benchmarks import faults


@pytest.mark.parametrize("name", ["answers 500", "link cut"])
def test_every_request_is_counted_once(name: str) -> None:
    row = faults.FAULTS[name](name, 40)
    assert (row.requests, row.lost, row.wrong) == (40, 0, 0)
    assert row.remote + row.local == 40 and row.local > 0


def test_wrong_and_lost_requests_would_be_seen() -> None:
    with faults.device_at("http://127.0.0.1:9") as device:
        device.right = lambda number: faults.answer_of(number + 1)
        assert device.ask("wrong", 5).wrong == 5
    assert device.ask("after closing", 5).lost == 5
    assert "5 lost, 5 wrong" in faults.table([faults.Row("a", wrong=5), faults.Row("b", lost=5)])

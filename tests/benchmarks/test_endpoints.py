"""Two real endpoints of which one becomes ten times slower: requests move, come back, and none is lost."""

from __future__ import annotations

import pytest

pytest.importorskip("onnx")
pytest.importorskip("uvicorn")

from benchmarks import endpoints


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["both", "silent"])
def test_requests_move_and_come_back_and_none_is_lost(name: str) -> None:
    try:
        (row,) = endpoints.measured([name], quick=True)
    except RuntimeError as error:
        assert "real-time priority" in str(error)
        pytest.skip(str(error))
    assert row.lost == 0
    assert row.answers_until_moved is not None and row.answers_until_moved <= 10
    assert row.seconds_until_back is not None and row.seconds_until_back <= 30


def test_what_never_happened_is_no_figure() -> None:
    rows = [endpoints.Row("a", answers_until_moved=4, seconds_until_back=9.0), endpoints.Row("b", lost=1)]
    told = endpoints.summary(rows)
    assert (told["answers_until_moved"], told["seconds_until_back"], told["lost"]) == (None, None, 1)
    assert "never" in endpoints.table(rows)
    assert [row.well for row in rows] == [True, False]

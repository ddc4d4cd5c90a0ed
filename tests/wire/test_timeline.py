"""Works go on beside the caller in as many threads as there are works, and threads are used again."""

from __future__ import annotations

import threading

import pytest

from edge_sdk.wire.timeline import RealTimeline


def test_what_a_work_gives_or_raises_comes_back() -> None:
    timeline = RealTimeline()
    good, bad = timeline.start(lambda: 42), timeline.start(lambda: 1 // 0)
    assert good.result() == 42
    with pytest.raises(ZeroDivisionError):
        bad.result()


def test_the_first_to_end_is_given_and_none_where_time_is_over() -> None:
    timeline = RealTimeline()
    gate = threading.Event()
    waiting = timeline.start(gate.wait)
    assert timeline.first([waiting], 0.0) is None
    quick = timeline.start(lambda: "done")
    assert timeline.first([waiting, quick], None) is quick
    gate.set()
    assert timeline.first([waiting], None) is waiting


def test_no_work_waits_for_another_however_many_there_are() -> None:
    timeline = RealTimeline()
    together = threading.Barrier(50)
    works = [timeline.start(together.wait) for _ in range(50)]
    assert sorted(work.result(60) for work in works) == list(range(50))


def test_one_after_the_other_they_share_a_thread() -> None:
    timeline = RealTimeline()
    assert len({timeline.start(threading.get_ident).result() for _ in range(100)}) == 1

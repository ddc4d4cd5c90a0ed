"""Histograms stay small, exact in count and right to a per cent."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.metrics import Histogram, joined


def test_an_empty_histogram_has_no_figures() -> None:
    summary = Histogram().summary()
    assert summary.count == 0
    assert summary.p50_ms is None


@given(st.lists(st.floats(1e-4, 1e5), min_size=1, max_size=300))
def test_percentiles_are_right_to_two_per_cent(values: list[float]) -> None:
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    summary = histogram.summary()
    assert summary.count == len(values)
    assert summary.min_ms == pytest.approx(min(values), rel=1e-6, abs=1e-6)
    assert summary.max_ms == pytest.approx(max(values), rel=1e-6, abs=1e-6)
    assert summary.mean_ms == pytest.approx(sum(values) / len(values), rel=1e-4, abs=1e-6)
    for share, given_ms in ((0.5, summary.p50_ms), (0.9, summary.p90_ms), (0.99, summary.p99_ms)):
        exact = float(np.quantile(values, share, method="inverted_cdf"))
        assert given_ms == pytest.approx(exact, rel=0.02, abs=1e-6)


def test_a_duration_of_zero_is_counted() -> None:
    histogram = Histogram()
    histogram.record(0.0)
    assert histogram.summary().p99_ms == 0.0


def test_nothing_is_lost_when_many_threads_record() -> None:
    histogram = Histogram()
    threads = [threading.Thread(target=lambda: [histogram.record(1.0) for _ in range(5000)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert histogram.count == 40_000


EDGES_MS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 1000.0)


@given(st.lists(st.floats(1e-4, 1e5), max_size=300))
def test_few_buckets_are_right_but_for_what_lies_within_a_per_cent_of_an_edge(values: list[float]) -> None:
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    found = histogram.distribution(EDGES_MS)
    assert (found.count, found.total_ms) == (len(values), pytest.approx(sum(values)))
    assert list(found.up_to) == sorted(found.up_to)
    for edge, count in zip(EDGES_MS, found.up_to, strict=True):
        assert (
            sum(value <= edge / 1.0101 for value in values) <= count <= sum(value <= edge * 1.0101 for value in values)
        )


def test_a_duration_that_is_an_edge_is_not_above_it() -> None:
    histogram = Histogram()
    histogram.record(10.0)
    assert histogram.distribution(EDGES_MS).up_to == (0, 0, 0, 0, 1, 1, 1)


@given(st.lists(st.lists(st.floats(1e-4, 1e5), max_size=50), max_size=4))
def test_several_joined_are_as_one_that_had_recorded_all(parts: list[list[float]]) -> None:
    histograms, one = [], Histogram()
    for values in parts:
        histograms.append(Histogram())
        for value in values:
            histograms[-1].record(value)
            one.record(value)
    whole = joined(histograms).summary()
    assert whole.count == one.count
    assert (whole.p50_ms, whole.p99_ms, whole.max_ms) == (
        one.summary().p50_ms,
        one.summary().p99_ms,
        one.summary().max_ms,
    )

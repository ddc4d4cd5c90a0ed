"""The page for Prometheus: what it holds is what happened, and every reader of the format can read it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import edge_sdk
from edge_sdk.engines.simulated import SimulatedBehaviour, SimulatedEngine
from edge_sdk.errors import MissingExtra, StorageError
from edge_sdk.observing import FAMILIES, Family
from edge_sdk.observing.families import RUN, ZONE, Sample
from edge_sdk.observing.page import metrics_of, text
from edge_sdk.observing.snapshot import timing

models = pytest.importorskip("tests.models")
prometheus_client = pytest.importorskip("prometheus_client")

from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics  # noqa: E402
from prometheus_client.parser import text_string_to_metric_families as read  # noqa: E402

from edge_sdk.metrics import Histogram  # noqa: E402
from tests.observing.whole_device import whole_device  # noqa: E402

ONES = np.ones((2, 3), np.float32)


def load() -> edge_sdk.Session:
    return edge_sdk.load(models.onnx_add(), engine=SimulatedEngine(SimulatedBehaviour()), plan_budget_s=0)


def values(page: str, name: str) -> dict[tuple[str, ...], float]:
    """By the values of its labels, in the order of their names."""
    samples = (sample for family in read(page) for sample in family.samples)
    return {tuple(s.labels[key] for key in sorted(s.labels)): s.value for s in samples if s.name == name}


class Fixed:
    """A collector of samples that are given."""

    def __init__(self, *samples: Sample) -> None:
        self.samples = samples

    def collect(self) -> Any:
        return metrics_of(self.samples)


def test_all_that_a_device_can_tell_is_on_its_page(tmp_path: Path) -> None:
    pytest.importorskip("uvicorn")
    with whole_device(tmp_path) as metrics:
        page = metrics.prometheus()
        checked = list(read_openmetrics(openmetrics_of(metrics)))
    told = {line.split()[2] for line in page.splitlines() if line.startswith("# TYPE")}
    assert told == {family.exposed for family in FAMILIES}
    assert {family.name for family in checked} == {family.name for family in FAMILIES}
    assert values(page, "edge_sdk_thermal_zone_celsius") == {("0", "cpu-thermal"): 48.3, ("1", "cpu-thermal"): 51.0}
    assert values(page, "edge_sdk_battery_ratio") == {(): pytest.approx(0.64)}
    assert values(page, "edge_sdk_objective_latency_seconds") == {("local",): 0.02}
    assert values(page, "edge_sdk_scheduled_requests_total")["camera", "answered"] == 1
    assert values(page, "edge_sdk_accelerator_answers_total") == {
        ("gpu", "accelerator", "0", "gpu"): 1,
        ("gpu", "cpu", "0", "gpu"): 0,
    }
    assert values(page, "edge_sdk_accelerator_state")["gpu", "0", "gpu", "working"] == 1
    assert values(page, "edge_sdk_endpoint_up").popitem()[1] == 1
    assert sum(values(page, "edge_sdk_lane_requests_total").values()) >= 1
    if shutil.which("promtool"):
        done = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, text=True, check=False)
        assert done.returncode == 0 and not done.stderr, done.stderr


def openmetrics_of(metrics: edge_sdk.Metrics) -> str:
    """The page as servers of today ask for it."""
    from prometheus_client.openmetrics.exposition import generate_latest

    registry = prometheus_client.CollectorRegistry()
    registry.register(metrics)
    return generate_latest(registry).decode()


def test_buckets_sum_and_count_are_those_of_the_requests() -> None:
    histogram = Histogram()
    for duration_ms in (0.05, 4.0, 4.0, 33.0, 20000.0):
        histogram.record(duration_ms)
    page = text(Fixed(Sample(RUN, ("m", "v", "e", "a", "p"), timing(histogram))))
    buckets = {labels[2]: count for labels, count in values(page, "edge_sdk_run_seconds_bucket").items()}
    assert buckets["0.0001"] == 1 and buckets["0.003"] == 1 and buckets["0.005"] == 3 and buckets["0.03"] == 3
    assert buckets["0.05"] == 4 and buckets["10.0"] == 4 and buckets["+Inf"] == 5
    assert list(values(page, "edge_sdk_run_seconds_sum").values()) == [pytest.approx(20.04105)]
    assert list(values(page, "edge_sdk_run_seconds_count").values()) == [5]


anything = st.text(st.characters(codec=None), max_size=30) | st.sampled_from(
    ["\\", '"', "\n", "\\n", 'a{b="c",}', "# x"]
)


@given(anything, anything)
def test_any_label_comes_back_as_it_was(zone: str, index: str) -> None:
    page = text(Fixed(Sample(ZONE, (zone, index), 1.0)))
    (family,) = read(page)
    (sample,) = family.samples
    assert sample.labels == {"zone": readable(zone), "index": readable(index)}
    page.encode()


def readable(name: str) -> str:
    """Bytes that are no text, as file names may have them, are spelled out."""
    return "".join(f"\\u{ord(char):04x}" if "\ud800" <= char <= "\udfff" else char for char in name)


def test_names_and_labels_are_as_prometheus_has_them() -> None:
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)
    for family in FAMILIES:
        assert family.kind in ("gauge", "counter", "histogram", "info") and family.help and "\n" not in family.help
        assert not family.name.endswith(("_total", "_info", "_count", "_sum", "_bucket", "_ms", "_mb", "_percent"))
        assert "le" not in family.labels


def test_it_stands_on_a_page_of_the_users_own_beside_other_metrics() -> None:
    registry = prometheus_client.CollectorRegistry()
    prometheus_client.Counter("frames", "of the camera", registry=registry).inc()
    metrics = edge_sdk.Metrics()
    registry.register(metrics)
    with metrics.add(load(), "adder") as session:
        session.run(ONES)
        page = prometheus_client.generate_latest(registry).decode()
        part = prometheus_client.generate_latest(registry.restricted_registry(["edge_sdk_run_seconds_count"])).decode()
    assert values(page, "frames_total") == {(): 1}
    assert list(values(page, "edge_sdk_run_seconds_count").values()) == [1]
    assert {sample.name for family in read(part) for sample in family.samples} == {"edge_sdk_run_seconds_count"}
    with pytest.raises(ValueError, match="Duplicated"):
        registry.register(edge_sdk.Metrics())


def test_a_page_is_served_until_it_is_closed() -> None:
    metrics = edge_sdk.Metrics()
    with metrics.add(load(), "adder"), metrics.serve(0) as serving:
        assert serving.url == f"http://127.0.0.1:{serving.port}/metrics"
        with urllib.request.urlopen(serving.url, timeout=30) as answer:
            assert 'model="adder"' in answer.read().decode()
        with pytest.raises(StorageError, match=rf"127\.0\.0\.1:{serving.port}: cannot be listened on"):
            metrics.serve(serving.port)
    serving.close()
    with metrics.serve(serving.port):  # it is free again
        pass


@pytest.mark.parametrize(("port", "host"), [(-1, "127.0.0.1"), (70000, "127.0.0.1"), (0, "no.such.host.invalid")])
def test_an_address_that_is_none_is_one_clear_error(port: int, host: str) -> None:
    with pytest.raises(StorageError, match="cannot be listened on"):
        edge_sdk.Metrics().serve(port, host)


def test_without_the_extra_the_dict_still_tells_and_the_page_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    metrics = edge_sdk.Metrics()
    with metrics.add(load(), "adder"):
        assert "adder" in metrics.as_dict()["models"]
        for ask in (metrics.prometheus, lambda: metrics.serve(0), lambda: list(metrics.collect())):
            with pytest.raises(MissingExtra, match=r"pip install 'edge-sdk\[metrics\]'"):
                ask()


def test_a_family_is_called_as_it_is_exposed() -> None:
    assert Family("edge_sdk_events", "counter", "x").exposed == "edge_sdk_events_total"
    assert Family("edge_sdk_plan", "info", "x").exposed == "edge_sdk_plan_info"
    assert Family("edge_sdk_run_seconds", "histogram", "x").exposed == "edge_sdk_run_seconds"

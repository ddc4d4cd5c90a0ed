"""What an endpoint tells of itself: Prometheus metrics, and one line of JSON an event."""

from __future__ import annotations

import json
import logging
import sys
from collections import Counter as TallyCounter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from cloud_offload.store import Store

__all__ = ["JsonLines", "Meters", "joined_pages", "logging_json"]

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
_ROWS = (1, 2, 4, 8, 16, 32, 64)


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, event, and the record's `fields`, after those of every record."""

    def __init__(self, **always: Any) -> None:
        super().__init__()
        self._always = always

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        told = {"time": time, "level": record.levelname.lower(), "logger": record.name, "event": record.getMessage()}
        told.update(self._always)
        told.update(getattr(record, "fields", {}))
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        return json.dumps(told, default=str)


@contextmanager
def logging_json(**always: Any) -> Iterator[None]:
    """One JSON object a line on stderr while this is entered, each with the fields `always`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(**always))
    loggers = (logging.getLogger("cloud_offload"), logging.getLogger("uvicorn.error"))
    for logger, level in zip(loggers, (logging.INFO, logging.ERROR), strict=True):
        logger.addHandler(handler)
        logger.setLevel(level)
        logger.propagate = False
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
            logger.propagate = True


class Meters:
    """The metrics of one endpoint. Labels are models that were found and statuses: a client cannot make up new ones."""

    def __init__(self, store: Store) -> None:
        self.registry = CollectorRegistry()
        names, registry = ("model", "version"), self.registry
        self.requests = Counter("edge_requests", "Requests by status", ("status",), registry=registry)
        self.inferences = Counter("edge_inferences", "Inference requests answered", names, registry=registry)
        self.failures = Counter("edge_inference_failures", "Inference requests refused", names, registry=registry)
        self.seconds = Histogram(
            "edge_inference_seconds", "From body to answer", names, buckets=_SECONDS, registry=registry
        )
        self.received = Counter("edge_received_bytes", "Bytes of inference bodies received", registry=registry)
        self.sent = Counter("edge_sent_bytes", "Bytes of inference bodies sent", registry=registry)
        self.batches = Histogram("edge_batch_requests", "Requests together", names, buckets=_ROWS, registry=registry)
        registry.register(_InProgress(store))
        self._store = store

    def page(self) -> bytes:
        """The page in Prometheus' text format."""
        for serving in self._store.servings():
            meter = self.batches.labels(serving.meter, str(serving.files.version))
            while serving.batch_sizes:
                meter.observe(serving.batch_sizes.popleft())
        return generate_latest(self.registry)


class _InProgress(Collector):
    def __init__(self, store: Store) -> None:
        self._store = store

    def collect(self) -> Iterable[GaugeMetricFamily]:
        family = GaugeMetricFamily("edge_in_progress", "Requests waiting or computed", labels=("model", "version"))
        in_progress: TallyCounter[tuple[str, str]] = TallyCounter()
        for serving in self._store.servings():
            in_progress[serving.meter, str(serving.files.version)] += serving.in_progress
        for labels, count in in_progress.items():
            family.add_metric(labels, count)
        yield family


def joined_pages(pages: Mapping[int, str]) -> bytes:
    """One page of those of several processes; each sample is labelled with its `worker`."""
    registry = CollectorRegistry()
    registry.register(_Joined(pages))
    return generate_latest(registry)


class _Joined(Collector):
    def __init__(self, pages: Mapping[int, str]) -> None:
        self._pages = pages

    def collect(self) -> Iterable[Metric]:
        families: dict[str, Metric] = {}
        for worker, page in sorted(self._pages.items()):
            for found in text_string_to_metric_families(page):
                family = families.setdefault(found.name, Metric(found.name, found.documentation, found.type))
                family.samples += [s._replace(labels={**s.labels, "worker": str(worker)}) for s in found.samples]
        return families.values()

"""A snapshot as Prometheus reads it: as text, for a registry, and over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from edge_sdk.errors import MissingExtra, StorageError
from edge_sdk.observing.families import FAMILIES, Family, Sample
from edge_sdk.observing.snapshot import EDGES_MS, Timing

if TYPE_CHECKING:
    from wsgiref.simple_server import WSGIServer

    from prometheus_client import CollectorRegistry, Metric

__all__ = ["Serving", "metrics_of", "serve", "text"]

_EDGES_S = tuple(repr(round(edge_ms / 1e3, 9)) for edge_ms in EDGES_MS)


class Collects(Protocol):
    """A collector, as `prometheus_client` has it."""

    def collect(self) -> Iterable[Metric]:
        """What there is now."""


def metrics_of(samples: Iterable[Sample], *, all_families: bool = False) -> Iterator[Metric]:
    """Families with their samples.

    Args:
        samples: in any order.
        all_families: those without a sample too.

    Raises:
        MissingExtra: `prometheus_client` is not installed.
    """
    made_metric: type[Metric] = _client().Metric
    found: dict[Family, list[Sample]] = {family: [] for family in FAMILIES}
    for sample in samples:
        found[sample.family].append(sample)
    for family, ours in found.items():
        if ours or all_families:
            metric = made_metric(family.name, family.help, family.kind)
            for sample in ours:
                _add(metric, sample)
            yield metric


def _add(metric: Metric, sample: Sample) -> None:
    labels = dict(zip(sample.family.labels, map(_utf8, sample.labels), strict=True))
    value = sample.value
    if not isinstance(value, Timing):
        metric.add_sample(sample.family.exposed, labels, float(value))
        return
    for edge_s, count in zip((*_EDGES_S, "+Inf"), (*value.up_to, value.count), strict=True):
        metric.add_sample(f"{sample.family.name}_bucket", {**labels, "le": edge_s}, count)
    metric.add_sample(f"{sample.family.name}_count", labels, value.count)
    metric.add_sample(f"{sample.family.name}_sum", labels, value.total_ms / 1e3)


def _utf8(label: str) -> str:
    """File names may hold bytes that are no text; a page with them would be refused as a whole."""
    return label.encode("utf-8", "backslashreplace").decode("utf-8")


def text(collector: Collects) -> str:
    """The page in Prometheus' text format.

    Raises:
        MissingExtra: `prometheus_client` is not installed.
    """
    page: bytes = _client().generate_latest(_registry(collector))
    return page.decode("utf-8")


class Serving:
    """A page that can be read over HTTP until this is closed; a context manager that does so.

    Attributes:
        url: of the page.
        port: that is listened on.
    """

    def __init__(self, server: WSGIServer, thread: threading.Thread) -> None:
        host, self.port = str(server.server_address[0]), int(server.server_address[1])
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self.port}/metrics"
        self._server, self._thread = server, thread
        self._closed = threading.Lock()

    def close(self) -> None:
        """Listens no longer. Idempotent."""
        if self._closed.acquire(blocking=False):
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()

    def __enter__(self) -> Serving:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def serve(collector: Collects, port: int, host: str) -> Serving:
    """Answers with the page, in threads of its own.

    Raises:
        MissingExtra: `prometheus_client` is not installed.
        StorageError: the address cannot be listened on.
    """
    registry = _registry(collector)
    try:
        return Serving(*_client().start_http_server(port, host, registry))
    except (OSError, OverflowError) as error:
        raise StorageError(f"{host}:{port}: cannot be listened on: {error}") from None


def _registry(collector: Collects) -> CollectorRegistry:
    registry: CollectorRegistry = _client().CollectorRegistry(auto_describe=False)
    registry.register(collector)
    return registry


def _client() -> Any:
    try:
        import prometheus_client
    except ImportError:
        raise MissingExtra("metrics for Prometheus need prometheus-client: pip install 'edge-sdk[metrics]'") from None
    return prometheus_client

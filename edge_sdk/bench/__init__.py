"""`bench`: how fast a model or bundle is here, what it takes, and how it compares; each in a process of its own.

from edge_sdk.bench import Settings, bench
print(bench("model.onnx", Settings(rate_hz=30)).paced.latencies.median_ms)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_sdk.bench.bare import BARE_ENGINES
    from edge_sdk.bench.benching import Settings, bench
    from edge_sdk.bench.result import Against, BenchResult, RequestEnergy, Start, Way

_HOMES = {
    "BARE_ENGINES": "edge_sdk.bench.bare",
    "Against": "edge_sdk.bench.result",
    "BenchResult": "edge_sdk.bench.result",
    "RequestEnergy": "edge_sdk.bench.result",
    "Settings": "edge_sdk.bench.benching",
    "Start": "edge_sdk.bench.result",
    "Way": "edge_sdk.bench.result",
    "bench": "edge_sdk.bench.benching",
}

__all__ = ["BARE_ENGINES", "Against", "BenchResult", "RequestEnergy", "Settings", "Start", "Way", "bench"]


def __getattr__(name: str) -> Any:
    """Names come in on first use: a process that times a bare engine must not load what that does not need."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(home), name)

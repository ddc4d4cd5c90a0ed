"""`bench`: how fast a model or bundle is here, what it takes, and how it compares; each in a process of its own.

from edge_sdk.bench import Settings, bench
print(bench("model.onnx", Settings(rate_hz=30)).paced.latencies.median_ms)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_sdk.exports import on_first_use

if TYPE_CHECKING:
    from edge_sdk.bench.bare import BARE_ENGINES
    from edge_sdk.bench.benching import Settings, bench
    from edge_sdk.bench.result import Against, BenchResult, RequestEnergy, Start, Way

__all__ = ["BARE_ENGINES", "Against", "BenchResult", "RequestEnergy", "Settings", "Start", "Way", "bench"]

__getattr__, __dir__ = on_first_use(
    __name__,
    {
        "edge_sdk.bench.bare": ("BARE_ENGINES",),
        "edge_sdk.bench.benching": ("Settings", "bench"),
        "edge_sdk.bench.result": ("Against", "BenchResult", "RequestEnergy", "Start", "Way"),
    },
)

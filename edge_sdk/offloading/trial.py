"""What a request to an endpoint takes on this device beside its head: the protocol, and threads that wake late."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edge_sdk.offloading.preparing import Prepared
from edge_sdk.planner.remote import RemotePlace, parts_ms

__all__ = ["asking_ms"]

REQUESTS, WORTH_MS = 5, 1000.0
"""So many are asked, the first of which opens connections, where all together are predicted to take less."""


def asking_ms(
    made: Prepared, requests: Sequence[Mapping[str, Any]], places: Callable[[], Sequence[RemotePlace]]
) -> float | None:
    """Asks a few requests; what they take above head, link, and endpoint.

    They also teach the link and the endpoint's load what no probe does. None where the endpoints did not answer, or
    where a request takes so long that it says nothing.

    Args:
        made: the way to go.
        requests: as the variant's file takes them.
        places: the endpoints as they are now.
    """
    if REQUESTS * _predicted_ms(made, places()) > WORTH_MS:
        return None
    beyond_heads_ms: list[float] = []
    for turn in range(REQUESTS):
        remote, began_s = made.split.figures().remote, time.perf_counter()
        made.split.run(requests[turn % len(requests)])
        took_ms = (time.perf_counter() - began_s) * 1e3
        if made.split.figures().remote > remote and turn > 0:
            beyond_heads_ms.append(took_ms - made.split.head_times.latest()[-1])
    if not beyond_heads_ms:
        return None
    beside_ms = _predicted_ms(made, places()) - made.computed_ms
    return max(statistics.median(beyond_heads_ms) - beside_ms, 0.0) if beside_ms < float("inf") else None


def _predicted_ms(made: Prepared, places: Sequence[RemotePlace]) -> float:
    return min((sum(parts_ms(made.way, place)) for place in places), default=float("inf"))

"""A few requests to endpoints before they are chosen: what asking takes here, and whether the answers are right."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from edge_sdk.offloading.preparing import Prepared
from edge_sdk.planner.remote import RemotePlace, parts_ms
from edge_sdk.tensors import Array

__all__ = ["asking_ms", "compared"]

REQUESTS, WORTH_MS = 5, 1000.0
"""So many are asked, the first of which opens connections, where all together are predicted to take less."""
ALIKE = 0.1
"""Mean difference of an output over its mean size: another engine's rounding makes less, another model makes more."""


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
    found_ms = _beyond_heads_ms(made, requests)
    beside_ms = _predicted_ms(made, places()) - made.computed_ms
    return max(statistics.median(found_ms) - beside_ms, 0.0) if found_ms and beside_ms < float("inf") else None


def compared(made: Prepared, requests: Sequence[Mapping[str, Any]]) -> str:
    """Asks a few requests of the whole model at endpoints that do not tell which file theirs is made from.

    Returns:
        What is wrong with the answers; "" where they are those that this device gives.
    """
    split, answered = made.split, False
    for request, outputs, _ in _answered(made, requests[:REQUESTS], len(requests[:REQUESTS])):
        answered = True
        expected = split.local({name: request[name] for name in split.split.travels})
        for name, array in expected.items():
            apart = _apart(np.asarray(array), np.asarray(outputs[name]))
            if not apart <= ALIKE:
                return f"its answers differ from those given here by {apart:.0%} at output {name!r}: another model?"
    return "" if answered else split.figures().failure or "it gave no answer in time"


def _apart(expected: Array, found: Array) -> float:
    if expected.shape != found.shape:
        return float("inf")
    if expected.dtype.kind not in "fiub":
        return float(np.mean(expected != found))
    one, other = expected.astype(np.float64), found.astype(np.float64)
    return float(np.abs(one - other).mean() / max(float(np.abs(one).mean()), 1e-12))


def _beyond_heads_ms(made: Prepared, requests: Sequence[Mapping[str, Any]]) -> list[float]:
    """What a few requests took that an endpoint answered, without their heads and without the first."""
    until_s = time.perf_counter() + WORTH_MS / 1e3
    found_ms = []
    for _, _, took_ms in _answered(made, requests, REQUESTS):
        found_ms.append(took_ms - made.split.head_times.latest()[-1])
        if time.perf_counter() > until_s:
            break
    return found_ms[1:]


def _answered(
    made: Prepared, requests: Sequence[Mapping[str, Any]], count: int
) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any], float]]:
    """Asks `count` requests in turn; those that an endpoint answered, with their outputs and what they took."""
    for turn in range(count):
        request = requests[turn % len(requests)]
        remote, began_s = made.split.figures().remote, time.perf_counter()
        outputs = made.split.run(request)
        took_ms = (time.perf_counter() - began_s) * 1e3
        if made.split.figures().remote > remote:
            yield request, outputs, took_ms


def _predicted_ms(made: Prepared, places: Sequence[RemotePlace]) -> float:
    return min((sum(parts_ms(made.way, place)) for place in places), default=float("inf"))

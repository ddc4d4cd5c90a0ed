"""A few requests to endpoints before they are chosen: what asking takes here, and whether the answers are right."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from edge_sdk.offload.hedge import Way, hedged
from edge_sdk.offloading.preparing import Prepared
from edge_sdk.planner.remote import RemotePlace, parts_ms
from edge_sdk.tensors import Array
from edge_sdk.wire.deadline import Deadline
from edge_sdk.wire.endpoint import Endpoint
from edge_sdk.wire.timeline import REAL_TIMELINE

__all__ = ["asked", "asking_empty_ms", "compared"]

REQUESTS, WORTH_MS = 5, 1000.0
"""So many are asked, the first of which opens connections, where all together are predicted to take less."""
EMPTY, EMPTY_WORTH_MS, EMPTY_TIMEOUT_MS = 5, 300.0, 1000.0
"""So many requests without bytes are asked at most, and one at least."""
ALIKE = 0.1
"""Mean difference of an output over its mean size: another engine's rounding makes less, another model makes more."""


def asking_empty_ms(endpoint: Endpoint) -> float:
    """What a request without bytes takes on this device beside its round trip, the way requests are asked: the
    protocol, and threads that wake. What asking takes at least, before anything was asked.

    Args:
        endpoint: whose link is known, and a connection open.

    Raises:
        DeadlineExceeded, EndpointError: it gave no answer.
    """
    times_ms: list[float] = []
    while len(times_ms) < EMPTY and sum(times_ms) < EMPTY_WORTH_MS:
        times_ms.append(_empty_ms(endpoint))
    link = endpoint.link.estimate()
    return 0.0 if link is None else max(statistics.median(times_ms) - link.rtt_ms, 0.0)


def _empty_ms(endpoint: Endpoint) -> float:
    began_s = time.perf_counter()
    ask = partial(endpoint.probe, deadline=Deadline.after(EMPTY_TIMEOUT_MS))
    ways = [Way(ask, lambda: None, math.inf, remote=True)]  # never overtaken: there is no other
    hedged(lambda _: ways.pop() if ways else None, REAL_TIMELINE)
    return (time.perf_counter() - began_s) * 1e3


def asked(made: Prepared, requests: Sequence[Mapping[str, Any]], places: Sequence[RemotePlace]) -> bool:
    """Asks a few requests, so that `made` tells what asking takes; they teach the links what no probe does, too.

    Args:
        made: the way to go.
        requests: as the variant's file takes them.
        places: the endpoints as they are now.

    Returns:
        Whether an endpoint answered. Nothing is asked where it would take so long that it says nothing.
    """
    predicted_ms = min((sum(parts_ms(made.way, place)) for place in places), default=float("inf"))
    if REQUESTS * predicted_ms > WORTH_MS:
        return False
    until_s = time.perf_counter() + WORTH_MS / 1e3
    for turn in range(REQUESTS):
        made.split.run(requests[turn % len(requests)])
        if turn == 0:
            made.split.asking_times.clear()  # it opened the connection
        if time.perf_counter() > until_s:
            break
    return made.asking_ms() is not None


def compared(made: Prepared, requests: Sequence[Mapping[str, Any]]) -> str:
    """Asks a few requests of the whole model at endpoints that do not tell which file theirs is made from.

    Returns:
        What is wrong with the answers; "" where they are those that this device gives.
    """
    split, answered = made.split, False
    for request in requests[:REQUESTS]:
        remote = split.figures().remote
        outputs = split.run(request)
        if split.figures().remote == remote:
            continue
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

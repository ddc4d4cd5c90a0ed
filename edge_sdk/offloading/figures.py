"""How the requests of a session with endpoints went so far, whichever ways they took, and how the endpoints are now."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from edge_sdk.engines.base import Runner
from edge_sdk.offload import CascadeRunner, SplitFigures, SplitRunner
from edge_sdk.offload.adaptive import AdaptiveRunner
from edge_sdk.offloading.guide import LOCAL
from edge_sdk.wire.endpoint import Endpoint

__all__ = ["EndpointFigures", "endpoint_figures", "figures_of"]


class EndpointFigures(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint as it is now.

    Attributes:
        name: its address.
        breaker: "closed" where it may be asked, "open" where it failed too often and rests, "half-open" where the next
            request finds out.
        rtt_ms, up_mbps, down_mbps: of the link; None where nothing tells yet.
        failure_share: of the latest requests, those that got no answer, 0 to 1; None before any.
    """

    name: str
    breaker: str
    rtt_ms: float | None = None
    up_mbps: float | None = None
    down_mbps: float | None = None
    failure_share: float | None = None


def endpoint_figures(endpoint: Endpoint) -> EndpointFigures:
    """What is known of it."""
    link, state = endpoint.link.estimate(), endpoint.breaker.state
    if link is None:
        return EndpointFigures(name=endpoint.name, breaker=state)
    return EndpointFigures(
        name=endpoint.name,
        breaker=state,
        rtt_ms=link.rtt_ms,
        up_mbps=link.up_mbps,
        down_mbps=link.down_mbps,
        failure_share=link.failure_share,
    )


def figures_of(runner: Runner) -> SplitFigures:
    """Figures of all ways together; what stayed here because that was planned counts as local."""
    total = SplitFigures()
    for found in _parts(runner):
        if isinstance(found, AdaptiveRunner):
            stayed = found.counts().get(LOCAL, 0)
            own = SplitFigures(requests=stayed, local=stayed)
        else:
            own = found.figures()
        total = _added(total, own)
    return total


def _parts(runner: Runner) -> Iterator[SplitRunner | AdaptiveRunner]:
    if isinstance(runner, CascadeRunner):
        yield from _parts(runner.big)
    elif isinstance(runner, AdaptiveRunner):
        yield runner
        for way in runner.prepared.values():
            yield from _parts(way)
    elif isinstance(runner, SplitRunner):
        yield runner
    elif runner.inner is not None:
        yield from _parts(runner.inner)


def _added(one: SplitFigures, other: SplitFigures) -> SplitFigures:
    counts = [name for name in SplitFigures.__struct_fields__ if name != "failure"]
    sums = {name: getattr(one, name) + getattr(other, name) for name in counts}
    return SplitFigures(**sums, failure=other.failure or one.failure)

"""How the requests of a session with endpoints went so far, whichever ways they took."""

from __future__ import annotations

from collections.abc import Iterator

from edge_sdk.engines.base import Runner
from edge_sdk.offload import CascadeRunner, SplitFigures, SplitRunner
from edge_sdk.offload.adaptive import AdaptiveRunner
from edge_sdk.offloading.guide import LOCAL

__all__ = ["figures_of"]


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

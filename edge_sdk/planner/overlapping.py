"""Runners that answer several requests at the same time: answers come more often than one request takes."""

from __future__ import annotations

from abc import abstractmethod

from edge_sdk.engines.base import Runner

__all__ = ["Overlapping", "overlapping"]


class Overlapping(Runner):
    """A runner of one model that is several: lanes beside each other, or stages one behind the other."""

    @abstractmethod
    def request_ms(self) -> float:
        """What one request takes at most, as known now; 0 before the first."""


def overlapping(runner: Runner) -> Overlapping | None:
    """The runner, or one that it wraps, where that answers several requests at the same time."""
    inner: Runner | None = runner
    while inner is not None and not isinstance(inner, Overlapping):
        inner = inner.inner
    return inner

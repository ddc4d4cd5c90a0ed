"""A runner whose threads the kernel takes for weaker or stronger ones than they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge_sdk.device.utilization import UtilizationClamp, clamped
from edge_sdk.engines.base import Runner
from edge_sdk.engines.wrapping import WrappingRunner

__all__ = ["ClampedRunner"]


class ClampedRunner(WrappingRunner):
    """Clamps the calling thread while it computes, and what threads the engine starts then.

    Args:
        inner: the runner behind it, loaded in a thread with this clamp, so that its workers have it; closed with this.
        clamp: theirs.
    """

    def __init__(self, inner: Runner, clamp: UtilizationClamp) -> None:
        super().__init__(inner)
        self.notes = (
            *inner.notes,
            f"threads are clamped to a utilisation of {clamp.at_least} to {clamp.at_most} of 1024",
        )
        self._clamp = clamp

    def run(self, feeds: Mapping[str, Any], out: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """See `Runner.run`."""
        with clamped(self._clamp):
            return self.inner.run(feeds, out)

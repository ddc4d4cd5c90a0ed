"""A runner whose threads the kernel takes for weaker or stronger ones than they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge_sdk.device.utilization import UtilizationClamp, clamped
from edge_sdk.engines.base import PlacementReport, Runner

__all__ = ["ClampedRunner"]


class ClampedRunner(Runner):
    """Clamps the calling thread while it computes, and what threads the engine starts then.

    Args:
        inner: the runner behind it, loaded in a thread with this clamp, so that its workers have it; closed with this.
        clamp: theirs.
    """

    def __init__(self, inner: Runner, clamp: UtilizationClamp) -> None:
        self.inner: Runner = inner
        self.engine, self.model, self.options = inner.engine, inner.model, inner.options
        self.inputs, self.outputs, self.optional_inputs = inner.inputs, inner.outputs, inner.optional_inputs
        self.notes = (
            *inner.notes,
            f"threads are clamped to a utilisation of {clamp.at_least} to {clamp.at_most} of 1024",
        )
        self.queue, self._clamp = inner.queue, clamp

    @property
    def at_once(self) -> int:  # type: ignore[override]
        """See `Runner`."""
        return self.inner.at_once

    def run(self, feeds: Mapping[str, Any], out: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """See `Runner.run`."""
        with clamped(self._clamp):
            return self.inner.run(feeds, out)

    def reset_state(self) -> None:
        """See `Runner.reset_state`."""
        self.inner.reset_state()

    def placement(self) -> PlacementReport:
        """See `Runner.placement`."""
        return self.inner.placement()

    def close(self) -> None:
        """Closes the runner behind it."""
        self.inner.close()

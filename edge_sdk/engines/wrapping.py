"""A runner around another one: as the one behind it in all that it does not say otherwise."""

from __future__ import annotations

from edge_sdk.engines.base import PlacementReport, Runner

__all__ = ["WrappingRunner"]


class WrappingRunner(Runner):
    """What runners that stand around others have in common.

    Args:
        inner: the runner behind it; owned, closed with this one.
    """

    inner: Runner

    def __init__(self, inner: Runner) -> None:
        self.inner = inner
        self.engine, self.model, self.options = inner.engine, inner.model, inner.options
        self.inputs, self.outputs, self.optional_inputs = inner.inputs, inner.outputs, inner.optional_inputs
        self.notes, self.queue = inner.notes, inner.queue

    @property
    def at_once(self) -> int:  # type: ignore[override]
        """See `Runner`."""
        return self.inner.at_once

    def reset_state(self) -> None:
        """See `Runner.reset_state`."""
        self.inner.reset_state()

    def placement(self) -> PlacementReport:
        """See `Runner.placement`."""
        return self.inner.placement()

    def close(self) -> None:
        """Closes the runner behind it."""
        self.inner.close()

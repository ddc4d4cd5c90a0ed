"""Candidates in stages: given their cuts before anything is measured, loaded and checked when it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from edge_sdk.device.facts import Device
from edge_sdk.engines.base import Runner
from edge_sdk.errors import EdgeError
from edge_sdk.planner.plans import Candidate
from edge_sdk.planner.variants import Variant
from edge_sdk.schedule.placing import Placement

if TYPE_CHECKING:
    from edge_sdk.planner.staging import Staging

__all__ = ["StageCandidates"]

Answer = Mapping[str, Any]


class StageCandidates:
    """The candidates in stages of one choice.

    Args:
        variants: by name those to choose among.
        device: where they will run.
    """

    def __init__(self, variants: Mapping[str, Variant], device: Device) -> None:
        self._variants, self._device = variants, device
        self._stagings: dict[tuple[str, str], Staging | None] = {}

    def with_cuts(self, candidate: Candidate) -> Candidate:
        """A candidate in stages with its cuts and figures, infeasible where it cannot be cut; any other as it is."""
        if not candidate.placement.stages or not candidate.feasible:
            return candidate
        from edge_sdk.planner.staging import staged

        try:
            staging = self._staging(candidate)
        except EdgeError as error:
            return staged(candidate, None, f"cannot be cut in stages: {error}")
        fault = self._variants[candidate.variant].graph_fault or "it cannot be read as a graph"
        return staged(candidate, staging, "" if staging is not None else f"cannot be cut in stages: {fault}")

    def loaded(
        self,
        candidate: Candidate,
        load: Callable[[Placement], Runner],
        request: Callable[[Runner], Callable[[], object]],
        answers: Callable[[Runner], tuple[Answer, Answer]],
    ) -> tuple[Runner, Candidate]:
        """Loads a candidate so that its stages take about as long as each other, and compares it with the whole.

        Args:
            candidate: with cuts.
            load: loads it at a placement.
            request: makes a request of a runner, which it has run once.
            answers: one of the runner, and that of the whole model to the same request.

        Returns:
            The runner, and the candidate as it was cut in the end.

        Raises:
            EdgeError: as `load` and `request`, or the answers differ.
        """
        from edge_sdk.planner.staging import balanced, checked

        staging = self._staging(candidate)
        assert staging is not None, "a candidate that cannot be cut is not feasible"
        runner, placement = balanced(candidate.placement, staging, load, request)
        try:
            checked(runner, *answers(runner))
        except BaseException:
            runner.close()
            raise
        return runner, msgspec.structs.replace(candidate, placement=placement)

    def _staging(self, candidate: Candidate) -> Staging | None:
        """Where the variant may be cut; None where it cannot be read as a graph."""
        key = candidate.variant, candidate.engine
        if key not in self._stagings:
            from edge_sdk.planner.prediction import cost_model
            from edge_sdk.planner.staging import Staging

            variant = self._variants[candidate.variant]
            graph = variant.graph()
            model = cost_model(variant, candidate.engine, self._device)
            self._stagings[key] = None if graph is None else Staging(graph, model)
        return self._stagings[key]

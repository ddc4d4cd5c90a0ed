"""A small model answers; only requests it is unsure of go to a big one, here or at an endpoint.

feeds ── small ──▶ outputs ── sure ───────────────▶ outputs of the small one
                        └──── unsure ── big ───▶ outputs of the big one
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from edge_sdk.engines.base import NodePlacement, PlacementReport, Runner
from edge_sdk.errors import DeadlineExceeded, EndpointError, EngineError, ModelError, SessionClosed
from edge_sdk.metrics import Histogram
from edge_sdk.offload.gate import Gate
from edge_sdk.offload.local import computing
from edge_sdk.tensors import TensorSpec, check_out

__all__ = ["CascadeFigures", "CascadeRunner"]

log = logging.getLogger(__name__)


class CascadeFigures(msgspec.Struct, frozen=True, kw_only=True):
    """How requests went so far.

    Attributes:
        requests: all of them that got an answer.
        small: the small model was sure.
        escalated: the big one was asked, whether or not it answered.
        stood: of `escalated`: the big one failed, and the unsure answer was given.
        failure: why the big one last failed; "" where it never did.
    """

    requests: int = 0
    small: int = 0
    escalated: int = 0
    stood: int = 0
    failure: str = ""

    @property
    def escalated_share(self) -> float:
        """Share of requests that went to the big model; 0 before the first."""
        return self.escalated / self.requests if self.requests else 0.0


class CascadeRunner(Runner):
    """Runs a small model, and a big one where that is unsure; a `Runner` like any other.

    A request of several rows goes to the big model whole if any row is unsure. Models that keep state from request to
    request do not fit: the big one does not see all of them.

    Args:
        small: closed with this one.
        big: gives at least what is to be given; a local variant, a `SplitRunner` or another cascade. Closed with this
            one.
        gate: which answers of the small one stand.
        allow_unsure: whether an unsure answer is given where the big one fails; otherwise the failure is raised. (A
            `SplitRunner` has its own way back, and fails only if the device itself does.)

    Raises:
        ModelError: the small one does not give what the big one gives, takes what it does not take, or has no such
            output as the gate looks at.
    """

    engine = "cascade"

    def __init__(self, small: Runner, big: Runner, gate: Gate, *, allow_unsure: bool = False) -> None:
        _check_pair(small, big, gate)
        self.model, self.inputs, self.outputs = big.model, big.inputs, big.outputs
        self.optional_inputs = big.optional_inputs
        self.options = small.options
        self.queue = Histogram()
        self.notes = (
            f"cascade: {small.model} answers where its {gate.score} is at least {gate.threshold:.4g},"
            f" otherwise {big.model}",
            *(f"{runner.model}: {note}" for runner in (small, big) for note in runner.notes),
        )
        self.small, self.big, self.gate, self.allow_unsure = small, big, gate, allow_unsure
        self._compute_small, self._compute_big = computing(small), computing(big)
        self._specs = {spec.name: spec for spec in small.outputs}
        self._given = frozenset(spec.name for spec in big.outputs)
        self._lock = threading.Lock()
        self._small, self._escalated, self._stood, self._failure = 0, 0, 0, ""
        self._closed = False

    def run(self, feeds: Mapping[str, Any], out: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """See `Runner.run`.

        Raises:
            EngineError, EndpointError, DeadlineExceeded: of the small model; of the big one unless `allow_unsure`.
        """
        if self._closed:
            raise SessionClosed(f"{self.model}: the runner was closed before the call")
        if out:
            check_out(out, feeds, self.outputs, self.model)
        answer = self._compute_small(feeds)
        if self.gate.sure(answer, self._specs):
            self._count(small=1)
            return self._handed_out(answer, out)
        try:
            outputs = self._handed_out(self._compute_big(feeds), out)
        except (EngineError, EndpointError, DeadlineExceeded) as error:
            if not self.allow_unsure:
                self._count(escalated=1, failure=str(error))
                raise
            log.info("%s: the unsure answer of %s stands: %s", self.model, self.small.model, error)
            self._count(escalated=1, stood=1, failure=str(error))
            return self._handed_out(answer, out)
        self._count(escalated=1)
        return outputs

    def figures(self) -> CascadeFigures:
        """How requests went so far."""
        with self._lock:
            return CascadeFigures(
                requests=self._small + self._escalated,
                small=self._small,
                escalated=self._escalated,
                stood=self._stood,
                failure=self._failure,
            )

    def placement(self) -> PlacementReport:
        """Where both compute; a worker thread of each counts."""
        both = self.small.placement(), self.big.placement()
        counts: Counter[str] = Counter()
        for node in (node for report in both for node in report.nodes):
            counts[node.where] += node.count
        return PlacementReport(
            threads=tuple(thread for report in both for thread in report.threads),
            nodes=tuple(NodePlacement(where, count) for where, count in counts.most_common()),
            verified=all(report.verified for report in both),
        )

    def close(self) -> None:
        """Frees both. Idempotent."""
        self._closed = True
        self.small.close()
        self.big.close()

    def _handed_out(self, answer: Mapping[str, Any], out: Mapping[str, Any] | None) -> dict[str, Any]:
        outputs = {name: answer[name] for name in answer if name in self._given}
        for name, target in (out or {}).items():
            np.copyto(target, outputs[name])
            outputs[name] = target
        return outputs

    def _count(self, *, small: int = 0, escalated: int = 0, stood: int = 0, failure: str = "") -> None:
        with self._lock:
            self._small += small
            self._escalated += escalated
            self._stood += stood
            self._failure = failure or self._failure


def _check_pair(small: Runner, big: Runner, gate: Gate) -> None:
    gives = {spec.name: spec for spec in small.outputs}
    if gate.output not in gives:
        raise ModelError(
            f"{small.model}: has no output {gate.output!r} for the gate to look at; it gives {', '.join(gives)}"
        )
    for spec in big.outputs:
        own = gives.get(spec.name)
        if own is None or own.dtype != spec.dtype:
            told = "does not give it" if own is None else f"gives it as {own.dtype}"
            raise ModelError(
                f"{big.model} gives output {spec.name!r} as {spec.dtype}, {small.model} {told}; expected one signature:"
                " map one to the other's (edge_sdk.engines.mapped), or take variants of one bundle"
            )
    missing = sorted(_required(small.inputs, small) - {spec.name for spec in big.inputs})
    if missing:
        raise ModelError(
            f"{small.model} takes input {missing[0]!r}, which {big.model} does not; expected one signature"
        )


def _required(inputs: tuple[TensorSpec, ...], runner: Runner) -> set[str]:
    return {spec.name for spec in inputs if spec.name not in runner.optional_inputs}

"""What an endpoint itself takes, apart from the link to it: queueing and computing of each model, as it tells."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from edge_sdk.wire.faded import KEPT, median, weights
from edge_sdk.wire.passage import COMPUTE, QUEUE, Passage, told_ms

__all__ = ["Load", "LoadEstimate"]

MOST_MODELS = 64
MOST_TOLD_MS = 3.6e6


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadEstimate:
    """What one model takes at an endpoint.

    Attributes:
        queue_ms: waiting there.
        compute_ms: computing, decoding and encoding included.
        down_bytes: of its answer's tensors.
        measured: whether this comes from requests of ours; else the endpoint told it of those of others.
    """

    queue_ms: float
    compute_ms: float
    down_bytes: int
    measured: bool


@dataclass(slots=True)
class _Model:
    told: tuple[float, float] | None = None
    latest: deque[tuple[float, float, float, int]] = field(default_factory=lambda: deque(maxlen=KEPT))
    kept: LoadEstimate | None = None


class Load:
    """Estimates the load of one endpoint, by model. Any number of threads may record.

    Args:
        clock: seconds, as `time.monotonic` gives them.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._models: OrderedDict[str, _Model] = OrderedDict()

    @property
    def tells(self) -> bool:
        """Whether it told what a model computes. What one that does not takes is part of its link's figures."""
        with self._lock:
            return any(known.told is not None for known in self._models.values())

    def record(self, model: str, passage: Passage) -> None:
        """Adds an answered request."""
        down_bytes = passage.down_bytes - passage.down_head_bytes
        with self._lock:
            known = self._model(model)
            known.latest.append((self._clock(), passage.queue_ms, passage.compute_ms, down_bytes))
            known.kept = None

    def told(self, model: str, parameters: Mapping[str, Any]) -> None:
        """Takes what the metadata of a model tell, where they do."""
        compute_ms = told_ms(parameters, COMPUTE, MOST_TOLD_MS)
        if compute_ms is not None:
            with self._lock:
                known = self._model(model)
                known.told, known.kept = (told_ms(parameters, QUEUE, MOST_TOLD_MS) or 0.0, compute_ms), None

    def estimate(self, model: str) -> LoadEstimate | None:
        """What `model` takes there now; None where nothing is known."""
        with self._lock:
            known = self._models.get(model)
            if known is None:
                return None
            if known.kept is None:
                known.kept = self._estimated(known)
            return known.kept

    def _estimated(self, known: _Model) -> LoadEstimate | None:
        latest, told = known.latest, known.told
        if not latest:
            return (
                None
                if told is None
                else LoadEstimate(queue_ms=told[0], compute_ms=told[1], down_bytes=0, measured=False)
            )
        weighed = weights((one[0] for one in latest), self._clock())
        queue_ms, compute_ms = (median(zip((one[which] for one in latest), weighed, strict=True)) for which in (1, 2))
        return LoadEstimate(queue_ms=queue_ms, compute_ms=compute_ms, down_bytes=latest[-1][3], measured=True)

    def _model(self, name: str) -> _Model:
        known = self._models.get(name)
        if known is None:
            known = self._models[name] = _Model()
            if len(self._models) > MOST_MODELS:
                self._models.popitem(last=False)
        else:
            self._models.move_to_end(name)
        return known

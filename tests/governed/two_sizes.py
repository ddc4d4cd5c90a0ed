"""An engine that tells which variant computed, sensors that say what a test says, and a governor's thread on a lead."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from edge_sdk.device import Moment
from edge_sdk.engines import Engine, LoadOptions, NodePlacement, PlacementReport, Runner
from edge_sdk.engines.simulated import SimulatedClock
from edge_sdk.errors import EngineError, SessionClosed
from edge_sdk.formats import ModelFile
from edge_sdk.metrics import Histogram

WAIT_S = 30
LATENCY_MS = {"large": 4.0, "small": 0.5}


class TwoSizes(Engine):
    """Answers which variant computed: 64 for large, 4 for small; takes `LATENCY_MS` while `timed`.

    Attributes:
        open: runners that are loaded, by variant.
        no_load: variants that do not load.
        gate: requests wait for it.
        entered: released for each request that began.
        computed: called with the variant for each request.
    """

    name, formats, native = "two-sizes", frozenset({"onnx"}), False

    def __init__(self) -> None:
        self.timed = True
        self.open = {"large": 0, "small": 0}
        self.loads: list[str] = []
        self.no_load: set[str] = set()
        self.gate, self.entered = threading.Event(), threading.Semaphore(0)
        self.gate.set()
        self.computed: Callable[[str], None] = lambda variant: None

    def version(self) -> str | None:
        return "1"

    def default_threads(self, cpus: int) -> int:
        return 1

    def load(self, model: ModelFile, options: LoadOptions) -> Runner:
        return TwoSizesRunner(self, model, options)


class TwoSizesRunner(Runner):
    def __init__(self, engine: TwoSizes, model: ModelFile, options: LoadOptions) -> None:
        info = model.describe()
        self._by, self.options = engine, options
        self.engine, self.model, self.queue = engine.name, model.name, Histogram()
        self.inputs, self.outputs = info.inputs, info.outputs
        self.variant = "large" if info.parameters > 100 else "small"
        self.closed = False
        if self.variant in engine.no_load:
            raise EngineError(f"{self.variant} is out of order")
        engine.open[self.variant] += 1
        engine.loads.append(self.variant)

    def run(self, feeds: Mapping[str, Any], out: Mapping[str, Any] | None = None) -> dict[str, Any]:
        if self.closed:
            raise SessionClosed(f"{self.model} was closed under a request")
        if self._by.timed:
            time.sleep(LATENCY_MS[self.variant] / 1e3)
        else:
            self._by.entered.release()
            assert self._by.gate.wait(WAIT_S)
            self._by.computed(self.variant)
        return {"y": np.full((1, 4), 64.0 if self.variant == "large" else 4.0, np.float32)}

    def placement(self) -> PlacementReport:
        return PlacementReport((), (NodePlacement("cpu", 4),), False)

    def close(self) -> None:
        self.closed = True
        self._by.open[self.variant] -= 1


class SaidSensors:
    """Tells what a test says."""

    def __init__(self, clock: SimulatedClock) -> None:
        self._clock = clock
        self.says: dict[str, Any] = {"temperature_c": 40.0}

    def read(self) -> Moment:
        return Moment(at_s=self._clock(), **self.says)


class Ticks:
    """Lets a governor's thread look when a test says so, and not before."""

    def __init__(self, clock: SimulatedClock) -> None:
        self._clock = clock
        self._waits, self._goes = threading.Semaphore(0), threading.Semaphore(0)

    def wait(self, stopped: threading.Event, seconds: float) -> bool:
        self._waits.release()
        while not self._goes.acquire(timeout=0.02):
            if stopped.is_set():
                return True
        self._clock.sleep(seconds)
        return stopped.is_set()

    def settled(self) -> None:
        """Returns when the thread has nothing to do."""
        assert self._waits.acquire(timeout=WAIT_S)
        self._waits.release()

    def look(self, times: int = 1) -> None:
        for _ in range(times):
            assert self._waits.acquire(timeout=WAIT_S)
            self._goes.release()
            self.settled()

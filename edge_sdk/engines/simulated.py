"""An engine that executes nothing: for tests of what is built on this package, on any machine and without waiting.

    clock = SimulatedClock()
    behaviour = SimulatedBehaviour(latency_ms={1: 20.0, 4: 6.0}, clock=clock, fail_at={3: EngineError("…")})
    engine = SimulatedEngine(behaviour)
    session = edge_sdk.load("model.onnx", engine=engine)

The model file is real: names, shapes and dtypes come from it. It is chosen only by name, never by a plan.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from edge_sdk.device.facts import Accelerator
from edge_sdk.engines.base import Engine, LoadOptions, NodePlacement, PlacementReport, Runner
from edge_sdk.errors import AcceleratorError, EngineError, InputShapeError, SessionClosed
from edge_sdk.formats import ModelFile
from edge_sdk.metrics import Histogram
from edge_sdk.tensors import Array, TensorSpec

__all__ = ["SimulatedBehaviour", "SimulatedCall", "SimulatedClock", "SimulatedEngine", "SimulatedRunner"]

VERSION = "1.0"


class Sleeps(Protocol):
    """What lets time pass: `time`, or a `SimulatedClock`."""

    def sleep(self, seconds: float, /) -> None:
        """Lets `seconds` pass."""


class SimulatedClock:
    """A clock that moves only when told. Calling it gives seconds, as `time.perf_counter` does; threads share it.

    Args:
        now_s: where it starts.
    """

    def __init__(self, now_s: float = 0.0) -> None:
        self._now_s = now_s
        self._lock = threading.Lock()

    def __call__(self) -> float:
        """Seconds now."""
        return self._now_s

    def sleep(self, seconds: float, /) -> None:
        """Moves the clock on and returns at once."""
        with self._lock:
            self._now_s += max(seconds, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedBehaviour:
    """How a `SimulatedEngine` behaves. Calls are counted from 0 over all runners of an engine.

    Attributes:
        outputs: computes the outputs by name from the feeds by name; those it leaves out are zeros. None: all zeros.
        latency_ms: how long a call takes: one figure, or one by number of threads (the next smaller number counts;
            `LoadOptions.threads` of None stands for one thread).
        ms_per_mac: added to `latency_ms` for each of `macs`, divided by the number of threads.
        macs: multiply-accumulate operations of the model.
        load_ms: how long loading takes.
        clock: what lets this time pass: a `SimulatedClock`, or None for real time.
        fail_at: number of a call to the error it raises.
        hang_at: number of a call to the event it waits for before it goes on.
        wrong_at: calls whose outputs are wrong: numbers one too high, booleans inverted, strings with a "?" behind.
        fail_load: raised by `load`, for all accelerators or by name of the accelerator.
        crash_load: signal that `load` sends to its own process, as a broken native library would.
        accelerators: what the engine says it could reach; loading for any other raises `AcceleratorError`.
        placement: what runners report; None for all nodes where they were asked to run, unverified.
        keep_calls: how many calls are remembered.
    """

    outputs: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None
    latency_ms: float | Mapping[int, float] = 0.0
    ms_per_mac: float = 0.0
    macs: int = 0
    load_ms: float = 0.0
    clock: Sleeps | None = None
    fail_at: Mapping[int, BaseException] = field(default_factory=dict)
    hang_at: Mapping[int, threading.Event] = field(default_factory=dict)
    wrong_at: Collection[int] = ()
    fail_load: BaseException | Mapping[str, BaseException] | None = None
    crash_load: int | None = None
    accelerators: tuple[Accelerator, ...] = ()
    placement: PlacementReport | None = None
    keep_calls: int = 1000

    def call_ms(self, threads: int | None) -> float:
        """How long a call takes with so many threads, in milliseconds."""
        count = threads or 1
        if isinstance(self.latency_ms, Mapping):
            known = [n for n in self.latency_ms if n <= count] or sorted(self.latency_ms)[:1]
            fixed_ms = self.latency_ms[max(known)] if known else 0.0
        else:
            fixed_ms = self.latency_ms
        return fixed_ms + self.ms_per_mac * self.macs / count


@dataclass(frozen=True, slots=True)
class SimulatedCall:
    """One recorded call.

    Attributes:
        number: counted from 0 over all runners of the engine.
        model: name of the model.
        feeds: copies of what was fed.
        options: what the runner was loaded with.
        thread: name of the calling thread.
    """

    number: int
    model: str
    feeds: Mapping[str, Any]
    options: LoadOptions
    thread: str


class SimulatedEngine(Engine):
    """Computes nothing, in the time and with the failures that its behaviour tells.

    Args:
        behaviour: by default all outputs are zeros at once and nothing fails.
        name: what plans and reports call it.

    Attributes:
        calls: the latest calls, oldest first.
        loads: options of all loads, failed ones included.
        open_runners: how many runners are loaded and not closed.
    """

    name = "simulated"
    formats = frozenset({"onnx", "tflite"})

    def __init__(self, behaviour: SimulatedBehaviour | None = None, name: str = "simulated") -> None:
        self.name = name
        self.behaviour = behaviour or SimulatedBehaviour()
        self.calls: deque[SimulatedCall] = deque(maxlen=self.behaviour.keep_calls)
        self.loads: list[LoadOptions] = []
        self.open_runners = 0
        self._lock = threading.Lock()
        self._count = 0

    def version(self) -> str | None:
        """Version of the simulation."""
        return VERSION

    def load(self, model: ModelFile, options: LoadOptions) -> Runner:
        """See `Engine.load`; fails as the behaviour tells.

        Raises:
            AcceleratorError: `options.accelerator` is none of `behaviour.accelerators`.
        """
        behaviour = self.behaviour
        self.loads.append(options)
        if behaviour.crash_load is not None:
            os.kill(os.getpid(), behaviour.crash_load)
        failure = behaviour.fail_load
        if isinstance(failure, Mapping):
            failure = failure.get(options.accelerator)
        if failure is not None:
            raise failure
        known = {accelerator.name for accelerator in behaviour.accelerators if accelerator.present}
        if options.accelerator != "cpu" and options.accelerator not in known:
            raise AcceleratorError(
                f"{model.name}: accelerator {options.accelerator!r} is not simulated;"
                f" there are: {', '.join(sorted(known)) or 'none'}; name it in SimulatedBehaviour(accelerators=…)"
            )
        (behaviour.clock or time).sleep(behaviour.load_ms / 1e3)
        with self._lock:
            self.open_runners += 1
        return SimulatedRunner(self, model, options)

    def accelerators(self) -> tuple[Accelerator, ...]:
        """Those of the behaviour."""
        return self.behaviour.accelerators

    def default_threads(self, cpus: int) -> int:
        """One."""
        return 1

    def record(self, model: str, feeds: Mapping[str, Any], options: LoadOptions) -> int:
        """Remembers a call and gives its number."""
        copies = {name: np.array(value) for name, value in feeds.items()}
        with self._lock:
            number = self._count
            self._count += 1
            self.calls.append(SimulatedCall(number, model, copies, options, threading.current_thread().name))
        return number

    def forget_runner(self) -> None:
        """Counts a runner that was closed."""
        with self._lock:
            self.open_runners -= 1


class SimulatedRunner(Runner):
    """See `SimulatedBehaviour`."""

    def __init__(self, engine: SimulatedEngine, model: ModelFile, options: LoadOptions) -> None:
        info = model.describe()
        self.engine = engine.name
        self.model = model.name
        self.inputs, self.outputs = info.inputs, info.outputs
        self.optional_inputs = frozenset(info.initializer_inputs)
        self.options = options
        self.notes = ("simulated: nothing is executed",)
        self.queue = Histogram()
        self._by = engine
        self._nodes = sum(info.ops.values())
        self._closed = False

    def run(self, feeds: Mapping[str, Any], out: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """See `Runner.run`; records the call, hangs, lets time pass and fails as the behaviour tells."""
        if self._closed:
            raise SessionClosed(f"{self.model}: the runner was closed before the call")
        behaviour = self._by.behaviour
        number = self._by.record(self.model, feeds, self.options)
        if number in behaviour.hang_at:
            behaviour.hang_at[number].wait()
        (behaviour.clock or time).sleep(behaviour.call_ms(self.options.threads) / 1e3)
        if number in behaviour.fail_at:
            raise behaviour.fail_at[number]
        results = self._computed(feeds)
        if number in behaviour.wrong_at:
            results = {name: _wrong(array) for name, array in results.items()}
        return _into(results, out, self.model) if out else results

    def _computed(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        compute = self._by.behaviour.outputs
        given = compute(feeds) if compute else {}
        unknown = set(given) - {spec.name for spec in self.outputs}
        if unknown:
            names = ", ".join(repr(spec.name) for spec in self.outputs)
            wrong = ", ".join(map(repr, sorted(unknown)))
            raise EngineError(f"{self.model}: SimulatedBehaviour.outputs gives {wrong}; expected {names}")
        sizes = _sizes(self.inputs, feeds)
        # Copies: what a user's function hands out twice would otherwise change under an earlier caller.
        return {s.name: np.array(given[s.name]) if s.name in given else _zeros(s, sizes) for s in self.outputs}

    def placement(self) -> PlacementReport:
        """That of the behaviour, or all nodes where they were asked to run, unverified."""
        asked = PlacementReport((), (NodePlacement(self.options.accelerator, self._nodes),), verified=False)
        return self._by.behaviour.placement or asked

    def close(self) -> None:
        """Later calls raise `SessionClosed`."""
        if not self._closed:
            self._closed = True
            self._by.forget_runner()


def _sizes(inputs: tuple[TensorSpec, ...], feeds: Mapping[str, Any]) -> dict[str | None, int]:
    """Sizes of the named dimensions as fed; under None the first size of the first dynamic input: the batch."""
    sizes: dict[str | None, int] = {}
    for spec in inputs:
        shape = np.shape(feeds[spec.name]) if spec.name in feeds else ()
        for position, (dimension, size) in enumerate(zip(spec.shape or (), shape, strict=False)):
            if isinstance(dimension, str):
                sizes.setdefault(dimension, size)
            if position == 0 and not isinstance(dimension, int):
                sizes.setdefault(None, size)
    return sizes


def _zeros(spec: TensorSpec, sizes: Mapping[str | None, int]) -> Array:
    if spec.kind != "tensor":
        return np.zeros(0, np.float32)
    batch = sizes.get(None, 1)
    shape = []
    for position, dimension in enumerate(spec.shape or ()):
        if isinstance(dimension, int):
            shape.append(dimension)
        elif dimension in sizes and dimension is not None:
            shape.append(sizes[dimension])
        else:
            shape.append(batch if position == 0 else 1)
    if spec.dtype == "string":
        return np.full(shape, "", object)
    dtype = spec.numpy_dtype
    if dtype is None:
        raise EngineError(
            f"output {spec.name!r} is {spec.dtype}, which numpy has not; give it by SimulatedBehaviour.outputs"
        )
    return np.zeros(shape, dtype)


def _wrong(array: Array) -> Array:
    if array.dtype == object or array.dtype.kind in "US":
        flat = [f"{value}?" for value in array.ravel()]
        wrong = np.empty(len(flat), object)
        wrong[:] = flat
        return wrong.reshape(array.shape)
    if array.dtype.kind == "b":
        return ~array
    return array + np.ones((), array.dtype)


def _into(results: dict[str, Any], out: Mapping[str, Any], model: str) -> dict[str, Any]:
    for name, target in out.items():
        if name not in results or target.shape != results[name].shape or target.dtype != results[name].dtype:
            raise InputShapeError(f"{model}: out[{name!r}] does not fit an output of this model")
        np.copyto(target, results[name])
        results[name] = target
    return results

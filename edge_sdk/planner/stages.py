"""One model in stages: its parts one behind the other, each in a thread of its own on its own CPUs or accelerator.

While one request is in its second part, the next one is in its first. An answer comes as often as the slowest stage
ends; the weights are in memory once, and an accelerator and the CPU work at the same time.
"""

from __future__ import annotations

import queue
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from edge_sdk.device.affinity import running_on
from edge_sdk.engines.base import LoadOptions, NodePlacement, PlacementReport, Runner, ThreadPlacement
from edge_sdk.engines.guard import AcceleratorState
from edge_sdk.errors import ModelError, SessionClosed
from edge_sdk.formats import ModelFile, ModelInfo
from edge_sdk.metrics import Histogram
from edge_sdk.planner.overlapping import Overlapping, Request, own_thread
from edge_sdk.schedule.placing import Stage
from edge_sdk.tensors import TensorSpec

__all__ = ["StageFigures", "StagesRunner"]

WAITING = 1
"""So many requests more than there are stages are let in: a stage finds the next one when it ends, and no more of what
lies between two stages is kept."""

Load = Callable[[ModelFile, LoadOptions], Runner]


@dataclass(frozen=True, slots=True)
class StageFigures:
    """How a stage went so far.

    Attributes:
        stage: where it computes.
        requests: that passed it, failed ones included.
        service_ms: what one usually takes there; None before the first.
        threads: its own thread and its engine's workers, as read back from the kernel.
    """

    stage: Stage
    requests: int
    service_ms: float | None
    threads: tuple[ThreadPlacement, ...]


class StagesRunner(Overlapping):
    """The parts of a model, one behind the other. Callers wait in their own threads, the parts compute in theirs.

    Args:
        whole: what the model's file says of itself.
        name: of the model, for messages.
        parts: files of the parts, first to last; they may be closed afterwards.
        stages: where each computes.
        load: loads a part.
        options: all but CPUs, threads and accelerator.

    Raises:
        ModelError: the parts do not give what the model gives.
        EdgeError: as `load`, and where CPUs cannot be used; what was loaded until then is closed.
    """

    def __init__(
        self,
        whole: ModelInfo,
        name: str,
        parts: Sequence[ModelFile],
        stages: Sequence[Stage],
        load: Load,
        options: LoadOptions,
    ) -> None:
        accelerators = [stage.accelerator for stage in stages if stage.accelerator != "cpu"]
        self.model = name
        self.options = replace(options, accelerator=next(iter(accelerators), "cpu"), threads=None, cpus=None)
        self.queue = Histogram()
        self.at_once = len(stages) + WAITING
        self.stages = tuple(stages)
        with ExitStack() as begun:
            inside = threading.Semaphore(self.at_once)
            self._lines = [_Line(stage, inside) for stage in stages]
            self._lines[0].queue = self.queue
            for number, (line, part) in enumerate(zip(self._lines, parts, strict=True), 1):
                where = _options_of(line.stage, options)
                thread = threading.Thread(
                    target=_work, args=(line, lambda p=part, w=where: load(p, w)), daemon=True, name=f"stage-{number}"
                )
                begun.callback(line.end)
                thread.start()
                line.loaded.result()
                line.thread = thread
            begun.pop_all()
        runners = [line.loaded.result() for line in self._lines]
        self.engine = runners[0].engine
        notes = dict.fromkeys(note for runner in runners for note in runner.notes)
        self.notes = (*notes, f"{len(runners)} stages")
        self._connect(whole, runners)
        self._closing, self._closed = threading.Lock(), False
        self._end = weakref.finalize(self, _end, self._lines)
        self._end.atexit = False  # then runners free themselves, and nothing waits for a thread

    def _connect(self, whole: ModelInfo, runners: Sequence[Runner]) -> None:
        """Says what each stage takes and what it must keep for those behind it."""
        taken = {spec.name: spec for runner in reversed(runners) for spec in runner.inputs}
        given = {spec.name: spec for runner in runners for spec in runner.outputs}
        self.inputs = tuple(_told(taken, s) for s in whole.inputs if s.name not in whole.initializer_inputs)
        missing = [spec.name for spec in whole.outputs if spec.name not in given]
        made = {spec.name for spec in self.inputs}
        for runner in runners:
            missing += [spec.name for spec in runner.inputs if spec.name not in made]
            made |= {spec.name for spec in runner.outputs}
        if missing:
            self._stop()
            raise ModelError(f"{self.model}: its stages do not give {missing[0]!r}; run it whole")
        self.outputs = tuple(_told(given, spec) for spec in whole.outputs)
        needed = {spec.name for spec in self.outputs}
        for line, runner in zip(reversed(self._lines), reversed(runners), strict=True):
            line.kept = frozenset(needed)
            line.takes = tuple(spec.name for spec in runner.inputs)
            line.gives = frozenset(spec.name for spec in runner.outputs)
            needed |= set(line.takes)
        for line, following in zip(self._lines, self._lines[1:], strict=False):
            line.following = following
        self._lines[-1].answered = tuple(spec.name for spec in self.outputs)

    def begin(self, feeds: Mapping[str, Any], out: Mapping[str, Any] | None = None) -> Future[dict[str, Any]]:
        """See `Overlapping.begin`."""
        request = Request(feeds, out)
        with self._closing:
            if self._closed:
                raise SessionClosed(f"{self.model}: the runner was closed before the call")
            self._lines[0].requests.put(request)
        return request.answer

    def figures(self) -> tuple[StageFigures, ...]:
        """How each stage went so far, and where its threads may run."""
        found = []
        for line in self._lines:
            told = line.service.summary()
            found.append(StageFigures(line.stage, told.count, told.p50_ms, line.threads()))
        return tuple(found)

    def alone_ms(self) -> tuple[float, ...]:
        """The least that a request took in each stage so far; 0 before the first."""
        return tuple(line.service.summary().min_ms or 0.0 for line in self._lines)

    def request_ms(self) -> float:
        """See `Overlapping.request_ms`."""
        return sum(line.service.summary().p50_ms or 0.0 for line in self._lines)

    def placement(self) -> PlacementReport:
        """See `Runner.placement`; the stages' own threads are among the workers, since callers do not compute."""
        reports = [line.loaded.result().placement() for line in self._lines]
        nodes: dict[str, NodePlacement] = {}
        for place in (place for report in reports for place in report.nodes):
            known = nodes.get(place.where, NodePlacement(place.where, 0))
            nodes[place.where] = NodePlacement(place.where, known.count + place.count, known.nodes + place.nodes)
        threads = tuple(thread for line in self._lines for thread in line.threads())
        ordered = tuple(sorted(nodes.values(), key=lambda place: -place.count))
        return PlacementReport(threads, ordered, all(report.verified for report in reports))

    def accelerators(self) -> tuple[AcceleratorState, ...]:
        """See `Runner.accelerators`: one for each stage on one."""
        return tuple(state for line in self._lines for state in line.loaded.result().accelerators())

    def close(self) -> None:
        """See `Runner.close`. Waits for requests that are in the stages or in line; later ones are refused."""
        with self._closing:
            if not self._closed:
                self._closed = True
                self._end.detach()
                self._stop()

    def _stop(self) -> None:
        for line in self._lines:
            line.end()


class _Line:
    """The requests that wait for a stage, and what its thread knows. The first one has a `queue`, and lets in only as
    many as `inside` says."""

    def __init__(self, stage: Stage, inside: threading.Semaphore) -> None:
        self.stage, self.inside = stage, inside
        self.queue: Histogram | None = None
        self.requests: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self.loaded: Future[Runner] = Future()
        self.thread: threading.Thread | None = None
        self.service = Histogram()
        self.takes: tuple[str, ...] = ()
        self.gives = self.kept = frozenset[str]()
        self.answered: tuple[str, ...] = ()
        self.following: _Line | None = None

    def threads(self) -> tuple[ThreadPlacement, ...]:
        """The stage's own thread first, then its engine's."""
        return own_thread(self.thread) + self.loaded.result().placement().threads

    def end(self) -> None:
        """Has the thread close its runner, and waits for that."""
        self.requests.put(None)
        if self.thread is not None and self.thread is not threading.current_thread():
            self.thread.join()


def _end(lines: Sequence[_Line]) -> None:
    """What is left of a runner that nobody closed; its threads end by themselves."""
    for line in lines:
        line.requests.put(None)


def _work(line: _Line, load: Callable[[], Runner]) -> None:
    """A stage's thread: pinned for good, so that its part of the weights stays in its cores' caches."""
    try:
        with running_on(line.stage.cpus):
            try:
                runner = load()
            except BaseException as error:  # noqa: BLE001 - raised where the runner is made
                line.loaded.set_exception(error)
                return
            del load
            line.loaded.set_result(runner)
            try:
                while (request := line.requests.get()) is not None:
                    if _let_in(line, request):
                        _pass(line, runner, request)
                    del request  # not kept until the next one comes
            finally:
                runner.close()
    except BaseException as error:
        if line.loaded.done():
            raise
        line.loaded.set_exception(error)


def _let_in(line: _Line, request: Request) -> bool:
    """Before the first stage: waits until there is a place; False where the request is wanted no more."""
    if line.queue is None:
        return True
    line.inside.acquire()
    if request.answer.set_running_or_notify_cancel():
        line.queue.record((time.perf_counter() - request.came_s) * 1e3)
        return True
    line.inside.release()
    return False


def _pass(line: _Line, runner: Runner, request: Request) -> None:
    """One request through one stage, and on to the next."""
    began_s = time.perf_counter()
    values = request.values
    try:
        out = {name: array for name, array in request.out.items() if name in line.gives}
        values.update(runner.run({name: values[name] for name in line.takes if name in values}, out or None))
    except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
        line.service.record((time.perf_counter() - began_s) * 1e3)
        line.inside.release()
        request.answer.set_exception(error)
        del request, values  # the error holds this frame
        return
    line.service.record((time.perf_counter() - began_s) * 1e3)
    if line.following is not None:
        for name in [name for name in values if name not in line.kept]:
            del values[name]
        line.following.requests.put(request)
        return
    line.inside.release()
    request.answer.set_result({name: values[name] for name in line.answered})


def _options_of(stage: Stage, options: LoadOptions) -> LoadOptions:
    on_cpu = stage.accelerator == "cpu"
    return replace(
        options,
        threads=stage.threads,
        cpus=stage.cpus,
        accelerator=stage.accelerator,
        accelerator_options={} if on_cpu else options.accelerator_options,
    )


def _told(by_engine: Mapping[str, TensorSpec], described: TensorSpec) -> TensorSpec:
    """What the part's engine says of a tensor of the whole; the file's word where no part has it."""
    return by_engine.get(described.name, described)

"""A runner on an accelerator that may fail: the CPU answers for it, and it is tried again until it is well.

    working ── an error three times in a row, a crash, a hang, a wrong answer ──▶ quarantined ◀──┐
       ▲                                                                             │ rest      │ fails
       └──────────────── starts, and computes the kept request rightly ───────── probing ────────┘

No request is lost: the one that failed, and those that come while the accelerator rests, are answered by the CPU.
Trying it again happens beside the requests.
"""

from __future__ import annotations

import itertools
import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

import numpy as np

from edge_sdk.breaker import Breaker
from edge_sdk.engines.agreement import disagreement
from edge_sdk.engines.apart import ApartRunner, runs_apart
from edge_sdk.engines.base import Engine, LoadOptions, PlacementReport, Runner
from edge_sdk.engines.guard import AcceleratorState, announce, announce_fallback
from edge_sdk.engines.samples import OPEN_SIZES, made_up_feeds
from edge_sdk.errors import AcceleratorCrashed, AcceleratorError, AcceleratorHung, EdgeError, EngineError, InputError
from edge_sdk.formats import ModelFile
from edge_sdk.metrics import Histogram

__all__ = ["GuardedRunner"]

_log = logging.getLogger(__name__)

SOON = 10.0
"""Times the rest before: what fails again within that was not well."""


class _WrongAnswer(AcceleratorError):
    """It computed, and not what the CPU computes."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """A request with the CPU's answer."""

    feeds: Mapping[str, Any]
    expected: Mapping[str, Any]


class _Held:
    """A runner that is closed when it is no longer wanted and nobody computes on it."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self._users, self._retired, self._lock = 0, False, threading.Lock()

    def __enter__(self) -> Runner:
        with self._lock:
            self._users += 1
        return self.runner

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._users -= 1
            last = self._retired and not self._users
        if last:
            self.runner.close()

    def retire(self) -> None:
        """Nobody will want it any more."""
        with self._lock:
            first, self._retired = not self._retired, True
            unused = first and not self._users
        if unused:
            self.runner.close()


class GuardedRunner(Runner):
    """See `Runner`, and `Guard` for what it is held to. With `LoadOptions.strict` the CPU answers nothing: what the
    accelerator does not answer is raised, and it is tried again all the same.

    Args:
        engine: loads the model there and here.
        model: what to load; opened again for each trial.
        options: how to load it on the accelerator.
        on_cpu: how to load it on the CPU; as there where None.
        cause: why the accelerator did not start already; "" to start it now.

    Raises:
        AcceleratorError: it does not start, or answers the kept request wrongly.
    """

    def __init__(
        self,
        engine: Engine,
        model: ModelFile,
        options: LoadOptions,
        on_cpu: LoadOptions | None = None,
        cause: str = "",
    ) -> None:
        self._engine, self._file, self._guard = engine, model, options.guard
        self.engine, self.model, self.options = engine.name, model.name, options
        self.queue = Histogram()
        on_cpu = on_cpu or options
        self._on_cpu = replace(on_cpu, accelerator="cpu", accelerator_options={}, strict=False)
        self._apart = runs_apart(engine, model, options)
        self._breaker = Breaker(rest_s=self._guard.rest_s, longest_rest_s=self._guard.longest_rest_s)
        self._lock, self._loading_cpu, self._stopped = threading.Lock(), threading.Lock(), threading.Event()
        self._cpu: Runner | None = None
        self._kept: _Kept | None = None
        self._failures: Counter[str] = Counter()
        self._runs, self._answers, self._cpu_answers = itertools.count(1), itertools.count(1), itertools.count(1)
        self._answered = self._by_cpu_count = self._verified = self._restores = 0
        self._cause, self._finite = cause, True
        self._rest_s, self._restored_s = self._guard.rest_s, -math.inf
        self._held: _Held | None = None
        self._state = "quarantined"
        if cause:
            self._prepare_cpu()
            self._take_specs(self._cpu_runner())
            self._fail(self._breaker.admit() or 0, "start", cause)
            return
        try:
            runner = self._prepared()
        except BaseException:
            self._close_cpu()
            raise
        self._take_specs(runner)
        self._held, self._state = _Held(runner), "working"

    def _take_specs(self, runner: Runner) -> None:
        self.inputs, self.outputs, self.optional_inputs = runner.inputs, runner.outputs, runner.optional_inputs
        self.notes = runner.notes
        if self._apart:
            self.notes += (f"{self.options.accelerator} runs in a process of its own",)

    def run(self, feeds: Mapping[str, Any], out: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """See `Runner.run`."""
        held = self._held
        ticket = None if held is None else self._breaker.admit()
        if held is None or ticket is None:
            return self._by_cpu(feeds, out)
        checks = self._guard.check_every and next(self._runs) % self._guard.check_every == 0
        try:
            with held as runner:
                answer = runner.run(feeds, out)
                self._require_finite(feeds, answer)
                if checks:
                    self._require_right(runner)
        except InputError:
            self._breaker.abandoned(ticket)
            if self.options.strict:
                raise
            return self._by_cpu(feeds, out)  # it may take shapes that the accelerator does not
        except EngineError as error:
            return self._after_failure(ticket, error, feeds, out)
        self._breaker.succeeded(ticket)
        self._answered = next(self._answers)
        if checks:
            self._verified = self._answered
        return answer

    def _require_finite(self, feeds: Mapping[str, Any], answer: dict[str, Any]) -> None:
        """Compares an answer that holds NaN or infinity with the CPU's.

        Raises:
            _WrongAnswer: the CPU has numbers there.
        """
        if not self._finite or self.options.strict or _all_finite(answer):
            return
        if fault := disagreement(answer, self._cpu_runner().run(feeds), self._guard.tolerance):
            raise _WrongAnswer(self._told(f"it answers NaN or infinity where the CPU does not: {fault}"))
        self._finite = False  # this model's own

    def _require_right(self, runner: Runner) -> None:
        """Compares the answer to the kept request with the CPU's.

        Raises:
            _WrongAnswer: they differ.
        """
        kept = self._kept
        if kept is None:
            return
        if fault := disagreement(runner.run(kept.feeds), kept.expected, self._guard.tolerance):
            raise _WrongAnswer(self._told(f"it does not compute what the CPU computes: {fault}"))

    def _after_failure(
        self, ticket: int, error: EngineError, feeds: Mapping[str, Any], out: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        kind = _kind(error)
        try:
            if self.options.strict:
                raise error
            answer = self._by_cpu(feeds, out)
        except EdgeError:
            if kind == "error" and not self.options.strict:
                self._breaker.abandoned(ticket)  # the CPU cannot either: the request's own fault
            else:
                self._fail(ticket, kind, str(error))
            raise
        self._fail(ticket, kind, str(error))
        return answer

    def _by_cpu(self, feeds: Mapping[str, Any], out: Mapping[str, Any] | None) -> dict[str, Any]:
        if self.options.strict:
            raise AcceleratorError(self._told(f"it failed and is left alone for a while: {self._cause}"))
        answer = self._cpu_runner().run(feeds, out)
        self._by_cpu_count = next(self._cpu_answers)
        return answer

    def _fail(self, ticket: int, kind: str, cause: str) -> None:
        """Counts a failure, and begins the quarantine where that was one too many."""
        with self._lock:
            self._failures[kind] += 1
            self._cause = cause
            # A process that is gone, or wrong numbers, need no second time.
            self._breaker.failed(ticket, None if kind == "error" else self._rest())
            begins = (self._state == "working" and self._breaker.state != "closed") or kind == "start"
            if not begins:
                return
            held, self._held, self._state = self._held, None, "quarantined"
        announce_fallback(self._guard, f"{cause}{self._in_doubt(kind)}")
        probing = threading.Thread(target=self._probe, args=(held,), name="edge-sdk-probe", daemon=True)
        probing.start()

    def _rest(self) -> float:
        """How long it is left alone; twice as long each time where it fails again soon after it came back."""
        soon = time.monotonic() - self._restored_s < SOON * self._rest_s
        self._rest_s = min(2 * self._rest_s if soon else self._guard.rest_s, self._guard.longest_rest_s)
        return self._rest_s

    def _in_doubt(self, kind: str) -> str:
        doubtful = self._answered - self._verified
        return f"; the {doubtful} answers before may have been wrong" if kind == "wrong" and doubtful > 0 else ""

    def _probe(self, failed: _Held | None) -> None:
        """Tries the accelerator again after each rest, until it is well or the runner is closed."""
        if failed is not None:
            failed.retire()
        if not math.isfinite(self._guard.rest_s):
            return
        while not self._stopped.wait(self._breaker.rest_left_s()):
            ticket = self._breaker.admit()
            if ticket is None:
                continue
            self._state = "probing"
            try:
                runner = self._restarted()
            except EdgeError as error:
                with self._lock:
                    self._failures[_kind(error) if isinstance(error, _WrongAnswer) else "start"] += 1
                    self._cause, self._state = str(error), "quarantined"
                self._breaker.failed(ticket)
                _log.info("%s: still quarantined: %s", self.model, error)
                continue
            self._breaker.succeeded(ticket)
            self._restore(runner)
            return

    def _restore(self, runner: Runner) -> None:
        with self._lock:
            wanted = not self._stopped.is_set()
            if wanted:
                self._held, self._state = _Held(runner), "working"
                self._restores, self._restored_s = self._restores + 1, time.monotonic()
        if wanted:
            announce(self._guard, f"accelerator {self.options.accelerator!r} is back after: {self._cause}")
        else:
            runner.close()

    def _restarted(self) -> Runner:
        try:
            runner = self._started(self.options)
        finally:
            self._file.close()
        return self._seen_right(runner)

    def _prepared(self) -> Runner:
        runner = self._started(self.options)
        try:
            self._prepare_cpu()
        except BaseException:
            runner.close()
            raise
        try:
            return self._seen_right(runner)
        except _WrongAnswer as wrong:
            if not self.options.cache:
                raise
            # What was compiled at an earlier start may be stale in a way that nothing else tells.
            _log.info("%s: compiled anew: %s", self.model, wrong)
            return self._seen_right(self._started(replace(self.options, cache=False)))

    def _seen_right(self, runner: Runner) -> Runner:
        """The runner, or the error that its answer is wrong, with it closed."""
        try:
            self._require_right(runner)
        except BaseException:
            runner.close()
            raise
        return runner

    def _started(self, options: LoadOptions) -> Runner:
        if self._apart:
            runner: Runner = ApartRunner(self._engine, self._file, options, self._guard.timeout_s)
        else:
            runner = self._engine.load(self._file, options)
        runner.queue = self.queue
        return runner

    def _prepare_cpu(self) -> None:
        """Has the CPU answer the request that is kept for checking; without one nothing is checked."""
        try:
            cpu = self._engine.load(self._file, self._on_cpu)
        except EdgeError as error:
            _log.info("%s: nothing to compare the accelerator with: %s", self.model, error)
            return
        for size in OPEN_SIZES:
            feeds = made_up_feeds(cpu.inputs, cpu.optional_inputs, size)
            try:
                self._kept = _Kept(feeds, cpu.run(feeds))
                break
            except EdgeError as error:
                _log.debug("%s: made-up inputs of size %d do not do: %s", self.model, size, error)
        self._cpu = cpu
        if not self._guard.standby and not self._cause:
            self._close_cpu()

    def _cpu_runner(self) -> Runner:
        cpu = self._cpu
        if cpu is not None:
            return cpu
        with self._loading_cpu:
            if self._cpu is None:
                try:
                    self._cpu = self._engine.load(self._file, self._on_cpu)
                finally:
                    self._file.close()
            return self._cpu

    def _close_cpu(self) -> None:
        cpu, self._cpu = self._cpu, None
        if cpu is not None:
            cpu.close()

    def _told(self, what: str) -> str:
        return f"{self.model}: accelerator {self.options.accelerator!r}: {what}"

    def accelerators(self) -> tuple[AcceleratorState, ...]:
        """See `Runner.accelerators`."""
        with self._lock:
            resting = self._state == "quarantined" and math.isfinite(self._guard.rest_s)
            state = AcceleratorState(
                name=self.options.accelerator,
                state=self._state,
                apart=self._apart,
                answered=self._answered,
                by_cpu=self._by_cpu_count,
                unverified=self._answered - self._verified,
                failures=dict(self._failures),
                restores=self._restores,
                cause=self._cause,
                next_trial_s=round(self._breaker.rest_left_s(), 3) if resting else None,
            )
        return (state,)

    def placement(self) -> PlacementReport:
        """Of what computes now."""
        held = self._held
        if held is None:
            return self._cpu_runner().placement()
        with held as runner:
            return runner.placement()

    def close(self) -> None:
        """See `Runner.close`."""
        with self._lock:
            self._stopped.set()
            held, self._held = self._held, None
        if held is not None:
            held.retire()
        self._close_cpu()


def _kind(error: EdgeError) -> str:
    kinds = ((AcceleratorHung, "hang"), (AcceleratorCrashed, "crash"), (_WrongAnswer, "wrong"))
    return next((kind for of, kind in kinds if isinstance(error, of)), "error")


def _all_finite(answer: Mapping[str, Any]) -> bool:
    for array in answer.values():
        # The sum of finite numbers may be infinite, but not the other way round: it sorts out all but few cheaply.
        if array.dtype.kind == "f" and not math.isfinite(array.sum()) and not np.isfinite(array).all():
            return False
    return True

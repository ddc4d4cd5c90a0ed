"""Requests answered by whatever is loaded: swapped, retired or failed between two of them, none is lost."""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from time import perf_counter
from typing import TYPE_CHECKING, Any

from edge_sdk.activation import Active
from edge_sdk.errors import EngineError, InputError, OutOfMemory, SessionClosed
from edge_sdk.events import Events
from edge_sdk.metrics import DRAIN_AT
from edge_sdk.replanning import LEAST_BATCH, Replanner, lighter_than, worth_watching
from edge_sdk.settings import Settings
from edge_sdk.tensors import Array, Feeds, check_finite, check_out
from edge_sdk.timings import Timings

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    from edge_sdk.streaming import Pending

__all__ = ["Answering"]


class Answering:
    """What answers the requests of a session. Any number of threads may call it at once.

    Args:
        settings: how it was asked for.
        active: what runs first.
        began: when loading began, by `perf_counter`.
        events: for the report.
    """

    def __init__(self, settings: Settings, active: Active, began: float, events: Events) -> None:
        self._settings = settings
        self._active: Active | None = active
        self._began = began
        self._first_result_ms: float | None = None
        self._timings = Timings(active.plan)
        self._run_times: deque[float] = deque()
        self._batch = DRAIN_AT
        self._finite = settings.check_finite
        self._change = threading.Lock()
        self._threads: ThreadPoolExecutor | None = None
        self._events = events
        self._replanner: Replanner | None = None

    def run(self, feeds: Feeds, *, out: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """Runs the model once.

        Args:
            feeds: input name to array, or one array where the model has one input. Dtypes and shapes as in `inputs`.
            out: output name to a C-contiguous array of the output's dtype and shape to write into; it is then in the
                returned dict. It must not share memory with a feed. Outputs not named get a new array.

        Returns:
            Output name to array, in the model's order. New arrays are the caller's and never change afterwards.

        Raises:
            InputError: a name, shape or dtype does not fit; its subclasses tell which.
            EngineError: the engine failed.
            SessionClosed: the session was closed.
        """
        # After a large model has run, every line of this is out of the processor's cache: hence so few, and no helpers.
        started = perf_counter()
        active = self._active
        if active is None:
            raise _closed_error()
        lease = active.lease
        lease.append(None)
        if self._active is not active:  # swapped or closed in between
            active.release()
            active = self._hold()
            lease = active.lease
        try:
            checked = active.check(feeds)
            if out is not None or self._finite:
                self._check_more(active, checked, out)
            outputs = active.run(checked, out)
        except EngineError as error:
            outputs = self._after_failure(active, error, checked, out)
        finally:
            lease.pop()
            if active.retired and not lease:
                active.free()
        times = self._run_times
        times.append((perf_counter() - started) * 1e3)
        if len(times) >= self._batch:
            self._after_batch(active, checked)
        if self._first_result_ms is None:
            self._first_result_ms = (perf_counter() - self._began) * 1e3
        return outputs

    def _check_more(self, active: Active, feeds: dict[str, Any], out: Mapping[str, Array] | None) -> None:
        if out is not None:
            check_out(out, feeds, active.runner.outputs, active.name)
        if self._finite:
            check_finite(feeds, active.name)

    def _watch_plan(self) -> None:
        """Begins to watch the plan that runs now, where another could take over."""
        old, self._replanner, self._batch = self._replanner, None, DRAIN_AT
        if old is not None:
            old.stop()
        active = self._active
        if active is not None and worth_watching(self._settings, active.plan):
            self._replanner = Replanner(self._settings, active.plan, self._take, self._events)
            self._batch = LEAST_BATCH

    def _after_batch(self, active: Active, feeds: dict[str, Any]) -> None:
        self._hand_on_times()
        replanner = self._replanner
        if replanner is not None:
            self._batch = replanner.judge(active, feeds)

    def _hand_on_times(self) -> None:
        """Latencies collected so far go to the histogram, and to whoever watches the plan."""
        times: list[float] = []
        with suppress(IndexError):  # other threads hand on too
            while True:
                times.append(self._run_times.popleft())
        self._timings.add(times)
        if self._replanner is not None and self._replanner.add(times):
            self._batch = 1  # the next request has them judged

    def _take(self, old: Active, new: Active) -> bool:
        """Puts `new` in the place of `old`, unless something else took it in between."""
        with self._change:
            if self._active is not old:
                return False
            self._put(new)
        old.retire()
        return True

    def _put(self, new: Active) -> None:
        """New requests go to it; what those before took is counted apart. Called while `_change` is held."""
        self._hand_on_times()
        self._timings.begin(new.plan)
        self._active = new

    def _hold(self) -> Active:
        while True:
            active = self._active
            if active is None:
                raise _closed_error()
            active.lease.append(None)
            if self._active is active:
                return active
            active.release()  # swapped in between: hold the new one

    def _after_failure(
        self, failed: Active, error: EngineError, feeds: dict[str, Any], out: Mapping[str, Array] | None
    ) -> dict[str, Array]:
        """Memory that was refused loses no request where there is a lighter variant: it answers this one and those that
        follow. A failing accelerator's requests are answered by its runner, on the CPU."""
        try:
            return self._lighter(failed, error, feeds, out)
        except EngineError:
            self._events.add("request_failed")
            raise

    def _lighter(
        self, failed: Active, error: EngineError, feeds: dict[str, Any], out: Mapping[str, Array] | None
    ) -> dict[str, Array]:
        if not isinstance(error, OutOfMemory):
            raise error
        with self._change:
            if self._active is failed:
                lighter = lighter_than(failed, self._settings, str(error))
                if lighter is None:
                    raise error
                line = f"{lighter.plan.variant} takes over from {failed.plan.variant}: {error}"
                self._events.tell("lighter_variant", line)
                self._put(lighter)
                failed.retire(wait=False)  # this very request still holds it
        active = self._hold()
        try:
            return active.runner.run(feeds, out)
        finally:
            active.release()

    async def arun(self, feeds: Feeds, *, out: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """`run` without blocking the event loop. Cancelling drops the answer; the engine finishes its request."""
        import asyncio  # a tenth of a second on a small board, for those who use it

        return await asyncio.get_running_loop().run_in_executor(
            self._pool(), functools.partial(self.run, feeds, out=out)
        )

    def stream(self, frames: Iterable[Feeds], *, ahead: int = 1) -> Iterator[dict[str, Array]]:
        """Runs the model on each item and yields the answers in order.

        While one item computes, the next are taken from `frames`: a camera's decoding costs no time of its own. Loaded
        for throughput, as many compute at once as keep all lanes or stages busy, and twice as many are taken before
        their turn. An answer that is there is not kept until so many have come. Who stops taking answers has what was
        not begun dropped.

        Args:
            frames: feeds, one after the other; may be endless.
            ahead: how many items are taken before their turn; 0 takes each only when the one before was answered.

        Raises:
            As `run`, at the item that failed; what `frames` raises comes through as it is.
        """
        if ahead < 0:
            raise InputError(f"ahead is {ahead}; expected 0 or more")
        if ahead == 0:
            for feeds in frames:
                yield self.run(feeds)
            return
        from concurrent.futures import ThreadPoolExecutor

        from edge_sdk.planner.overlapping import Overlapping
        from edge_sdk.streaming import in_order

        runner = self._now().runner
        at_once = runner.at_once
        if self._settings.offload is not None:
            at_once = ahead + 1  # the head of one frame runs while those before it travel
        elif at_once > 1:
            ahead = max(ahead, 2 * at_once)  # answers come in order: a slow lane's must not let the others wait
        if isinstance(runner, Overlapping):
            yield from in_order(self._begin, frames, ahead)
            return
        with ThreadPoolExecutor(at_once, "edge-sdk-stream") as threads:
            yield from in_order(lambda feeds: threads.submit(self.run, feeds), frames, ahead)

    def _begin(self, feeds: Feeds) -> Pending[dict[str, Array]]:
        """`run` of what computes in its own threads, without waiting; what fails is told when the answer is taken."""
        from concurrent.futures import Future

        from edge_sdk.planner.overlapping import Overlapping
        from edge_sdk.streaming import Begun

        started = perf_counter()
        active = self._hold()
        if not isinstance(active.runner, Overlapping):  # swapped in meanwhile
            active.release()
            return self._pool().submit(self.run, feeds)
        try:
            checked = active.check(feeds)
            if self._finite:
                self._check_more(active, checked, None)
            answer = active.runner.begin(checked)
        except BaseException as error:
            active.release()
            if not isinstance(error, Exception):
                raise
            refused: Future[dict[str, Array]] = Future()
            refused.set_exception(error)
            return refused

        def ended(answer: Future[dict[str, Array]]) -> None:
            if not answer.cancelled() and answer.exception() is None:
                self._run_times.append((perf_counter() - started) * 1e3)
            active.release()

        def answered() -> None:
            if len(self._run_times) >= self._batch:
                self._after_batch(active, checked)
            if self._first_result_ms is None:
                self._first_result_ms = (perf_counter() - self._began) * 1e3

        answer.add_done_callback(ended)
        return Begun(answer, answered, lambda error: self._after_failure(active, error, checked, None))

    def warm_up(self, runs: int = 1, sample: Feeds | None = None) -> float:
        """Runs the model before the first real request, so that caches are filled and workers started.

        Args:
            runs: how often.
            sample: what to feed; made-up inputs where None.

        Returns:
            Latency of the last run in milliseconds. None of them counts in the report.
        """
        from edge_sdk.engines.samples import made_up_feeds

        active = self._hold()
        try:
            runner = active.runner.computing
            feeds = active.check(sample) if sample is not None else made_up_feeds(runner.inputs, runner.optional_inputs)
            latency_ms = 0.0
            for _ in range(runs):
                began = perf_counter()
                runner.run(feeds)
                latency_ms = (perf_counter() - began) * 1e3
            runner.reset_state()
            return latency_ms
        finally:
            active.release()

    def reset_state(self) -> None:
        """Forgets the state carried from call to call: the next request begins with zeros."""
        active = self._hold()
        try:
            active.runner.reset_state()
        finally:
            active.release()

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._active is None

    @property
    def in_progress(self) -> int:
        """Requests that compute now, or wait inside the session; 0 once it is closed."""
        active = self._active
        return 0 if active is None else len(active.lease)

    def _now(self) -> Active:
        active = self._active
        if active is None:
            raise _closed_error()
        return active

    def _pool(self) -> ThreadPoolExecutor:
        with self._change:
            if self._threads is None:
                from concurrent.futures import ThreadPoolExecutor

                from edge_sdk.device.affinity import usable_cpus

                self._threads = ThreadPoolExecutor(max(2, len(usable_cpus())), "edge-sdk-run")
            return self._threads


def _closed_error() -> SessionClosed:
    return SessionClosed("the session is closed; load the model again")

"""One loaded version of a model: its queue, and the threads that compute what is in it.

Everything but `_compute` happens on the event loop's thread, so there are no locks. Requests wait in a queue of their
own while all threads are busy; those of one form that wait together are computed together.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any

from cloud_offload.pace import Pace
from cloud_offload.refusals import busy, late
from cloud_offload.repository import ModelFiles
from cloud_offload.settings import ServeSettings
from edge_sdk.schedule.joining import Form, form_of, joined, may_batch, parted
from edge_sdk.tensors import Array, FeedCheck

if TYPE_CHECKING:
    from edge_sdk.session import Session

__all__ = ["Serving", "load_serving", "serving_of"]


@dataclass(slots=True, eq=False)
class _Pending:
    feeds: dict[str, Any]
    answer: asyncio.Future[dict[str, Array]]
    deadline_s: float
    form: Form | None = None
    rows: int = 1
    came_s: float = field(default_factory=perf_counter)
    queue_s: float = 0.0


class Serving:
    """A session and the requests to it. Made by `load_serving`.

    Attributes:
        files: what it was loaded from.
        parameters: what metadata and answers tell of it: `edge_bundle` is the digest of the bundle, or sha256 of the
            model file.
        meter: what metrics call it; the model's name where they tell all models apart.
        check: of feeds; a request that does not fit must not spoil the batch of others.
        batches: whether requests may be computed together.
        batch_sizes: requests computed together, of the latest computations; emptied by whoever reads it.
        pace: how long requests wait and are computed.
    """

    def __init__(
        self,
        files: ModelFiles,
        session: Session,
        parameters: Mapping[str, str],
        batches: bool,
        settings: ServeSettings,
        meter: str = "",
    ) -> None:
        self.files, self.session, self.parameters, self.batches = files, session, dict(parameters), batches
        self.meter = meter or files.name
        self._settings = settings
        self.check = FeedCheck(session.inputs, where=f"model {files.name!r}")
        self._queue: deque[_Pending] = deque()
        self._running = 0
        self._inside = 0
        self._held = 0
        self._retired = False
        self._slots = settings.threads
        self.batch_sizes: deque[int] = deque(maxlen=4096)
        self.pace = Pace()

    @property
    def in_progress(self) -> int:
        """Requests that wait or are computed."""
        return self._inside

    @property
    def computing(self) -> bool:
        """Whether a thread computes, be it for a request that was given up."""
        return self._running > 0

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keeps the session open, also if it is retired while the body of a request is still coming."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
            self._close_if_done()

    async def infer(
        self, feeds: dict[str, Any], deadline_s: float, executor: Executor
    ) -> tuple[dict[str, Array], float]:
        """Computes one request.

        Args:
            feeds: what the session takes, checked by `check`.
            deadline_s: by `time.monotonic`; infinity for none.

        Returns:
            Its outputs, and how many seconds it waited.

        Raises:
            Refusal: the queue is full, or the deadline passed.
            EdgeError: the session refused the feeds or failed.
        """
        where = f"model {self.files.name!r}"
        if deadline_s <= monotonic():
            raise late(where)
        if self._inside >= self._settings.queue:
            raise busy(503, f"{where}: {self._inside} requests are in progress already; try again later")
        loop = asyncio.get_running_loop()
        pending = _Pending(feeds, loop.create_future(), deadline_s)
        if self.batches and (found := form_of(feeds)) is not None:
            pending.form, pending.rows = found
        self._inside += 1
        try:
            self._queue.append(pending)
            if self._settings.batch_delay_ms and self.batches:
                loop.call_later(self._settings.batch_delay_ms / 1e3, self._start, loop, executor)
            else:
                # Later in this turn of the loop: requests that came in the same moment are then in the queue too.
                loop.call_soon(self._start, loop, executor)
            left_s = None if deadline_s == float("inf") else max(deadline_s - monotonic(), 0)
            async with asyncio.timeout(left_s):
                return await pending.answer, pending.queue_s
        except TimeoutError:
            raise late(where) from None
        finally:
            # The answer of a request that was given up is dropped where it is computed already, else never begun.
            pending.answer.cancel()
            self._inside -= 1
            self._close_if_done()

    def _start(self, loop: asyncio.AbstractEventLoop, executor: Executor) -> None:
        while self._queue and self._running < self._slots:
            batch = self._next()
            if not batch:
                return
            self._running += 1
            self.batch_sizes.append(len(batch))
            future = loop.run_in_executor(executor, _compute, self.session, batch)
            future.add_done_callback(partial(self._finish, batch, loop, executor))

    def _next(self) -> list[_Pending]:
        batch: list[_Pending] = []
        left: list[_Pending] = []
        rows = 0
        while self._queue:
            pending = self._queue.popleft()
            if pending.answer.done() or pending.deadline_s <= monotonic():
                continue  # whoever waits for it is told by the deadline itself
            if not batch:
                batch.append(pending)
                rows = pending.rows
                if pending.form is None:
                    break
            elif pending.form == batch[0].form and rows + pending.rows <= self._settings.max_batch:
                batch.append(pending)
                rows += pending.rows
            else:
                left.append(pending)
        self._queue.extendleft(reversed(left))
        return batch

    def _finish(
        self, batch: Sequence[_Pending], loop: asyncio.AbstractEventLoop, executor: Executor, done: asyncio.Future[Any]
    ) -> None:
        self._running -= 1
        error = done.exception() if not done.cancelled() else RuntimeError("the endpoint is stopping")
        for index, pending in enumerate(batch):
            if pending.answer.done():
                continue
            result = error if error is not None else done.result()[index]
            if isinstance(result, BaseException):
                pending.answer.set_exception(result)
            else:
                pending.answer.set_result(result)
        self._start(loop, executor)
        self._close_if_done()

    def retire(self) -> None:
        """No new request comes: closes the session when the last one in progress has ended."""
        self._retired = True
        self._close_if_done()

    def _close_if_done(self) -> None:
        # A request that was given up may still be computing: its thread must not lose the session.
        if self._retired and not self._held and not self._inside and not self._running:
            self.session.close()


def _compute(session: Session, batch: Sequence[_Pending]) -> list[dict[str, Array] | Exception]:
    """Answers of the requests in `batch`, in order; in a thread of the executor."""
    began_s = perf_counter()
    for pending in batch:
        pending.queue_s = began_s - pending.came_s
    if len(batch) > 1:
        try:
            parts = parted(session.run(joined([p.feeds for p in batch])), [p.rows for p in batch])
            if parts is not None:
                return list(parts)
        except Exception:  # noqa: BLE001 - one request may spoil it for all: each is tried alone
            pass
    answers: list[dict[str, Array] | Exception] = []
    for pending in batch:
        if pending.deadline_s <= monotonic():
            answers.append(late("request"))
            continue
        pending.queue_s = perf_counter() - pending.came_s
        try:
            answers.append(session.run(pending.feeds))
        except Exception as error:  # noqa: BLE001 - it is that request's answer
            answers.append(error)
    return answers


def load_serving(files: ModelFiles, settings: ServeSettings) -> Serving:
    """Loads and warms up one version. Takes a while: not for the event loop's thread.

    Raises:
        EdgeError: the model cannot be used.
    """
    return serving_of(str(files.path), files, {"edge_bundle": _digest(files)}, settings)


def serving_of(
    model: str | bytes, files: ModelFiles, parameters: Mapping[str, str], settings: ServeSettings, meter: str = ""
) -> Serving:
    """Loads and warms up a model: its path or its content.

    Raises:
        EdgeError: the model cannot be used.
    """
    import edge_sdk

    session = edge_sdk.load(model, plan_budget_s=settings.plan_budget_s)
    try:
        session.warm_up()
        batches = settings.max_batch > 1 and may_batch(session.inputs, session.outputs, session.run)
        serving = Serving(files, session, parameters, batches, settings, meter)
        serving.pace.record(0.0, session.warm_up() / 1e3)
        return serving
    except BaseException:
        session.close()
        raise


def _digest(files: ModelFiles) -> str:
    if files.platform == "edge_bundle":
        from edge_sdk import bundle

        return bundle.open(files.path).digest
    with open(files.path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

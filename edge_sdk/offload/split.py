"""A model whose head runs here and whose tail runs at an endpoint, with the local tail as the way back.

feeds ── head ──▶ tensors of the cut ──┬──▶ endpoint ──▶ outputs       whichever ends first
                                       └──▶ local tail ─▶ outputs      (late, failed, refused: only this one)

With several endpoints the next one may come before the local tail: see `edge_sdk.offload.asking`.
"""

from __future__ import annotations

import copy
import logging
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from edge_sdk.breaker import Breaker
from edge_sdk.engines.base import LoadOptions, PlacementReport, Runner
from edge_sdk.errors import EdgeError, EndpointResting, EngineError, SessionClosed
from edge_sdk.metrics import Histogram
from edge_sdk.offload.asking import MOST_AWAY, Asking, Transfers
from edge_sdk.offload.gate import EarlyExit
from edge_sdk.offload.halves import Halves
from edge_sdk.offload.hedge import HedgeBudget, Outcome, hedged
from edge_sdk.offload.local import Compute, LocalTail
from edge_sdk.offload.preference import Preference
from edge_sdk.offload.sending import Sending
from edge_sdk.offload.split_spec import SplitFigures, SplitSpec
from edge_sdk.tensors import Array, check_out
from edge_sdk.wire.blame import is_own_fault
from edge_sdk.wire.deadline import Deadline
from edge_sdk.wire.encoded import Feed
from edge_sdk.wire.endpoint import Answer, Endpoint
from edge_sdk.wire.overdue import Transfer
from edge_sdk.wire.recent import Recent
from edge_sdk.wire.timeline import REAL_TIMELINE, Timeline

__all__ = ["SplitRunner"]

log = logging.getLogger(__name__)

LONGEST_BESIDE_MS = 5000.0
"""How long a request that only asks what an endpoint is like may take."""
ASKING_TIMES = 15
LONGEST_REFUSED_S = 5.0
"""How long an endpoint that refuses the tail is left alone at most: it may be given the model at any time."""


class SplitRunner(Runner):
    """Runs a split model; a `Runner` like any other. No request is lost while the device itself can answer it.

    Args:
        split: what is divided, and how.
        head: computes the head; a `Runner` is closed with this one.
        local: the local tail; closed with this one.
        endpoints: in order of preference while nothing is known of their links; not closed with this one.
        deadline_ms: of each request, from the start of its head; None for none. An answer that could not be had in time
            is given late, and counted.
        first_patience_ms: how long an endpoint has for itself while its link is unknown.
        refuse_nan: whether an endpoint's answer with NaN is computed again here.
        early: an exit of a multi-exit model that the head gives; where it is sure, no tail is asked.
        timeline: time and threads.

    Attributes:
        preference: which endpoint is asked first, and why.
        asking_times: what the latest requests took on this device beside their heads: packing, the protocol, threads
            that wake. Of those that the first endpoint answered before another way began.

    Raises:
        InputValueError: `early` does not fit what head and tail give.
        InputError, MissingExtra: there is no such coding, or it is not installed.
    """

    engine = "split"

    def __init__(
        self,
        split: SplitSpec,
        head: Runner | Compute,
        local: LocalTail,
        endpoints: Sequence[Endpoint],
        *,
        deadline_ms: float | None = None,
        first_patience_ms: float = 500.0,
        refuse_nan: bool = True,
        early: EarlyExit | None = None,
        timeline: Timeline = REAL_TIMELINE,
    ) -> None:
        self.model, self.inputs, self.outputs = split.name, split.inputs, split.outputs
        self.options = LoadOptions()
        self.notes = (
            f"split: the tail {split.tail!r} runs at {', '.join(e.name for e in endpoints) or 'no endpoint'}",
        )
        self.split, self.endpoints = split, tuple(endpoints)
        self._halves = Halves(head, local)
        self._sending = Sending(split.codings, split.content_coding)
        self._deadline_ms, self._first_patience_ms = deadline_ms, first_patience_ms
        self._refuse_nan = refuse_nan
        if early is not None:
            early.check(split.outputs, split.gives)
        self._early, self._specs = early, {spec.name: spec for spec in split.outputs}
        self._timeline = timeline
        self._begin_anew()

    def _begin_anew(self) -> None:
        """Nothing was asked yet."""
        self.queue = Histogram()
        self.asking_times = Recent(ASKING_TIMES)
        self._latest = threading.local()
        self._away_now: set[Transfer] = set()
        self._hedges = HedgeBudget()
        # An endpoint that is well and refuses this very tail (no such model, unknown token) is not asked each time.
        self._refusals = {e: Breaker(longest_rest_s=LONGEST_REFUSED_S, clock=self._timeline) for e in self.endpoints}
        self.preference = Preference(self.endpoints, self.split.tail, self._is_well, self._timeline)
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(("requests", "remote", "local", "hedged", "resting", "late", "early", "beside"), 0)
        self._failure = ""
        self._closed = False

    @property
    def local(self) -> LocalTail:
        """The local tail."""
        return self._halves.local

    @property
    def head_times(self) -> Recent:
        """What the latest heads took, without packing what travels."""
        return self._halves.head_times

    def repacked(self, codings: Mapping[str, str], content_coding: str, first_patience_ms: float) -> SplitRunner:
        """Another runner of the same split whose requests travel packed otherwise. Head and local tail are theirs
        together, and freed with the last of them.

        Args:
            codings, content_coding: see `SplitSpec`.
            first_patience_ms: how long an endpoint has for itself while its link is unknown.

        Raises:
            InputError, MissingExtra: there is no such coding, or it is not installed.
            SessionClosed: this one was closed.
        """
        sending = Sending(codings, content_coding)
        other = copy.copy(self)
        other._halves = self._halves.taken()
        other.split = replace(self.split, codings=dict(codings), content_coding=content_coding)
        other._sending, other._first_patience_ms = sending, first_patience_ms
        other._begin_anew()
        return other

    def was_remote(self) -> bool:
        """Whether an endpoint answered the latest request of this thread."""
        return getattr(self._latest, "remote", False)

    def prepare(self) -> None:
        """Asks each endpoint about the tail without waiting: where it makes it on demand, it begins to, and the way
        there is open before the first request."""
        for endpoint in self.endpoints:
            self._timeline.start(partial(self._look_at, endpoint))

    def _look_at(self, endpoint: Endpoint) -> None:
        try:
            endpoint.metadata(self.split.tail, version=self.split.version)
        except EdgeError as error:  # requests will meet it, and tell
            log.info("%s: the tail is not ready: %s", self.model, error)

    def run(self, feeds: Mapping[str, Any], out: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """See `Runner.run`.

        Raises:
            EngineError: the head failed, or endpoint and local tail both did.
        """
        if out:
            check_out(out, feeds, self.outputs, self.model)
        deadline, computed = self._begin(feeds)
        return self._finish(feeds, computed, deadline, Transfers(), out)

    def run_stream(self, frames: Iterable[Mapping[str, Any]], depth: int = 2) -> Iterator[dict[str, Any]]:
        """Runs frame after frame; the head of the next one runs while those before it travel.

        Args:
            frames: feeds; the next is asked for when fewer than `depth` are on their way.
            depth: frames between the start of their head and their answer: 1 for none at once, 2 for one that travels
                while the next head runs.

        Yields:
            Outputs, in the order of `frames`.

        Raises:
            EngineError: as `run`.
        """
        travelling: deque[tuple[Future[dict[str, Any]], Transfers]] = deque()
        try:
            for feeds in frames:
                travelling.append(self._send_off(feeds))
                if len(travelling) >= depth:
                    yield self._next_of(travelling)
            while travelling:
                yield self._next_of(travelling)
        finally:
            for _, transfers in travelling:  # whoever reads the stream went away
                transfers.give_up()

    def cut_of(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """Runs the head; what travels, not packed yet.

        Raises:
            EngineError: the head failed.
        """
        return self._cut(feeds, self._timed_head(feeds))

    def packed_bytes(self, cut: Mapping[str, Array]) -> int:
        """Packs what travels, as for a request; how many bytes of tensors that makes."""
        return self._sending.packed_bytes(self._sending.encoded(cut))

    def figures(self) -> SplitFigures:
        """How requests went so far."""
        with self._lock:
            return SplitFigures(**self._counts, moved=self.preference.moved, failure=self._failure)

    def forget_figures(self) -> None:
        """Counts from here on: what was asked before was to try it."""
        with self._lock:
            self._counts = dict.fromkeys(self._counts, 0)
            self._failure = ""

    def placement(self) -> PlacementReport:
        """Where the head computes."""
        head = self._halves.head
        return head.placement() if isinstance(head, Runner) else PlacementReport((), (), verified=False)

    def close(self) -> None:
        """Frees head and local tail, unless another runner goes with them. Idempotent."""
        with self._lock:
            closed, self._closed = self._closed, True
        if not closed:
            self._halves.let_go()

    def _begin(self, feeds: Mapping[str, Any]) -> tuple[Deadline, Mapping[str, Any]]:
        if self._closed:
            raise SessionClosed(f"{self.model}: the runner was closed before the call")
        return Deadline.after(self._deadline_ms, self._timeline), self._timed_head(feeds)

    def _timed_head(self, feeds: Mapping[str, Any]) -> Mapping[str, Any]:
        began_s = self._timeline()
        computed = self._halves.compute_head(feeds)
        self._halves.head_times.record((self._timeline() - began_s) * 1e3)
        return computed

    def _send_off(self, feeds: Mapping[str, Any]) -> tuple[Future[dict[str, Any]], Transfers]:
        deadline, computed = self._begin(feeds)
        transfers = Transfers()
        return self._timeline.start(lambda: self._finish(feeds, computed, deadline, transfers)), transfers

    def _next_of(self, travelling: deque[tuple[Future[dict[str, Any]], Transfers]]) -> dict[str, Any]:
        future = travelling[0][0]
        self._timeline.first([future], None)
        travelling.popleft()
        return future.result()

    def _finish(
        self,
        feeds: Mapping[str, Any],
        computed: Mapping[str, Any],
        deadline: Deadline,
        transfers: Transfers,
        out: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """From what the head computed to the outputs of the whole model."""
        answer: Mapping[str, Any] | None = None
        self._latest.remote = False
        if self._early is not None:
            answer = self._early.answer(computed, self._specs)
        if answer is not None:
            self._count_early(deadline)
        else:
            cut = self._cut(feeds, computed)
            outcome = self._tail(cut, deadline, transfers)
            self._count(outcome, deadline)
            answer = outcome.result
        outputs = {}
        for spec in self.outputs:
            source = answer if spec.name in answer else computed
            if spec.name not in source:
                raise EngineError(f"{self.model}: neither head nor tail gives output {spec.name!r}; check the split")
            outputs[spec.name] = _handed_out(source[spec.name], (out or {}).get(spec.name))
        return outputs

    def _cut(self, feeds: Mapping[str, Any], computed: Mapping[str, Any]) -> dict[str, Any]:
        """What travels, of what the head computed and what it was fed."""
        cut = {}
        for name in self.split.travels:
            source = computed if name in computed else feeds
            if name not in source:
                raise EngineError(
                    f"{self.model}: the head does not give {name!r}, which the tail needs; check the split"
                )
            cut[name] = source[name]
        return cut

    def _tail(self, cut: Mapping[str, Array], deadline: Deadline, transfers: Transfers) -> Outcome[Mapping[str, Any]]:
        began_s = self._timeline()
        size_bytes = sum(array.nbytes for array in cut.values())
        admitted = [e for e in self.endpoints if e.breaker.admits() and self._refusals[e].admits()]
        able = self.preference.order(size_bytes, admitted)
        if not able or len(self._away_now) >= MOST_AWAY:
            why = EndpointResting(f"{self.model}: no endpoint may be asked now") if self.endpoints else None
            return Outcome(self.local(cut), remote=False, hedged=False, failure=why)
        feeds = self._sending.encoded(cut)
        size_bytes = sum(feed.nbytes for feed in feeds.values())
        needs_ms = self.local.needs_ms()
        if needs_ms is not None:
            # A busy machine wakes a thread late, once when the local tail begins and once when its answer is taken: as
            # late as it lately ever was, since beginning too early costs little.
            needs_ms += 2 * (self._halves.woken_late.percentile_ms(1.0) or 0.0)

        def here() -> Mapping[str, Any]:
            late_s = self._timeline() - asking.due_s
            if late_s >= 0:  # before that it begins because the endpoint failed
                self._halves.woken_late.record(late_s * 1e3)
            return self.local(cut)

        answered: list[tuple[Endpoint, float]] = []

        def there(endpoint: Endpoint, transfer: Transfer) -> Mapping[str, Any]:
            outputs, exchange_ms = self._ask(endpoint, cut, feeds, deadline, transfer)
            answered.append((endpoint, exchange_ms))
            return outputs

        asking = Asking(
            able,
            self.split.tail,
            size_bytes,
            there,
            here,
            needs_ms,
            deadline,
            self._first_patience_ms,
            transfers,
            self._away_now,
            self._hedges.spare(),
        )
        outcome = hedged(asking.next_way, self._timeline)
        self._hedges.ended(outcome.hedged and asking.local_begun)
        took_ms = (self._timeline() - began_s) * 1e3
        self._latest.remote = outcome.remote
        if outcome.remote and not outcome.hedged:
            self.asking_times.record(max(took_ms - answered[0][1], 0.0))
        overtaken = outcome.hedged and able[0] not in [endpoint for endpoint, _ in answered[:1]]
        self.preference.ended(able[0], took_ms if overtaken else None)
        if outcome.remote and (beside := self.preference.beside(able)) is not None:
            copied = {name: array.copy() if isinstance(array, np.ndarray) else array for name, array in cut.items()}
            self._timeline.start(partial(self._ask_beside, beside, copied))
        return outcome

    def _ask_beside(self, endpoint: Endpoint, cut: Mapping[str, Array]) -> None:
        """Asks only to learn what the endpoint is like now."""
        transfer, began_s, took_ms = Transfer(), self._timeline(), None
        self._away_now.add(transfer)
        try:
            self._ask(
                endpoint, cut, self._sending.encoded(cut), Deadline.after(LONGEST_BESIDE_MS, self._timeline), transfer
            )
            took_ms = (self._timeline() - began_s) * 1e3
        except EdgeError as error:
            log.info("%s: %s was asked beside: %s", self.model, endpoint.name, error)
        finally:
            self._away_now.discard(transfer)
            self.preference.came_back(endpoint, took_ms)
            with self._lock:
                self._counts["beside"] += 1

    def _is_well(self, endpoint: Endpoint) -> bool:
        return endpoint.breaker.state == "closed" and self._refusals[endpoint].state == "closed"

    def _ask(
        self,
        endpoint: Endpoint,
        cut: Mapping[str, Array],
        feeds: Mapping[str, Feed],
        deadline: Deadline,
        transfer: Transfer,
    ) -> tuple[Mapping[str, Any], float]:
        """Outputs, and what the exchange took."""

        def infer(feeds: Mapping[str, Feed], content_coding: str) -> Answer:
            return endpoint.infer(
                self.split.tail,
                feeds,
                outputs=[spec.name for spec in self.split.gives],
                version=self.split.version,
                deadline=deadline,
                identity=self.split.identity,
                expected=self.split.gives,
                refuse_nan=self._refuse_nan,
                transfer=transfer,
                content_coding=content_coding,
            )

        refusals = self._refusals[endpoint]
        ticket = refusals.admit()
        if ticket is None:
            raise EndpointResting(f"{endpoint.name}: refused the tail {self.split.tail!r} too often")
        try:
            answer = self._sending.ask(endpoint, cut, feeds, infer)
        except BaseException as error:
            (refusals.failed if is_own_fault(error) else refusals.abandoned)(ticket)
            raise
        refusals.succeeded(ticket)
        return self._as_here(answer.outputs), answer.duration_ms

    def _as_here(self, outputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """Strings travel as bytes; engines here give them as `str`."""
        texts = [spec.name for spec in self.split.gives if spec.dtype == "string"]
        if not texts:
            return outputs
        read = dict(outputs)
        for name in texts:
            flat = [v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in outputs[name].ravel()]
            read[name] = np.array(flat, object).reshape(outputs[name].shape)
        return read

    def _count_early(self, deadline: Deadline) -> None:
        with self._lock:
            self._counts["requests"] += 1
            self._counts["early"] += 1
            self._counts["late"] += deadline.passed()

    def _count(self, outcome: Outcome[Mapping[str, Any]], deadline: Deadline) -> None:
        failure = outcome.failure
        resting = isinstance(failure, EndpointResting)
        with self._lock:
            counts = self._counts
            counts["requests"] += 1
            counts["remote" if outcome.remote else "local"] += 1
            counts["hedged"] += outcome.hedged
            counts["resting"] += resting
            counts["late"] += deadline.passed()
            if failure is not None and not resting:
                self._failure = str(failure)
        if failure is not None and not resting:
            log.info("%s: answered here: %s", self.model, failure)


def _handed_out(array: Any, target: Array | None) -> Any:
    """The array as the caller gets it: in `target` where one is given, and always one that the caller may write to."""
    if target is not None:
        np.copyto(target, array)
        return target
    if isinstance(array, np.ndarray) and not array.flags.writeable:
        return array.copy()
    return array

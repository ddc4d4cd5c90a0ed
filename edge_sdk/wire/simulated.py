"""A link and an endpoint for tests of what is built on this package, without a network and without waiting.

    timeline = SimulatedTimeline()
    link = SimulatedLink(bandwidth_mbps=10, delay_ms=20, outages=((1.0, 3.0),))
    endpoint = SimulatedEndpoint({"tail": lambda feeds: {"y": feeds["x"] * 2}}, link=link, timeline=timeline)
    endpoint.infer("tail", {"x": array}).outputs["y"]
    timeline()          # the seconds that would have passed

Nothing here waits for real, and the same seed gives the same run. One thread only may use a `SimulatedTimeline`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from edge_sdk.breaker import Breaker
from edge_sdk.errors import DeadlineExceeded, EdgeError, EndpointRefused, EndpointResting
from edge_sdk.tensors import Array, TensorSpec
from edge_sdk.wire.blame import blame
from edge_sdk.wire.deadline import NO_DEADLINE, Deadline
from edge_sdk.wire.encoded import Encoded, Feed
from edge_sdk.wire.endpoint import Answer, Endpoint, ModelMetadata, TailIdentity, check_answer
from edge_sdk.wire.link import Link
from edge_sdk.wire.load import Load
from edge_sdk.wire.overdue import Transfer
from edge_sdk.wire.passage import COMPUTE, QUEUE, RECEIVE, RECEIVE_BYTES, Passage
from edge_sdk.wire.timeline import Timeline

__all__ = ["SimulatedEndpoint", "SimulatedLink", "SimulatedTimeline"]

Result = TypeVar("Result")
PACKET_BYTES = 1460
HEAD_BYTES = 300
"""What HTTP and JSON add to a request or an answer, about."""


class _Ending(Future[Result]):
    """A work whose end lies at a moment of simulated time."""

    ends_s = 0.0


class SimulatedTimeline(Timeline):
    """Time that passes only where something sleeps or waits.

    A work that is started runs at once and to its end, but the clock then goes back to where it was: its end is an
    event of the future, which `first` moves on to. So works overlap in time though one thread runs them all. What a
    request teaches link and breaker is known to them from its start on, even if it is given up before its end.

    Args:
        now_s: where it starts.
    """

    def __init__(self, now_s: float = 0.0) -> None:
        self._now_s = now_s

    def __call__(self) -> float:
        """Seconds now."""
        return self._now_s

    def sleep(self, seconds: float, /) -> None:
        """Lets `seconds` pass."""
        self._now_s += max(seconds, 0.0)

    def start(self, work: Callable[[], Result]) -> Future[Result]:
        """See `Timeline.start`."""
        began_s = self._now_s
        future = _Ending[Result]()
        try:
            future.set_result(work())
        except Exception as error:  # noqa: BLE001 - it belongs to whoever asks for the result
            future.set_exception(error)
        future.ends_s, self._now_s = self._now_s, began_s
        return future

    def first(self, pending: Collection[Future[Any]], timeout_s: float | None) -> Future[Any] | None:
        """See `Timeline.first`; of several that end at the same moment, the first in the order of `pending`."""
        ends = [future.ends_s if isinstance(future, _Ending) else self._now_s for future in pending]
        until_s = math.inf if timeout_s is None else self._now_s + max(timeout_s, 0.0)
        if not ends or min(ends) > until_s:
            self._now_s = max(self._now_s, until_s if math.isfinite(until_s) else self._now_s)
            return None
        self._now_s = max(self._now_s, min(ends))
        return next(future for future, end_s in zip(pending, ends, strict=True) if end_s <= self._now_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedLink:
    """A link as TCP sees it.

    Attributes:
        bandwidth_mbps: megabits a second, each direction.
        down_mbps: to the device, where that differs.
        delay_ms: one way.
        jitter_ms: added to the delay, uniform from 0 to this.
        loss: share of packets lost, 0 to 1 (below 1); a lost one is sent again after a round trip.
        outages: stretches (from, to) in seconds of the timeline in which nothing passes; what is on its way waits.
            `math.inf` for one that does not end.
        seed: of jitter and loss.
    """

    bandwidth_mbps: float = math.inf
    down_mbps: float | None = None
    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    loss: float = 0.0
    outages: tuple[tuple[float, float], ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        slowest = min(self.bandwidth_mbps, self.bandwidth_mbps if self.down_mbps is None else self.down_mbps)
        if not (slowest > 0 and self.delay_ms >= 0 and self.jitter_ms >= 0 and 0 <= self.loss < 1):
            raise ValueError(f"no link is like this: {self}; expected bandwidth above 0, loss from 0 to below 1")

    def arrives_s(self, sent_s: float, size_bytes: int, chance: random.Random) -> float:
        """When the last byte of what was sent at `sent_s` arrives, in seconds; infinity where it never does."""
        delay_ms = self.delay_ms + self.jitter_ms * chance.random()
        waiting = -(-size_bytes // PACKET_BYTES) if self.loss else 0
        while waiting := sum(chance.random() < self.loss for _ in range(waiting)):
            delay_ms += 2 * self.delay_ms
        left_s = delay_ms / 1e3 + size_bytes * 8e-6 / self.bandwidth_mbps
        now_s = sent_s
        for begins_s, ends_s in sorted(self.outages):
            if ends_s > now_s and (begins_s <= now_s or begins_s < now_s + left_s):
                left_s -= max(begins_s - now_s, 0.0)
                now_s = ends_s
        return now_s + left_s

    def back(self) -> SimulatedLink:
        """The way to the device."""
        return self if self.down_mbps is None else replace(self, bandwidth_mbps=self.down_mbps)

    def after_head(self, size_bytes: int) -> tuple[int, float]:
        """Of so many bytes, those that come after the first packet, and in how many milliseconds."""
        after = max(size_bytes - PACKET_BYTES, 0)
        return after, after * 8e-3 / self.bandwidth_mbps


class SimulatedEndpoint(Endpoint):
    """Runs Python functions behind a simulated link; see `Endpoint`. It does not try again by itself.

    Args:
        models: function by name: named arrays in, named arrays out. It may `timeline.sleep` as long as it computes.
        decode: of inputs that come as files; None to refuse them with status 415.
        link: the way there and back.
        timeline: its time.
        parameters: of the models' metadata, by name: `TailIdentity.parameters()` of the tail that is there.
        fail_at: number of a request, counted from 0, to the error that it ends with.
        timeout_s: how long a request without a nearer deadline may take.
        name: for messages.
        breaker: None for one by this time, jittered with the link's seed.
        tells: whether it tells how long it received and computed, as endpoints of ours do.

    Attributes:
        simulated: the way there and back; another one may be put here at any time.
        requests: how many came in, refused ones included.
        probes: how many probes came in.
    """

    def __init__(
        self,
        models: Mapping[str, Callable[[Mapping[str, Array]], Mapping[str, Array]]],
        *,
        decode: Callable[[Encoded], Array] | None = None,
        link: SimulatedLink | None = None,
        timeline: SimulatedTimeline | None = None,
        parameters: Mapping[str, Mapping[str, Any]] | None = None,
        fail_at: Mapping[int, EdgeError] | None = None,
        timeout_s: float = 30.0,
        name: str = "simulated",
        breaker: Breaker | None = None,
        tells: bool = True,
    ) -> None:
        self.name = name
        self.models = dict(models)
        self.parameters = dict(parameters or {})
        self.requests = self.probes = 0
        self.simulated = link or SimulatedLink()
        self._tells = tells
        self._computed_ms: dict[str, float] = {}
        self._chance = random.Random(self.simulated.seed)
        self._timeline = timeline or SimulatedTimeline()
        self.link, self.load = Link(clock=self._timeline), Load(clock=self._timeline)
        self._fail_at = dict(fail_at or {})
        self._timeout_s = timeout_s
        self._decode = decode
        self.breaker = breaker or Breaker(clock=self._timeline, chance=self._chance.random)

    def infer(
        self,
        model: str,
        feeds: Mapping[str, Feed],
        *,
        outputs: Sequence[str] | None = None,
        version: str = "",
        deadline: Deadline = NO_DEADLINE,
        identity: TailIdentity | None = None,
        expected: Sequence[TensorSpec] | None = None,
        refuse_nan: bool = False,
        transfer: Transfer | None = None,
        content_coding: str = "",
    ) -> Answer:
        """See `Endpoint.infer`."""
        ticket = self.breaker.admit()
        if ticket is None:
            raise EndpointResting(f"{self.name}: failed too often and is not asked for a while")
        sent_bytes = HEAD_BYTES + sum(array.nbytes for array in feeds.values())
        began_s = self._timeline()
        left = Deadline(deadline.at_s, self._timeline).within(self._timeout_s)
        where = f"{self.name}: model {model!r}"
        try:
            receive_bytes, receive_ms = self.simulated.after_head(sent_bytes)
            given = self._run(model, feeds, sent_bytes, left, identity, where)
            results = {name: array for name, array in given.items() if outputs is None or name in outputs}
            size_bytes = HEAD_BYTES + sum(array.nbytes for array in results.values())
            answer_bytes, answer_ms = self.simulated.back().after_head(size_bytes)
            self._travel(size_bytes, left, back=True)
            if expected is not None:
                check_answer(results, expected, where, refuse_nan)
        except BaseException as error:
            given_up = transfer is not None and transfer.given_up.is_set()
            spent_ms = (self._timeline() - began_s) * 1e3
            blame(self.link, self.breaker, ticket, error, spent_ms, sent_bytes, given_up)
            raise
        duration_ms = (self._timeline() - began_s) * 1e3
        self.breaker.succeeded(ticket)
        passage = Passage(
            up_bytes=sent_bytes,
            down_bytes=size_bytes,
            duration_ms=duration_ms,
            up_head_bytes=HEAD_BYTES,
            down_head_bytes=HEAD_BYTES,
            receive_ms=receive_ms if self._tells else None,
            receive_bytes=receive_bytes if self._tells else 0,
            compute_ms=self._computed_ms[model] if self._tells else 0.0,
            answer_ms=answer_ms,
            answer_bytes=answer_bytes,
        )
        self.link.record(passage)
        self.load.record(model, passage)
        told = {**self.parameters.get(model, {}), **self._times(model, passage)}
        return Answer(results, version or "1", told, sent_bytes + size_bytes, duration_ms)

    def metadata(self, model: str, *, version: str = "", deadline: Deadline = NO_DEADLINE) -> ModelMetadata:
        """See `Endpoint.metadata`; it knows names and parameters only."""
        left = Deadline(deadline.at_s, self._timeline).within(self._timeout_s)
        self._travel(HEAD_BYTES, left)
        self._known(model)
        self._travel(HEAD_BYTES, left, back=True)
        told = {**self.parameters.get(model, {}), **self._times(model)}
        self.load.told(model, told)
        return ModelMetadata(model, ("1",), "simulated", parameters=told)

    def probe(self, up_bytes: int = 0, down_bytes: int = 0, *, deadline: Deadline = NO_DEADLINE) -> bool:
        """See `Endpoint.probe`."""
        ticket = self.breaker.admit()
        if ticket is None:
            raise EndpointResting(f"{self.name}: failed too often and is not asked for a while")
        self.probes += 1
        began_s = self._timeline()
        left = Deadline(deadline.at_s, self._timeline).within(self._timeout_s)
        up_bytes, down_bytes = (up_bytes + HEAD_BYTES, down_bytes + HEAD_BYTES) if self._tells else (HEAD_BYTES,) * 2
        try:
            self._travel(up_bytes, left)
            self._travel(down_bytes, left, back=True)
        except DeadlineExceeded as error:
            blame(self.link, self.breaker, ticket, error, (self._timeline() - began_s) * 1e3, up_bytes, False)
            raise
        self.breaker.succeeded(ticket)
        receive_bytes, receive_ms = self.simulated.after_head(up_bytes)
        answer_bytes, answer_ms = self.simulated.back().after_head(down_bytes)
        passage = Passage(
            up_bytes=up_bytes,
            down_bytes=down_bytes,
            duration_ms=(self._timeline() - began_s) * 1e3,
            up_head_bytes=HEAD_BYTES,
            down_head_bytes=HEAD_BYTES,
            receive_ms=receive_ms if self._tells else None,
            receive_bytes=receive_bytes if self._tells else 0,
            answer_ms=answer_ms,
            answer_bytes=answer_bytes,
        )
        self.link.record(passage, usual=False)
        return self._tells

    def close(self) -> None:
        """Does nothing: there are no connections."""

    def _run(
        self,
        model: str,
        feeds: Mapping[str, Feed],
        sent_bytes: int,
        left: Deadline,
        identity: TailIdentity | None,
        where: str,
    ) -> dict[str, Array]:
        number = self.requests
        self.requests += 1
        self._travel(sent_bytes, left)
        if (failure := self._fail_at.get(number)) is not None:
            raise failure
        compute = self._known(model)
        if identity is not None:
            identity.check(self.parameters.get(model, {}), where)
        began_s = self._timeline()
        # Copies, as a wire makes them: what a function keeps or hands out twice must not change under the caller.
        given = {name: self._decoded(feed) for name, feed in feeds.items()}
        answer = {name: array.copy() for name, array in compute(given).items()}
        self._computed_ms[model] = (self._timeline() - began_s) * 1e3
        return answer

    def _times(self, model: str, passage: Passage | None = None) -> dict[str, float]:
        """What an endpoint of ours tells in the parameters of an answer, or of metadata."""
        computed_ms = self._computed_ms.get(model)
        if not self._tells or computed_ms is None:
            return {}
        told = {COMPUTE: computed_ms, QUEUE: 0.0}
        if passage is not None and passage.receive_ms is not None:
            told |= {RECEIVE: passage.receive_ms, RECEIVE_BYTES: passage.receive_bytes}
        return told

    def _decoded(self, feed: Feed) -> Array:
        if not isinstance(feed, Encoded):
            return feed.copy()
        if self._decode is None:
            raise EndpointRefused(f"{self.name}: {feed.coding} is not decoded here", 415)
        return self._decode(feed)

    def _known(self, model: str) -> Callable[[Mapping[str, Array]], Mapping[str, Array]]:
        compute = self.models.get(model)
        if compute is None:
            names = ", ".join(map(repr, self.models)) or "none"
            raise EndpointRefused(f"{self.name}: there is no model {model!r}; there are: {names}", 404)
        return compute

    def _travel(self, size_bytes: int, left: Deadline, back: bool = False) -> None:
        now_s = self._timeline()
        way = self.simulated.back() if back else self.simulated
        arrives_s = way.arrives_s(now_s, size_bytes, self._chance)
        self._timeline.sleep(min(arrives_s, left.at_s) - now_s)
        if arrives_s > left.at_s:
            raise DeadlineExceeded(f"{self.name}: no answer within the deadline")

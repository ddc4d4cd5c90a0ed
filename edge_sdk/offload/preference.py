"""Which of several endpoints is asked first: the one that takes least for this request, as far as is known now.

What a request takes is predicted from the endpoint's link and load. Another one is preferred only where it is better by
a margin, twice in a row, so that two that are alike do not take turns. What is known of those that are not preferred
grows old: now and then a copy of a request goes to one of them beside the real one, and nobody waits for its answer.
So an endpoint that was set aside, because it failed or became far slower than usual, is found to be well again. It is
then preferred once it has looked well for a while; the while doubles each time that it is set aside again soon.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edge_sdk.offload.asking import expected_ms
from edge_sdk.wire.endpoint import Endpoint

__all__ = ["Move", "Preference"]

log = logging.getLogger(__name__)

BETTER_SHARE, BETTER_MS = 0.8, 0.5
"""Another endpoint has to take less than this share of what the preferred one takes, and less by so much."""
TWICE = 2
OVERTAKEN, FAR_TOO_LATE = 6, 2
"""So many requests in a row that it was too late with, and it is set aside: it may be silent, and tell nothing, and
what was given up is only known to take longer. One that took more than `SLOWER_THAN_USUAL` of what was expected counts
as two."""
SLOWER_THAN_USUAL = 2.0
"""An endpoint that takes so many times what it usually takes is set aside until it has proved well again. One that is
as ever, and was left because there is a better one, is not."""
WORSE_THAN_USUAL = 1.5
USUAL_SHARE = 1 / 32
SURE_BESIDE_S, FIRST_BESIDE_S, LONGEST_BESIDE_S = 0.3, 1.0, 8.0
"""Between requests beside, to an endpoint that was set aside: each that finds it no better doubles the pause. After
one that was quick the next ones follow soon: only several tell that it is well again."""
SELDOM_S = 30.0
"""Between requests beside, to one that is as ever."""
FIRST_PROBATION_S, LONGEST_PROBATION_S = 1.0, 16.0
LEFT_AGAIN_S = 60.0
MOST_FAILURE_SHARE = 0.9
KEPT_MOVES = 64


@dataclass(frozen=True, slots=True)
class Move:
    """Requests went to another endpoint from then on.

    Attributes:
        at_s: when, by the clock of the requests.
        left: name of the one before.
        preferred: name of the one from then on.
        reason: for a person.
    """

    at_s: float
    left: str
    preferred: str
    reason: str


@dataclass(slots=True)
class _Standing:
    """What is known of one endpoint, by seconds of the clock."""

    usual_ms: float | None = None
    overtaken: int = 0
    pause_s: float = FIRST_BESIDE_S
    beside_s: float = 0.0
    asked_s: float = 0.0
    away: bool = False
    aside: bool = False
    aside_s: float | None = None
    probation_s: float = 0.0
    better_since_s: float | None = None


class Preference:
    """Decides for the requests of one tail. Any number of threads may ask.

    Args:
        endpoints: in order of preference while nothing is known.
        tail: its name there.
        well: whether an endpoint may be asked without trying first whether it is well again.
        clock: seconds.

    Attributes:
        moves: the latest ones.
        moved: how many there were.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        tail: str,
        well: Callable[[Endpoint], bool],
        clock: Callable[[], float],
    ) -> None:
        self._tail, self._well, self._clock = tail, well, clock
        self._standings = {endpoint: _Standing() for endpoint in endpoints}
        self._lock = threading.Lock()
        self._preferred: Endpoint | None = None
        self._first_ms: float | None = None
        self._streak: tuple[Endpoint, int] | None = None
        self.moves: deque[Move] = deque(maxlen=KEPT_MOVES)
        self.moved = 0

    @property
    def preferred(self) -> Endpoint | None:
        """The one that is asked first; None before the first request."""
        return self._preferred

    def order(self, size_bytes: int, able: Sequence[Endpoint]) -> list[Endpoint]:
        """Those of `able` in the order in which a request with so many bytes asks them."""
        if len(self._standings) < 2 or not able:
            return list(able)
        took = {endpoint: self._takes_ms(endpoint, size_bytes) for endpoint in able}
        with self._lock:
            first = self._first(able, took)
            first_ms = self._first_ms = took[first]
        # After it those that are well, the fastest first; those that are not known, or may have failed, come last.
        rest = [endpoint for endpoint in able if endpoint is not first]
        rest.sort(key=lambda e: (not self._well(e), _or_last(took[e])))
        for endpoint in rest:
            self._note(endpoint, took[endpoint], first_ms)
        return [first, *rest]

    def ended(self, endpoint: Endpoint, overtaken_ms: float | None) -> None:
        """A request that asked `endpoint` first has its answer.

        Args:
            endpoint: that was asked first.
            overtaken_ms: after so long the answer came another way, before its own; None where it answered.
        """
        with self._lock:
            standing = self._standings[endpoint]
            if overtaken_ms is None:
                standing.overtaken = 0
            else:
                far = overtaken_ms > SLOWER_THAN_USUAL * (self._first_ms or 0.0)
                standing.overtaken += FAR_TOO_LATE if far else 1

    def beside(self, able: Sequence[Endpoint]) -> Endpoint | None:
        """The endpoint that a copy of this request goes to as well, if it is time for one; tell `came_back` later."""
        if len(self._standings) < 2:
            return None
        now_s = self._clock()
        with self._lock:
            for endpoint in able:
                standing = self._standings[endpoint]
                if endpoint is not self._preferred and not standing.away and now_s >= standing.beside_s:
                    standing.away, standing.asked_s = True, now_s
                    return endpoint
        return None

    def came_back(self, endpoint: Endpoint, took_ms: float | None) -> None:
        """The copy that went to it was answered in `took_ms`, or was not."""
        with self._lock:
            standing = self._standings[endpoint]
            standing.away = False
            quick = took_ms is not None and self._first_ms is not None and _better(took_ms, self._first_ms)
            if quick:
                pause_s, standing.pause_s = SURE_BESIDE_S, FIRST_BESIDE_S
            elif took_ms is not None and not standing.aside:
                pause_s = SELDOM_S
            else:
                pause_s, standing.pause_s = standing.pause_s, min(standing.pause_s * 2, LONGEST_BESIDE_S)
            standing.beside_s = self._clock() + pause_s

    def _takes_ms(self, endpoint: Endpoint, size_bytes: int) -> float | None:
        known_ms = expected_ms(endpoint, self._tail, size_bytes)
        link = endpoint.link.estimate()
        if known_ms is None or link is None:
            return None
        return known_ms / (1.0 - min(link.failure_share, MOST_FAILURE_SHARE))

    def _first(self, able: Sequence[Endpoint], took: dict[Endpoint, float | None]) -> Endpoint:
        well = [endpoint for endpoint in able if self._well(endpoint)]
        asked, preferred = well or able, self._preferred
        known = {endpoint: ms for endpoint in asked if (ms := took[endpoint]) is not None}
        best = min(known, key=known.__getitem__, default=asked[0])
        if preferred is None:
            self._preferred = best
            return best
        if preferred in known and self._standings[preferred].overtaken >= OVERTAKEN:
            del known[preferred]
            if known:
                best = min(known, key=known.__getitem__)
                self._move(best, f"{preferred.name} was too late several times in a row", aside=True)
                return best
        if preferred not in asked:
            if well:
                self._move(best, f"{preferred.name} gives no answers", aside=True)
            return best
        now_ms, best_ms = took[preferred], known.get(best)
        usual_ms = self._usual_ms(preferred, now_ms)
        if now_ms is not None and now_ms > usual_ms * WORSE_THAN_USUAL:
            for other in asked:  # what is known of them may be old: is one of them better now?
                standing = self._standings[other]
                standing.beside_s = min(standing.beside_s, standing.asked_s + FIRST_BESIDE_S)
        if best is preferred or now_ms is None or best_ms is None or not _better(best_ms, now_ms):
            self._streak = None
            return preferred
        count = self._streak[1] + 1 if self._streak is not None and self._streak[0] is best else 1
        self._streak = best, count
        if count < TWICE or not self._proved(best):
            return preferred
        reason = f"a request takes {best_ms:.3g} ms there, and {now_ms:.3g} ms at {preferred.name}"
        self._move(best, reason, aside=now_ms > usual_ms * SLOWER_THAN_USUAL)
        return best

    def _usual_ms(self, endpoint: Endpoint, now_ms: float | None) -> float:
        """What it took over many requests; what it takes now weighs little."""
        standing = self._standings[endpoint]
        if now_ms is not None:
            before_ms = now_ms if standing.usual_ms is None else standing.usual_ms
            standing.usual_ms = before_ms + USUAL_SHARE * (now_ms - before_ms)
        return standing.usual_ms or math.inf

    def _proved(self, endpoint: Endpoint) -> bool:
        standing = self._standings[endpoint]
        if not standing.aside:
            return True
        return standing.better_since_s is not None and (self._clock() - standing.better_since_s >= standing.probation_s)

    def _move(self, to: Endpoint, reason: str, aside: bool) -> None:
        left, now_s = self._preferred, self._clock()
        assert left is not None
        standing = self._standings[left]
        standing.better_since_s, standing.aside, standing.overtaken = None, aside, 0
        standing.beside_s = now_s + SELDOM_S
        if aside:
            soon = standing.aside_s is not None and now_s - standing.aside_s < LEFT_AGAIN_S + standing.probation_s
            longer_s = min(standing.probation_s * 2, LONGEST_PROBATION_S)
            standing.probation_s = max(longer_s if soon else 0.0, FIRST_PROBATION_S)
            standing.aside_s = now_s
            standing.pause_s = FIRST_BESIDE_S
            standing.beside_s = now_s + FIRST_BESIDE_S
        self._preferred, self._streak = to, None
        self.moved += 1
        self.moves.append(Move(now_s, left.name, to.name, reason))
        log.info("tail %r: %s is asked from now on: %s", self._tail, to.name, reason)

    def _note(self, endpoint: Endpoint, took_ms: float | None, first_ms: float | None) -> None:
        """Takes note of whether one that is not preferred would be the better one now."""
        with self._lock:
            standing = self._standings[endpoint]
            better = took_ms is not None and first_ms is not None and _better(took_ms, first_ms)
            if not (better and self._well(endpoint)):
                standing.better_since_s = None
            elif standing.better_since_s is None:
                standing.better_since_s = self._clock()


def _better(this_ms: float, than_ms: float) -> bool:
    return this_ms < than_ms * BETTER_SHARE and this_ms < than_ms - BETTER_MS


def _or_last(ms: float | None) -> float:
    return math.inf if ms is None else ms

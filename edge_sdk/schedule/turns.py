"""Independent requests shared out among lanes of unequal speed, such as a runner on each cluster of cores.

Each waiting request is thought to go where it would end first, in the order of the requests; a free lane takes the
first one that is thought to be its own. So each lane gets its part by its speed, a slow lane never takes what a fast
one would have ended earlier, and where requests come slowly all of them go the fastest way.

Source: earliest finish time, as in H. Topcuoglu et al., "Performance-effective and low-complexity task scheduling for
heterogeneous computing", IEEE TPDS 13 (2002).
"""

from __future__ import annotations

import heapq
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from edge_sdk.errors import InputValueError, SessionClosed

__all__ = ["LaneFigures", "Turns", "assigned"]

Request = TypeVar("Request")

LATEST = 0.25
"""Weight of the latest request in what is known of a lane's speed."""
FIRST = 4
"""Of so many first requests the shortest counts: they fill caches and wake workers."""
FARTHEST = 2.0
"""One request that takes longer than so many times the usual counts as that: something came between."""
DOUBTED_AFTER = 20.0
"""What is known of a lane that nobody used for so many of its requests is halved: else one that was slow for a moment
would never be asked again."""
LOOK_AGAIN_S = 1e-3
"""Who leaves an idle lane alone, because another is thought to be faster, looks so often whether that one is late, or
after a quarter of what the idle lane would take."""


@dataclass(frozen=True, slots=True)
class LaneFigures:
    """How a lane went so far.

    Attributes:
        requests: answered, failed ones included.
        service_ms: what a request takes now; None before the first.
    """

    requests: int
    service_ms: float | None


def assigned(waiting: int, free_ms: Sequence[float], service_ms: Sequence[float]) -> list[int]:
    """Which lane each waiting request goes to, so that each ends as early as it can, those before it first.

    Args:
        waiting: number of requests, in their order.
        free_ms: by lane, until it is free.
        service_ms: by lane, what a request takes there.

    Returns:
        By request the index of its lane; of lanes that end at the same moment the first.
    """
    ends = [(free + service, lane) for lane, (free, service) in enumerate(zip(free_ms, service_ms, strict=True))]
    heapq.heapify(ends)
    found = []
    for _ in range(waiting):
        end_ms, lane = ends[0]
        found.append(lane)
        heapq.heapreplace(ends, (end_ms + service_ms[lane], lane))
    return found


class _Lane:
    """What a lane does now; guarded by the lock of its `Turns`. `asleep` while it waits for any request to come."""

    __slots__ = ("asleep", "began_s", "changed", "ended_s", "requests", "service_ms")

    def __init__(self, service_ms: float | None, changed: threading.Condition) -> None:
        self.service_ms, self.requests = service_ms, 0
        self.changed, self.asleep = changed, False
        self.began_s: float | None = None
        self.ended_s: float | None = None

    def believed_ms(self, now_s: float) -> float | None:
        """What a request is thought to take: less and less while nobody asks."""
        known = self.service_ms
        if known is None or self.began_s is not None or self.ended_s is None:
            return known
        return known * math.exp2((self.ended_s - now_s) * 1e3 / max(known * DOUBTED_AFTER, 1e-9))

    def free_ms(self, now_s: float) -> float:
        """How long it is taken to be busy yet: what is overdue is taken to be so for as long again."""
        if self.began_s is None:
            return 0.0
        return abs((self.service_ms or 0.0) - (now_s - self.began_s) * 1e3)

    def ended(self, now_s: float, failed: bool) -> None:
        """Counts a request. One that failed says nothing of the speed: a broken lane would look like the fastest."""
        if self.began_s is None:
            raise RuntimeError("no request has begun in this lane")
        took_ms, self.began_s, self.ended_s = (now_s - self.began_s) * 1e3, None, now_s
        self.requests += 1
        if failed:
            return
        known = self.service_ms
        if known is None or self.requests <= FIRST:
            self.service_ms = took_ms if known is None else min(known, took_ms)
        else:
            self.service_ms = known + (min(took_ms, FARTHEST * known) - known) * LATEST


class Turns(Generic[Request]):
    """Requests that wait, and the lanes that answer them; each lane is a thread of its own, which asks for its next one
    when it has ended one: while requests wait, no thread has to wake another one.

    Args:
        service_ms: by lane, the fastest first where that is known, what a request takes there; None to find out with
            the first one.
        clock: seconds.

    Raises:
        InputValueError: there is no lane.
    """

    def __init__(self, service_ms: Sequence[float | None], clock: Callable[[], float] = time.perf_counter) -> None:
        if not service_ms:
            raise InputValueError("requests are to be shared among lanes, and there is none; expected at least one")
        self._clock = clock
        self._lock = threading.Lock()
        self._lanes = [_Lane(each, threading.Condition(self._lock)) for each in service_ms]
        self._waiting: deque[Request] = deque()
        self._closed = False

    def put(self, request: Request) -> None:
        """One more request waits.

        Raises:
            SessionClosed: there are no turns any more.
        """
        with self._lock:
            if self._closed:
                raise SessionClosed("the lanes were closed before the call had its turn")
            self._waiting.append(request)
            idle = [lane for lane in self._lanes if lane.began_s is None]
            if idle:
                chosen = self._lanes[self._assigned()[-1]]
                # What a busy lane will do is left to it; whoever sleeps looks from now on whether that one is late.
                for lane in (chosen,) if chosen in idle else (each for each in idle if each.asleep):
                    lane.changed.notify()

    def take(self, number: int) -> Request | None:
        """Waits for a request that ends first in this lane, which is idle, and begins it; None once closed."""
        lane = self._lanes[number]
        with self._lock:
            while not self._closed:
                if self._waiting:
                    lanes = self._assigned()
                    if number in lanes:
                        place = lanes.index(number)
                        request = self._waiting[place]
                        del self._waiting[place]
                        lane.began_s = self._clock()
                        return request
                    for other in {each for each in lanes if self._lanes[each].asleep}:
                        self._lanes[other].changed.notify()  # what it was woken for is another one's after all
                    lane.changed.wait(max((lane.service_ms or 0.0) / 4e3, LOOK_AGAIN_S))
                else:
                    lane.asleep = True
                    lane.changed.wait()
                    lane.asleep = False
            return None

    def ended(self, number: int, failed: bool = False) -> None:
        """The request that the lane has begun was answered, or has failed."""
        with self._lock:
            self._lanes[number].ended(self._clock(), failed)

    def dropped(self, number: int) -> None:
        """The request that the lane has begun was wanted no more: nothing was computed."""
        with self._lock:
            self._lanes[number].began_s = None

    def figures(self) -> tuple[LaneFigures, ...]:
        """How the lanes went, in their order."""
        with self._lock:
            return tuple(LaneFigures(lane.requests, lane.service_ms) for lane in self._lanes)

    def close(self) -> tuple[Request, ...]:
        """No lane begins anything from now on; what waited, which nobody will answer. Idempotent."""
        with self._lock:
            self._closed = True
            left = tuple(self._waiting)
            self._waiting.clear()
            for lane in self._lanes:
                lane.changed.notify()
            return left

    def _assigned(self) -> list[int]:
        """The lane that each waiting request is thought to have, by what is known now."""
        now_s = self._clock()
        believed = [lane.believed_ms(now_s) for lane in self._lanes]
        hoped_ms = min((each for each in believed if each is not None), default=1.0)  # of one that was never asked
        service_ms = [hoped_ms if each is None else each for each in believed]
        return assigned(len(self._waiting), [lane.free_ms(now_s) for lane in self._lanes], service_ms)

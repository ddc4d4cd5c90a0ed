"""A circuit breaker: what keeps failing, an endpoint or an accelerator, is left alone for a while, then tried once.

    closed ── `failures` in a row ──▶ open ── rest is over ──▶ half-open ── the trial succeeds ──▶ closed
                                       ▲                           │
                                       └──── the trial fails: the next rest is twice as long

Rests are jittered, so that many devices that lost one endpoint do not come back to it at the same moment.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

__all__ = ["Breaker"]


class Breaker:
    """Decides whether a request may be sent. Any number of threads may ask.

    Every ticket that `admit` gives comes back through one of `succeeded`, `failed` or `abandoned`. What a request sent
    before the last change of state tells afterwards is ignored: it says nothing about the endpoint of now.

    Args:
        failures: so many failures in a row open it.
        rest_s: the first rest, in seconds; each failed trial doubles it.
        longest_rest_s: the longest rest.
        jitter: a rest is lengthened by up to this share of it, at random.
        clock: seconds, as `time.monotonic` gives them.
        chance: gives numbers from 0 to 1.
    """

    def __init__(
        self,
        *,
        failures: int = 3,
        rest_s: float = 0.5,
        longest_rest_s: float = 30.0,
        jitter: float = 0.5,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._allowed = max(failures, 1)
        self._first_rest_s, self._longest_rest_s, self._jitter = rest_s, longest_rest_s, jitter
        self._clock, self._chance = clock, chance
        self._lock = threading.Lock()
        self._era = 0
        self._failed = 0
        self._rest_s = rest_s
        self._rest_until_s: float | None = None  # None while closed
        self._trial_until_s: float | None = None  # a trial that never reports back must not block all later ones

    @property
    def state(self) -> str:
        """`closed`, `open` or `half-open`."""
        with self._lock:
            if self._rest_until_s is None:
                return "closed"
            return "open" if self._clock() < self._rest_until_s else "half-open"

    def admits(self) -> bool:
        """Whether `admit` would give a ticket now."""
        with self._lock:
            return self._admits(self._clock())

    def rest_left_s(self) -> float:
        """Seconds until the next trial may be sent; 0 where a request may be sent now."""
        with self._lock:
            until_s = max(self._rest_until_s or 0.0, self._trial_until_s or 0.0)
            return 0.0 if self._rest_until_s is None else max(until_s - self._clock(), 0.0)

    def admit(self) -> int | None:
        """A ticket for one request, or None where none may be sent now."""
        with self._lock:
            now_s = self._clock()
            if not self._admits(now_s):
                return None
            if self._rest_until_s is not None:
                self._era += 1
                self._trial_until_s = now_s + max(self._rest_s, self._first_rest_s)
            return self._era

    def succeeded(self, ticket: int) -> None:
        """The endpoint answered."""
        with self._lock:
            if ticket == self._era:
                self._failed = 0
                if self._rest_until_s is not None:
                    self._era += 1
                    self._rest_until_s = self._trial_until_s = None
                    self._rest_s = self._first_rest_s

    def failed(self, ticket: int, rest_s: float | None = None) -> None:
        """The endpoint failed.

        Args:
            ticket: from `admit`.
            rest_s: how long it asked to be left alone (Retry-After): above 0 opens at once for at least so long.
        """
        with self._lock:
            if ticket != self._era:
                return
            self._failed += 1
            trial = self._rest_until_s is not None
            if not trial and self._failed < self._allowed and not rest_s:
                return
            if trial:
                self._rest_s = min(self._rest_s * 2, self._longest_rest_s)
            rest = max(self._rest_s, min(rest_s or 0.0, self._longest_rest_s))
            self._rest_until_s = self._clock() + rest * (1 + self._jitter * self._chance())
            self._trial_until_s = None
            self._failed = 0
            self._era += 1

    def abandoned(self, ticket: int) -> None:
        """The request was given up before the endpoint showed anything: another one may be the trial."""
        with self._lock:
            if ticket == self._era and self._rest_until_s is not None:
                self._trial_until_s = None

    def _admits(self, now_s: float) -> bool:
        if self._rest_until_s is None:
            return True
        if now_s < self._rest_until_s:
            return False
        return self._trial_until_s is None or now_s >= self._trial_until_s

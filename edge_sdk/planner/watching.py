"""Whether a running model still does what its plan says: the decision to plan anew, with hysteresis.

One slow batch means nothing: another process ran. A plan is given up when the median has been off by more than
`TOLERANCE` for `PATIENCE_S` and three batches on end. After planning anew what is seen then is the new expectation, and
the next change must last twice as long, so that a machine which swings does not plan all day.
"""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Watch"]

TOLERANCE = 0.20
PATIENCE_S = 5.0
LONGEST_PATIENCE_S = 600.0
BATCHES = 3
SLACK_MS = 0.02
"""What a session adds to the engine's own time, and a clock cannot tell: without it tiny models would always be off."""


class Watch:
    """Watches medians of batches of requests against an expectation.

    Args:
        expected_ms: what the plan measured for one request.
        limit_ms: what a request may take at most; None where nothing was promised.
        clock: seconds, as `time.monotonic` gives them.
    """

    def __init__(
        self, expected_ms: float, limit_ms: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.expected_ms, self.limit_ms = expected_ms, limit_ms
        self.patience_s = PATIENCE_S
        self._clock = clock
        self._off_since_s: float | None = None
        self._off_batches = 0
        self._side = 0

    def see(self, median_ms: float) -> str:
        """Takes the median latency of one more batch of requests.

        Returns:
            "" while the plan stands; otherwise one line that says why it should be made anew.
        """
        side, why = self._judge(median_ms)
        if side == 0 or side != self._side:
            self._side, self._off_batches = side, 0
            self._off_since_s = self._clock() if side else None
        if side == 0 or self._off_since_s is None:
            return ""
        self._off_batches += 1
        lasted_s = self._clock() - self._off_since_s
        if self._off_batches < BATCHES or lasted_s < self.patience_s:
            return ""
        return f"{why} for {lasted_s:.0f} s"

    def _judge(self, median_ms: float) -> tuple[int, str]:
        seen = f"requests take {median_ms:.3g} ms"
        if self.limit_ms is not None and median_ms > self.limit_ms >= self.expected_ms:
            return 1, f"{seen}, more than max_latency_ms={self.limit_ms:g},"
        if median_ms > self.expected_ms * (1 + TOLERANCE) + SLACK_MS:
            return 1, f"{seen} where {self.expected_ms:.3g} ms were planned,"
        if median_ms < self.expected_ms * (1 - TOLERANCE) - SLACK_MS:
            return -1, f"{seen} where {self.expected_ms:.3g} ms were planned,"
        return 0, ""

    def planned_anew(self, expected_ms: float) -> None:
        """A new plan was made, or the old one confirmed: watches against `expected_ms` from now on, more patiently."""
        self.expected_ms = expected_ms
        self.patience_s = min(self.patience_s * 2, LONGEST_PATIENCE_S)
        self._side, self._off_batches, self._off_since_s = 0, 0, None

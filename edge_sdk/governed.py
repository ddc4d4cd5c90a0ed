"""A session that holds a target of temperature, rate and battery.

    session = edge_sdk.load("detector.edge", min_accuracy=0.7)
    with edge_sdk.Governed(session, edge_sdk.Target(max_c=70, rate_hz=15)) as governed:
        for boxes in governed.stream(camera):
            ...
        print(governed.figures(), session.report().events)

Before the kernel throttles, or where a battery would be empty too soon, it goes to a lighter variant, to fewer or
slower cores, or to fewer requests a second, and back later. What it may choose from is what the session's plan lists:
nothing below `min_accuracy`, and no cores that `power_mode`, `threads` or `cpus` leave out.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from edge_sdk.governing import Governing
from edge_sdk.session_levels import SessionLevels

if TYPE_CHECKING:
    from edge_sdk.device.moment import Moment, Sensors
    from edge_sdk.planner.power_levels import PowerLevel
    from edge_sdk.schedule.governor import Target
    from edge_sdk.session import Session
    from edge_sdk.tensors import Array, Feeds

__all__ = ["Governed", "GovernedFigures"]


class GovernedFigures(msgspec.Struct, frozen=True, kw_only=True):
    """How it went so far.

    Attributes:
        level: the one that runs, 0 for the best.
        levels: how many there are.
        runs: what it is.
        pace_hz: requests a second that it lets through; None for all.
        steps: how many were made.
        skipped: frames that were not computed because they came sooner than the pace.
        shortfall: what of the target is not held now; "" where all of it is.
        hottest_c: of all readings; None where nothing tells.
        throttled_s: for how long the kernel or firmware held frequencies down.
        moment: the latest reading; None before the first.
    """

    level: int
    levels: int
    runs: str
    pace_hz: float | None
    steps: int
    skipped: int
    shortfall: str
    hottest_c: float | None
    throttled_s: float
    moment: Moment | None


class Governed:
    """Steps a session among levels towards a target. Any number of threads may call it; a context manager.

    Args:
        session: stays open when this is closed, and runs on as it did last.
        target: to hold.
        most_accurate: begin with the most accurate variant that holds the rate, instead of what the plan chose, which
            is the fastest.
        sensors: what is read; of this machine where None.
        clock: seconds.
        wait: see `Governing`; for simulated time.
    """

    def __init__(
        self,
        session: Session,
        target: Target,
        *,
        most_accurate: bool = False,
        sensors: Sensors | None = None,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[threading.Event, float], bool] = threading.Event.wait,
    ) -> None:
        self.session, self.target = session, target
        self._levels = SessionLevels(session, target.rate_hz, most_accurate, clock)
        self._pace = self._levels.pace
        self._governing = Governing(self._levels, target, sensors, clock, wait)
        self._closing = threading.Event()
        self._governing.start()

    @property
    def levels(self) -> tuple[PowerLevel, ...]:
        """What it steps among, the best first."""
        return self._levels.steps

    @property
    def level(self) -> int:
        """Index of the one that runs."""
        return self._governing.level

    @property
    def reachable(self) -> bool:
        """Whether all of the target is held."""
        return not self._governing.shortfall

    def run(self, feeds: Feeds, **arguments: Any) -> dict[str, Array]:
        """As `Session.run`. Where the level allows fewer requests a second than come, it waits for its turn first."""
        wait_s = self._pace.take()
        if wait_s > 0:
            self._closing.wait(wait_s)
        return self.session.run(feeds, **arguments)

    def paced(self, frames: Iterable[Feeds]) -> Iterator[Feeds]:
        """Those of the frames that are to be computed: for who needs each answer with its frame.

        Frames that come sooner than the level's rate allows are dropped, as a camera's should be. A file gives its own
        as fast as they are read, so that most would be dropped: use `run` there.
        """
        for frame in frames:
            if self._pace.ready():
                yield frame

    def stream(self, frames: Iterable[Feeds], *, ahead: int = 1) -> Iterator[dict[str, Array]]:
        """As `Session.stream`, of the frames that `paced` leaves."""
        return self.session.stream(self.paced(frames), ahead=ahead)

    def figures(self) -> GovernedFigures:
        """How it went so far."""
        governing, pace_hz = self._governing, self._pace.hz
        level, steps = governing.level, self._levels.steps
        return GovernedFigures(
            level=level,
            levels=len(steps),
            runs=steps[min(level, len(steps) - 1)].name,
            pace_hz=None if pace_hz == float("inf") else round(pace_hz, 3),
            steps=governing.steps,
            skipped=self._pace.skipped,
            shortfall=governing.shortfall,
            hottest_c=governing.hottest_c,
            throttled_s=round(governing.throttled_s, 3),
            moment=governing.moment,
        )

    def close(self) -> None:
        """Ends governing. The session stays open, at the level that runs, and takes any rate. Idempotent."""
        self._closing.set()
        self._governing.close()
        self._pace.hz = float("inf")

    def __enter__(self) -> Governed:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

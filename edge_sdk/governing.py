"""A thread that reads the device, asks a governor, and steps whatever has levels."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from edge_sdk.device.moment import Moment, Sensors
from edge_sdk.errors import SessionClosed
from edge_sdk.schedule.governor import Governor, Level, Reading, Target

__all__ = ["Governing", "Steppable"]

_log = logging.getLogger(__name__)


class Steppable(Protocol):
    """What can be stepped among levels: one session (`SessionLevels`), or several that share a device."""

    @property
    def levels(self) -> Sequence[Level]:
        """The best first, each with less power than the one before."""

    def go(self, level: int, why: str) -> None:
        """Runs at a level from now on, without a request that waits for it.

        Raises:
            SessionClosed: there is nothing to run any more.
        """

    def settle(self, level: int) -> None:
        """Called after each step, and at first: has the next level ready."""

    def refresh(self) -> bool:
        """Whether the levels are others than before: governing begins anew with the first of them."""

    def tell(self, event: str) -> None:
        """Takes a line for the report."""

    def close(self) -> None:
        """Gives back what was made ready."""


class Governing:
    """Holds a target by stepping, in a thread of its own, until it is closed or there is nothing to step.

    Args:
        steppable: at its first level.
        target: to hold.
        sensors: what is read; of this machine where None.
        clock: seconds.
        wait: lets seconds pass, or returns True as soon as the event is set: simulated time gives its own.

    Attributes:
        moment: the latest reading; None before the first.
        hottest_c: of all readings.
        throttled_s: for how long something held frequencies down.
        steps: how many were made.
    """

    def __init__(
        self,
        steppable: Steppable,
        target: Target,
        sensors: Sensors | None = None,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[threading.Event, float], bool] = threading.Event.wait,
    ) -> None:
        self._steppable, self.target = steppable, target
        self._sensors = sensors or Sensors(clock=clock)
        self._wait = wait
        self._stopped = threading.Event()
        self._governor = Governor(steppable.levels, target)
        self._told = ""
        self.moment: Moment | None = None
        self.hottest_c: float | None = None
        self.throttled_s = 0.0
        self.steps = 0
        self._thread = threading.Thread(target=self._work, name="edge-sdk-govern", daemon=True)

    def start(self) -> None:
        """Begins."""
        self._first_words()
        self._thread.start()

    @property
    def level(self) -> int:
        """The one that runs."""
        return self._governor.level

    @property
    def shortfall(self) -> str:
        """What of the target is not held now, with figures; "" where all of it is."""
        return self._governor.shortfall

    def _first_words(self) -> None:
        """What is known in advance not to be held."""
        moment, target = self._sensors.read(), self.target
        if target.max_c is not None and moment.temperature_c is None:
            self._tell(
                f"nothing here tells a temperature: {target.max_c:g} °C are held only as far as throttling is seen"
            )
        if target.hours is not None and moment.battery_percent is None:
            self._tell(f"nothing here tells how full a battery is: {target.hours:g} h can be promised on mains only")
        rates = [level.rate_hz for level in self._governor.levels]
        if target.rate_hz is not None and max(rates) < target.rate_hz:
            self._tell(f"{target.rate_hz:g} Hz cannot be held: the fastest level holds {max(rates):.3g}")

    def _work(self) -> None:
        try:
            self._steppable.settle(self.level)
            while not self._wait(self._stopped, self._governor.next_s):
                self._look()
        except SessionClosed:
            _log.info("the session was closed; governing ends")
        except Exception:  # noqa: BLE001 - nobody else would ever hear of it
            self._tell("governing failed and has ended: the level stays; the log has the error")
            _log.exception("governing failed")
        finally:
            self._steppable.close()

    def _look(self) -> None:
        if self._steppable.refresh():
            self._governor = Governor(self._steppable.levels, self.target)
            self._steppable.settle(self.level)
        before, moment = self.moment, self._sensors.read()
        self.moment = moment
        if moment.temperature_c is not None:
            self.hottest_c = max(moment.temperature_c, self.hottest_c or moment.temperature_c)
        if before is not None and before.throttled:
            self.throttled_s += moment.at_s - before.at_s
        percent = moment.battery_percent if moment.source == "battery" else None
        step = self._governor.see(Reading(moment.at_s, moment.temperature_c, bool(moment.throttled), percent))
        if step is not None:
            _log.info("%s", step.reason)
            self._steppable.go(step.level, step.reason)
            self.steps += 1
            self._steppable.settle(step.level)
        self._tell_shortfall()

    def _tell_shortfall(self) -> None:
        """Once when something is not held any more, and once when all of it is again."""
        now = self._governor.shortfall
        if bool(now) != bool(self._told):
            self._tell(f"not held: {now}" if now else "held again")
        self._told = now

    def _tell(self, event: str) -> None:
        _log.warning("%s", event)
        self._steppable.tell(event)

    def close(self) -> None:
        """Ends governing: the level that runs stays. Idempotent."""
        self._stopped.set()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join()

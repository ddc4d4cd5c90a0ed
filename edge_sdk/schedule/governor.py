"""Holding a target of temperature, rate and battery by stepping among prepared levels, before the kernel throttles.

A level is one way to run (variant, cluster, rate), the best first; each takes less power than the one before it. What
it really takes, how the device warms and what it is cooled by are not known: they are seen.

Down: when the temperature will be at the limit within a few seconds at the slope of now, when something throttles, or
when the battery would be empty too soon. Up: after a while of being well below, one level at a time. A level that had
to be left soon after it was taken is not tried again for twice as long each time: there is no swinging to and fro.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from edge_sdk.errors import InputValueError

__all__ = ["Governor", "Level", "Reading", "Step", "Target"]

AHEAD_S = 8.0
"""So far the slope of now is followed, while it is not known what a step down does."""
SLOPE_S = 6.0
MARGIN_C = 2.0
"""Below the limit, for what sensors round and a chip that goes on warming for a moment."""
SETTLE_S = 4.0
"""After a step down the next one waits so long, unless the limit itself is reached."""
ROOM_C, UNKNOWN_ROOM_C = 6.0, 20.0
"""A level up is tried only when it is so much cooler than the limit; the latter where it was never seen how fast the
chip warms by that step."""
REACTS_S = 0.75
"""From a step up to the step back, if it was too much: three readings."""
OFTEN_S, USUALLY_S, WATCHED_S, NEAR_C = 0.25, 1.0, 5.0, 5.0
"""Between readings: for so long after a step, or so near the limit, and else."""
ROUNDED_C = 0.6
"""Less is what sensors round."""
UP_AFTER_S, LONGEST_UP_AFTER_S = 60.0, 1800.0
TRIED_S = 300.0
"""A level that is left within so long was no good."""
CALM_C_PER_S = 0.03
NOISE_PERCENT = 0.5
"""A battery that gains more is being charged."""
RESERVE_PERCENT = 2.0
"""Devices switch themselves off a little before a battery is empty, and gauges round."""
TRIAL_PERCENT = 4.0
"""So much is drawn before it is known that a level draws too much."""
BATTERY_ROOM = 1.1
"""A level up is tried only where the battery would last so many times as long as it has to."""


@dataclass(frozen=True, slots=True)
class Level:
    """One way to run.

    Attributes:
        name: for reports.
        rate_hz: that it holds; infinity where it holds any.
    """

    name: str
    rate_hz: float = math.inf


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be held.

    Attributes:
        max_c: temperature that must not be passed; None for any.
        rate_hz: that must be reached while that is possible; None for any.
        hours: that the battery must last from the first reading on; None for any.

    Raises:
        InputValueError: a figure makes no sense, or there is none.
    """

    max_c: float | None = None
    rate_hz: float | None = None
    hours: float | None = None

    def __post_init__(self) -> None:
        for name in ("max_c", "rate_hz", "hours"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise InputValueError(f"{name} is {value!r}; expected a number above 0")
        if self.max_c is None and self.hours is None:
            raise InputValueError("a target needs max_c or hours: nothing else is held by stepping down")


@dataclass(frozen=True, slots=True)
class Reading:
    """The device at one moment.

    Attributes:
        at_s: when.
        temperature_c: of the hottest zone that counts; None where none tells.
        throttled: whether the kernel or firmware holds frequencies down.
        battery_percent: 0 to 100; None on mains, or where nothing tells.
    """

    at_s: float
    temperature_c: float | None = None
    throttled: bool = False
    battery_percent: float | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """Go to another level.

    Attributes:
        level: its index.
        reason: one line.
    """

    level: int
    reason: str


class Governor:
    """Decides which level to run. Not for several threads at once.

    Args:
        levels: the best first, each with less power than the one before.
        target: to hold.

    Raises:
        InputValueError: there are no levels.

    Attributes:
        level: the one to run now.
        next_s: in so many seconds the next reading is wanted.
    """

    def __init__(self, levels: Sequence[Level], target: Target) -> None:
        if not levels:
            raise InputValueError("a governor needs at least one level to run")
        self.levels, self.target = tuple(levels), target
        self.level = 0
        self._wanted_hz = target.rate_hz or 0.0
        holding = [number for number, level in enumerate(self.levels) if level.rate_hz >= self._wanted_hz]
        self._floor = max(holding, default=len(levels) - 1)
        self.next_s = OFTEN_S
        self._latest = Reading(-math.inf)
        self._heat: deque[tuple[float, float]] = deque()
        self._kicks = _Kicks()
        self._changed_s = -math.inf
        self._went_down_s = self._stepped_c = -math.inf
        self._up_after_s = [UP_AFTER_S] * len(self.levels)
        self._battery = _Battery(target.hours) if target.hours is not None else None

    @property
    def reachable(self) -> bool:
        """Whether the level that runs holds the rate."""
        return self.levels[self.level].rate_hz >= self._wanted_hz

    @property
    def shortfall(self) -> str:
        """What of the target is not held as of the latest reading, with figures; "" where all of it is."""
        level, limit_c, now = self.levels[self.level], self.target.max_c, self._latest
        found = []
        if not self.reachable:
            found.append(f"{self._wanted_hz:g} Hz are wanted, and {level.name} holds {level.rate_hz:.3g}")
        if limit_c is not None and now.temperature_c is not None and now.temperature_c > limit_c:
            found.append(f"{now.temperature_c:.1f} °C, and {limit_c:g} °C is the limit")
        if self._battery is not None and self.level >= self._floor and (why := self._battery.too_short(now.at_s)):
            found.append(why)
        return "; ".join(found)

    def see(self, reading: Reading) -> Step | None:
        """Takes the device as it is now; the step that is due.

        Args:
            reading: each later than the one before it, about as `next_s` says.
        """
        if self._changed_s == -math.inf:
            self._changed_s = reading.at_s
        self._latest = reading
        self.next_s = OFTEN_S if reading.at_s - self._changed_s < WATCHED_S or self._near(reading) else USUALLY_S
        if reading.temperature_c is not None:
            self._kicks.see(reading.at_s, reading.temperature_c)
            self._heat.append((reading.at_s, reading.temperature_c))
            while reading.at_s - self._heat[0][0] > SLOPE_S:
                self._heat.popleft()
        if self._battery is not None:
            self._battery.see(reading.at_s, reading.battery_percent, self.level)
        if why := self._too_much(reading):
            return self._down(reading.at_s, why)
        if self.level and self._has_room(reading):
            return self._up(reading)
        return None

    def _near(self, reading: Reading) -> bool:
        limit_c, now_c = self.target.max_c, reading.temperature_c
        return limit_c is not None and now_c is not None and now_c > limit_c - NEAR_C

    def _slope_c_per_s(self) -> float:
        """Of the latest seconds, by least squares."""
        if len(self._heat) < 2:
            return 0.0
        mean_s = sum(at for at, _ in self._heat) / len(self._heat)
        mean_c = sum(c for _, c in self._heat) / len(self._heat)
        spread = sum((at - mean_s) ** 2 for at, _ in self._heat)
        return sum((at - mean_s) * (c - mean_c) for at, c in self._heat) / spread if spread else 0.0

    def _too_much(self, reading: Reading) -> str:
        """Why less must be done; "" where it need not."""
        if reading.temperature_c is not None and (why := self._too_warm(reading.at_s, reading.temperature_c)):
            return why
        settled = reading.at_s - self._went_down_s >= SETTLE_S
        if reading.throttled and settled:
            return "the device throttles"
        if self._battery is not None and settled and self.level < self._floor:
            return self._battery.too_short(reading.at_s)
        return ""

    def _too_warm(self, now_s: float, now_c: float) -> str:
        limit_c, slope = self.target.max_c, self._slope_c_per_s()
        if limit_c is None or slope <= -CALM_C_PER_S:
            return ""
        ahead_s, margin_c = self._ahead_s(slope), MARGIN_C
        if self.level >= self._floor:
            # The rate is given up only for what is here, not for what may come.
            ahead_s, margin_c = REACTS_S, MARGIN_C / 2
        ahead_c = now_c + max(slope, 0.0) * ahead_s
        if ahead_c < limit_c - margin_c:
            return ""
        if now_s - self._went_down_s < SETTLE_S and now_c < self._stepped_c + ROUNDED_C:
            return ""  # the latest step has yet to show
        coming = f", {ahead_c:.1f} °C in {ahead_s:g} s" if ahead_c > now_c + ROUNDED_C else ""
        return f"{now_c:.1f} °C{coming}, and {limit_c:g} °C is the limit"

    def _ahead_s(self, slope: float) -> float:
        """How far to look: no further than it takes to react, where a step down is known to stop the warming."""
        kick = self._kicks.known.get(self.level)
        return 2 * REACTS_S if kick is not None and kick > slope else AHEAD_S

    def _has_room(self, reading: Reading) -> bool:
        """Whether the next better level may be tried."""
        if reading.at_s - self._changed_s < self._up_after_s[self.level - 1]:
            return False
        limit_c = self.target.max_c
        if limit_c is not None and reading.temperature_c is not None:
            kick = self._kicks.known.get(self.level - 1)
            room_c = UNKNOWN_ROOM_C if kick is None else max(ROOM_C, MARGIN_C + kick * REACTS_S)
            if reading.temperature_c > limit_c - room_c or self._slope_c_per_s() > CALM_C_PER_S:
                return False
        return not reading.throttled and (self._battery is None or self._battery.has_room(reading.at_s))

    def _down(self, now_s: float, why: str) -> Step | None:
        if self.level == len(self.levels) - 1:
            return None
        if now_s - self._changed_s < TRIED_S and self._changed_s > self._went_down_s:
            # It was tried, and was too much.
            self._up_after_s[self.level] = min(2 * self._up_after_s[self.level], LONGEST_UP_AFTER_S)
        self._kicks.steps(self.level)
        self.level += 1
        self._changed_s = self._went_down_s = now_s
        self._stepped_c = self._heat[-1][1] if self._heat else -math.inf
        return self._stepped(f"down to {self.levels[self.level].name}: {why}")

    def _up(self, reading: Reading) -> Step:
        self.level -= 1
        self._kicks.steps(self.level)
        self._changed_s = reading.at_s
        told = "" if reading.temperature_c is None else f"{reading.temperature_c:.1f} °C"
        return self._stepped(f"up to {self.levels[self.level].name}: {told or 'there is room'}")

    def _stepped(self, reason: str) -> Step:
        self._heat.clear()
        self.next_s = OFTEN_S
        return Step(self.level, reason)


class _Kicks:
    """How much faster the chip warms by a step up, as the slopes before and after a step show.

    Attributes:
        known: °C a second, by the better level of each step.
    """

    def __init__(self) -> None:
        self.known: dict[int, float] = {}
        self._latest: deque[tuple[float, float]] = deque(maxlen=2)
        self._step: tuple[int, float] | None = None

    def see(self, at_s: float, celsius: float) -> None:
        """Takes a reading."""
        self._latest.append((at_s, celsius))
        slope = self._slope()
        if self._step is not None and slope is not None:
            level, before = self._step
            self._step = None
            self.known[level] = max(abs(slope - before), 0.5 * self.known.get(level, 0.0))

    def steps(self, level: int) -> None:
        """A step between this level and the one below it is made now."""
        before = self._slope()
        self._step = None if before is None else (level, before)
        self._latest.clear()

    def _slope(self) -> float | None:
        if len(self._latest) < 2:
            return None
        (earlier_s, earlier_c), (later_s, later_c) = self._latest
        return (later_c - earlier_c) / (later_s - earlier_s)


class _Battery:
    """Whether a battery will last as long as it has to, at the drain of the level that runs."""

    def __init__(self, hours: float) -> None:
        self._lasts_s = hours * 3600
        self._until_s = math.inf
        self._level = -1
        self._from: tuple[float, float] | None = None
        self._now: tuple[float, float] | None = None

    def see(self, at_s: float, percent: float | None, level: int) -> None:
        """Takes a reading at a level; None while mains feed the device."""
        if self._until_s == math.inf:
            self._until_s = at_s + self._lasts_s
        if percent is None or self._now is None or level != self._level or percent > self._now[1] + NOISE_PERCENT:
            self._level, self._from = level, None
            self._now = None if percent is None else (at_s, percent)
        elif percent != self._now[1]:  # gauges round: what they tell is true when it changes
            self._now = at_s, percent
            self._from = self._from or self._now

    def _left_s(self, now_s: float, kept_percent: float = RESERVE_PERCENT) -> float | None:
        """How long it lasts at this level; None before enough was drawn to tell."""
        if self._from is None or self._now is None or self._from[1] - self._now[1] < 2:
            return None
        percent_per_s = (self._from[1] - self._now[1]) / (self._now[0] - self._from[0])
        return max((self._now[1] - kept_percent) / percent_per_s - (now_s - self._now[0]), 0.0)

    def too_short(self, now_s: float) -> str:
        """Why it would be empty too soon; "" where it would not, or nothing tells yet."""
        left_s = self._left_s(now_s)
        if left_s is None or now_s + left_s >= self._until_s:
            return ""
        return f"the battery lasts {left_s / 3600:.1f} h more, and {(self._until_s - now_s) / 3600:.1f} h are wanted"

    def has_room(self, now_s: float) -> bool:
        """Whether more could be drawn."""
        left_s = self._left_s(now_s, RESERVE_PERCENT + TRIAL_PERCENT)
        return self._now is None or (left_s is not None and left_s > (self._until_s - now_s) * BATTERY_ROOM)

"""Timing on a machine that others use too: runs that were interrupted do not count, and the pace of the moment is
known.

Two things spoil a timing. Another process takes the CPU for a while: the kernel tells how long our threads waited for
one. And a neighbour on the same core, the same memory or the same host slows everything down without being seen: a
probe that always does the same work, run before and after, tells how fast the machine is just then.
"""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edge_sdk.measuring.clocks import REAL_TIME, Clock

__all__ = ["MAX_DELAY", "NEAR", "Delays", "Pace", "Sample", "good_pairs", "most_usual_ms", "undisturbed"]

Request = Callable[[], object]

MAX_DELAY = 0.03
"""Share of a run that its threads may have waited for a CPU."""
NEAR = 0.1
"""So far in the logarithm a timing's pace may be from the one it is told at."""
_TASKS = "/proc/self/task"


@dataclass(frozen=True, slots=True)
class Sample:
    """One timing.

    Attributes:
        ms: as long as it took.
        probe_ms: mean of the probe before and behind it.
        steady: whether the pace was the same before and behind it.
        delay: how long threads of this process waited for a CPU meanwhile, as a share of `ms`.
    """

    ms: float
    probe_ms: float
    steady: bool
    delay: float

    @property
    def is_good(self) -> bool:
        """Whether nothing disturbed it."""
        return self.steady and self.delay <= MAX_DELAY

    def off(self, probe_ms: float) -> float:
        """How far from a pace it was timed, in the logarithm."""
        return abs(math.log(max(self.probe_ms, 1e-9) / max(probe_ms, 1e-9)))

    def at_pace(self, probe_ms: float) -> float:
        """Its time had the probe taken `probe_ms`, in milliseconds."""
        return self.ms * probe_ms / self.probe_ms


class Delays:
    """How long this process's threads have waited for a CPU, in seconds; 0 where the kernel does not count it.

    Threads that start later are not seen until `renew`.
    """

    def __init__(self) -> None:
        self._files: list[int] = []
        self.renew()

    def renew(self) -> None:
        """Looks for all threads again."""
        self.close()
        try:
            tasks = os.listdir(_TASKS)
        except OSError:
            return
        for task in tasks:
            try:
                self._files.append(os.open(f"{_TASKS}/{task}/schedstat", os.O_RDONLY | os.O_CLOEXEC))
            except OSError:
                continue  # the thread has ended

    def __call__(self) -> float:
        total = 0
        for file in self._files:
            try:
                total += int(os.pread(file, 80, 0).split()[1])
            except (OSError, IndexError, ValueError):
                continue
        return total / 1e9

    def close(self) -> None:
        """Closes the files."""
        for file in self._files:
            os.close(file)
        self._files = []


class Pace:
    """Times requests between two runs of a probe.

    Args:
        probe: the same work every time, with as many threads as the requests.
        delays: see `Delays`.
        clock: tells seconds.
    """

    def __init__(self, probe: Request, delays: Callable[[], float], clock: Clock = REAL_TIME) -> None:
        self._probe = probe
        self._delays = delays
        self._clock = clock

    def sample(self, request: Request, runs: int) -> Sample:
        """Runs the request between two probes, `runs` times, and takes the median of these.

        Request and probe each run once before that does not count: caches then hold their own data, and the pace is
        that of the machine and not of what ran before.
        """
        before_ms, first_delay = self._warm(self._probe)
        request()
        timed = [self._timed(request) for _ in range(runs)]
        after_ms, last_delay = self._warm(self._probe)
        steady = max(before_ms, after_ms) <= 1.3 * min(before_ms, after_ms)
        ms = statistics.median(ms for ms, _ in timed)
        delay = statistics.median(delay for _, delay in timed)
        return Sample(ms, (before_ms + after_ms) / 2, steady, max(delay, first_delay, last_delay))

    def _warm(self, request: Request) -> tuple[float, float]:
        request()
        return self._timed(request)

    def _timed(self, request: Request) -> tuple[float, float]:
        waited = self._delays()
        start = self._clock()
        request()
        ms = (self._clock() - start) * 1e3
        return ms, (self._delays() - waited) * 1e3 / max(ms, 1e-6)


def most_usual_ms(samples: Sequence[Sample]) -> float:
    """The pace that most timings are near, in milliseconds: a machine that others use too has several."""
    paces = np.sort(np.log([sample.probe_ms for sample in samples if sample.is_good] or [s.probe_ms for s in samples]))
    ends = np.searchsorted(paces, paces + NEAR, side="right")
    start = int((ends - np.arange(len(paces))).argmax())
    return float(np.exp(np.median(paces[start : ends[start]])))


def undisturbed(samples: Sequence[Sample], probe_ms: float, least: int = 3) -> list[Sample]:
    """Those that count: neither interrupted nor on the edge of a change of pace, and near the pace they are told at,
    since not all work slows down alike. The best `least` where fewer are so.

    Args:
        samples: of one network at one place.
        probe_ms: the pace.
        least: how many it gives at least, where there are as many.
    """
    good = [sample for sample in samples if sample.is_good] or list(samples)
    near = [sample for sample in good if sample.off(probe_ms) <= NEAR]
    return near if len(near) >= least else sorted(good, key=lambda sample: sample.off(probe_ms))[:least]


def good_pairs(
    first: Sequence[Sample], other: Sequence[Sample], first_probe_ms: float, probe_ms: float, least: int = 3
) -> list[tuple[Sample, Sample]]:
    """The same of timings at two places, each with the one made right after it at the other place."""
    pairs = list(zip(first, other, strict=False))
    good = [(here, there) for here, there in pairs if here.is_good and there.is_good] or pairs

    def off(pair: tuple[Sample, Sample]) -> float:
        return max(pair[0].off(first_probe_ms), pair[1].off(probe_ms))

    near = [pair for pair in good if off(pair) <= NEAR]
    return near if len(near) >= least else sorted(good, key=off)[:least]

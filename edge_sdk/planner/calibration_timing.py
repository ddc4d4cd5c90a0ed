"""Timing on a machine that others use too: runs that were interrupted do not count, and the pace of the moment is
known.

Two things spoil a timing. Another process takes the CPU for a while: the kernel tells how long our threads waited for
one. And a neighbour on the same core, the same memory or the same host slows everything down without being seen: a
probe that always does the same work, run before and after, tells how fast the machine is just then.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edge_sdk.measuring.clocks import REAL_TIME, Clock

__all__ = ["MAX_DELAY", "Delays", "Pace", "Sample", "undisturbed"]

Request = Callable[[], object]

MAX_DELAY = 0.03
"""Share of a run that its threads may have waited for a CPU."""
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
        self.probes_ms: list[float] = []

    def sample(self, request: Request, runs: int) -> Sample:
        """Runs the request between two probes, `runs` times after once that does not count: caches hold its own data
        then, and what it takes is the median of these."""
        before_ms, first_delay = self._timed(self._probe)
        request()
        timed = [self._timed(request) for _ in range(runs)]
        after_ms, last_delay = self._timed(self._probe)
        if max(first_delay, last_delay) <= MAX_DELAY:
            self.probes_ms += [before_ms, after_ms]
        steady = max(before_ms, after_ms) <= 1.3 * min(before_ms, after_ms)
        ms = statistics.median(ms for ms, _ in timed)
        delay = statistics.median(delay for _, delay in timed)
        return Sample(ms, (before_ms + after_ms) / 2, steady, max(delay, first_delay, last_delay))

    def base_ms(self) -> float:
        """Mean of all undisturbed probes: the pace that times are told at."""
        kept = sorted(self.probes_ms)
        return statistics.fmean(kept[: max(1, round(len(kept) * 0.95))]) if kept else 0.0

    def _timed(self, request: Request) -> tuple[float, float]:
        waited = self._delays()
        start = self._clock()
        request()
        ms = (self._clock() - start) * 1e3
        return ms, (self._delays() - waited) * 1e3 / max(ms, 1e-6)


def undisturbed(samples: Sequence[Sample], least: int = 3) -> list[Sample]:
    """Those that count: neither interrupted nor on the edge of a change of pace; the best `least` where fewer are
    so."""
    good = [sample for sample in samples if sample.delay <= MAX_DELAY and sample.steady]
    if len(good) >= least:
        return good
    return sorted(samples, key=lambda sample: (sample.delay, not sample.steady))[:least]

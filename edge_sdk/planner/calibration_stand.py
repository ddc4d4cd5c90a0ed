"""Networks as they are timed in turn: at one place or several, between runs of a probe, round after round."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from edge_sdk.device.affinity import running_on
from edge_sdk.measuring.clocks import REAL_TIME, Clock
from edge_sdk.planner.calibration_timing import (
    NEAR,
    Delays,
    Pace,
    Sample,
    good_pairs,
    most_usual_ms,
    undisturbed,
)
from edge_sdk.planner.rates import Place

__all__ = ["Loaded", "Opener", "Stand", "Subject", "in_turn", "totals_us", "usual_paces_ms", "within"]

SAMPLE_MS = 2.0
MAX_RUNS = 12


@dataclass(frozen=True, slots=True)
class Loaded:
    """A network ready to run.

    Attributes:
        request: runs it once.
        profile: ends profiling and gives the profile's file; None where it is not profiled.
    """

    request: Callable[[], object]
    profile: Callable[[], Path] | None = None


Opener = Callable[[bytes, int, Path | None], Loaded]
"""Loads a file for a number of threads; with a path, profiled into files that begin so."""


@dataclass(slots=True)
class Subject:
    """One network as it is being timed at one place.

    Attributes:
        samples: so far.
        counted: which runs each sample is made of, the first run being 0.
    """

    loaded: Loaded
    samples: list[Sample] = field(default_factory=list)
    counted: list[range] = field(default_factory=list)
    _runs: int = 0

    def sample(self, pace: Pace) -> None:
        """Times some runs of it: as many as take some milliseconds."""
        count = 1
        if self.samples:
            count = max(1, min(MAX_RUNS, int(SAMPLE_MS / max(self.samples[-1].ms, 1e-3))))
        else:
            self._request()
        self.samples.append(pace.sample(self._request, count))
        self.counted.append(range(self._runs - count, self._runs))

    def ms(self, probe_ms: float) -> float:
        """Its time at a given pace, in milliseconds."""
        return statistics.median(sample.at_pace(probe_ms) for sample in undisturbed(self.samples, probe_ms))

    def _request(self) -> None:
        self._runs += 1
        self.loaded.request()


class Stand:
    """A place with its probe and the networks loaded there.

    Args:
        place: threads and cluster.
        cpus: to pin to; None to leave threads as they are.
        opener: loads a file.
        probe: file of the network that tells the pace.
        delays: see `Delays`.
        clock: tells seconds.
    """

    def __init__(
        self,
        place: Place,
        cpus: tuple[int, ...] | None,
        opener: Opener,
        probe: bytes,
        delays: Delays,
        clock: Clock = REAL_TIME,
    ) -> None:
        self.place, self._cpus, self._opener, self._delays = place, cpus, opener, delays
        self.subjects: dict[str, Subject] = {}
        with running_on(cpus):
            request = opener(probe, place.threads, None).request
            request()
        self.pace = Pace(request, delays, clock)

    @property
    def good_share(self) -> float:
        """Share of the timings so far that nothing disturbed."""
        samples = [sample for subject in self.subjects.values() for sample in subject.samples]
        return statistics.fmean(sample.is_good for sample in samples) if samples else 0.0

    def add(self, name: str, content: bytes, profile: Path | None = None) -> None:
        """Loads a network."""
        with running_on(self._cpus):
            self.subjects[name] = Subject(self._opener(content, self.place.threads, profile))
        self._delays.renew()

    def sample(self, name: str) -> None:
        """Times one of the networks."""
        with running_on(self._cpus):
            self.subjects[name].sample(self.pace)


class _File(Protocol):
    @property
    def content(self) -> bytes: ...


Network = TypeVar("Network", bound=_File)


def within(networks: Iterable[Network], max_bytes: float) -> list[Network]:
    """The first networks whose files together take no more than `max_bytes`; one at least."""
    chosen: list[Network] = []
    total = 0
    for network in networks:
        total += len(network.content)
        if total > max_bytes and chosen:
            break
        chosen.append(network)
    return chosen


def in_turn(
    stands: Sequence[Stand],
    networks: Mapping[str, bytes],
    deadline: float,
    clock: Clock = REAL_TIME,
    profiles: Path | None = None,
    tick: Callable[[], object] = lambda: None,
) -> None:
    """Round after round over all networks and places until the deadline, so that no network has a bad minute for
    itself.

    Args:
        stands: where.
        networks: file by name; those that cannot be loaded before the deadline are left out.
        deadline: by `clock`.
        profiles: folder for profiles.
        tick: called after each timing.
    """
    for number, (name, content) in enumerate(networks.items()):
        if clock() > deadline and number:
            break
        for stand in stands:
            stand.add(name, content, profiles / f"{number}-" if profiles is not None else None)
            stand.sample(name)
            tick()
    while clock() < deadline:
        for name in list(stands[0].subjects):
            for stand in stands:
                stand.sample(name)
            tick()
            if clock() > deadline:
                return


def usual_paces_ms(stands: Sequence[Stand]) -> list[float]:
    """What the probe most often takes at each place while the first place is at its most usual pace, in milliseconds:
    the paces that times are told at."""
    first = [sample for subject in stands[0].subjects.values() for sample in subject.samples]
    paces = [most_usual_ms(first)]
    for stand in stands[1:]:
        pairs = [
            (here, there)
            for key, subject in stand.subjects.items()
            for here, there in zip(stands[0].subjects[key].samples, subject.samples, strict=False)
        ]
        paces.append(most_usual_ms([b for a, b in pairs if a.off(paces[0]) <= NEAR] or [b for _, b in pairs]))
    return paces


def totals_us(stands: Sequence[Stand], paces_ms: Sequence[float]) -> list[dict[str, float]]:
    """Time of each network at each place in microseconds, told at the paces of the places.

    A network is timed at one place right after the other, so what it takes at the others is told beside the first: what
    slowed the machine at that moment slowed both.
    """
    first, pace_ms = stands[0], paces_ms[0]
    totals = [{key: subject.ms(pace_ms) * 1e3 for key, subject in first.subjects.items()}]
    for stand, own_ms in zip(stands[1:], paces_ms[1:], strict=True):
        ratios = {key: _ratio(first.subjects[key], one, pace_ms, own_ms) for key, one in stand.subjects.items()}
        totals.append({key: totals[0][key] * ratio for key, ratio in ratios.items()})
    return totals


def _ratio(first: Subject, other: Subject, first_pace_ms: float, pace_ms: float) -> float:
    pairs = good_pairs(first.samples, other.samples, first_pace_ms, pace_ms)
    return statistics.median(there.at_pace(pace_ms) / here.at_pace(first_pace_ms) for here, there in pairs)

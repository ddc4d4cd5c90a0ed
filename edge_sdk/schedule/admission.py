"""Whether sessions that promise something can all keep it on these cores: said in advance, with figures.

A session that takes `C` ms of so many cores every `T` ms uses `C × cores / T` of a core. Earliest deadline first keeps
all deadlines on `m` equal cores while the sum stays at or below `m - (m - 1) × u`, where `u` is the largest single
share (J. Goossens, S. Funk and S. Baruah, "Priority-driven scheduling of periodic task systems on multiprocessors",
Real-Time Systems 25, 2003). That holds for requests that may be interrupted; ours are not, so one must also fit behind
the longest of the others within its deadline, and behind whatever of higher priority comes until then, spread over the
cores (R. I. Davis and A. Burns, "A survey of hard real-time scheduling for multiprocessor systems", ACM Computing
Surveys 43, 2011, on fixed priorities).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Demand", "Verdict", "admissible"]

RESERVE = 0.1
"""Share of the cores that is not given away: the system, the application, and requests that take longer than usual."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What one session asks for.

    Attributes:
        name: of the session.
        service_ms: what a request takes that does not wait, usually (95 of 100).
        period_ms: between requests.
        deadline_ms: from a request to its answer.
        cores: that one request computes on.
        priority: lower ones wait for higher ones.
        cpus: that it computes on; empty where it may on any.
    """

    name: str
    service_ms: float
    period_ms: float
    deadline_ms: float
    cores: int = 1
    priority: int = 0
    cpus: frozenset[int] = frozenset()

    @property
    def share(self) -> float:
        """Of a core, above 1 where it takes several."""
        return self.service_ms * self.cores / self.period_ms


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a demand can be met beside others.

    Attributes:
        admitted: whether.
        reason: one line with the figures, either way.
        share: cores that all of them use then.
        bound: cores that can be promised to such a mix.
    """

    admitted: bool
    reason: str
    share: float
    bound: float


def admissible(new: Demand, others: Sequence[Demand], cores: int) -> Verdict:
    """Whether a session can be promised what it asks for, and those before it what they were promised.

    Args:
        new: that wants to be admitted.
        others: that were.
        cores: that may compute at once.
    """
    every = [*others, new]
    verdict = _verdict(new, every, cores)
    for cpus in {demand.cpus for demand in every if demand.cpus}:
        confined = [demand for demand in every if demand.cpus and demand.cpus <= cpus]
        if verdict.admitted and new in confined:
            there = _verdict(new, confined, min(len(cpus), cores))
            verdict = verdict if there.admitted else there
    return verdict


def _verdict(new: Demand, every: Sequence[Demand], cores: int) -> Verdict:
    """As `admissible`, where all of them may compute on all of so many cores."""
    share = sum(demand.share for demand in every)
    usable = cores * (1 - RESERVE)
    largest = max(min(demand.share / demand.cores, 1.0) for demand in every)
    bound = max(usable - (cores - 1) * largest, usable / cores) if cores > 1 else usable
    why = _too_long(new) or _waits_too_long(every, cores)
    if not why and share > bound:
        why = (
            f"{new.name} needs {new.share:.2f} of a core ({new.service_ms:.3g} ms on {new.cores} every"
            f" {new.period_ms:.3g} ms); with it {share:.2f} would be promised, and {bound:.2f} of {cores} cores can be:"
            " a lower rate, a lighter variant, or no promise at all (no rate_hz and no deadline_ms)"
        )
    admitted = f"{share:.2f} of {bound:.2f} cores are promised"
    return Verdict(not why, why or admitted, round(share, 4), round(bound, 4))


def _too_long(new: Demand) -> str:
    if new.service_ms <= new.deadline_ms:
        return ""
    return (
        f"{new.name}: a request takes {new.service_ms:.3g} ms alone, more than its deadline of"
        f" {new.deadline_ms:.3g} ms; a lighter variant or a longer deadline is needed"
    )


def _waits_too_long(every: Sequence[Demand], cores: int) -> str:
    """Who may have to wait too long: for the first core to be free, when at worst all have just begun what takes
    longest, and for all requests of higher priorities that come before its deadline."""
    for demand in every:
        longest = sorted((other.service_ms for other in every if other is not demand), reverse=True)
        blocked_ms = longest[cores - 1] if len(longest) >= cores else 0.0
        if demand.service_ms + blocked_ms > demand.deadline_ms:
            return (
                f"{demand.name}: may wait {blocked_ms:.3g} ms for requests that have begun, and then takes"
                f" {demand.service_ms:.3g} ms, more than its deadline of {demand.deadline_ms:.3g} ms together"
            )
        before_ms = sum(
            math.ceil(demand.deadline_ms / other.period_ms) * other.service_ms * other.cores / cores
            for other in every
            if other.priority > demand.priority
        )
        if demand.service_ms + blocked_ms + before_ms > demand.deadline_ms:
            return (
                f"{demand.name}: may wait {before_ms:.3g} ms for requests of higher priority beside {blocked_ms:.3g} ms"
                f" for such that have begun, and then takes {demand.service_ms:.3g} ms, more than its deadline of"
                f" {demand.deadline_ms:.3g} ms together: a higher priority or a longer deadline is needed"
            )
    return ""

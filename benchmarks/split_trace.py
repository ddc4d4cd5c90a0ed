"""A session that follows the link against the best single plan in hindsight, over a ride through a mobile network.

The trace is drawn from published measurements: uplinks of commercial LTE networks, saturated while driving (Winstein,
Sivaraman and Balakrishnan, "Stochastic Forecasts Achieve High Throughput and Low Delay over Cellular Networks", NSDI
2013; the traces that come with Mahimahi, Netravali et al., USENIX ATC 2015). We took throughput by the second from
three of them, smoothed over 5 s to tell regimes apart, and found:

| regime | from | mean Mbit/s | standard deviation | stays for |
|---|---|---|---|---|
| poor, below 1 Mbit/s | ATT-LTE-driving.up (1012 s) | 0.55 | 0.41 | 13.5 s |
| low, 1 to 4 | Verizon-LTE-short.up (140 s) | 2.83 | 1.43 | 3.9 s |
| middle, 4 to 12 | Verizon-LTE-short.up (140 s) | 7.11 | 2.72 | 14.7 s |
| good, above 12 | TMobile-LTE-short.up (140 s) | 20.08 | 5.74 | 22.7 s |

From second to second the throughput within the whole of such a trace correlates by 0.75 to 0.91; here by 0.84. A regime
lasts an exponentially distributed time and is followed by one of its neighbours. The round trip is the 40 ms of that
paper's Cellsim. What comes down is as fast as what goes up: answers are small.

A real change of the link is a change of regime. Requests come at fixed times, and a late one is late from when it was
due. The single plans, each pinned and over the same trace, are local, the whole input in every coding, what the product
chooses while the link is like the mean of a regime, and the best there of what the grid (`--resume`) has measured. The
machine varies from minute to minute: after all have ridden once, the session that follows and the best single plans
ride again in the opposite order, and what counts is their mean. `apart` is by how much the two rides of a plan differ.
"""

from __future__ import annotations

import statistics
import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.shaped_link import Shape
from benchmarks.split_judge import Cell, Judge, way_of
from benchmarks.split_stage import LOCAL, Refused, Stage, Way

STATES = ((0.55, 0.41, 13.5), (2.83, 1.43, 3.9), (7.11, 2.72, 14.7), (20.08, 5.74, 22.7))
"""Mean and standard deviation in Mbit/s, and mean stay in seconds."""
CORRELATION, LEAST_MBPS, RTT_MS = 0.84, 0.1, 40.0
EQUAL = 1.02
"""Latencies within 2 % count as equal where bytes are compared."""
BEST_OF_STATE = 2
AGAIN = 2
"""So many of the best single plans ride twice, as the session that follows does."""


@dataclass(frozen=True, slots=True)
class Trace:
    """Bandwidth by the second, and the regime of each."""

    mbps: tuple[float, ...]
    states: tuple[int, ...]

    @property
    def changes(self) -> int:
        """Real changes of the link."""
        return sum(one != other for one, other in zip(self.states, self.states[1:], strict=False))


def drawn(seconds: int, seed: int) -> Trace:
    """A ride."""
    random = np.random.default_rng(seed)
    mbps: list[float] = []
    states: list[int] = []
    state, noise = 2, 0.0
    left_s = random.exponential(STATES[state][2])
    for _ in range(seconds):
        if left_s <= 0:
            near = [other for other in (state - 1, state + 1) if 0 <= other < len(STATES)]
            state = int(random.choice(near))
            left_s = random.exponential(STATES[state][2])
        mean, deviation, _ = STATES[state]
        noise = CORRELATION * noise + (1 - CORRELATION**2) ** 0.5 * random.standard_normal()
        mbps.append(float(max(mean + deviation * noise, LEAST_MBPS)))
        states.append(state)
        left_s -= 1
    return Trace(tuple(mbps), tuple(states))


@dataclass(frozen=True, slots=True)
class Run:
    """One session over the trace.

    Attributes:
        times_ms: of each request, from when it was due.
        sent_bytes: both ways, in all.
        ways: of the plan at each request.
        due_s: of each request.
        events: that its report tells.
    """

    times_ms: tuple[float, ...]
    sent_bytes: int
    ways: tuple[Way, ...]
    due_s: tuple[float, ...]
    events: tuple[str, ...]

    @property
    def mean_ms(self) -> float:
        """Of all requests."""
        return statistics.mean(self.times_ms)

    @property
    def switches(self) -> int:
        """Changes of the plan."""
        return sum(one != other for one, other in zip(self.ways, self.ways[1:], strict=False))

    def late(self, deadline_ms: float) -> int:
        """Requests later than their deadline among those around a switch: the one that meets it and the next two."""
        switched = [n + 1 for n, pair in enumerate(zip(self.ways, self.ways[1:], strict=False)) if pair[0] != pair[1]]
        around = {near for n in switched for near in (n - 1, n, n + 1) if near < len(self.times_ms)}
        return sum(self.times_ms[n] > deadline_ms for n in around)


def ride(on: Stage, key: str, trace: Trace, every_ms: float) -> Run:
    """One session over the whole trace, in real time."""
    rows: list[list[Any]] = []
    on.link.set(up_mbps=trace.mbps[0], down_mbps=trace.mbps[0], rtt_ms=RTT_MS)
    before = sum(on.link.passed.values())
    count = int(len(trace.mbps) * 1e3 / every_ms)
    asking = threading.Thread(target=lambda: rows.extend(on.device.paced(key, every_ms, count)))
    began = time.monotonic()
    asking.start()
    for second, mbps in enumerate(trace.mbps):
        asking.join(max(began + second - time.monotonic(), 0.0))
        on.link.set(up_mbps=mbps, down_mbps=mbps)
    asking.join()
    on.link.set()
    return Run(
        tuple(row[1] for row in rows),
        sum(on.link.passed.values()) - before,
        tuple(way_of(row[2]) for row in rows),
        tuple(row[0] for row in rows),
        tuple(on.device.report(key)["events"]),
    )


def single_plans(on: Stage, judge: Judge, speed: float) -> list[Way]:
    """Local; the whole input in every coding; what the product chooses when the link is like the mean of a regime; and
    the best few there of what the grid has measured at this speed."""
    wanted = dict.fromkeys(
        [LOCAL, *(way for way, known in judge.known.items() if way.kind == "offload" and known.able)]
    )
    on.device.speed = speed
    for mean, _, _ in STATES:
        cell = Cell(judge.path.parent.name, speed, RTT_MS, mean)
        on.shape(cell.shape)
        wanted[way_of(judge.load("regime", on.options(judge.path, None), speed)["way"])] = None
        judge.close("regime")
        bases = {way: known.base_ms.get(str(speed)) for way, known in judge.known.items() if known.able}
        likely = {w: ms + cell.transfer_ms(judge.known[w].least_bytes) for w, ms in bases.items() if ms is not None}
        wanted |= dict.fromkeys(sorted(likely, key=lambda way: likely[way])[:BEST_OF_STATE])
    return list(wanted)


def judged(on: Stage, judge: Judge, speed: float, seconds: int, every_ms: float, seed: int) -> dict[str, Any]:
    """All sessions over one trace, and the figures of it."""
    trace = drawn(seconds, seed)
    ways = single_plans(on, judge, speed)
    on.shape(Shape(up_mbps=trace.mbps[0], down_mbps=trace.mbps[0], rtt_ms=RTT_MS))
    on.device.speed = speed
    deadline_ms = 2 * judge.local_ms()
    judge.load("adaptive", on.options(judge.path, None, deadline_ms=deadline_ms), speed)
    options = {str(way): on.options(judge.path, way) for way in ways}
    bounded = {name: given | {"deadline_ms": deadline_ms} if given else given for name, given in options.items()}
    judge.load("adaptive", on.options(judge.path, None, deadline_ms=deadline_ms), speed)
    rides: dict[str, list[Run]] = {"adaptive": [ride(on, judge.key("adaptive"), trace, every_ms)]}
    for name, given in bounded.items():
        try:
            with on.unhindered():
                judge.load(f"ride {name}", given)
        except Refused:
            continue
        rides[name] = [ride(on, judge.key(f"ride {name}"), trace, every_ms)]
    best = sorted((name for name in rides if name != "adaptive"), key=lambda name: rides[name][0].mean_ms)[:AGAIN]
    for name in (*reversed(best), "adaptive"):
        rides[name].append(ride(on, judge.key("adaptive" if name == "adaptive" else f"ride {name}"), trace, every_ms))
    return figures(trace, rides, deadline_ms)


def figures(trace: Trace, rides: dict[str, list[Run]], deadline_ms: float) -> dict[str, Any]:
    """What comes out: gains of the adaptive session over the best single plan in hindsight.

    Args:
        trace: what all rode over.
        rides: of each session; of the adaptive one and the best single plans two.
        deadline_ms: of each request.
    """
    mean_ms = {name: statistics.mean(run.mean_ms for run in own) for name, own in rides.items()}
    sent = {name: statistics.mean(run.sent_bytes for run in own) for name, own in rides.items()}
    adaptive = rides["adaptive"]
    singles = [name for name, own in rides.items() if name != "adaptive" and len(own) == len(adaptive)]
    best = min(singles, key=lambda name: mean_ms[name])
    each = zip(*(own[0].times_ms for name, own in rides.items() if name != "adaptive"), strict=True)
    # Fewer bytes count at equal latency: against the fewest bytes of those single plans that are no slower.
    fewest = min((sent[name] for name in singles if mean_ms[name] <= mean_ms["adaptive"] * EQUAL), default=0.0)
    return {
        "adaptive_latency_gain": 1 - mean_ms["adaptive"] / mean_ms[best],
        "adaptive_bytes_gain": 1 - sent["adaptive"] / fewest if fewest else None,
        "best_single_plan": best,
        "hindsight_gain": 1 - statistics.mean(map(min, each)) / rides[best][0].mean_ms,
        "apart": {name: own[1].mean_ms / own[0].mean_ms - 1 for name, own in rides.items() if len(own) > 1},
        "switches": sum(run.switches for run in adaptive),
        "link_changes": trace.changes * len(adaptive),
        "late": sum(run.late(deadline_ms) for run in adaptive),
        "deadline_ms": deadline_ms,
        "seconds": len(trace.mbps),
        "requests": len(adaptive[0].times_ms),
        "events": adaptive[-1].events,
        "runs": {
            name: {
                "mean_ms": mean_ms[name],
                "median_ms": statistics.median(times),
                "p95_ms": float(np.percentile(times, 95)),
                "over_deadline": sum(ms > deadline_ms for ms in times) / len(own),
                "sent_bytes": sent[name],
                "rides": len(own),
            }
            for name, own in rides.items()
            for times in [[ms for run in own for ms in run.times_ms]]
        },
        "ways": [way for run in adaptive for way in told(run, trace)],
    }


def told(run: Run, trace: Trace) -> list[str]:
    """The plans one after the other, each with the second from which it held and the bandwidth then."""
    found = []
    for number, way in enumerate(run.ways):
        if number == 0 or way != run.ways[number - 1]:
            found.append(f"{run.due_s[number]:.1f} s, {trace.mbps[int(run.due_s[number])]:.1f} Mbit/s: {way}")
    return found


def table(found: dict[str, Any]) -> str:
    """The figures as text."""
    lines = [f"{'session':56} {'mean ms':>8} {'median':>8} {'p95':>8} {'late':>5} {'MB':>7}"]
    for name, run in found["runs"].items():
        lines.append(
            f"{name[-56:]:56} {run['mean_ms']:8.1f} {run['median_ms']:8.1f} {run['p95_ms']:8.1f}"
            f" {run['over_deadline']:5g} {run['sent_bytes'] / 1e6:7.2f}"
        )
    bytes_gain = found["adaptive_bytes_gain"]
    lines.append(
        f"{found['seconds']} s: latency {found['adaptive_latency_gain']:.1%} below {found['best_single_plan'][:40]}"
        + ("" if bytes_gain is None else f", bytes {bytes_gain:.1%} below those as fast")
        + f"; {found['switches']} switches at {found['link_changes']} changes of the link, {found['late']} late by them"
    )
    apart = ", ".join(f"{name[-30:]} {share:+.1%}" for name, share in found["apart"].items())
    lines.append(
        f"whoever knew each request's best plan before: {found['hindsight_gain']:.1%} below; second rides: {apart}"
    )
    return "\n".join([*lines, *(f"  {way}" for way in found["ways"])])

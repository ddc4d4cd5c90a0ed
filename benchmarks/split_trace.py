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

Every session has its way back: a request that is late for its deadline otherwise is answered here, and an endpoint that
was too often overtaken is left alone for a while. So a single plan is one of two ways in practice, and what following
the link gains is beyond that. The deadline is four local requests: at two, on a machine whose speed varies by 1.6, the
local tail has to begin beside nearly every request of any plan, and all plans do all work twice.

A real change of the link is a change of regime. Requests come at fixed times, and a late one is late from when it was
due. The single plans, each pinned and over the same trace, are local, the whole input in every coding, what the product
chooses while the link is like the mean of a regime, and the best there of what the grid (`--resume`) has measured.

The machine varies from minute to minute, by a third. So all sessions ride the first 12 seconds of the trace one after
the other, then all ride the next 12, in changing order: each over a link of its own, which stays as it was until its
session goes on. `adaptive_latency_gain_error` is the standard error of the gain over these pieces.
"""

from __future__ import annotations

import contextlib
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.shaped_link import ShapedLink
from benchmarks.split_judge import Cell, Judge, way_of
from benchmarks.split_stage import LOCAL, Refused, Stage, Way

STATES = ((0.55, 0.41, 13.5), (2.83, 1.43, 3.9), (7.11, 2.72, 14.7), (20.08, 5.74, 22.7))
"""Mean and standard deviation in Mbit/s, and mean stay in seconds."""
CORRELATION, LEAST_MBPS, RTT_MS = 0.84, 0.1, 40.0
EQUAL = 1.02
"""Latencies within 2 % count as equal where bytes are compared."""
BEST_OF_STATE = 2
PIECE_S = 12
"""So long one session rides before the next one does."""


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
        stayed: requests that no endpoint answered.
    """

    times_ms: tuple[float, ...]
    sent_bytes: int
    ways: tuple[Way, ...]
    due_s: tuple[float, ...]
    events: tuple[str, ...]
    stayed: int = 0

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


@dataclass(slots=True)
class Rider:
    """One session and its link.

    Attributes:
        rows: of its requests so far; see `Device.paced`.
        sent_bytes: both ways, in its own pieces.
    """

    name: str
    key: str
    link: ShapedLink
    rows: list[list[Any]] = field(default_factory=list)
    sent_bytes: int = 0

    def shape(self, mbps: float) -> None:
        """Its link is like this from now on."""
        self.link.set(up_mbps=mbps, down_mbps=mbps, rtt_ms=RTT_MS)

    def ride(self, on: Stage, trace: Trace, begin_s: int, every_ms: float) -> None:
        """A piece of the trace, in real time."""
        piece = trace.mbps[begin_s : begin_s + PIECE_S]
        count = int(len(piece) * 1e3 / every_ms)
        found: list[list[Any]] = []
        self.shape(piece[0])
        before = sum(self.link.passed.values())
        asking = threading.Thread(
            target=lambda: found.extend(on.device.paced(self.key, every_ms, count, len(self.rows)))
        )
        began = time.monotonic()
        asking.start()
        for second, mbps in enumerate(piece):
            asking.join(max(began + second - time.monotonic(), 0.0))
            self.shape(mbps)
        asking.join()
        self.shape(piece[-1])
        self.sent_bytes += sum(self.link.passed.values()) - before
        self.rows += [[begin_s + due_s, *rest] for due_s, *rest in found]

    def run(self, on: Stage) -> Run:
        """All it rode."""
        return Run(
            tuple(row[1] for row in self.rows),
            self.sent_bytes,
            tuple(way_of(row[2]) for row in self.rows),
            tuple(row[0] for row in self.rows),
            tuple(on.device.report(self.key)["events"]),
            sum(not row[3] for row in self.rows),
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


def judged(
    on: Stage, judge: Judge, speed: float, seconds: int, every_ms: float, seed: int, deadline: float
) -> dict[str, Any]:
    """All sessions over one trace, and the figures of it.

    Args:
        on, judge: where, and of which model.
        speed: of the device.
        seconds: of the trace.
        every_ms: between requests.
        seed: of the trace.
        deadline: of each request, in local ones.
    """
    trace = drawn(max(seconds // PIECE_S, 1) * PIECE_S, seed)
    ways = single_plans(on, judge, speed)
    on.device.speed = speed
    deadline_ms = deadline * judge.local_ms()
    with contextlib.ExitStack() as stack:
        riders = list(_loaded(stack, on, judge, ways, trace, speed, deadline_ms))
        for number, begin_s in enumerate(range(0, len(trace.mbps), PIECE_S)):
            turn = number % len(riders)
            for rider in (*riders[turn:], *riders[:turn]):
                rider.ride(on, trace, begin_s, every_ms)
        runs = {rider.name: rider.run(on) for rider in riders}
    return figures(trace, runs, deadline_ms)


def _loaded(
    stack: contextlib.ExitStack,
    on: Stage,
    judge: Judge,
    ways: Sequence[Way],
    trace: Trace,
    speed: float,
    deadline_ms: float,
) -> Iterator[Rider]:
    """The adaptive session, loaded at the speed and over the link that it meets, and one for each way."""
    for way in (None, *ways):
        link = stack.enter_context(ShapedLink(on.port))
        options = on.options(judge.path, way)
        if options:
            options |= {"endpoints": [link.url], "deadline_ms": deadline_ms}
        name = "adaptive" if way is None else str(way)
        rider = Rider(name, judge.key(f"ride {name}"), link)
        if way is None:
            rider.shape(trace.mbps[0])
            judge.load(f"ride {name}", options, speed)
        else:
            try:
                with on.unhindered():
                    judge.load(f"ride {name}", options)
            except Refused:
                continue
        yield rider


def figures(trace: Trace, runs: dict[str, Run], deadline_ms: float) -> dict[str, Any]:
    """What comes out: gains of the adaptive session over the best single plan in hindsight.

    Args:
        trace: what all rode over.
        runs: of each session.
        deadline_ms: of each request.
    """
    adaptive = runs["adaptive"]
    singles = {name: run for name, run in runs.items() if name != "adaptive"}
    best = min(singles, key=lambda name: singles[name].mean_ms)
    # Fewer bytes count at equal latency: against the fewest bytes of those single plans that are no slower.
    equal = [run.sent_bytes for run in singles.values() if run.mean_ms <= adaptive.mean_ms * EQUAL]
    fewest = min(equal, default=0)
    hindsight_ms = statistics.mean(map(min, zip(*(run.times_ms for run in singles.values()), strict=True)))
    return {
        "adaptive_latency_gain": 1 - adaptive.mean_ms / singles[best].mean_ms,
        "adaptive_latency_gain_error": error_of_gain(adaptive, singles[best]),
        "adaptive_bytes_gain": 1 - adaptive.sent_bytes / fewest if fewest else None,
        "best_single_plan": best,
        "hindsight_gain": 1 - hindsight_ms / singles[best].mean_ms,
        "switches": adaptive.switches,
        "link_changes": trace.changes,
        "late": adaptive.late(deadline_ms),
        "deadline_ms": deadline_ms,
        "seconds": len(trace.mbps),
        "requests": len(adaptive.times_ms),
        "events": adaptive.events,
        "runs": {
            name: {
                "mean_ms": run.mean_ms,
                "median_ms": statistics.median(run.times_ms),
                "p95_ms": float(np.percentile(run.times_ms, 95)),
                "over_deadline": sum(ms > deadline_ms for ms in run.times_ms),
                "sent_bytes": run.sent_bytes,
                "stayed": run.stayed,
            }
            for name, run in runs.items()
        },
        "ways": told(adaptive, trace),
    }


def error_of_gain(adaptive: Run, single: Run) -> float | None:
    """Standard error of the gain over the pieces of the trace; None where there is one piece only."""
    pieces: dict[int, list[float]] = {}
    for due_s, ms, other_ms in zip(adaptive.due_s, adaptive.times_ms, single.times_ms, strict=True):
        pieces.setdefault(int(due_s // PIECE_S), []).append(other_ms - ms)
    gains = [statistics.mean(each) / single.mean_ms for each in pieces.values()]
    return statistics.stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else None


def told(run: Run, trace: Trace) -> list[str]:
    """The plans one after the other, each with the second from which it held and the bandwidth then."""
    found = []
    for number, way in enumerate(run.ways):
        if number == 0 or way != run.ways[number - 1]:
            found.append(f"{run.due_s[number]:.1f} s, {trace.mbps[int(run.due_s[number])]:.1f} Mbit/s: {way}")
    return found


def table(found: dict[str, Any]) -> str:
    """The figures as text."""
    lines = [f"{'session':56} {'mean ms':>8} {'median':>8} {'p95':>8} {'late':>5} {'here':>5} {'MB':>7}"]
    for name, run in found["runs"].items():
        lines.append(
            f"{name[-56:]:56} {run['mean_ms']:8.1f} {run['median_ms']:8.1f} {run['p95_ms']:8.1f}"
            f" {run['over_deadline']:5} {run['stayed']:5} {run['sent_bytes'] / 1e6:7.2f}"
        )
    bytes_gain = found["adaptive_bytes_gain"]
    lines.append(
        f"{found['seconds']} s: latency {found['adaptive_latency_gain']:.1%} below {found['best_single_plan'][:40]}"
        + ("" if bytes_gain is None else f", bytes {bytes_gain:.1%} below those as fast")
        + f"; {found['switches']} switches at {found['link_changes']} changes of the link, {found['late']} late by them"
    )
    error = found["adaptive_latency_gain_error"]
    lines.append(
        f"{found['hindsight_gain']:.1%} below were to be had by knowing each request's best plan before"
        + ("" if error is None else f"; standard error of the gain {error:.1%}")
    )
    return "\n".join([*lines, *(f"  {way}" for way in found["ways"])])

"""Requests of 32 callers at once: computed together against one by one.

    python benchmarks/batching.py [--quick] [--json] [--only MODEL…]

Each model has an open first axis. Two sessions of it stand side by side, one with `max_batch`, and answer 32 threads in
turn, each of which asks again as soon as it is answered. `gain` is the throughput of the first over that of the second,
the median over rounds: at least 1 where the session found that batches do not pay, since it then computes one by one
too. `bound_ms` is `max_delay_ms` and what one call with as many rows takes (the median); the 99th percentile is to stay
within it. It is asked for with two delays: one that 32 threads can only just keep, each of which has to be woken and to
get the interpreter before it asks again, and one that a tick of the kernel fits into. `batch p99` is that of such a
call alone, back to back with nobody else asking, and `others` the share of the CPUs that other processes took
meanwhile: where these are large, the 99th percentile is the machine's and not ours.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import edge_sdk
from benchmarks import zoo
from edge_sdk.engines.samples import made_up_feeds
from edge_sdk.measuring import concurrent

MODELS = ("mlp_wide", "autoencoder_640", "text_64", "mobilenet_v2_050_160", "keywords_64", "resnet20_32")
QUICK = ("mlp_wide", "resnet20_32")
CALLERS = 32
DELAYS_MS = (2.0, 10.0)
ROUNDS, QUICK_ROUNDS, MEASURED_S = 7, 3, 0.6


def judged(name: str, model: Path, rounds: int, max_delay_ms: float) -> dict[str, Any]:
    """One model and what it may wait for others: a row."""
    with (
        edge_sdk.load(model, replan=False) as plain,
        edge_sdk.load(model, replan=False, max_batch=CALLERS, max_delay_ms=max_delay_ms) as batched,
    ):
        feeds = made_up_feeds(plain.inputs)
        apart = apart_of(plain, batched, feeds)
        found: dict[str, list[Any]] = {"plain": [], "batched": []}
        before = cpu_times()
        for number in range(rounds):
            order = [("plain", plain), ("batched", batched)]
            for way, session in order if number % 2 else order[::-1]:
                asks = functools.partial(session.run, feeds)
                found[way].append(concurrent(lambda asks=asks: asks, CALLERS, MEASURED_S))  # type: ignore[misc]
        others = others_share(before, cpu_times())
        rows = {key: np.repeat(array, CALLERS, axis=0) for key, array in feeds.items()}
        batch_ms = times_ms(lambda: plain.run(rows), MEASURED_S)
        return {
            "model": name,
            "max_delay_ms": max_delay_ms,
            "single_ms": statistics.median(times_ms(lambda: plain.run(feeds))),
            "plain_per_s": statistics.median(one.per_s for one in found["plain"]),
            "batched_per_s": statistics.median(one.per_s for one in found["batched"]),
            "gain": statistics.median(b.per_s / a.per_s for a, b in zip(*found.values(), strict=True)),
            "p50_ms": statistics.median(one.latencies.median_ms for one in found["batched"]),
            "p99_ms": statistics.median(one.latencies.p99_ms for one in found["batched"]),
            "bound_ms": max_delay_ms + statistics.median(batch_ms),
            "batch_p99_ms": sorted(batch_ms)[int(0.99 * (len(batch_ms) - 1))],
            "others": others,
            "difference": apart,
            "chosen": batched.report().notes[-1],
        }


def apart_of(plain: edge_sdk.Session, batched: edge_sdk.Session, feeds: Mapping[str, Any]) -> float:
    """Largest difference of an answer, over the largest value of it."""
    answers = list(batched.stream([feeds] * CALLERS))
    expected = plain.run(feeds)
    return max(
        float(np.abs(answer[name] - array).max() / max(float(np.abs(array).max()), 1e-12))
        for answer in answers
        for name, array in expected.items()
    )


def times_ms(request: Callable[[], object], seconds: float = 0.0) -> list[float]:
    """Of a request alone, at least 15 times."""
    times: list[float] = []
    end_s = time.perf_counter() + seconds
    while len(times) < 15 or time.perf_counter() < end_s:
        began_s = time.perf_counter()
        request()
        times.append((time.perf_counter() - began_s) * 1e3)
    return times


def cpu_times() -> tuple[float, float, float]:
    """Seconds of all CPUs so far: of this process, of all that were busy, and of all; zeros where nothing tells."""
    try:
        with open("/proc/stat", encoding="ascii") as stat:
            ticks = [int(field) for field in stat.readline().split()[1:9]]
    except OSError:
        return 0.0, 0.0, 0.0
    tick_s = 1 / os.sysconf("SC_CLK_TCK")
    idle = ticks[3] + ticks[4]
    return time.process_time(), (sum(ticks) - idle) * tick_s, sum(ticks) * tick_s


def others_share(before: tuple[float, float, float], after: tuple[float, float, float]) -> float:
    """Share of the CPUs' time that went to other processes, and to other machines of the host."""
    own_s, busy_s, all_s = (now - then for then, now in zip(before, after, strict=True))
    return max(busy_s - own_s, 0.0) / all_s if all_s else 0.0


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as text."""
    lines = [
        f"{'model':21} {'delay ms':>8} {'alone ms':>9} {'one by one /s':>14} {'together /s':>12} {'gain':>6}"
        f" {'p50 ms':>7} {'p99 ms':>7} {'bound':>7} {'batch p99':>10} {'others':>7} {'apart':>8}"
    ]
    lines += [
        f"{row['model']:21} {row['max_delay_ms']:8g} {row['single_ms']:9.3f} {row['plain_per_s']:14.0f}"
        f" {row['batched_per_s']:12.0f} {row['gain']:6.2f} {row['p50_ms']:7.2f} {row['p99_ms']:7.2f}"
        f" {row['bound_ms']:7.2f} {row['batch_p99_ms']:10.2f} {row['others']:7.0%} {row['difference']:8.1e}"
        f"  {row['chosen']}"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> int:
    """Runs all models and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two models, under a minute")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", nargs="+", metavar="MODEL", choices=zoo.NAMES)
    arguments = parser.parse_args()
    names = arguments.only or (QUICK if arguments.quick else MODELS)
    rows = []
    with tempfile.TemporaryDirectory(prefix="edge-sdk-batching-") as folder:
        for name, path in zoo.write(folder, names, batch="batch").items():
            for max_delay_ms in DELAYS_MS:
                rows.append(judged(name, path, QUICK_ROUNDS if arguments.quick else ROUNDS, max_delay_ms))
                print(table(rows[-1:]), file=sys.stderr, flush=True)
    print(json.dumps({"rows": rows}) if arguments.json else table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())

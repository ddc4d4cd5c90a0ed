"""What the scheduler makes of cores of unequal speed, against the two obvious choices.

    python benchmarks/asymmetric.py [--quick] [--json] [--only MODEL…] [--share SHARE]

One of two cores is really slowed: a process of real-time priority takes a part of every 200 µs of it
(`benchmarks/slowed.py`; needs root, and says so where it is not). The device does not tell that its cores differ: the
product has to find out. For each model four processes are loaded, and measured in turn:

- `default`: the engine's own threads on all cores,
- `fast_only`: one thread on the fast core,
- `tuned`: what `edge_sdk.load` chooses for latency, one request after the other,
- `stream`: `Session.stream` of what `edge_sdk.load(objective="throughput")` chooses.

Figures are milliseconds from answer to answer; ratios are medians over rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import zoo
from benchmarks.slowed import Slowed

ASSETS = Path(__file__).resolve().parents[1].parent / "shared" / "assets" / "models"
MODELS = (
    "mobilenet_v2_224",
    "squeezenet_224",
    "resnet18_112",
    "yolo_silu_160",
    "vit_96",
    "mobilenet_v2_224_int8.tflite",
)
QUICK = ("mobilenet_v2_224", "yolo_silu_160")
INSTEAD = "unet_128"
"""In the place of a file that is not there."""
WAYS = ("default", "fast_only", "tuned", "stream")
PERIOD_S, SHARE = 200e-6, 0.5
ROUNDS, QUICK_ROUNDS, MEASURED_S = 9, 3, 0.5
PLAN_BUDGET_S = 6.0


class Way:
    """One way to run a model, in a process of its own that measures when it is told.

    Args:
        model, way, fast: what its `--worker` is given.
        cache: folder for its plans.
        script: whose worker it is.
    """

    def __init__(self, model: Path, way: str, fast: int, cache: str, script: str = __file__) -> None:
        command = [sys.executable, str(Path(script).resolve()), "--worker", str(model), way, str(fast)]
        environment = {**os.environ, "EDGE_SDK_CACHE": cache}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.told = self._heard()
        self.chosen: str = self.told["chosen"]

    def measure(self, seconds: float) -> float:
        """Milliseconds from answer to answer, over so long."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()
        return float(self._heard()["interval_ms"])

    def close(self) -> None:
        """Idempotent."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def _heard(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a process that measures ended with {self._process.wait()}")
        heard: dict[str, Any] = json.loads(line)
        return heard


def work(model: Path, way: str, fast: int) -> None:
    """What a process of a way does: loads, then measures for as long as each line on stdin says."""
    import edge_sdk
    from edge_sdk.engines.samples import made_up_feeds

    feeds: Mapping[str, Any]
    if way == "stream":
        session = edge_sdk.load(model, objective="throughput", plan_budget_s=PLAN_BUDGET_S)
    elif way == "tuned":
        # Planned anew it would be while another way is measured, on a core that is not free.
        session = edge_sdk.load(model, plan_budget_s=PLAN_BUDGET_S, replan=False)
    elif way == "fast_only":
        session = edge_sdk.load(model, threads=1, cpus=[fast])
    else:
        session = edge_sdk.load(model, plan_budget_s=0)
    feeds = made_up_feeds(session.inputs)
    one = session.run if way != "stream" else None
    chosen = session.plan.placement.describe()
    session.warm_up(3)
    print(json.dumps({"chosen": chosen}), flush=True)
    for line in sys.stdin:
        interval_ms = alone_ms(one, feeds, float(line)) if one is not None else streamed_ms(session, feeds, float(line))
        print(json.dumps({"interval_ms": interval_ms}), flush=True)


def alone_ms(run: Callable[[Mapping[str, Any]], object], feeds: Mapping[str, Any], seconds: float) -> float:
    """From answer to answer, one request after the other."""
    run(feeds)
    began_s, count = time.perf_counter(), 0
    while time.perf_counter() - began_s < seconds:
        run(feeds)
        count += 1
    return (time.perf_counter() - began_s) / count * 1e3


def streamed_ms(session: Any, feeds: Mapping[str, Any], seconds: float) -> float:
    """From answer to answer of a stream: between the first answer and the last."""
    until_s = time.perf_counter() + seconds
    frames: Iterator[Mapping[str, Any]] = itertools.takewhile(
        lambda _: time.perf_counter() < until_s, itertools.repeat(feeds)
    )
    answered_s = [time.perf_counter() for _ in session.stream(frames)]
    return (answered_s[-1] - answered_s[0]) / (len(answered_s) - 1) * 1e3


def in_turn(ways: Mapping[str, Way], rounds: int) -> dict[str, list[float]]:
    """What each measured in each round; another one begins each time."""
    names = tuple(ways)
    found: dict[str, list[float]] = {way: [] for way in names}
    for number in range(rounds):
        turn = number % len(names)
        for way in (*names[turn:], *names[:turn]):
            found[way].append(ways[way].measure(MEASURED_S))
    return found


def judged(name: str, model: Path, fast: int, rounds: int) -> dict[str, Any]:
    """One model: a row."""
    with contextlib.ExitStack() as stack:
        cache = stack.enter_context(tempfile.TemporaryDirectory(prefix="edge-sdk-asymmetric-"))
        ways: dict[str, Way] = {}
        for way in WAYS:
            ways[way] = Way(model, way, fast, cache)
            stack.callback(ways[way].close)
        found = in_turn(ways, rounds)
    better = min("default", "fast_only", key=lambda way: statistics.median(found[way]))
    pairs = list(zip(found[better], found["tuned"], found["stream"], strict=True))
    return {
        "model": name,
        **{way: statistics.median(times) for way, times in found.items()},
        "better": better,
        "tuned_times": statistics.median(tuned / best for best, tuned, _ in pairs),
        "stream_gain": statistics.median(best / stream for best, _, stream in pairs),
        "tuned_chosen": ways["tuned"].chosen,
        "stream_chosen": ways["stream"].chosen,
    }


def models(names: Sequence[str], folder: Path) -> Iterator[tuple[str, Path]]:
    """Name and file of each; a made-up one in the place of a real one that is not here."""
    for name in names:
        if name in zoo.NAMES:
            yield name, zoo.write(folder, [name])[name]
        elif (ASSETS / name).is_file():
            yield name, ASSETS / name
        else:
            yield INSTEAD, zoo.write(folder, [INSTEAD])[INSTEAD]


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as text."""
    lines = [
        f"{'model':30} {'default':>8} {'fast only':>9} {'tuned':>8} {'stream':>8} {'tuned/better':>13} {'gain':>6}"
    ]
    lines += [
        f"{row['model'][:30]:30} {row['default']:8.2f} {row['fast_only']:9.2f} {row['tuned']:8.2f}"
        f" {row['stream']:8.2f} {row['tuned_times']:13.3f} {row['stream_gain']:6.2f}"
        f"  {row['tuned_chosen']}; {row['stream_chosen']}"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> int:
    """Slows a core, runs all models and prints."""
    return measured(Benchmark(str(__doc__), MODELS, QUICK, work, judged, table))


@dataclass(frozen=True)
class Benchmark:
    """Models on two cores of which one is slowed.

    Attributes:
        what: its description.
        models, quick: which ones, and which of them in under a minute.
        work: what a child process does for a model, a way and the fast CPU.
        judged: the row of a model: its name, file, the fast CPU, and how many rounds.
        table: rows as text.
    """

    what: str
    models: Sequence[str]
    quick: Sequence[str]
    work: Callable[[Path, str, int], None]
    judged: Callable[[str, Path, int, int], dict[str, Any]]
    table: Callable[[Sequence[dict[str, Any]]], str]


def measured(benchmark: Benchmark) -> int:
    """Reads the command's arguments, slows a core, runs all models and prints."""
    parser = argparse.ArgumentParser(description=benchmark.what, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two models, under a minute")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", nargs="+", metavar="MODEL")
    parser.add_argument("--share", type=float, default=SHARE, help="of the slow core that is left to the models")
    parser.add_argument("--worker", nargs=3, metavar=("MODEL", "WAY", "CPU"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        model, way, fast = arguments.worker
        benchmark.work(Path(model), way, int(fast))
        return 0
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        return skipped("it takes two cores", arguments.json)
    names = arguments.only or (benchmark.quick if arguments.quick else benchmark.models)
    fast, slow = cpus[0], cpus[-1]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="edge-sdk-zoo-") as folder:
        files = list(models(names, Path(folder)))
        os.sched_setaffinity(0, {fast, slow})
        try:
            slowed = Slowed(slow, PERIOD_S)
        except RuntimeError as error:
            return skipped(str(error), arguments.json)
        with slowed:
            slowed.set(arguments.share)
            for name, path in files:
                rows.append(benchmark.judged(name, path, fast, QUICK_ROUNDS if arguments.quick else ROUNDS))
                print(benchmark.table(rows[-1:]), file=sys.stderr, flush=True)
    print(json.dumps({"share": arguments.share, "rows": rows}) if arguments.json else benchmark.table(rows))
    return 0


def skipped(why: str, as_json: bool) -> int:
    """Says that nothing was measured."""
    print(json.dumps({"skipped": why, "rows": []}) if as_json else f"skipped: {why}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

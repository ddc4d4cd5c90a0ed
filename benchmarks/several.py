"""Three models at once on two cores: promises kept by the scheduler, and three bare sessions with the same load.

    python benchmarks/several.py [--quick] [--json]

A detector at 30 frames a second and a keyword spotter at 10 Hz, each due before its next frame, and a batch job that
never ends. `scheduled` loads them with `edge_sdk.Scheduler`, `bare` with `edge_sdk.load` and a thread for each, in a
process of their own one after the other. A frame that is answered late, dropped, or passes while the one before it
computes is missed. What the batch job is due is what the two others leave of the cores; its progress is told as a share
of that, by what a request of it takes alone.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import zoo

PROMISED = {"detector": ("ssd_160", 30.0, 1), "keywords": ("keywords_wide", 10.0, 1)}
BATCH = "resnet18_112"
SECONDS, QUICK_SECONDS = 60.0, 8.0
WAYS = ("scheduled", "bare")
CPUS = 2
ALONE_S = 1.0


class Paced:
    """Frames that come at a fixed rate, and how many were answered in time.

    Args:
        rate_hz: of the frames.
        ask: has one computed; the answer may come later.
    """

    def __init__(self, rate_hz: float, ask: Callable[[], Future[Any]]) -> None:
        self._rate_hz, self._ask = rate_hz, ask
        self._lock = threading.Lock()
        self.frames = self.in_time = 0
        self.late_ms: list[float] = []

    def go(self, seconds: float) -> None:
        """Frames for so long, each asked for when it comes."""
        began_s = time.monotonic()
        asked = []
        for frame in range(int(seconds * self._rate_hz)):
            due_s = began_s + frame / self._rate_hz
            time.sleep(max(due_s - time.monotonic(), 0.0))
            self.frames += 1
            if time.monotonic() > due_s + 1 / self._rate_hz:
                continue  # it passed while the one before it was computed
            answer = self._ask()
            answer.add_done_callback(lambda done, due_s=due_s: self._answered(done, due_s))  # type: ignore[misc]
            asked.append(answer)
        for answer in asked:
            answer.exception()

    def _answered(self, done: Future[Any], due_s: float) -> None:
        took_s = time.monotonic() - due_s
        with self._lock:
            if done.exception() is None and took_s <= 1 / self._rate_hz:
                self.in_time += 1


def work(way: str, seconds: float, folder: Path) -> dict[str, Any]:
    """What one process does: all three models for so long."""
    import edge_sdk
    from edge_sdk.engines.samples import made_up_feeds

    stack = contextlib.ExitStack()
    files = {name: folder / f"{model}.onnx" for name, (model, _, _) in PROMISED.items()}
    batch_file = folder / f"{BATCH}.onnx"
    asks: dict[str, Callable[[], Future[Any]]] = {}
    sessions: list[Any] = []
    if way == "scheduled":
        scheduler = edge_sdk.Scheduler(cores=CPUS)
        for name, (_, rate_hz, priority) in PROMISED.items():
            one = scheduler.load(name, files[name], priority=priority, rate_hz=rate_hz, when_full="drop_oldest")
            feeds = made_up_feeds(one.inputs)
            asks[name] = lambda one=one, feeds=feeds: one.submit(feeds)  # type: ignore[misc]
            sessions.append(stack.enter_context(one.using()))
        batch = scheduler.load("batch", batch_file)
        run_batch, whole = batch.run, stack.enter_context(batch.using())
    else:
        for name in PROMISED:
            session = edge_sdk.load(files[name])
            feeds = made_up_feeds(session.inputs)
            asks[name] = lambda session=session, feeds=feeds: _done(session.run, feeds)  # type: ignore[misc]
            sessions.append(session)
        whole = edge_sdk.load(batch_file)
        run_batch = whole.run
    batch_feeds = made_up_feeds(whole.inputs)
    alone = [_alone_s(session) for session in (*sessions, whole)]
    left = CPUS - sum(
        alone_s * rate * _threads(session)
        for alone_s, (_, rate, _), session in zip(alone, PROMISED.values(), sessions, strict=False)
    )
    over, count = threading.Event(), [0]

    def batches() -> None:
        while not over.is_set():
            run_batch(batch_feeds)
            count[0] += 1

    paced = {name: Paced(rate_hz, asks[name]) for name, (_, rate_hz, _) in PROMISED.items()}
    threads = [threading.Thread(target=one.go, args=(seconds,)) for one in paced.values()]
    threads.append(threading.Thread(target=batches))
    began_s = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads[:-1]:
        thread.join()
    lasted_s = time.monotonic() - began_s
    per_s = count[0] / lasted_s
    over.set()
    threads[-1].join()
    return {
        "way": way,
        **{f"{name}_missed": 1 - one.in_time / one.frames for name, one in paced.items()},
        "batch_per_s": per_s,
        "batch_of_its_share": per_s * alone[-1] * _threads(whole) / left,
        "resident_mb": _resident_mb(),
    }


def _done(run: Callable[[Mapping[str, Any]], Any], feeds: Mapping[str, Any]) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(run(feeds))
    return future


def _threads(session: Any) -> int:
    return int(session.plan.placement.threads or CPUS)


def _alone_s(session: Any) -> float:
    """What a request takes while nothing else runs, in the middle."""
    times, until_s = [], time.monotonic() + ALONE_S
    while time.monotonic() < until_s or len(times) < 5:
        times.append(session.warm_up())
    return float(sorted(times)[len(times) // 2]) / 1e3


def _resident_mb() -> float:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as text."""
    lines = [f"{'':10} {'detector missed':>16} {'keywords missed':>16} {'batch a second':>15} {'of its share':>13}"]
    lines += [
        f"{row['way']:10} {row['detector_missed']:16.2%} {row['keywords_missed']:16.2%} {row['batch_per_s']:15.1f}"
        f" {row['batch_of_its_share']:13.0%}"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> int:
    """Runs both ways and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few seconds of each, under a minute")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", nargs=3, metavar=("WAY", "SECONDS", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        way, seconds, folder = arguments.worker
        print(json.dumps(work(way, float(seconds), Path(folder))))
        return 0
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < CPUS:
        print(json.dumps({"skipped": "it takes two cores", "rows": []}) if arguments.json else "skipped: one core")
        return 0
    os.sched_setaffinity(0, cpus[:CPUS])
    rows = []
    with tempfile.TemporaryDirectory(prefix="edge-sdk-several-") as folder:
        zoo.write(folder, [*(model for model, _, _ in PROMISED.values()), BATCH])
        environment = {**os.environ, "EDGE_SDK_CACHE": f"{folder}/cache"}
        seconds = QUICK_SECONDS if arguments.quick else SECONDS
        for way in WAYS:
            command = [sys.executable, str(Path(__file__).resolve()), "--worker", way, str(seconds), folder]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=environment)
            rows.append(json.loads(done.stdout))
    print(json.dumps({"rows": rows}) if arguments.json else table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())

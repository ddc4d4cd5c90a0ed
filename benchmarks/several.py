"""Three models at once on two cores: promises kept by the scheduler, and three bare sessions with the same load.

    python benchmarks/several.py [--quick] [--json]

A detector at 30 frames a second and a keyword spotter at 10 Hz, each due before its next frame, and a batch job that
never ends. `scheduled` loads them with `edge_sdk.Scheduler`, `bare` with `edge_sdk.load` and a thread for each, in a
process of their own one after the other. A frame that is answered late, dropped, or passes while the one before it
computes is missed. What the batch job is due is what the two others leave of the cores; its progress is told as a share
of that, by what a request of it takes alone.

Then twice as much as there is: eight cameras of which each takes half of a core. `refused` says no to those that do not
fit, with figures, `degrade` answers with a lighter variant of the bundle what the better one cannot, `bare-overload`
takes all of them in sessions and threads of their own. Missed are frames of the cameras that were taken; memory is
resident at the start and at the end.
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
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import zoo

PROMISED = {"detector": ("ssd_160", 30.0, 1), "keywords": ("keywords_wide", 10.0, 1)}
BATCH = "resnet18_112"
SECONDS, QUICK_SECONDS = 60.0, 4.0
WAYS = ("scheduled", "bare")
OVERLOAD_WAYS = ("refused", "degrade", "bare-overload")
BETTER, LIGHTER = "mobilenet_v2_224", "mobilenet_v3_small_224"
OVERLOAD, SHARE_OF_EACH = 2.0, 0.5
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
        asked: deque[Future[Any]] = deque()
        for frame in range(int(seconds * self._rate_hz)):
            due_s = began_s + frame / self._rate_hz
            time.sleep(max(due_s - time.monotonic(), 0.0))
            self.frames += 1
            if time.monotonic() > due_s + 1 / self._rate_hz:
                continue  # it passed while the one before it was computed
            answer = self._ask()
            answer.add_done_callback(lambda done, due_s=due_s: self._answered(done, due_s))  # type: ignore[misc]
            asked.append(answer)
            while asked and asked[0].done():  # an answer that is kept would count as memory of the product
                asked.popleft()
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


def overload(way: str, seconds: float, folder: Path) -> dict[str, Any]:
    """What one process does: cameras that want twice as much as there is, for so long."""
    import edge_sdk
    from edge_sdk.engines.samples import made_up_feeds
    from edge_sdk.errors import AdmissionRefused

    model = folder / "camera.edge"
    with edge_sdk.load(model, variant="better", threads=1) as session:
        better_ms = _alone_s(session) * 1e3
        feeds = made_up_feeds(session.inputs)
    rate_hz = SHARE_OF_EACH * 1e3 / better_ms
    asked = round(OVERLOAD * CPUS / SHARE_OF_EACH)
    scheduler = edge_sdk.Scheduler(cores=CPUS)
    refusals: list[str] = []
    asks: list[Callable[[], Future[Any]]] = []
    for number in range(asked):
        if way == "bare-overload":
            session = edge_sdk.load(model, variant="better")
            asks.append(lambda session=session: _done(session.run, feeds))  # type: ignore[misc]
            continue
        policy: dict[str, Any] = {"when_full": "degrade" if way == "degrade" else "drop_oldest"}
        if way == "refused":
            policy["variant"] = "better"
        try:
            one = scheduler.load(f"camera {number}", model, rate_hz=rate_hz, **policy)
        except AdmissionRefused as error:
            refusals.append(str(error))
            continue
        asks.append(lambda one=one: one.submit(feeds))  # type: ignore[misc]
    paced = [Paced(rate_hz, ask) for ask in asks]
    _all_go(paced, min(seconds, ALONE_S))
    warm = [(one.frames, one.in_time) for one in paced]
    start_mb = _resident_now_mb()
    _all_go(paced, seconds)
    end_mb = _resident_now_mb()
    frames = sum(one.frames - before for one, (before, _) in zip(paced, warm, strict=True))
    in_time = sum(one.in_time - before for one, (_, before) in zip(paced, warm, strict=True))
    figures = scheduler.figures()
    lighter = sum(one.variants.get("lighter", 0) for one in figures)
    answered = sum(one.answered for one in figures)
    return {
        "way": way,
        "cameras": asked,
        "taken": len(asks),
        "rate_hz": rate_hz,
        "missed": 1 - in_time / frames,
        "by_the_lighter": lighter / answered if answered else 0.0,
        "start_mb": start_mb,
        "end_mb": end_mb,
        "refusal": refusals[0] if refusals else "",
    }


def _all_go(paced: list[Paced], seconds: float) -> None:
    threads = [threading.Thread(target=one.go, args=(seconds,)) for one in paced]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _write_bundle(folder: Path) -> None:
    """Two networks that answer to one signature, as the two variants of a camera's model. Their figures of accuracy
    are made up: which is better is all that counts here."""
    from edge_sdk import bundle
    from edge_sdk.bundle import Accuracy, Variant
    from edge_sdk.signature import LogicalTensor, Signature

    files = {"better": folder / f"{BETTER}.onnx", "lighter": folder / f"{LIGHTER}.onnx"}
    signature = Signature(
        inputs=(LogicalTensor(name="image", dtype="float32", shape=(1, 3, 224, 224)),),
        outputs=(LogicalTensor(name="scores", dtype="float32", shape=(1, 1000)),),
    )
    variants = [
        Variant(name=name, accuracy=(Accuracy(metric="top-1", value=value, data="made up", samples=1),))
        for name, value in (("better", 0.72), ("lighter", 0.67))
    ]
    bundle.create(folder / "camera.edge", name="camera", signature=signature, variants=variants, files=files)


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


def _resident_now_mb() -> float:
    from edge_sdk.measuring import memory_of

    return memory_of().resident_mb or 0.0


def overload_table(rows: list[dict[str, Any]]) -> str:
    """The rows as text, and what a refusal says."""
    lines = [f"{'twice as much':15} {'cameras':>8} {'taken':>6} {'missed':>8} {'by the lighter':>15} {'MB':>12}"]
    lines += [
        f"{row['way']:15} {row['cameras']:8} {row['taken']:6} {row['missed']:8.2%} {row['by_the_lighter']:15.0%}"
        f" {row['start_mb']:5.0f} -> {row['end_mb']:.0f}"
        for row in rows
    ]
    return "\n".join([*lines, *(row["refusal"] for row in rows if row["refusal"])][: len(lines) + 1])


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
        do = overload if way in OVERLOAD_WAYS else work
        print(json.dumps(do(way, float(seconds), Path(folder))))
        return 0
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < CPUS:
        print(json.dumps({"skipped": "it takes two cores", "rows": []}) if arguments.json else "skipped: one core")
        return 0
    os.sched_setaffinity(0, cpus[:CPUS])
    rows: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="edge-sdk-several-") as folder:
        zoo.write(folder, [*(model for model, _, _ in PROMISED.values()), BATCH, BETTER, LIGHTER])
        _write_bundle(Path(folder))
        environment = {**os.environ, "EDGE_SDK_CACHE": f"{folder}/cache"}
        seconds = QUICK_SECONDS if arguments.quick else SECONDS
        for way in (*WAYS, *OVERLOAD_WAYS):
            command = [sys.executable, str(Path(__file__).resolve()), "--worker", way, str(seconds), folder]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=environment)
            rows[way] = json.loads(done.stdout)
    together, overloaded = [rows[way] for way in WAYS], [rows[way] for way in OVERLOAD_WAYS]
    if arguments.json:
        print(json.dumps({"rows": together, "overload": overloaded}))
    else:
        print(table(together), overload_table(overloaded), sep="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

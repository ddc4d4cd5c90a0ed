"""Device, link and endpoint of `benchmarks/split.py`, each a process of its own, and the way to ask them.

The device runs on one processor, endpoint and link on another; they have precedence over other programs of this machine
where that is permitted. What the device is asked to do comes as JSON on its stdin, answers on its stdout.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.shaped_link import Shape, ShapedLink
from benchmarks.slowed import Slowed
from edge_sdk.offload import SplitFigures
from edge_sdk.offloading.timing import mean_without_slowest

ROOT = Path(__file__).resolve().parents[1]

NICENESS = -15
IDLE_S, IDLE_SHARE, MOST_IDLE_WAIT_S = 0.04, 0.03, 3.0
FASTEST = Shape(up_mbps=1000.0, down_mbps=1000.0, rtt_ms=0.2)


@dataclass(frozen=True, slots=True)
class Way:
    """One way to run a model.

    Attributes:
        kind: "local", "split", "offload" or "cascade".
        cut: names of the tensors that travel; empty for local.
        codec, coding: how.
    """

    kind: str
    cut: tuple[str, ...] = ()
    codec: str = "none"
    coding: str = "none"

    def __str__(self) -> str:
        if self.kind == "local":
            return "local"
        where = "input" if self.kind == "offload" else "+".join(self.cut)
        return f"{self.kind} {where} {self.codec} {self.coding}"


LOCAL = Way("local")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a turn of requests gave.

    Attributes:
        times_ms: of each.
        cpu_ms: of the device, on average.
        remote_share: answered by the endpoint; 0 where there is none.
        raced_share: for which the local tail began beside the endpoint.
    """

    times_ms: tuple[float, ...]
    cpu_ms: float
    remote_share: float
    raced_share: float = 0.0

    @property
    def typical_ms(self) -> float:
        """As the product times requests: a machine that is fast and slow by turns has no median that holds for longer
        than a turn."""
        return mean_without_slowest(self.times_ms)


class Refused(RuntimeError):
    """The product does not run a model this way, and says why."""


class Device:
    """The device: a process that loads models and asks them, slowed to `speed` of a core."""

    def __init__(self, cpu: int) -> None:
        command = [sys.executable, str(Path(__file__).resolve()), "--device", str(cpu)]
        told = {**os.environ, "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=told)
        assert self._process.stdout is not None
        self._process.stdout.readline()
        self._slowed = Slowed(cpu)

    @property
    def speed(self) -> float:
        """Its share of a core."""
        return self._slowed.share

    @speed.setter
    def speed(self, share: float) -> None:
        self._slowed.set(share)

    def calibrate(self, cache: Path) -> None:
        """Measures how fast the engines run here at this speed, as `edge-sdk device --calibrate`, where that was not
        done before."""
        self._told(do="calibrate", key="", cache=str(cache))

    def open(self, key: str, model: Path, options: Mapping[str, Any], cache: Path) -> dict[str, Any]:
        """Loads a model; what its plan tells.

        Args:
            key: what it is called from then on.
            model: its file.
            options: of `edge_sdk.load`.
            cache: where the product keeps what it found out.

        Raises:
            Refused: the product says no.
        """
        return self._told(do="open", key=key, model=str(model), options=dict(options), cache=str(cache))

    def ask(self, key: str, count: int, seconds: float = 60.0, start: int = 0) -> Asked:
        """Asks up to `count` of the model's requests in turn, within `seconds`."""
        found = self._told(do="ask", key=key, count=count, seconds=seconds, start=start)
        return Asked(tuple(found.pop("times_ms")), **found)

    def paced(self, key: str, every_ms: float, count: int, start: int = 0) -> list[list[Any]]:
        """Requests at their times; of each when it was due, its milliseconds, the plan's way, and whether remote."""
        return list(self._told(do="paced", key=key, every_ms=every_ms, count=count, start=start)["rows"])

    def settle(self, key: str) -> bool:
        """Waits until nothing is prepared beside the requests any more; whether something was."""
        return bool(self._told(do="settle", key=key)["waited"])

    def report(self, key: str) -> dict[str, Any]:
        """What its plan tells now, and what it counted."""
        return self._told(do="report", key=key)

    def close(self, key: str | None = None) -> None:
        """Closes one session, or the device."""
        if key is not None:
            self._told(do="close", key=key)
            return
        self._slowed.close()
        self._process.kill()
        self._process.communicate()

    def _told(self, **command: Any) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the device ended with {self._process.wait()}")
        found: dict[str, Any] = json.loads(line)
        if "error" in found:
            raise Refused(found["error"])
        return found


@dataclass(slots=True)
class Stage:
    """Device, link and endpoint; `stage` makes them."""

    device: Device
    link: ShapedLink
    names: dict[Path, str]
    folder: Path
    cpu: int
    port: int

    def renew(self, speed: float) -> None:
        """Another device: a process that knows nothing, of this speed, calibrated."""
        self.device.close()
        self.device = Device(self.cpu)
        self.device.speed = speed
        self.device.calibrate(self.cache(speed))

    def cache(self, speed: float | None) -> Path:
        """Where a device of this speed keeps what it found out, and None for sessions that find out nothing."""
        return self.folder / ("pinned" if speed is None else f"device {speed:g}")

    @contextlib.contextmanager
    def unhindered(self) -> Iterator[None]:
        """Full speed and a fast link, for what is no part of what is measured."""
        shape, speed = self.link.shape, self.device.speed
        self.shape(FASTEST)
        self.device.speed = 1.0
        try:
            yield
        finally:
            self.device.speed = speed
            self.shape(shape)

    def shape(self, shape: Shape) -> None:
        """The link is like this from now on."""
        self.link.set(
            up_mbps=shape.up_mbps, down_mbps=shape.down_mbps, rtt_ms=shape.rtt_ms, loss_share=shape.loss_share
        )

    def options(self, model: Path, way: Way | None, **more: Any) -> dict[str, Any]:
        """Arguments of `edge_sdk.load` for a way; None for what the product chooses itself."""
        if way == LOCAL:
            return {}
        found = {"endpoints": [self.link.url], "endpoint_model": self.names[model], "data": "data.npz", **more}
        if way is not None:
            found |= {"cut": list(way.cut), "codec": way.codec}
            if way.coding != "none":
                found["coding"] = way.coding
        return found


@contextlib.contextmanager
def stage(folder: Path, models: Sequence[Path]) -> Iterator[Stage]:
    """All processes, gone afterwards.

    Args:
        folder: for caches, which make a second start faster.
        models: that the endpoint serves under the names of their folders.
    """
    processors = sorted(os.sched_getaffinity(0))
    if len(processors) < 2:
        raise SystemExit("the device and its endpoint need a processor each, and this process may use one only")
    first, last = processors[0], processors[-1]
    repository = folder / "repository"
    for model in models:
        target = repository / model.parent.name / "1" / f"model{model.suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.is_file():
            target.write_bytes(model.read_bytes())
    with contextlib.ExitStack() as stack:
        stack.callback(os.sched_setaffinity, 0, os.sched_getaffinity(0))
        os.sched_setaffinity(0, {last})  # the link inherits it; who waits here must not wait for the device's processor
        port = stack.enter_context(_endpoint(repository, folder, last))
        link = stack.enter_context(ShapedLink(port))
        made = Stage(Device(first), link, {model: model.parent.name for model in models}, folder, first, port)
        stack.callback(lambda: made.device.close())
        yield made


@contextlib.contextmanager
def _endpoint(repository: Path, folder: Path, cpu: int) -> Iterator[int]:
    command = [sys.executable, "-m", "edge_sdk.cli", "serve", str(repository), "--port", "0"]
    told = {**os.environ, "PYTHONPATH": str(ROOT), "EDGE_SDK_CACHE": str(folder / "endpoint")}
    log = folder / "endpoint.log"
    with log.open("w") as output:
        process = subprocess.Popen(command, stderr=output, env=told)
    try:
        _prefer(process.pid, cpu)
        end_s = time.monotonic() + 60
        while (found := re.search(r'"url": ?"http://[^":]+:(\d+)"', log.read_text())) is None:
            if process.poll() is not None or time.monotonic() > end_s:
                raise RuntimeError(f"the endpoint does not start: {log.read_text()[-500:]}")
            time.sleep(0.05)
        yield int(found[1])
    finally:
        process.terminate()
        process.wait(30)


def _prefer(pid: int, cpu: int) -> None:
    """On one processor, before other programs; threads that it makes later inherit both."""
    os.sched_setaffinity(pid, {cpu})
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, NICENESS)


# The process of the device.


class _Model:
    """One loaded model with its requests."""

    def __init__(self, model: Path, options: dict[str, Any]) -> None:
        import edge_sdk
        from benchmarks.split_models import load_feeds

        self.requests = load_feeds(model.parent / "requests.npz")
        if "data" in options:
            options["data"] = load_feeds(model.parent / options["data"])
        began = time.perf_counter()
        self.session = edge_sdk.load(model, **options)
        self.load_ms = (time.perf_counter() - began) * 1e3

    def told(self) -> dict[str, Any]:
        """Its plan, as JSON."""
        plan = self.session.plan
        found: dict[str, Any] = {"load_ms": self.load_ms, "kind": plan.kind, "reason": plan.reason}
        remote = getattr(plan, "remote", None)
        found["way"] = told_way(plan.kind, remote)
        found["candidates"] = [
            {
                "way": told_way(getattr(one, "kind", "local"), getattr(one, "remote", None)),
                "feasible": one.feasible,
                "reason": one.reason,
                "predicted_ms": seen.latency_ms if (seen := one.measured or one.predicted) else None,
                "bytes": _bytes_of(getattr(one, "remote", None)),
            }
            for one in plan.candidates
        ]
        figures = self.session.split_figures()
        found["figures"] = None if figures is None else msgspec.to_builtins(figures)
        found["events"] = list(self.session.report().events)
        return found

    def figures(self) -> SplitFigures:
        """How its requests went so far; all zero where there is no endpoint."""
        return self.session.split_figures() or SplitFigures()

    def ask(self, count: int, seconds: float, start: int) -> dict[str, Any]:
        """Milliseconds of each request. Returns when nothing goes on beside any more, such as a local tail that an
        endpoint has overtaken: whoever is asked next must not pay for it."""
        before, cpu_s = self.figures(), time.process_time()
        times: list[float] = []
        end_s = time.perf_counter() + seconds
        while len(times) < count and (not times or time.perf_counter() < end_s):
            feeds = self.requests[(start + len(times)) % len(self.requests)]
            began = time.perf_counter()
            self.session.run(feeds)
            times.append((time.perf_counter() - began) * 1e3)
        after = self.figures()
        asked = max(after.requests - before.requests, 1)
        cpu_ms = (time.process_time() - cpu_s) * 1e3 / len(times)
        idle()
        return {
            "times_ms": times,
            "cpu_ms": cpu_ms,
            "remote_share": (after.remote - before.remote) / asked,
            "raced_share": (after.hedged - before.hedged) / asked,
        }

    def paced(self, every_ms: float, count: int, start: int) -> list[list[Any]]:
        """Requests at their times, whether or not those before were late: of each when it was due, in seconds, its
        milliseconds from then on, the way of the plan then, and whether an endpoint answered."""
        began = time.perf_counter()
        found: list[list[Any]] = []
        for number in range(count):
            plan, before = self.session.plan, self.figures().remote  # before it is due: asking for them takes time too
            due_s = number * every_ms / 1e3
            time.sleep(max(began + due_s - time.perf_counter(), 0.0))
            self.session.run(self.requests[(start + number) % len(self.requests)])
            ms = (time.perf_counter() - began - due_s) * 1e3
            way = told_way(plan.kind, getattr(plan, "remote", None))
            found.append([due_s, ms, way, self.figures().remote > before])
        return found


def told_way(kind: str, remote: Any) -> list[Any]:
    """A way as JSON."""
    if kind == "local" or remote is None:
        return [kind, [], "none", "none"]
    return [kind, list(remote.tensors), remote.codec, remote.coding]


def _bytes_of(remote: Any) -> list[int]:
    return [] if remote is None else [remote.up_bytes, remote.down_bytes]


def idle() -> None:
    """Waits until this process computes next to nothing, not for ever."""
    until_s = time.monotonic() + MOST_IDLE_WAIT_S
    while time.monotonic() < until_s:
        before_s = time.process_time()
        time.sleep(IDLE_S)
        if time.process_time() - before_s < IDLE_SHARE * IDLE_S:
            return


def calibrated() -> None:
    """Measures this device and keeps that, where nothing is kept."""
    from edge_sdk.planner import this_device
    from edge_sdk.planner.calibration import calibrate
    from edge_sdk.planner.rates_kept import keep_rates, kept_rates

    here = this_device()
    if kept_rates(here.fingerprint) is None:
        keep_rates(here.fingerprint, calibrate(here))


def settled() -> bool:
    """Waits for all threads of the product that prepare a way; whether there was one."""
    waiting = [thread for thread in threading.enumerate() if thread.name == "edge-sdk-prepare"]
    for thread in waiting:
        thread.join()
    return bool(waiting)


def device(cpu: int) -> None:
    """Does what stdin says until it ends."""
    _prefer(os.getpid(), cpu)
    sessions: dict[str, _Model] = {}
    import edge_sdk.errors

    # A stream of its own, buffered even where Python is told not to: a long answer must not end at what a pipe holds
    # while the process is stopped. What libraries print goes to stderr.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    print(file=answers, flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        key, answer = command["key"], {}
        try:
            if command["do"] == "calibrate":
                os.environ["EDGE_SDK_CACHE"] = command["cache"]
                calibrated()
            elif command["do"] == "open":
                os.environ["EDGE_SDK_CACHE"] = command["cache"]
                sessions[key] = _Model(Path(command["model"]), command["options"])
                answer = sessions[key].told()
            elif command["do"] == "ask":
                answer = sessions[key].ask(command["count"], command["seconds"], command["start"])
            elif command["do"] == "paced":
                answer = {"rows": sessions[key].paced(command["every_ms"], command["count"], command["start"])}
            elif command["do"] == "settle":
                answer = {"waited": settled()}
            elif command["do"] == "report":
                answer = sessions[key].told()
            else:
                sessions.pop(key).session.close()
        except edge_sdk.errors.EdgeError as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        except TypeError as error:  # an argument that `load` does not take
            answer = {"error": f"TypeError: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    device(int(sys.argv[2]))

"""Two endpoints of which one becomes ten times slower, and well again: how soon requests move, and come back.

    python benchmarks/endpoints.py [--quick] [--json] [--only TROUBLE…]

Both are `edge-sdk serve` in processes of their own, each behind a shaped link of its own; the device asks at a steady
rate. `near` is the better one until its trouble: its process gets a tenth of a core, its link a tenth of the bandwidth
and ten times the round trip, or both, or it falls silent altogether. Every answer is compared with that of the whole
model. `answers_until_moved` is how many answers came before requests went to the other one first, `seconds_until_back`
how long after its recovery they went to `near` again, `flaps` how often requests moved beside these two moves.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.architectures.mobile import mobilenet_v1
from benchmarks.architectures.writer import Writer
from benchmarks.shaped_link import Shape, ShapedLink
from benchmarks.slowed import Slowed
from edge_sdk.errors import EdgeError
from edge_sdk.formats import ModelFile, open_model
from edge_sdk.graph import open_graph
from edge_sdk.graph.cuts_pareto import pareto_cuts
from edge_sdk.offload import LocalTail, SplitRunner
from edge_sdk.offload.opening import open_split
from edge_sdk.offload.parts import made_parts
from edge_sdk.wire.http import HttpEndpoint
from tests.cloud_offload.endpoints import put, running

NEAR, OTHER = Shape(up_mbps=100, down_mbps=100, rtt_ms=2), Shape(up_mbps=100, down_mbps=100, rtt_ms=20)
EVERY_S = 0.05
LOCAL_MS = 120.0
"""What the local tail takes beside its computing: a device is slower than the endpoints, here all are one machine."""
WARM_S, TROUBLE_S, LONGEST_BACK_S, AFTER_S = 10.0, 30.0, 60.0, 15.0
QUICK_WARM_S, QUICK_TROUBLE_S, QUICK_AFTER_S = 4.0, 6.0, 3.0
CLIENTS = 8
SAMPLES = 8


@dataclass
class Row:
    """What one trouble did.

    Attributes:
        answers_until_moved: since it began; None where requests never moved.
        seconds_until_back: since it ended; None where they never came back.
        lost: requests that ended with an error, or were answered otherwise than by the whole model.
        flaps: moves beside the two that are right.
        local: answered by the device itself.
        beside: copies of requests that only asked what an endpoint is like.
        before_ms, worst_ms, during_ms, after_ms: medians, and of the slowest answer while requests moved.
    """

    trouble: str
    requests: int = 0
    answers_until_moved: int | None = None
    seconds_until_back: float | None = None
    lost: int = 0
    flaps: int = 0
    local: int = 0
    beside: int = 0
    before_ms: float = 0.0
    worst_ms: float = 0.0
    during_ms: float = 0.0
    after_ms: float = 0.0
    reasons: list[str] = field(default_factory=list)

    @property
    def well(self) -> bool:
        """Whether nothing was lost, and requests moved within 10 answers and came back within 30 s."""
        moved, back = self.answers_until_moved, self.seconds_until_back
        return self.lost == 0 and moved is not None and moved <= 10 and back is not None and back <= 30


@dataclass
class Near:
    """The endpoint that gets into trouble."""

    pid: int
    link: ShapedLink
    slowed: Slowed

    def slow_computing(self) -> None:
        self.slowed.set(0.1)

    def slow_link(self) -> None:
        self.link.set(up_mbps=NEAR.up_mbps / 10, down_mbps=NEAR.down_mbps / 10, rtt_ms=NEAR.rtt_ms * 10)

    def slow(self) -> None:
        self.slow_computing()
        self.slow_link()

    def stop(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def recover(self) -> None:
        self.slowed.set(1.0)
        os.kill(self.pid, signal.SIGCONT)
        self.link.set(up_mbps=NEAR.up_mbps, down_mbps=NEAR.down_mbps, rtt_ms=NEAR.rtt_ms)


TROUBLES: dict[str, Callable[[Near], object]] = {
    "computing 10 times slower": Near.slow_computing,
    "link 10 times slower": Near.slow_link,
    "both": Near.slow,
    "silent": Near.stop,
}


class Device:
    """Asks at a steady rate and looks at each answer."""

    def __init__(self, runner: SplitRunner, near: str, feeds: list[dict[str, Any]], right: list[Any]) -> None:
        self.runner, self._near, self._feeds, self._right = runner, near, feeds, right
        self.requests = self.lost = 0

    @property
    def at_near(self) -> bool:
        """Whether requests go to the near endpoint first."""
        preferred = self.runner.preference.preferred
        return preferred is not None and preferred.name == self._near

    def ask(self, seconds: float, enough: Callable[[], bool] = lambda: False) -> list[float]:
        """Asks for so long, or until it is `enough`; how long each answer took, in milliseconds."""
        took_ms = []
        began_s = due_s = time.monotonic()
        while time.monotonic() - began_s < seconds and not enough():
            time.sleep(max(due_s - time.monotonic(), 0.0))
            due_s = max(due_s + EVERY_S, time.monotonic() - EVERY_S)
            which = self.requests % len(self._feeds)
            self.requests += 1
            asked_s = time.monotonic()
            try:
                (answer,) = self.runner.run(self._feeds[which]).values()
                self.lost += not np.allclose(answer, self._right[which], rtol=1e-3, atol=1e-5)
            except EdgeError:
                self.lost += 1
            took_ms.append((time.monotonic() - asked_s) * 1e3)
        return took_ms


@contextlib.contextmanager
def endpoints(model: ModelFile, content: bytes, folder: Path) -> Iterator[tuple[Device, Near]]:
    """Both endpoints with their links, and a device that knows neither yet."""
    graph = open_graph(model)
    able = [cut for cut in pareto_cuts(graph) if cut.divides and (cut.tail_macs or 0) >= (cut.head_macs or 0)]
    cut = min(able, key=lambda cut: cut.wire_bytes or math.inf)
    parts = made_parts(model, cut, graph=graph)
    spec = model.describe().inputs[0]
    generator = np.random.default_rng(1)
    shape = [d if isinstance(d, int) else 1 for d in spec.shape or ()]
    feeds = [{spec.name: generator.standard_normal(shape, np.float32)} for _ in range(SAMPLES)]
    put(folder / "repository", "net", content)
    tail = f"net@{cut.tensors[0]}"
    slow_cpu, *others = sorted(os.sched_getaffinity(0))
    with contextlib.ExitStack() as stack:
        stack.callback(os.sched_setaffinity, 0, {slow_cpu, *others})
        os.sched_setaffinity(0, others or {slow_cpu})  # for all that is started from here on
        urls = []
        processes = []
        for name, shaped in (("near", NEAR), ("other", OTHER)):
            server = stack.enter_context(running(folder / "repository", folder / name))
            link = stack.enter_context(ShapedLink(urlsplit(server.url).port or 0, shaped))
            processes.append((server.process.pid, link))
            urls.append(link.url)
        clients = [stack.enter_context(contextlib.closing(HttpEndpoint(url, connections=CLIENTS))) for url in urls]
        for client in clients:
            client.metadata(tail)  # the tail is made before time counts
        opened = stack.enter_context(contextlib.closing(open_split(model, parts.split, clients, tail)))

        def slower(cut: Any) -> Any:
            time.sleep(LOCAL_MS / 1e3)
            return opened.local(cut)

        runner = SplitRunner(
            opened.split, opened._halves.compute_head, LocalTail(lambda: slower, expected_ms=LOCAL_MS), clients
        )
        right = [whole(content, one) for one in feeds]
        pid, link = processes[0]
        for thread in Path(f"/proc/{pid}/task").iterdir():  # alone on the processor that is slowed
            os.sched_setaffinity(int(thread.name), {slow_cpu})
        slowed = stack.enter_context(Slowed(slow_cpu))
        yield Device(runner, clients[0].name, feeds, right), Near(pid, link, slowed)


def whole(content: bytes, feeds: dict[str, Any]) -> Any:
    """What the whole model answers."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]


def troubled(device: Device, near: Near, name: str, quick: bool) -> Row:
    """One trouble, from well to well again."""
    warm_s, trouble_s, after_s = (
        (QUICK_WARM_S, QUICK_TROUBLE_S, QUICK_AFTER_S) if quick else (WARM_S, TROUBLE_S, AFTER_S)
    )
    device.ask(LONGEST_BACK_S, lambda: device.at_near and device.requests > SAMPLES)
    first_moves, first_lost, first_requests = device.runner.preference.moved, device.lost, device.requests
    figures = device.runner.figures()
    row = Row(name, before_ms=statistics.median(device.ask(warm_s)))
    TROUBLES[name](near)
    moving = device.ask(trouble_s, lambda: not device.at_near)
    row.answers_until_moved = None if device.at_near else len(moving)
    row.worst_ms = max(moving, default=0.0)
    row.during_ms = statistics.median(device.ask(trouble_s) or [0.0])
    near.recover()
    recovered_s = time.monotonic()
    device.ask(LONGEST_BACK_S, lambda: device.at_near)
    row.seconds_until_back = time.monotonic() - recovered_s if device.at_near else None
    row.after_ms = statistics.median(device.ask(after_s))
    after = device.runner.figures()
    row.requests, row.lost = device.requests - first_requests, device.lost - first_lost
    row.local, row.beside = after.local - figures.local, after.beside - figures.beside
    moves = device.runner.preference.moved - first_moves
    row.flaps = max(moves - 2, 0)
    row.reasons = [move.reason for move in device.runner.preference.moves][-moves:] if moves else []
    return row


def table(rows: list[Row]) -> str:
    """A line a trouble."""
    titles = ("requests", "moved", "back s", "lost", "flaps", "local", "beside", "before", "worst", "during", "after")
    lines = [f"{'trouble of the near one':26} " + " ".join(f"{title:>8}" for title in titles)]
    for row in rows:
        moved = "never" if row.answers_until_moved is None else str(row.answers_until_moved)
        back = "never" if row.seconds_until_back is None else f"{row.seconds_until_back:.1f}"
        latencies = (f"{ms:.1f}" for ms in (row.before_ms, row.worst_ms, row.during_ms, row.after_ms))
        figures = (row.requests, moved, back, row.lost, row.flaps, row.local, row.beside, *latencies)
        lines.append(f"{row.trouble:26} " + " ".join(f"{figure:>8}" for figure in figures))
        lines += [f"    {reason}" for reason in row.reasons]
    return "\n".join([*lines, "moved: answers until then; before to after: milliseconds, medians but for the worst"])


def summary(rows: list[Row]) -> dict[str, Any]:
    """The worst of all rows; null where requests never moved or came back."""
    moved, back = [row.answers_until_moved for row in rows], [row.seconds_until_back for row in rows]
    return {
        "answers_until_moved": None if None in moved else max(one for one in moved if one is not None),
        "seconds_until_back": None if None in back else max(one for one in back if one is not None),
        "lost": sum(row.lost for row in rows),
        "flaps": sum(row.flaps for row in rows),
        "rows": [asdict(row) for row in rows],
    }


def measured(names: list[str], quick: bool) -> list[Row]:
    """All troubles, one after the other, each with a device that starts anew."""
    net = Writer("net", folded=True)
    mobilenet_v1(net, 96, classes=100)
    content = net.model().SerializeToString()
    rows = []
    for name in names:
        with (
            tempfile.TemporaryDirectory() as folder,
            open_model(content, name="net") as model,
            endpoints(model, content, Path(folder)) as (device, near),
        ):
            rows.append(troubled(device, near, name, quick))
        if sys.stderr.isatty():
            print(f"{name}: moved after {rows[-1].answers_until_moved} answers", file=sys.stderr)
    return rows


def main() -> int:
    """Runs the benchmark; 1 where a request was lost, or requests moved too late."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="shorter troubles")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", nargs="+", choices=list(TROUBLES), default=list(TROUBLES), metavar="TROUBLE")
    arguments = parser.parse_args()
    rows = measured(arguments.only, arguments.quick)
    print(json.dumps(summary(rows)) if arguments.json else table(rows))
    return int(not all(row.well for row in rows))


if __name__ == "__main__":
    sys.exit(main())

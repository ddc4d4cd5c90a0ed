"""What happens to a device's requests while its endpoint or link misbehaves: how many were answered where, lost, wrong.

    python benchmarks/faults.py [--quick] [--json] [--only FAULT…]

Endpoints are processes of their own, links run through a proxy, lost packets are really lost (a filter on its sockets).
The endpoint's breaker never opens, so that every request meets the fault. For the reload it is `edge-sdk serve`, whose
model is replaced by a retrained one and put back again and again. Every answer is compared with the right one. `growth`
is how much more memory the device holds at the end than after 200 requests.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from edge_sdk.breaker import Breaker
from edge_sdk.errors import EdgeError
from edge_sdk.formats import open_model
from edge_sdk.graph import open_graph
from edge_sdk.graph.cuts import cut_at
from edge_sdk.offload import LocalTail, SplitRunner
from edge_sdk.offload.opening import open_split
from edge_sdk.offload.parts import made_parts
from edge_sdk.wire.http import HttpEndpoint
from edge_sdk.wire.limits import Limits
from edge_sdk.wire.retry import Retry
from tests.offload.splits import SETTLED, SPLIT, answer_of, feeds_of, head, resident_mb, tail
from tests.wire.endpoint_process import endpoint_process
from tests.wire.fault_proxy import FaultProxy

REQUESTS, QUICK_REQUESTS = 2000, 60
DEADLINE_MS = 100.0
LEAST_RELOADS = 4


@dataclass
class Row:
    """What one fault did.

    Attributes:
        remote, local: answered by the endpoint, or by the local tail.
        hedged: the local tail was begun beside an endpoint that was late.
        late: answered after the deadline.
        lost: ended with an error.
        wrong: answered otherwise than the whole model would have.
        growth_mb: memory at the end against that after 200 requests, in MiB; 0 in shorter runs.
    """

    fault: str
    requests: int = 0
    remote: int = 0
    local: int = 0
    hedged: int = 0
    late: int = 0
    lost: int = 0
    wrong: int = 0
    growth_mb: float = 0.0
    seconds: float = 0.0


Meanwhile = Callable[[int], object]


@dataclass
class Device:
    """A device under test: what it asks, and what is right."""

    runner: SplitRunner
    feeds: Callable[[int], dict[str, Any]] = feeds_of
    right: Callable[[int], Any] = answer_of
    tolerance: float = 0.0

    def ask(
        self,
        fault: str,
        count: int,
        meanwhile: Meanwhile = lambda number: None,
        enough: Callable[[], bool] = lambda: True,
    ) -> Row:
        """So many requests, one after the other, and more until it is `enough`."""
        row = Row(fault)
        began_s = time.monotonic()
        before_mb = 0.0
        while row.requests < count or not enough():
            number = row.requests
            row.requests += 1
            if number == SETTLED:
                before_mb = resident_mb()
            meanwhile(number)
            try:
                answer = self.runner.run(self.feeds(number))["y"]
            except EdgeError:
                row.lost += 1
                continue
            row.wrong += not np.allclose(answer, self.right(number), rtol=self.tolerance, atol=0)
        row.seconds = time.monotonic() - began_s
        row.growth_mb = resident_mb() - before_mb if row.requests > SETTLED else 0.0
        figures = self.runner.figures()
        row.remote, row.local, row.hedged, row.late = figures.remote, figures.local, figures.hedged, figures.late
        return row


@contextlib.contextmanager
def endpoint_at(url: str) -> Iterator[HttpEndpoint]:
    """A client whose breaker never opens."""
    client = HttpEndpoint(
        url,
        retry=Retry(attempts=2, first_pause_s=0.001),
        breaker=Breaker(failures=10**9),
        limits=Limits(max_body_bytes=2**20),
        timeout_s=5.0,
    )
    yield client
    client.close()


@contextlib.contextmanager
def device_at(url: str, deadline_ms: float = DEADLINE_MS) -> Iterator[Device]:
    """A device whose head and local tail take next to no time."""
    with endpoint_at(url) as client:
        local = LocalTail(lambda: tail, expected_ms=1.0)
        runner = SplitRunner(SPLIT, head, local, [client], deadline_ms=deadline_ms)
        yield Device(runner)
        runner.close()


# --- the endpoint ---


def answering(mode: str, deadline_ms: float = DEADLINE_MS) -> Callable[[str, int], Row]:
    """An endpoint that does one thing wrong, each time."""

    def fault(name: str, count: int) -> Row:
        with endpoint_process() as process, device_at(process.url, deadline_ms) as device:
            process.mode(mode)
            return device.ask(name, count)

    return fault


def killed(name: str, count: int) -> Row:
    """Killed with a request on its way, and started again, four times."""
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(endpoint_process())]
        port = running[0].port
        killers: list[threading.Thread] = []

        def kill() -> None:
            while not running[-1].seen()["count"]:
                pass
            running[-1].kill()
            running.append(stack.enter_context(endpoint_process(port)))

        def meanwhile(number: int) -> None:
            if number % max(count // 4, 1) == count // 8:
                for killer in killers:
                    killer.join()
                running[-1].mode("stall")
                killers.append(threading.Thread(target=kill))
                killers[-1].start()

        with device_at(f"http://127.0.0.1:{port}") as device:
            row = device.ask(name, count, meanwhile)
            for killer in killers:
                killer.join()
            return row


# --- the link ---


def over(
    change: Callable[[FaultProxy, int, int], object], deadline_ms: float = DEADLINE_MS
) -> Callable[[str, int], Row]:
    """A link that `change` is done to before each request."""

    def fault(name: str, count: int) -> Row:
        with endpoint_process() as process:
            proxy = FaultProxy(process.port)
            with device_at(proxy.url, deadline_ms) as device:
                row = device.ask(name, count, lambda number: change(proxy, number, count))
            proxy.close()
            return row

    return fault


def cut(proxy: FaultProxy, number: int, count: int) -> None:
    """Five requests of twenty meet a link that is cut."""
    if number % 20 == 10:
        proxy.cut()
    elif number % 20 == 15:
        proxy.restore()


def unplugged(proxy: FaultProxy, number: int, count: int) -> None:
    """Nothing passes and nothing ends, for a quarter of the time."""
    if number == count // 2:
        proxy.stall()
    elif number == count * 3 // 4:
        proxy.restore()


def slowed(proxy: FaultProxy, number: int, count: int) -> None:
    """From 1 ms a request to some 100 ms, after a third."""
    if number == count // 3:
        proxy.pause_s = 0.05


def losing(proxy: FaultProxy, number: int, count: int) -> None:
    """One packet in ten, in both directions."""
    if number == 0:
        proxy.drop_packets(0.1)


def slow(proxy: FaultProxy, number: int, count: int) -> None:
    """50 ms a piece, from the start."""
    proxy.pause_s = 0.05


# --- the model ---


def reloaded(name: str, count: int) -> Row:
    """`edge-sdk serve` gets another model of the same form and the first one back, all the time."""
    from tests.cloud_offload.endpoints import put, start_endpoint
    from tests.session.test_hot_reload import HELD, XS, Reloaded, answers_of

    right = answers_of(HELD)
    with tempfile.TemporaryDirectory() as folder, open_model(HELD) as model:
        put(Path(folder, "repository"), "mlp", HELD)
        server = start_endpoint(Path(folder, "repository"), Path(folder, "cache"))
        parts = made_parts(model, cut_at(open_graph(model), ["h2"]))
        try:
            with endpoint_at(server.url) as client:
                runner = open_split(model, parts.split, [client], "mlp@h2", deadline_ms=DEADLINE_MS)
                device = Device(runner, lambda n: {"x": XS[n % len(XS)]}, lambda n: right[n % len(right)], 1e-4)
                hand = Reloaded(server, Path(folder, "repository"))
                client.ready("mlp@h2")
                with hand.again_and_again():
                    row = device.ask(
                        name, count, lambda number: hand.answered.release(), lambda: hand.reloads >= LEAST_RELOADS
                    )
                runner.close()
                return row
        finally:
            server.process.kill()
            server.process.wait()


FAULTS: dict[str, Callable[[str, int], Row]] = {
    "endpoint killed": killed,
    "link cut": over(cut),
    "link silent": over(unplugged),
    "link 100 times slower": over(slowed),
    "10 % of packets lost": over(losing),
    "answers 500": answering("500"),
    "answers garbage": answering("garbage"),
    "wrong shapes": answering("shapes"),
    "NaN": answering("nan"),
    "never answers": answering("stall", deadline_ms=20.0),
    "yesterday's tail": answering("yesterday"),
    "deadline below link": over(slow, deadline_ms=10.0),
    "hot reload": reloaded,
}


def table(rows: list[Row]) -> str:
    """A line a fault."""
    titles = ("requests", "remote", "local", "hedged", "late", "lost", "wrong", "growth", "s")
    lines = [f"{'fault':22} " + " ".join(f"{title:>8}" for title in titles)]
    for row in rows:
        figures = (row.requests, row.remote, row.local, row.hedged, row.late, row.lost, row.wrong,
                   f"{row.growth_mb:.1f} MB", f"{row.seconds:.1f}")  # fmt: skip
        lines.append(f"{row.fault:22} " + " ".join(f"{figure:>8}" for figure in figures))
    requests, lost, wrong = (sum(getattr(row, name) for row in rows) for name in ("requests", "lost", "wrong"))
    lines.append(f"{requests} requests under {len(rows)} faults: {lost} lost, {wrong} wrong")
    return "\n".join(lines)


def main() -> int:
    """Runs the benchmark; 1 where a request was lost or an answer wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_REQUESTS} requests a fault, not {REQUESTS}")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", nargs="+", choices=list(FAULTS), default=list(FAULTS), metavar="FAULT")
    arguments = parser.parse_args()
    count = QUICK_REQUESTS if arguments.quick else REQUESTS
    rows = []
    for name in arguments.only:
        rows.append(FAULTS[name](name, count))
        if sys.stderr.isatty():
            print(f"{name}: {rows[-1].seconds:.1f} s", file=sys.stderr)
    print(json.dumps({"rows": [asdict(row) for row in rows]}) if arguments.json else table(rows))
    return int(any(row.lost or row.wrong for row in rows))


if __name__ == "__main__":
    sys.exit(main())

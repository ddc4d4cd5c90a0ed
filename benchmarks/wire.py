"""What the wire costs: 256 KB there and back over loopback, our client and endpoint beside other people's, in one run.

    python benchmarks/wire.py [--quick] [--json]

The same ONNX model (y = x + 1 on 65,536 floats) runs on every server with onnxruntime. Servers and clients are
processes of their own; ways take turns in blocks, figures are medians. mlserver has no binary tensors over HTTP: it is
asked with numbers as JSON and with base64 text, and the faster of the two is the peer. Triton (from nvidia-pytriton)
runs the model in its Python back end. Two of our endpoints, each for half of the clients, show whether one process is
the limit. `raw` is the floor: the same bytes between two Python processes on bare sockets.

Copies are those of at least a quarter of a tensor made by memcpy or memmove in a process, counted by a library of a
page that is loaded before all others (`copies.c`, needs a C compiler); that of the kernel, one in and one out on each
side, come on top. JSON: `p50_ms`, `peer_p50_ms`, `rps`, `peer_rps`, `triton_p50_ms` and more; null where a peer cannot
be had.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import mmap
import os
import re
import select
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import peers  # noqa: E402

ELEMENTS = 65_536
TENSOR_BYTES = ELEMENTS * 4
CLIENTS = 16
Call = Callable[[], np.ndarray]
Way = tuple[str, str]
"""Kind of client, and address."""


def model() -> bytes:
    """y = x + 1."""
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "one"], ["y"])],
        "wire",
        [value("x", TensorProto.FLOAT, [1, ELEMENTS])],
        [value("y", TensorProto.FLOAT, [1, ELEMENTS])],
        [helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])],
    )
    return bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    )


# Clients: each in a process of its own, which is told on its stdin what to ask and answers with times as JSON.


def our_call(address: str, x: np.ndarray) -> Call:
    """Our client."""
    from edge_sdk.wire.http import HttpEndpoint

    endpoint = HttpEndpoint(f"http://{address}")
    return lambda: endpoint.infer("wire", {"x": x}).outputs["y"]


def triton_call(address: str, x: np.ndarray) -> Call:
    """NVIDIA's client, binary tensors."""
    from tritonclient import http

    client = http.InferenceServerClient(address)

    def call() -> np.ndarray:
        tensor = http.InferInput("x", list(x.shape), "FP32")
        tensor.set_data_from_numpy(x)
        return client.infer("wire", [tensor], outputs=[http.InferRequestedOutput("y")]).as_numpy("y")

    return call


def triton_json_call(address: str, x: np.ndarray) -> Call:
    """NVIDIA's client, numbers as JSON."""
    from tritonclient import http

    client = http.InferenceServerClient(address)

    def call() -> np.ndarray:
        tensor = http.InferInput("x", list(x.shape), "FP32")
        tensor.set_data_from_numpy(x, binary_data=False)
        wanted = [http.InferRequestedOutput("y", binary_data=False)]
        return client.infer("wire", [tensor], outputs=wanted).as_numpy("y")

    return call


def triton_base64_call(address: str, x: np.ndarray) -> Call:
    """NVIDIA's client, each tensor one base64 text in JSON."""
    import base64

    from tritonclient import http

    client = http.InferenceServerClient(address)

    def call() -> np.ndarray:
        tensor = http.InferInput("x", [1], "BYTES")
        tensor.set_data_from_numpy(np.array([base64.b64encode(x)], object), binary_data=False)
        wanted = [http.InferRequestedOutput("y", binary_data=False)]
        text = client.infer("wire", [tensor], outputs=wanted).as_numpy("y")[0]
        return np.frombuffer(base64.b64decode(text), np.float32).reshape(x.shape)

    return call


def raw_call(address: str, x: np.ndarray) -> Call:
    """The bytes alone."""
    host, port = address.split(":")
    sock = socket.create_connection((host, int(port)))
    answer = np.empty_like(x)
    view = memoryview(answer).cast("B")

    def call() -> np.ndarray:
        sock.sendall(x)
        filled = 0
        while filled < len(view):
            filled += sock.recv_into(view[filled:])
        return answer

    return call


CALLS: dict[str, Callable[[str, np.ndarray], Call]] = {
    "ours": our_call,
    "triton": triton_call,
    "triton json": triton_json_call,
    "triton base64": triton_base64_call,
    "raw": raw_call,
}


def client() -> None:
    """The process of a client: lines `[kind, address, requests, seconds]` in, `[milliseconds]` out."""
    x = np.random.default_rng(0).standard_normal((1, ELEMENTS), np.float32)
    calls: dict[tuple[str, str], Call] = {}
    for line in sys.stdin:
        kind, address, requests, seconds = json.loads(line)
        if (kind, address) not in calls:
            calls[kind, address] = CALLS[kind](address, x)
            np.testing.assert_allclose(calls[kind, address](), x + (kind != "raw"), rtol=1e-6)
        call, times, end = calls[kind, address], [], time.perf_counter() + seconds
        while len(times) < requests and (start := time.perf_counter()) < end:
            call()
            times.append((time.perf_counter() - start) * 1e3)
        print(json.dumps(times), flush=True)


def raw_server() -> None:
    """Reads 256 KB, sends them back; adds nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        print(json.dumps(listening.getsockname()[1]), flush=True)
        view = memoryview(bytearray(TENSOR_BYTES))
        while True:
            sock = listening.accept()[0]
            while True:
                filled = 0
                while filled < TENSOR_BYTES and (count := sock.recv_into(view[filled:])):
                    filled += count
                if filled < TENSOR_BYTES:
                    break
                sock.sendall(view)


class Client:
    """A process that runs `client`."""

    def __init__(self, environ: dict[str, str] | None = None) -> None:
        command = [sys.executable, str(Path(__file__).resolve()), "--client"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **(environ or {})}
        )

    def begin(self, way: Way, requests: int, seconds: float = 60.0) -> None:
        """Tells it what to do; `end` waits for it."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([*way, requests, seconds]).encode() + b"\n")
        self.process.stdin.flush()

    def end(self) -> list[float]:
        """Milliseconds of each request."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"a client ended with {self.process.wait()}")
        return [float(ms) for ms in json.loads(line)]

    def ask(self, way: Way, requests: int) -> list[float]:
        """Both."""
        self.begin(way, requests)
        return self.end()


@contextlib.contextmanager
def clients(count: int, environ: dict[str, str] | None = None) -> Iterator[list[Client]]:
    """Processes of clients, gone afterwards."""
    made = [Client(environ) for _ in range(count)]
    try:
        yield made
    finally:
        for one in made:
            one.process.kill()
            one.process.wait()


@contextlib.contextmanager
def endpoint(folder: Path, environ: dict[str, str] | None = None, *options: str) -> Iterator[tuple[str, int]]:
    """`edge-sdk serve`: its address and process id."""
    home = folder / "repository" / "wire" / "1"
    home.mkdir(parents=True, exist_ok=True)
    (home / "model.onnx").write_bytes(model())
    command = [sys.executable, "-m", "edge_sdk.cli", "serve", str(folder / "repository"), "--port", "0", *options]
    told = {**os.environ, "PYTHONPATH": str(ROOT), **(environ or {})}
    log = folder / "endpoint.log"
    with log.open("w") as output:
        process = subprocess.Popen(command, stderr=output, env=told)
    try:
        end_s = time.monotonic() + 60
        while (found := re.search(r'"url": ?"http://([^"]+)"', log.read_text())) is None:
            if process.poll() is not None or time.monotonic() > end_s:
                raise RuntimeError(f"the endpoint does not start: {log.read_text()[-500:]}")
            time.sleep(0.05)
        yield found[1], process.pid
    finally:
        process.terminate()
        process.wait(30)


@contextlib.contextmanager
def echo() -> Iterator[str]:
    """The address of `raw_server`."""
    process = subprocess.Popen([sys.executable, str(Path(__file__).resolve()), "--raw"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        select.select([process.stdout], [], [], 30)
        yield f"127.0.0.1:{json.loads(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait()


# Figures.


def latencies(ways: dict[str, Way], blocks: int, requests: int) -> dict[str, float]:
    """Median milliseconds of each way, which take turns."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    with clients(len(ways)) as processes:
        for one, way in zip(processes, ways.values(), strict=True):
            one.ask(way, 10)
        for block in range(blocks):
            turn = list(zip(processes, ways.items(), strict=True))
            for one, (name, way) in turn if block % 2 == 0 else reversed(turn):
                one.begin(way, requests, 0.5)
                times[name] += one.end()
    return {name: statistics.median(each) for name, each in times.items()}


def rates(ways: dict[str, Way], rounds: int, seconds: float) -> dict[str, float]:
    """Requests a second of 16 clients, each a process of its own; ways take turns, median over rounds."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    with clients(CLIENTS) as processes:
        for way in ways.values():
            together(processes, way, 2, 60.0)
        for _ in range(rounds):
            for name, way in ways.items():
                began = time.perf_counter()
                done = together(processes, way, 1_000_000, seconds)
                found[name].append(done / (time.perf_counter() - began))
    return {name: statistics.median(each) for name, each in found.items()}


def together(processes: list[Client], way: Way, requests: int, seconds: float) -> int:
    """Requests that all clients at once were answered."""
    for one in processes:
        one.begin(way, requests, seconds)
    return sum(len(one.end()) for one in processes)


def copies(folder: Path, requests: int) -> dict[str, float] | None:
    """Tensors copied for one request by our client and our endpoint; None without a C compiler.

    NVIDIA's client is counted too: that it does copy shows that the counting works.
    """
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    library = folder / "copies.so"
    command = [compiler, "-O2", "-fno-builtin", "-shared", "-fPIC", "-o", str(library)]
    subprocess.run([*command, str(ROOT / "benchmarks" / "copies.c"), "-ldl"], check=True, capture_output=True)
    counted = {side: folder / f"{side}.copies" for side in ("client", "endpoint", "tritonclient")}
    for path in counted.values():
        path.write_bytes(bytes(16))

    def environ(side: str) -> dict[str, str]:
        told = {"COPIES_FILE": str(counted[side]), "COPIES_FROM": str(TENSOR_BYTES // 4)}
        return {"LD_PRELOAD": str(library), **told}

    found: dict[str, float] = {}
    with endpoint(folder, environ("endpoint")) as (address, _):
        for kind, sides in (("ours", ("client", "endpoint")), ("triton", ("tritonclient",))):
            if kind == "triton" and not _importable("tritonclient.http"):
                continue
            with clients(1, environ(sides[0])) as (one,):
                one.ask((kind, address), 20)
                before = {side: _copied_bytes(counted[side]) for side in sides}
                one.ask((kind, address), requests)
                found |= {s: (_copied_bytes(counted[s]) - before[s]) / requests / TENSOR_BYTES for s in sides}
    return found


def _importable(module: str) -> bool:
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True


def _copied_bytes(path: Path) -> int:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 16, access=mmap.ACCESS_READ) as shared:
        return int(struct.unpack("=QQ", shared[:16])[1])


def memory(folder: Path, steps: tuple[int, int]) -> dict[str, Any]:
    """Peak memory in MB of endpoint and client after so many requests, and after so many more."""
    found: dict[str, Any] = {"requests": list(steps)}
    with endpoint(folder) as (address, server), clients(1) as (one,):
        done = 0
        rows = []
        for upto in steps:
            one.ask(("ours", address), upto - done)
            done = upto
            rows.append((_peak_mb(server), _peak_mb(one.process.pid)))
    found["endpoint_mb"], found["client_mb"] = ([row[side] for row in rows] for side in (0, 1))
    return found


def _peak_mb(process: int) -> float:
    text = Path(f"/proc/{process}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", text)
    assert found is not None
    return int(found[1]) / 1024


def measure(quick: bool) -> dict[str, Any]:
    """All figures."""
    blocks, requests, rounds, seconds = (6, 15, 2, 0.7) if quick else (30, 40, 5, 3.0)
    missing: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name in ("ours", "mlserver", "triton"):
            (folder / name).mkdir()
        ours, _ = stack.enter_context(endpoint(folder / "ours"))
        ways = {"ours": ("ours", ours), "raw": ("raw", stack.enter_context(echo()))}
        ways |= _peers(stack, folder, ours, missing)
        p50_ms = latencies(ways, blocks, requests)
        for name in ("raw", "mlserver, JSON"):  # 16 clients of the slower form would take most of the time
            ways.pop(name, None)
        (folder / "second").mkdir()
        several, _ = stack.enter_context(endpoint(folder / "second", None, "--workers", "2"))
        ways["ours, --workers 2"] = ("ours", several)
        rps = rates(ways, rounds, seconds)
        copied = copies(folder, 20 if quick else 200)
        peak = memory(folder, (200, 1_000) if quick else (1_000, 10_000))
    forms = [name for name in ("mlserver, JSON", "mlserver, base64") if name in p50_ms]
    return {
        "p50_ms": p50_ms["ours"],
        "peer_p50_ms": min((p50_ms[name] for name in forms), default=None),
        "rps": rps["ours"],
        "workers_rps": rps["ours, --workers 2"],
        "peer_rps": rps.get("mlserver, base64"),
        "triton_p50_ms": p50_ms.get("triton"),
        "triton_rps": rps.get("triton"),
        "raw_p50_ms": p50_ms["raw"],
        "all_p50_ms": p50_ms,
        "all_rps": rps,
        "copies": copied,
        "memory": peak,
        "missing": missing,
    }


def _peers(stack: contextlib.ExitStack, folder: Path, ours: str, missing: dict[str, str]) -> dict[str, Way]:
    """The ways beside ours that can be had; those that cannot are told in `missing`."""
    if not _importable("tritonclient.http"):
        missing["tritonclient"] = 'not installed; pip install "edge-sdk[dev]"'
        return {}
    ways: dict[str, Way] = {"tritonclient to our endpoint": ("triton", ours)}
    try:
        server = stack.enter_context(peers.mlserver(folder / "mlserver", {"wire": model()}))
        ways["mlserver, base64"] = ("triton base64", server.address)
        ways["mlserver, JSON"] = ("triton json", server.address)
    except peers.Missing as error:
        missing["mlserver"] = str(error)
    try:
        repository = folder / "triton" / "repository"
        triton_model(repository, "wire")
        server = stack.enter_context(peers.triton(repository, folder / "triton"))
        ways["triton"] = ("triton", server.address)
        ways["our client to triton"] = ("ours", server.address)
    except peers.Missing as error:
        missing["triton"] = str(error)
    return ways


def triton_model(repository: Path, name: str) -> None:
    """The model in Triton's layout, as `edge-sdk split --export triton-python` lays out a tail."""
    from edge_sdk.offload.exporting import PYTHON_BACKEND, triton_config

    home = repository / name / "1"
    home.mkdir(parents=True)
    (home / "model.onnx").write_bytes(model())
    (home / "model.py").write_text(PYTHON_BACKEND)
    (repository / name / "config.pbtxt").write_text(triton_config(name, model(), "python"))


def show(figures: dict[str, Any]) -> None:
    """The tables."""
    ours_ms, ours_rps = figures["p50_ms"], figures["rps"]
    print(f"{'256 KB there and back':<32}{'p50 ms':>10}{'to ours':>10}{f'{CLIENTS} clients /s':>16}{'to ours':>10}")
    for name in dict.fromkeys([*figures["all_p50_ms"], *figures["all_rps"]]):
        ms, rate = figures["all_p50_ms"].get(name), figures["all_rps"].get(name)
        latency = f"{ms:>10.3f}{ms / ours_ms:>9.2f}x" if ms is not None else f"{'-':>10}{'':>10}"
        print(f"{name:<32}{latency}" + (f"{rate:>16.0f}{rate / ours_rps:>9.2f}x" if rate is not None else f"{'-':>16}"))
    for name, why in figures["missing"].items():
        print(f"{name:<32}{'-':>10}   {why}")
    copied, peak = figures["copies"], figures["memory"]
    if copied is None:
        print("\ntensors copied for a request    not counted: there is no C compiler")
    else:
        told = ", ".join(f"{side} {count:.2f}" for side, count in copied.items())
        print(f"\ntensors copied for a request    {told}")
    first, last = peak["requests"]
    for side in ("endpoint", "client"):
        before, after = peak[f"{side}_mb"]
        print(f"peak memory, {side:<20}{before:.1f} MB after {first:,} requests, {after:.1f} MB after {last:,}")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="about a minute, once the peers are installed")
    parser.add_argument("--json", action="store_true", help="figures by name")
    parser.add_argument("--client", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--raw", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.client:
        client()
    elif arguments.raw:
        raw_server()
    else:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # servers and clients are ended too
        figures = measure(arguments.quick)
        print(json.dumps(figures, indent=1)) if arguments.json else show(figures)


if __name__ == "__main__":
    main()

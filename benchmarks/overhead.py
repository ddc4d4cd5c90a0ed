"""What a session costs beside the bare engine, with the same threads, in one run.

    python benchmarks/overhead.py [--quick] [--json]

Bare and ours take turns in blocks; every figure is a median over blocks, every comparison one within a pair of blocks.
Models of our own are made on the spot; the shared models join where they are there. Import and command times are those
of fresh processes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import edge_sdk

ASSETS = Path(__file__).resolve().parents[1].parent / "shared" / "assets" / "models"
Call = Callable[[], object]


def tiny_onnx() -> bytes:
    """y = x + x on 8 floats: what is left is the cost of calling."""
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8])],
    )
    return bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    )


def bare_onnxruntime(model: str | bytes, threads: int, feeds: dict[str, Any]) -> Call:
    """The engine as its documentation calls it."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.log_severity_level = 4
    session = onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, feeds)


def bare_litert(model: str | bytes, threads: int, feeds: dict[str, Any]) -> Call:
    """An interpreter with its inputs set and its outputs fetched on every call."""
    from ai_edge_litert.interpreter import Interpreter

    source = {"model_path": model} if isinstance(model, str) else {"model_content": model}
    interpreter = Interpreter(**source, num_threads=threads)
    interpreter.allocate_tensors()
    inputs = [detail["index"] for detail in interpreter.get_input_details()]
    outputs = [detail["index"] for detail in interpreter.get_output_details()]
    arrays = list(feeds.values())

    def call() -> object:
        for index, array in zip(inputs, arrays, strict=True):
            interpreter.set_tensor(index, array)
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in outputs]

    return call


def block_us(call: Call, seconds: float) -> float:
    """Median microseconds of one call over a block, the first tenth thrown away."""
    times = []
    end = time.perf_counter() + seconds
    while (start := time.perf_counter()) < end or len(times) < 5:
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times[len(times) // 10 :]) * 1e6


def paired(bare: Call, ours: Call, blocks: int, seconds: float) -> dict[str, float]:
    """Bare and ours in turn: medians, the difference and the ratio within pairs of blocks."""
    rows = []
    for index in range(blocks):
        order = (bare, ours) if index % 2 == 0 else (ours, bare)
        first, second = (block_us(call, seconds) for call in order)
        rows.append((first, second) if index % 2 == 0 else (second, first))
    return {
        "bare_us": statistics.median(b for b, _ in rows),
        "ours_us": statistics.median(o for _, o in rows),
        "added_us": statistics.median(o - b for b, o in rows),
        "ratio": statistics.median(o / b for b, o in rows),
    }


def throughput(calls: list[Call], seconds: float) -> float:
    """Requests a second of one thread per call, all at once."""
    done = [0] * len(calls)
    start = threading.Barrier(len(calls) + 1)
    stop = threading.Event()

    def work(index: int) -> None:
        call = calls[index]
        call()
        start.wait()
        while not stop.is_set():
            call()
            done[index] += 1

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(calls))]
    for thread in threads:
        thread.start()
    start.wait()
    began = time.perf_counter()
    stop.wait(seconds)
    stop.set()
    elapsed = time.perf_counter() - began
    for thread in threads:
        thread.join()
    return sum(done) / elapsed


def concurrent(bare: list[Call], ours: list[Call], rounds: int, seconds: float) -> dict[str, float]:
    """Four callers of the bare engine against four callers of one session, in turn."""
    rows = []
    for index in range(rounds):
        order = (bare, ours) if index % 2 == 0 else (ours, bare)
        first, second = (throughput(calls, seconds) for calls in order)
        rows.append((first, second) if index % 2 == 0 else (second, first))
    return {
        "bare_per_s": statistics.median(b for b, _ in rows),
        "ours_per_s": statistics.median(o for _, o in rows),
        "ratio": statistics.median(o / b for b, o in rows),
    }


def process_ms(arguments: list[str], runs: int) -> float:
    """Median time of a fresh process, in milliseconds."""
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
        times.append((time.perf_counter() - began) * 1e3)
    return statistics.median(times)


def import_ms(statement: str, runs: int) -> float:
    """What a statement costs where numpy is already imported: median milliseconds over fresh processes."""
    code = f"import time, numpy; t = time.perf_counter(); {statement}; print((time.perf_counter() - t) * 1e3)"
    times = [
        float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)
        for _ in range(runs)
    ]
    return statistics.median(times)


def fresh_feeds(session: edge_sdk.Session) -> dict[str, Any]:
    """Noise that fits the inputs."""
    from edge_sdk.engines.samples import made_up_feeds

    return made_up_feeds(session.inputs)


def cases() -> list[tuple[str, str | bytes, Callable[..., Call]]]:
    """Name, model and bare engine."""
    found: list[tuple[str, str | bytes, Callable[..., Call]]] = [("tiny.onnx", tiny_onnx(), bare_onnxruntime)]
    try:
        from tests.models import tflite_add

        found.append(("tiny.tflite", tflite_add(), bare_litert))
    except ImportError:
        pass
    if ASSETS.is_dir():
        found.append(("mobilenet_v2_224_int8.tflite", str(ASSETS / "mobilenet_v2_224_int8.tflite"), bare_litert))
        found.append(("resnet8_cifar10_fp32.tflite", str(ASSETS / "resnet8_cifar10_fp32.tflite"), bare_litert))
        found.append(("mnist_cnn.onnx", str(ASSETS / "mnist_cnn.onnx"), bare_onnxruntime))
        found.append(("ultraface_rfb320.onnx", str(ASSETS / "ultraface_rfb320.onnx"), bare_onnxruntime))
    return found


def measure(quick: bool) -> dict[str, Any]:
    """All figures."""
    blocks, seconds, rounds = (8, 0.1, 3) if quick else (30, 0.3, 9)
    figures: dict[str, Any] = {"models": {}, "concurrent": {}}
    for name, model, bare_engine in cases():
        with edge_sdk.load(model, threads=1, trusted=True) as session:
            feeds = fresh_feeds(session)
            bare = bare_engine(model, 1, feeds)
            figures["models"][name] = paired(bare, lambda s=session, f=feeds: s.run(f), blocks, seconds)
            if bare_engine is bare_onnxruntime:
                callers = [bare] * 4
            else:
                callers = [bare_engine(model, 1, feeds) for _ in range(4)]
            ours = [lambda s=session, f=feeds: s.run(f)] * 4
            figures["concurrent"][name] = concurrent(callers, ours, rounds, seconds * 3)
    figures["import_ms"] = import_ms("import edge_sdk", 5 if quick else 15)
    figures["import_load_ms"] = import_ms("import edge_sdk; edge_sdk.load", 5 if quick else 15)
    figures["device_command_ms"] = process_ms(["-m", "edge_sdk.cli", "device", "--json"], 5 if quick else 15)
    return figures


def show(figures: dict[str, Any]) -> None:
    """The tables."""
    print(f"{'model, 1 thread':<32}{'bare µs':>10}{'ours µs':>10}{'added µs':>10}{'ratio':>8}")
    for name, row in figures["models"].items():
        print(f"{name:<32}{row['bare_us']:>10.1f}{row['ours_us']:>10.1f}{row['added_us']:>10.1f}{row['ratio']:>8.3f}")
    print(f"\n{'4 callers at once':<32}{'bare /s':>10}{'ours /s':>10}{'':>10}{'ratio':>8}")
    for name, row in figures["concurrent"].items():
        print(f"{name:<32}{row['bare_per_s']:>10.1f}{row['ours_per_s']:>10.1f}{'':>10}{row['ratio']:>8.3f}")
    print(f"\nimport edge_sdk beyond numpy     {figures['import_ms']:.1f} ms")
    print(f"… with the name edge_sdk.load    {figures['import_load_ms']:.1f} ms")
    print(f"edge-sdk device --json           {figures['device_command_ms']:.0f} ms")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under a minute")
    parser.add_argument("--json", action="store_true", help="figures by name")
    arguments = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    figures = measure(arguments.quick)
    print(json.dumps(figures, indent=1)) if arguments.json else show(figures)


if __name__ == "__main__":
    main()

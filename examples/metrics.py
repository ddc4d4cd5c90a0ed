"""Runs a model 30 times a second, and again in what is left of the device, and serves the metrics of both.

python examples/metrics.py digits.onnx [SECONDS] [PORT]
"""

import sys
import threading
import time

import edge_sdk
from edge_sdk.engines.samples import made_up_feeds


def main(model: str, seconds: str = "60", port: str = "9600") -> None:
    metrics = edge_sdk.Metrics()
    with metrics.serve(int(port)) as page, edge_sdk.Scheduler(max_memory_mb=300) as scheduler:
        print("metrics at", page.url, flush=True)
        metrics.add(scheduler)
        camera = scheduler.load("camera", model, priority=1, rate_hz=30, max_latency_ms=20, when_full="drop_oldest")
        batch = scheduler.load("batch", model)
        feeds, over = made_up_feeds(camera.inputs), threading.Event()

        def frames():
            for _ in range(int(30 * float(seconds))):
                time.sleep(1 / 30)
                yield feeds

        def rest():
            while not over.is_set():
                batch.run(feeds)

        working = threading.Thread(target=rest)
        working.start()
        for _ in camera.stream(frames()):
            pass
        over.set()
        working.join()
        for name, told in metrics.as_dict()["models"].items():
            way, asked = told["session"]["ways"][0], told["scheduled"]
            print(f"{name}: {way['engine']}, {way['placement']};", end=" ")
            print(f"{asked['answered']} answers, {asked['missed']} late;", end=" ")
            print(f"p50 {asked['service']['p50_ms']} ms, p99 {asked['service']['p99_ms']} ms")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3, 4):
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except edge_sdk.EdgeError as error:
        sys.exit(f"metrics: {error}")

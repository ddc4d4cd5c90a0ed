"""Runs a model on the frames of a camera below a temperature, and tells of each step.

python examples/stay_cool.py detector.onnx MAX_C RATE_HZ [SECONDS]
"""

import sys
import time
from collections.abc import Iterator

import edge_sdk
from edge_sdk.engines.samples import made_up_feeds
from edge_sdk.tensors import Feeds


def camera(frame: Feeds, seconds: float, fps: float = 30.0) -> Iterator[Feeds]:
    """The same frame again and again, as a camera gives them."""
    began = time.monotonic()
    for number in range(round(seconds * fps)):
        time.sleep(max(began + number / fps - time.monotonic(), 0.0))
        yield frame


def main(model: str, max_c: str, rate_hz: str, seconds: str = "60") -> None:
    target = edge_sdk.Target(max_c=float(max_c), rate_hz=float(rate_hz))
    with edge_sdk.load(model) as session, edge_sdk.Governed(session, target) as governed:
        for level in governed.levels:
            watts = "" if level.watts is None else f"  about {level.watts:.2g} W"
            print(f"level: {level.name}{watts}")
        answers = sum(1 for _ in governed.stream(camera(made_up_feeds(session.inputs), float(seconds))))
        figures = governed.figures()
        for event in session.report().events:
            print(event)
        warmest = "no temperature told" if figures.hottest_c is None else f"{figures.hottest_c:.1f} °C at most"
        print(f"{answers} answers, {figures.skipped} frames skipped, {figures.steps} steps, {warmest}")


if __name__ == "__main__":
    if len(sys.argv) not in (4, 5):
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except (edge_sdk.EdgeError, ValueError) as error:
        sys.exit(f"stay_cool: {error}")

"""A camera that must keep up, a microphone beside it, and a job in the rest, on one device.

python examples/several_models.py DETECTOR KEYWORDS JOB [SECONDS]
"""

import sys
import threading
import time

import edge_sdk
from edge_sdk.engines.samples import made_up_feeds


def frames(session, rate_hz: float, seconds: float):
    """Made-up frames at a rate; here the camera's or the microphone's would come."""
    feeds = made_up_feeds(session.inputs)
    for _ in range(int(rate_hz * seconds)):
        time.sleep(1 / rate_hz)
        yield feeds


def main(detector: str, keywords: str, job: str, seconds: str = "5") -> None:
    with edge_sdk.Scheduler() as scheduler:
        camera = scheduler.load("camera", detector, priority=1, rate_hz=30, deadline_ms=100, when_full="drop_oldest")
        words = scheduler.load("words", keywords, rate_hz=10, deadline_ms=200)
        batch = scheduler.load("batch", job)

        def listen() -> None:
            for _ in words.stream(frames(words, 10, float(seconds))):
                pass

        def work() -> None:
            feeds = made_up_feeds(batch.inputs)
            while watching.is_alive() or listening.is_alive():
                batch.run(feeds)

        def watch() -> None:
            for _ in camera.stream(frames(camera, 30, float(seconds))):
                pass

        watching, listening, working = (threading.Thread(target=each) for each in (watch, listen, work))
        for thread in (watching, listening, working):
            thread.start()
        for thread in (watching, listening, working):
            thread.join()
        for one in scheduler.figures():
            print(f"{one.name}: {one.answered} answered, {one.missed} late, {one.dropped} dropped; {one.reason}")


if __name__ == "__main__":
    if len(sys.argv) not in (4, 5):
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except edge_sdk.EdgeError as error:
        sys.exit(f"several_models: {error}")

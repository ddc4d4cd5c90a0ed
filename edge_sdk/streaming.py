"""Requests one after the other, several of them at once, with their answers in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["in_order"]

Frame = TypeVar("Frame")
Answer = TypeVar("Answer")


def in_order(run: Callable[[Frame], Answer], frames: Iterable[Frame], at_once: int, ahead: int) -> Iterator[Answer]:
    """Answers in the order of the frames.

    Args:
        run: computes one.
        frames: one after the other; may be endless.
        at_once: how many are computed at the same time.
        ahead: how many are taken before their turn, 1 or more.

    Raises:
        As `run`, at the frame that failed; what `frames` raises comes through as it is.
    """
    with ThreadPoolExecutor(at_once, "edge-sdk-stream") as lane:
        waiting: deque[Future[Answer]] = deque()
        try:
            for frame in frames:
                waiting.append(lane.submit(run, frame))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

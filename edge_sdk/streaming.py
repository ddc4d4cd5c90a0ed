"""Requests one after the other, several of them at once, with their answers in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Generic, Protocol, TypeVar

from edge_sdk.errors import EngineError

__all__ = ["Begun", "Pending", "in_order"]

Frame = TypeVar("Frame")
Answer = TypeVar("Answer")
Answer_co = TypeVar("Answer_co", covariant=True)


class Pending(Protocol[Answer_co]):
    """A request that was begun, as a `concurrent.futures.Future` tells of it."""

    def result(self) -> Answer_co:
        """Waits for the answer; raises what it failed with."""

    def done(self) -> bool:
        """Whether the answer is there."""

    def cancel(self) -> bool:
        """Drops it, where nothing was computed yet; whether that was so."""

    def exception(self) -> BaseException | None:
        """Waits for the end; what it failed with."""


def in_order(begin: Callable[[Frame], Pending[Answer_co]], frames: Iterable[Frame], ahead: int) -> Iterator[Answer_co]:
    """Answers in the order of the frames. Who takes no more of them drops those that are begun, and waits for what is
    computed already.

    Args:
        begin: begins with one, without waiting for its answer.
        frames: one after the other; may be endless.
        ahead: how many are begun at most before the oldest is answered, 1 or more.

    Raises:
        As the answers, at the frame that failed; what `frames` and `begin` raise comes through as it is.
    """
    waiting: deque[Pending[Answer_co]] = deque()
    try:
        for frame in frames:
            waiting.append(begin(frame))
            # What is there already is not kept until more frames have come: a camera's may be long in coming.
            while waiting and (len(waiting) > ahead or waiting[0].done()):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for last in [each for each in waiting if not each.cancel()]:
            last.exception()


class Begun(Generic[Answer]):
    """A request that somebody answers later, and what is to be done then by whoever asked; see `Pending`.

    Args:
        answer: of the request.
        answered: called when it was taken.
        failed: called when the engine failed; answers in its place, or raises.
    """

    def __init__(
        self, answer: Future[Answer], answered: Callable[[], None], failed: Callable[[EngineError], Answer]
    ) -> None:
        self._answer, self._answered, self._failed = answer, answered, failed
        self.done, self.cancel, self.exception = answer.done, answer.cancel, answer.exception

    def result(self) -> Answer:
        """See `Pending.result`."""
        try:
            outputs = self._answer.result()
        except EngineError as error:
            outputs = self._failed(error)
        self._answered()
        return outputs

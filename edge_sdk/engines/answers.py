"""Answers kept for inputs that come again byte for byte, bounded in bytes.

An input is known by a SHA-256 over names, dtypes, shapes and bytes, begun with bytes drawn at random in this process.
The digest is trusted without comparing: two different inputs have the same one with a probability of 2⁻¹²⁸ after 2⁶⁴
inputs, nobody can look for such a pair without knowing how the digest begins, and keeping inputs to compare would take
the room of a hundred answers for a picture.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np

from edge_sdk.tensors import Array

__all__ = ["Answers", "KeptAnswers"]

ENTRY_BYTES, ARRAY_BYTES = 512, 256
"""What Python takes for an answer and for each array of it, beside the numbers."""


class KeptAnswers(msgspec.Struct, frozen=True, kw_only=True):
    """Requests that were equal to earlier ones.

    Attributes:
        hits: answered without computing.
        misses: computed.
        kept: answers that are kept now.
        kept_bytes: what they take.
    """

    hits: int
    misses: int
    kept: int
    kept_bytes: int


class _Computing:
    """A request that is computed now, and the equal ones that wait for its answer."""

    __slots__ = ("answer", "done", "waiting")

    def __init__(self) -> None:
        self.done: threading.Event | None = None  # made by the first that waits
        self.waiting = 0
        self.answer: dict[str, Array] | None = None


class Answers:
    """Answers by input; the least recently used go first. Any number of threads may ask at once; of equal inputs at
    once only the first is computed.

    Args:
        max_bytes: that answers may take; a larger one is not kept.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._begun = hashlib.sha256(os.urandom(32))
        self._lock = threading.Lock()
        self._kept: OrderedDict[bytes, dict[str, Array]] = OrderedDict()
        self._kept_bytes = 0
        self._computing: dict[bytes, _Computing] = {}
        self._hits = self._misses = 0

    def answer(
        self, feeds: Mapping[str, Any], compute: Callable[[], dict[str, Any]], out: Mapping[str, Array] | None = None
    ) -> dict[str, Any]:
        """What `compute` gives, or gave for the same feeds.

        Args:
            feeds: input name to array. They must not change until this returns.
            compute: computes them, into `out` where that is given.
            out: see `Runner.run`.

        Returns:
            Arrays of the caller's own.
        """
        key = self._key(feeds)
        if key is None:
            return compute()
        while True:
            with self._lock:
                kept, at_work = self._kept.get(key), self._computing.get(key)
                if kept is not None:
                    self._kept.move_to_end(key)
                    self._hits += 1
                elif at_work is not None:
                    at_work.waiting += 1
                    at_work.done = at_work.done or threading.Event()
                else:
                    mine = self._computing[key] = _Computing()
                    self._misses += 1
            if kept is None:
                if at_work is None:
                    return self._compute(key, mine, compute)
                assert at_work.done is not None
                at_work.done.wait()
                kept = at_work.answer
                if kept is None:
                    continue  # it failed, or cannot be kept: one of those that waited computes it now
                with self._lock:
                    self._hits += 1
            handed = _handed(kept, out)
            return compute() if handed is None else handed

    def figures(self) -> KeptAnswers:
        """How it went so far."""
        with self._lock:
            return KeptAnswers(hits=self._hits, misses=self._misses, kept=len(self._kept), kept_bytes=self._kept_bytes)

    def clear(self) -> None:
        """Forgets all answers."""
        with self._lock:
            self._kept.clear()
            self._kept_bytes = 0

    def _key(self, feeds: Mapping[str, Any]) -> bytes | None:
        """None where an input is no plain array of numbers."""
        digest = self._begun.copy()
        for name in sorted(feeds):
            array = feeds[name]
            if not isinstance(array, np.ndarray) or array.dtype.kind not in "biufc":
                return None
            # Shape and dtype tell how many bytes follow, so that no two inputs make the same text.
            digest.update(repr((name, array.dtype.str, array.shape)).encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.digest()

    def _compute(self, key: bytes, mine: _Computing, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        try:
            answer = compute()
            size = _bytes_of(answer)
            if size is not None and (size <= self._max_bytes or mine.waiting):
                mine.answer = {name: array.copy() for name, array in answer.items()}
                if size <= self._max_bytes:
                    self._keep(key, mine.answer, size)
            return answer
        finally:
            with self._lock:
                del self._computing[key]
            if mine.done is not None:
                mine.done.set()

    def _keep(self, key: bytes, answer: dict[str, Array], size: int) -> None:
        with self._lock:
            self._kept[key] = answer
            self._kept_bytes += size
            while self._kept_bytes > self._max_bytes:
                _, oldest = self._kept.popitem(last=False)
                self._kept_bytes -= _bytes_of(oldest) or 0


def _bytes_of(answer: Mapping[str, Any]) -> int | None:
    """What keeping it takes; None where an output is no plain array of numbers."""
    if any(not isinstance(array, np.ndarray) or array.dtype.kind not in "biufc" for array in answer.values()):
        return None
    return ENTRY_BYTES + sum(ARRAY_BYTES + int(array.nbytes) for array in answer.values())


def _handed(answer: Mapping[str, Array], out: Mapping[str, Array] | None) -> dict[str, Array] | None:
    """Copies, in `out` where it has room for them; None where an array of it does not fit, as the engine will say."""
    if not out:
        return {name: array.copy() for name, array in answer.items()}
    if any(name in answer and room.shape != answer[name].shape for name, room in out.items()):
        return None
    handed = {}
    for name, array in answer.items():
        if name in out:
            np.copyto(out[name], array, casting="no")
            handed[name] = out[name]
        else:
            handed[name] = array.copy()
    return handed
